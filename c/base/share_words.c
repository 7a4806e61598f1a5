/* SPDX-License-Identifier: MIT */
#include "base/share_words.h"

#include <string.h>

#define WORD(text) text,
static const char *const list[] = {
#include "base/share_words.def"
};
#undef WORD

_Static_assert(sizeof list / sizeof *list == KF_WORDS, "a word has ten bits");

/* SLIP-0039, "Format of the share mnemonic": the head, the value, the checksum. */
enum { BITS = 10, HEAD = 4, CHECKSUM = 3, AROUND = HEAD + CHECKSUM };
enum { EXTENDABLE_WORD = 1, EXTENDABLE_BIT = 0x10, SPARE_BITS = 8 };
enum { MEANT = 8 };

static kf_rv no_memory(struct kf_error *err)
{
    return kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for the words of a share");
}

/* -- The list -------------------------------------------------------------------- */

const char *kf_share_word(uint16_t number)
{
    return list[number % KF_WORDS];
}

static int compare(const char *letters, size_t len, const char *word)
{
    for (size_t i = 0; i < len; i++) {
        char letter = letters[i];

        if (letter >= 'A' && letter <= 'Z')
            letter = (char)(letter - 'A' + 'a');
        if (letter != word[i] || !word[i])
            return (unsigned char)letter - (unsigned char)word[i];
    }
    return 0;
}

size_t kf_share_words_from(const char *letters, size_t len, uint16_t *number)
{
    size_t count = 0;

    for (unsigned i = 0; i < KF_WORDS; i++)
        if (compare(letters, len, list[i]) == 0 && count++ == 0)
            *number = (uint16_t)i;
    return count;
}

bool kf_share_word_meant(const char *letters, size_t len, uint16_t *number)
{
    return len >= KF_WORD_TELLS && len <= KF_WORD_MAX &&
           kf_share_words_from(letters, len, number) == 1;
}

/* -- The checksum RS1024 --------------------------------------------------------- */

/* One more word of a polynomial over GF(1024), modulo the one that the code is made of. */
static uint32_t step(uint32_t sum, uint16_t word)
{
    static const uint32_t generator[BITS] = { 0x00E0E040, 0x01C1C080, 0x03838100,
                                              0x07070200, 0x0E0E0009, 0x1C0C2412,
                                              0x38086C24, 0x3090FC48, 0x21B1F890,
                                              0x03F3F120 };
    uint32_t high = sum >> 20;

    sum = ((sum & 0xFFFFF) << BITS) ^ word;
    for (unsigned i = 0; i < BITS; i++)
        sum ^= generator[i] & (0U - (high >> i & 1U));
    return sum;
}

/* 0 when the words are a share's; else what is too much of the polynomial. */
static uint32_t left_over(const uint16_t *words, size_t count, bool extendable)
{
    const char *custom = extendable ? "shamir_extendable" : "shamir";
    uint32_t sum = 1;

    for (; *custom; custom++)
        sum = step(sum, (unsigned char)*custom);
    for (size_t i = 0; i < count; i++)
        sum = step(sum, words[i]);
    return sum ^ 1;
}

static bool is_extendable(const uint16_t *words)
{
    return (words[EXTENDABLE_WORD] & EXTENDABLE_BIT) != 0;
}

static bool whole(const uint16_t *words, size_t count)
{
    return left_over(words, count, is_extendable(words)) == 0;
}

/* The position of the one word that is wrong by itself, from 1; 0: it is not just one. A
 * wrong second word may have hidden which of the two kinds of share it is. */
static size_t wrong_word(const uint16_t *words, size_t count)
{
    for (unsigned flipped = 0; flipped < 2; flipped++) {
        bool extendable = is_extendable(words) != (flipped != 0);
        uint32_t wanted = left_over(words, count, extendable);

        for (uint32_t error = 1; error < KF_WORDS; error++) {
            bool flips = (error & EXTENDABLE_BIT) != 0;
            uint32_t sum = error;

            for (size_t at = count; at-- > 0; sum = step(sum, 0)) {
                bool kind = at == EXTENDABLE_WORD && flips;

                if (sum == wanted && kind == (flipped != 0))
                    return at + 1;
            }
        }
    }
    return 0;
}

/* The sum of the words as they would be with those at `at` and behind it swapped. */
static bool whole_swapped(const uint16_t *words, size_t count, size_t at)
{
    uint32_t error = words[at] ^ words[at + 1], sum = 0;
    bool extendable = is_extendable(words);

    if (at == EXTENDABLE_WORD || at + 1 == EXTENDABLE_WORD)
        extendable = (words[at == EXTENDABLE_WORD ? at + 1 : at] & EXTENDABLE_BIT) != 0;
    for (size_t i = 0; i < count; i++)
        sum = step(sum, i == at || i == at + 1 ? (uint16_t)error : 0);
    return error && sum == left_over(words, count, extendable);
}

struct kf_share_slip kf_share_slip(const uint16_t *words, size_t count)
{
    size_t at = 0;

    if (!kf_share_can_have(count) || whole(words, count))
        return (struct kf_share_slip){ 0, 0 };
    at = wrong_word(words, count);
    if (at)
        return (struct kf_share_slip){ at - 1, 1 };
    for (at = 0; at + 1 < count; at++)
        if (whole_swapped(words, count, at))
            return (struct kf_share_slip){ at, 2 };
    return (struct kf_share_slip){ 0, 0 };
}

static kf_rv wrong_sum(const uint16_t *words, size_t count, struct kf_error *err)
{
    struct kf_share_slip slip = kf_share_slip(words, count);

    if (slip.count == 1)
        return kf_fail(err, KFR_SHARE, NULL, "look at it again",
                       "word %zu of %zu is not the word that was written down",
                       slip.at + 1, count);
    if (slip.count == 2)
        return kf_fail(err, KFR_SHARE, NULL, "look at them again",
                       "words %zu and %zu of %zu are swapped", slip.at + 1, slip.at + 2,
                       count);
    return kf_fail(err, KFR_SHARE, NULL, "compare them one by one",
                   "the %zu words are no share: more than one of them is wrong", count);
}

/* -- Words and bits -------------------------------------------------------------- */

static size_t value_words(size_t len)
{
    return (8 * len + BITS - 1) / BITS;
}

size_t kf_share_length(const struct kf_share *share)
{
    return AROUND + value_words(share->len);
}

/* An even number of bytes, and no more than SPARE_BITS before them. */
bool kf_share_can_have(size_t count)
{
    return count >= KF_SHARE_MIN_WORDS && count <= KF_SHARE_MAX_WORDS &&
           (count - AROUND) * BITS % 16 <= SPARE_BITS;
}

static size_t value_bytes(size_t count)
{
    return (count - AROUND) * BITS / 16 * 2;
}

/* The value is the last 8 * len bits of its words; the bits before are 0. */
static void put_value(const struct kf_share *share, uint16_t *words)
{
    size_t n = value_words(share->len), at = 0;
    uint32_t bits = 0;
    unsigned have = (unsigned)(n * BITS - 8 * share->len);

    for (size_t i = 0; i < n; i++) {
        while (have < BITS) {
            bits = bits << 8 | share->value[at++];
            have += 8;
        }
        have -= BITS;
        words[i] = (uint16_t)(bits >> have & 0x3FF);
        bits &= (1U << have) - 1;
    }
}

/* False when the bits before the value are not 0. */
static bool take_value(const uint16_t *words, struct kf_share *share)
{
    size_t n = value_words(share->len), at = 0;
    unsigned spare = (unsigned)(n * BITS - 8 * share->len), have = BITS - spare;
    uint32_t bits = words[0];

    if (bits >> have)
        return false;
    for (size_t i = 1; at < share->len;) {
        while (have >= 8 && at < share->len) {
            have -= 8;
            share->value[at++] = (unsigned char)(bits >> have);
            bits &= (1U << have) - 1;
        }
        if (at < share->len) {
            bits = bits << BITS | words[i++];
            have += BITS;
        }
    }
    return true;
}

static void put_head(const struct kf_share *share, uint16_t *words)
{
    uint32_t first = (uint32_t)share->set << 5 | (share->extendable ? 0x10U : 0U) |
                     share->exponent;
    uint32_t second = (uint32_t)share->group << 16 |
                      (uint32_t)(share->group_threshold - 1) << 12 |
                      (uint32_t)(share->group_count - 1) << 8 |
                      (uint32_t)share->member << 4 | (uint32_t)(share->threshold - 1);

    words[0] = (uint16_t)(first >> BITS);
    words[1] = (uint16_t)(first & 0x3FF);
    words[2] = (uint16_t)(second >> BITS);
    words[3] = (uint16_t)(second & 0x3FF);
}

static void take_head(const uint16_t *words, struct kf_share *share)
{
    uint32_t first = (uint32_t)words[0] << BITS | words[1];
    uint32_t second = (uint32_t)words[2] << BITS | words[3];

    share->set = (uint16_t)(first >> 5);
    share->extendable = is_extendable(words);
    share->exponent = first & 0xF;
    share->group = second >> 16 & 0xF;
    share->group_threshold = (uint8_t)((second >> 12 & 0xF) + 1);
    share->group_count = (uint8_t)((second >> 8 & 0xF) + 1);
    share->member = second >> 4 & 0xF;
    share->threshold = (uint8_t)((second & 0xF) + 1);
}

void kf_share_to_words(const struct kf_share *share, uint16_t *words)
{
    size_t count = kf_share_length(share);
    uint32_t sum;

    put_head(share, words);
    put_value(share, words + HEAD);
    memset(words + count - CHECKSUM, 0, CHECKSUM * sizeof *words);
    sum = left_over(words, count, share->extendable);
    for (unsigned i = 0; i < CHECKSUM; i++)
        words[count - 1 - i] = (uint16_t)(sum >> i * BITS & 0x3FF);
}

static kf_rv wrong_length(size_t count, const char *hint, struct kf_error *err)
{
    if (count < KF_SHARE_MIN_WORDS)
        return kf_fail(err, KFR_SHARE, NULL, hint,
                       "%zu %s: no share has less than %d", count,
                       count == 1 ? "word" : "words", KF_SHARE_MIN_WORDS);
    if (count > KF_SHARE_MAX_WORDS)
        return kf_fail(err, KFR_SHARE, NULL, hint, "more than %d words are no share",
                       KF_SHARE_MAX_WORDS);
    return kf_fail(err, KFR_SHARE, NULL, "a word is missing, or one is too many",
                   "%zu words: no share has so many", count);
}

static kf_rv check_share(const struct kf_share *share, bool padded, struct kf_error *err)
{
    if (!padded)
        return kf_fail(err, KFR_SHARE, NULL, NULL,
                       "the words are no share: its value has bits too many");
    if (share->group_threshold > share->group_count)
        return kf_fail(err, KFR_SHARE, NULL, NULL,
                       "the words are no share: it wants %d of %d groups",
                       share->group_threshold, share->group_count);
    if (share->group >= share->group_count)
        return kf_fail(err, KFR_SHARE, NULL, NULL,
                       "the words are no share: it is of group %d of %d",
                       share->group + 1, share->group_count);
    return KFR_OK;
}

kf_rv kf_share_from_words(const uint16_t *words, size_t count, struct kf_share **out,
                          struct kf_error *err)
{
    struct kf_share *share = NULL;
    kf_rv rv = KFR_SHARE;

    *out = NULL;
    if (!kf_share_can_have(count))
        return wrong_length(count, NULL, err);
    if (!whole(words, count))
        return wrong_sum(words, count, err);
    share = kf_share_new();
    if (!share)
        return no_memory(err);
    take_head(words, share);
    share->len = value_bytes(count);
    rv = check_share(share, take_value(words + HEAD, share), err);
    if (!rv) {
        *out = share;
        share = NULL;
    }
    kf_share_free(share);
    return rv;
}

/* -- Text ------------------------------------------------------------------------ */

static bool is_blank(char letter)
{
    return letter == ' ' || letter == '\t' || letter == '\n' || letter == '\r';
}

/* What was read of a text. */
struct reading {
    size_t count;     /* words */
    size_t known;     /* of them, of the list */
    size_t first_bad; /* from 1; 0: none */
};

static void read_word(const char *letters, size_t len, uint16_t *words,
                      struct reading *reading)
{
    uint16_t word = 0;
    bool known = kf_share_word_meant(letters, len, &word);

    if (known && reading->count < KF_SHARE_MAX_WORDS)
        words[reading->count] = word;
    reading->count++;
    reading->known += known ? 1 : 0;
    if (!known && !reading->first_bad)
        reading->first_bad = reading->count;
}

/* Who typed so many words of the list meant a share: only then is there a hint. */
static bool was_meant(const struct reading *reading)
{
    return reading->known >= MEANT && reading->known >= reading->count / 4 * 3;
}

static kf_rv to_share(const uint16_t *words, const struct reading *reading,
                      struct kf_share **out, struct kf_error *err)
{
    const char *again = was_meant(reading) ? "look at it again" : NULL;

    if (reading->first_bad)
        return kf_fail(err, KFR_SHARE, NULL, again,
                       "word %zu is none of the words that shares are made of",
                       reading->first_bad);
    if (reading->count < KF_SHARE_MIN_WORDS || reading->count > KF_SHARE_MAX_WORDS)
        return wrong_length(reading->count, again, err);
    return kf_share_from_words(words, reading->count, out, err);
}

kf_rv kf_share_parse(const void *text, size_t len, struct kf_share **out,
                     struct kf_error *err)
{
    const char *at = text, *end = at + len;
    size_t size = KF_SHARE_MAX_WORDS * sizeof(uint16_t);
    uint16_t *words = kf_secret_alloc(size);
    struct reading reading = { 0 };
    kf_rv rv = KFR_SHARE;

    *out = NULL;
    if (!words)
        return no_memory(err);
    while (at < end) {
        const char *start = at;

        while (at < end && !is_blank(*at))
            at++;
        if (at > start)
            read_word(start, (size_t)(at - start), words, &reading);
        if (at < end)
            at++;
    }
    rv = to_share(words, &reading, out, err);
    kf_secret_release(words, size);
    return rv;
}
