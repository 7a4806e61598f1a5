/* SPDX-License-Identifier: MIT
 * Shares. The first byte of the input chooses how far it is helped:
 *   W...  words as bytes, two each; the checksum is put behind them
 *   else  a text as it is (words, in whatever order)
 */
#include "fuzz.h"

#include "base/share_words.h"

#include <string.h>

/* What is a share writes the words that it was read from; what is none has a reason, which
 * may be one slip, and never is a share, too. */
static void check_words(const uint16_t *words, size_t count)
{
    uint16_t again[KF_SHARE_MAX_WORDS];
    struct kf_error err = { 0 };
    struct kf_share *share;
    kf_rv rv = kf_share_from_words(words, count, &share, &err);

    if (rv) {
        struct kf_share_slip slip = kf_share_slip(words, count);

        FUZZ_PROMISE(rv == KFR_SHARE && !share && err.what[0]);
        FUZZ_PROMISE(slip.at + slip.count <= count);
        return;
    }
    FUZZ_PROMISE(kf_share_length(share) == count);
    FUZZ_PROMISE(share->len % 2 == 0 && share->len <= KF_SHARE_MAX_BYTES);
    FUZZ_PROMISE(share->group < share->group_count &&
                 share->group_threshold <= share->group_count);
    kf_share_to_words(share, again);
    FUZZ_PROMISE(memcmp(words, again, count * sizeof *words) == 0);
    kf_share_free(share);
}

static void check_alone(const struct kf_share *share)
{
    struct kf_secret *secret;
    kf_rv rv;

    FUZZ_PROMISE(kf_share_fits(share, share, NULL) == KFR_SHARE);
    if (share->exponent > 1)
        return; /* right, but slow */
    rv = kf_share_combine(&share, 1, &secret, NULL);
    FUZZ_PROMISE(!rv == (secret != NULL));
    kf_secret_free(secret);
}

static void check_text(const void *text, size_t len)
{
    struct kf_share *share;
    uint16_t words[KF_SHARE_MAX_WORDS];

    if (kf_share_parse(text, len, &share, NULL)) {
        FUZZ_PROMISE(!share);
        return;
    }
    kf_share_to_words(share, words);
    check_words(words, kf_share_length(share));
    check_alone(share);
    kf_share_free(share);
}

/* A share of any value, by way of the words of another. */
static void check_value(const uint8_t *data, size_t size)
{
    struct kf_share *share = kf_share_new();
    uint16_t words[KF_SHARE_MAX_WORDS + 1];
    size_t count = size / 2 > KF_SHARE_MAX_WORDS ? KF_SHARE_MAX_WORDS : size / 2;

    FUZZ_PROMISE(share);
    for (size_t i = 0; i < count; i++)
        words[i] = (uint16_t)((data[2 * i] << 8 | data[2 * i + 1]) & 0x3FF);
    check_words(words, count);
    if (size > 8) {
        share->set = (uint16_t)((data[0] << 8 | data[1]) & 0x7FFF);
        share->extendable = data[2] & 1;
        share->exponent = data[2] >> 1 & 1;
        share->member = data[3] & 15;
        share->threshold = (uint8_t)((data[4] & 15) + 1);
        share->group_count = (uint8_t)((data[5] & 15) + 1);
        share->group_threshold = (uint8_t)(data[6] % share->group_count + 1);
        share->group = data[7] % share->group_count;
        share->len = (size - 8) / 2 * 2;
        if (share->len > KF_SHARE_MAX_BYTES)
            share->len = KF_SHARE_MAX_BYTES;
        memcpy(share->value, data + 8, share->len);
    }
    if (share->len >= 16) {
        kf_share_to_words(share, words);
        check_words(words, kf_share_length(share));
        check_alone(share);
        words[data[0] % kf_share_length(share)] ^= (uint16_t)((data[1] & 0xFF) + 1);
        FUZZ_PROMISE(kf_share_slip(words, kf_share_length(share)).count == 1);
        FUZZ_PROMISE(kf_share_slip(words, kf_share_length(share)).at ==
                     data[0] % kf_share_length(share));
    }
    kf_share_free(share);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size && *data == 'W')
        check_value(data + 1, size - 1);
    else
        check_text(data, size);
    return 0;
}
