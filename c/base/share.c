/* SPDX-License-Identifier: MIT */
#include "base/share.h"

#include "base/shamir.h"
#include "base/share_cipher.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

_Static_assert((int)KF_SHARE_MAX_BYTES == (int)KF_SHAMIR_MAX_BYTES &&
                   (int)KF_SHARE_MAX_COUNT == (int)KF_SHAMIR_MAX,
               "what is split is shared");

enum { SET_MASK = 0x7FFF, COLOUR_MASK = 3, TEXT_RANDOM = 8 };
enum { NAME = 64 };

static const struct {
    const char *name;
    const char *info; /* of the digits that a key stands for */
} colours[KF_COLOURS] = {
    [KF_DOMAIN_TEXT] = { "domain", NULL },
    [KF_BLUE] = { "blue", "keyferry ped 1 blue" },
    [KF_BLACK] = { "black", "keyferry ped 1 black" },
    [KF_RED] = { "red", "keyferry ped 1 red" },
};

struct kf_share *kf_share_new(void)
{
    return kf_secret_alloc(sizeof(struct kf_share));
}

void kf_share_free(struct kf_share *share)
{
    kf_secret_release(share, sizeof *share);
}

void kf_shares_free(struct kf_share **shares, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        kf_share_free(shares[i]);
        shares[i] = NULL;
    }
}

const char *kf_colour_name(enum kf_colour colour)
{
    return colours[colour].name;
}

enum kf_colour kf_share_colour(const struct kf_share *share)
{
    return (enum kf_colour)(share->set & COLOUR_MASK);
}

static kf_rv no_memory(struct kf_error *err)
{
    return kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for a share");
}

static kf_rv no_crypto(struct kf_error *err)
{
    return kf_fail(err, KFR_CRYPTO, NULL, NULL,
                   "OpenSSL refused an operation on the shares of a key");
}

/* -- Making shares --------------------------------------------------------------- */

static kf_rv check_numbers(size_t m, size_t n, struct kf_error *err)
{
    if (m < 1 || n < m || n > KF_SHARE_MAX_COUNT)
        return kf_fail(err, KFR_ARGUMENT, NULL, NULL,
                       "%zu of %zu shares cannot be: there are %d at most, and no more "
                       "can be needed than there are",
                       m, n, KF_SHARE_MAX_COUNT);
    if (m == 1 && n > 1)
        return kf_fail(err, KFR_ARGUMENT, NULL, "let 2 be needed, or make one share",
                       "1 of %zu shares would be %zu copies of the whole", n, n);
    return KFR_OK;
}

static bool random_set(enum kf_colour colour, uint16_t *set)
{
    unsigned char bytes[2];

    if (RAND_bytes(bytes, sizeof bytes) <= 0) {
        ERR_clear_error();
        return false;
    }
    *set = (uint16_t)(((bytes[0] << 8 | bytes[1]) & SET_MASK & ~COLOUR_MASK) |
                      (int)colour);
    return true;
}

static kf_rv fill(const struct kf_share *pattern, const unsigned char *values, size_t n,
                  struct kf_share **out, struct kf_error *err)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = kf_share_new();
        if (!out[i])
            return no_memory(err);
        *out[i] = *pattern;
        out[i]->member = (uint8_t)i;
        memcpy(out[i]->value, values + i * pattern->len, pattern->len);
    }
    return KFR_OK;
}

/* Encrypts the master secret, in its place, and shares it. */
static kf_rv make(enum kf_colour colour, struct kf_secret *master, size_t m, size_t n,
                  struct kf_share **out, struct kf_error *err)
{
    struct kf_share pattern = { .extendable = true,
                                .group_threshold = 1,
                                .group_count = 1,
                                .threshold = (uint8_t)m,
                                .count = (uint8_t)n,
                                .len = master->len };
    struct kf_share_cipher how = { .extendable = true };
    size_t size = n * master->len;
    unsigned char *values = kf_secret_alloc(size);
    kf_rv rv = KFR_CRYPTO;

    memset(out, 0, n * sizeof(*out));
    if (!values) {
        rv = no_memory(err);
        goto done;
    }
    if (!random_set(colour, &pattern.set) ||
        !kf_share_encrypt(&how, NULL, master->data, master->len) ||
        !kf_shamir_split(master->data, master->len, m, n, values)) {
        rv = no_crypto(err);
        goto done;
    }
    rv = fill(&pattern, values, n, out, err);
done:
    if (rv)
        kf_shares_free(out, n);
    kf_secret_release(values, size);
    return rv;
}

kf_rv kf_share_create(enum kf_colour colour, size_t m, size_t n, struct kf_share **out,
                      struct kf_error *err)
{
    struct kf_secret *master = NULL;
    kf_rv rv = check_numbers(m, n, err);

    if (rv)
        return rv;
    master = kf_secret_new(KF_SHARE_KEY_BYTES);
    if (!master)
        return no_memory(err);
    if (RAND_priv_bytes(master->data, KF_SHARE_KEY_BYTES) > 0) {
        rv = make(colour, master, m, n, out, err);
    } else {
        ERR_clear_error();
        rv = no_crypto(err);
    }
    kf_secret_free(master);
    return rv;
}

/* Length, text, random bytes: an even number of bytes. */
static size_t text_room(size_t len)
{
    size_t room = 1 + len + TEXT_RANDOM;

    room += room % 2;
    return room < KF_SHAMIR_MIN_BYTES ? KF_SHAMIR_MIN_BYTES : room;
}

kf_rv kf_share_split(const struct kf_secret *text, size_t m, size_t n,
                     struct kf_share **out, struct kf_error *err)
{
    struct kf_secret *master = NULL;
    size_t used = 1 + text->len;
    kf_rv rv = check_numbers(m, n, err);

    if (rv)
        return rv;
    if (text->len < 1 || text->len > KF_SHARE_MAX_TEXT)
        return kf_fail(err, KFR_ARGUMENT, NULL, NULL,
                       "a domain that is split has 1 to %d bytes", KF_SHARE_MAX_TEXT);
    master = kf_secret_new(text_room(text->len));
    if (!master)
        return no_memory(err);
    master->data[0] = (unsigned char)text->len;
    memcpy(master->data + 1, text->data, text->len);
    if (RAND_priv_bytes(master->data + used, (int)(master->len - used)) > 0) {
        rv = make(KF_DOMAIN_TEXT, master, m, n, out, err);
    } else {
        ERR_clear_error();
        rv = no_crypto(err);
    }
    kf_secret_free(master);
    return rv;
}

kf_rv kf_share_again(const struct kf_share *const *shares, size_t count, size_t m,
                     size_t n, struct kf_share **out, struct kf_error *err)
{
    struct kf_secret *master = NULL;
    kf_rv rv = check_numbers(m, n, err);

    if (rv)
        return rv;
    rv = kf_share_master(shares, count, NULL, &master, err);
    if (!rv)
        rv = make(kf_share_colour(shares[0]), master, m, n, out, err);
    kf_secret_free(master);
    return rv;
}

/* -- Two shares side by side ----------------------------------------------------- */

/* "share 2", or "share 2 of group 1" where there is more than one. */
static const char *name_of(const struct kf_share *share, char name[NAME])
{
    if (share->group_count > 1)
        snprintf(name, NAME, "share %d of group %d", share->member + 1, share->group + 1);
    else
        snprintf(name, NAME, "share %d", share->member + 1);
    return name;
}

static kf_rv other_set(const struct kf_share *share, const struct kf_share *other,
                       struct kf_error *err)
{
    const char *colour = kf_colour_name(kf_share_colour(share));
    const char *wanted = kf_colour_name(kf_share_colour(other));
    char name[NAME];

    if (kf_share_colour(share) != kf_share_colour(other))
        return kf_fail(err, KFR_SHARE, NULL, NULL,
                       "%s is of another colour: it is %s (set %04x), not %s (set %04x)",
                       name_of(share, name), colour, share->set, wanted, other->set);
    return kf_fail(err, KFR_SHARE, NULL, NULL,
                   "%s is of another set: %s set %04x, not %04x", name_of(share, name),
                   colour, share->set, other->set);
}

static kf_rv other_threshold(const struct kf_share *share, const struct kf_share *other,
                             int needed, int other_needed, const char *what,
                             struct kf_error *err)
{
    char name[NAME], other_name[NAME];

    return kf_fail(err, KFR_SHARE, NULL, "one of them is not of this set",
                   "%s of set %04x is of another threshold: by it, the %s needed are %d, "
                   "by %s they are %d",
                   name_of(share, name), share->set, what, needed,
                   name_of(other, other_name), other_needed);
}

static bool same_making(const struct kf_share *share, const struct kf_share *other)
{
    return share->extendable == other->extendable && share->exponent == other->exponent &&
           share->group_count == other->group_count && share->len == other->len;
}

static kf_rv twice(const struct kf_share *share, const struct kf_share *other,
                   struct kf_error *err)
{
    char name[NAME];
    bool same = CRYPTO_memcmp(share->value, other->value, share->len) == 0;

    return kf_fail(err, KFR_SHARE, NULL, same ? "another share is needed" : NULL,
                   same ? "%s of set %04x is there twice"
                        : "%s of set %04x is there twice, and the two are not the same",
                   name_of(share, name), share->set);
}

kf_rv kf_share_fits(const struct kf_share *share, const struct kf_share *other,
                    struct kf_error *err)
{
    char name[NAME];

    if (share->set != other->set)
        return other_set(share, other, err);
    if (share->group_threshold != other->group_threshold)
        return other_threshold(share, other, share->group_threshold,
                               other->group_threshold, "groups", err);
    if (!same_making(share, other))
        return kf_fail(err, KFR_SHARE, NULL, NULL,
                       "%s has the number of set %04x but was made otherwise",
                       name_of(share, name), share->set);
    if (share->group != other->group)
        return KFR_OK;
    if (share->threshold != other->threshold)
        return other_threshold(share, other, share->threshold, other->threshold,
                               "shares", err);
    return share->member == other->member ? twice(share, other, err) : KFR_OK;
}

/* -- Combining ------------------------------------------------------------------- */

/* The shares of one group; no group when there is none. */
struct group {
    size_t count, threshold;
    struct kf_point points[KF_SHARE_MAX_COUNT];
};

static kf_rv sort(const struct kf_share *const *shares, size_t count,
                  struct group *groups, struct kf_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const struct kf_share *share = shares[i];
        struct group *group = groups + share->group;

        for (size_t j = 0; j < i; j++) {
            kf_rv rv = kf_share_fits(share, shares[j], err);

            if (rv)
                return rv;
        }
        group->threshold = share->threshold;
        group->points[group->count++] =
            (struct kf_point){ share->member, share->value };
    }
    return KFR_OK;
}

/* `whose`: "" or " of group 2". */
static kf_rv wrong_count(const struct kf_share *of, const char *what, const char *whose,
                         size_t given, size_t needed, struct kf_error *err)
{
    const char *colour = kf_colour_name(kf_share_colour(of));
    bool one = needed == given + 1;

    if (given < needed)
        return kf_fail(err, KFR_SHARE, NULL, NULL,
                       "%zu more %s%s%s of set %04x (%s) %s needed: %zu of %zu %s there",
                       needed - given, what, one ? "" : "s", whose, of->set, colour,
                       one ? "is" : "are", given, needed, given == 1 ? "is" : "are");
    return kf_fail(err, KFR_SHARE, NULL, "leave the others out",
                   "too many %ss%s of set %04x (%s): %zu are there, and exactly %zu %s "
                   "needed",
                   what, whose, of->set, colour, given, needed,
                   needed == 1 ? "is" : "are");
}

static kf_rv check_counts(const struct kf_share *first, const struct group *groups,
                          struct kf_error *err)
{
    size_t there = 0;

    for (size_t i = 0; i < KF_SHARE_MAX_COUNT; i++)
        there += groups[i].count > 0;
    if (there > first->group_threshold)
        return wrong_count(first, "group", "", there, first->group_threshold, err);
    for (size_t i = 0; i < KF_SHARE_MAX_COUNT; i++) {
        size_t given = groups[i].count, needed = groups[i].threshold;
        char whose[NAME] = "";

        if (!given || given == needed)
            continue;
        if (first->group_count > 1)
            snprintf(whose, sizeof whose, " of group %zu", i + 1);
        return wrong_count(first, "share", whose, given, needed, err);
    }
    if (there < first->group_threshold)
        return wrong_count(first, "group", "", there, first->group_threshold, err);
    return KFR_OK;
}

static kf_rv recover(const struct kf_point *points, size_t m, size_t len,
                     const struct kf_share *of, unsigned char *out, struct kf_error *err)
{
    bool fits = false;

    if (!kf_shamir_recover(points, m, len, out, &fits))
        return no_crypto(err);
    if (!fits)
        return kf_fail(err, KFR_SHARE, NULL, NULL,
                       "the shares of set %04x (%s) do not belong together: what they "
                       "give is not what was shared",
                       of->set, kf_colour_name(kf_share_colour(of)));
    return KFR_OK;
}

/* The encrypted master secret, from the groups' secrets, from their shares. */
static kf_rv recover_all(const struct kf_share *first, const struct group *groups,
                         unsigned char *out, struct kf_error *err)
{
    struct kf_point points[KF_SHARE_MAX_COUNT];
    size_t len = first->len, size = KF_SHARE_MAX_COUNT * len, n = 0;
    unsigned char *values = kf_secret_alloc(size);
    kf_rv rv = values ? KFR_OK : no_memory(err);

    for (size_t i = 0; !rv && i < KF_SHARE_MAX_COUNT; i++) {
        unsigned char *value = values + n * len;

        if (!groups[i].count)
            continue;
        rv = recover(groups[i].points, groups[i].threshold, len, first, value, err);
        points[n++] = (struct kf_point){ (uint8_t)i, value };
    }
    if (!rv)
        rv = recover(points, n, len, first, out, err);
    kf_secret_release(values, size);
    return rv;
}

/* SLIP-0039, "Passphrase": printable ASCII. */
static kf_rv check_passphrase(const struct kf_secret *passphrase, struct kf_error *err)
{
    bool bad = passphrase && passphrase->len > KF_SHARE_MAX_TEXT;

    for (size_t i = 0; passphrase && !bad && i < passphrase->len; i++)
        bad = passphrase->data[i] < 0x20 || passphrase->data[i] > 0x7E;
    if (bad)
        return kf_fail(err, KFR_ARGUMENT, NULL, NULL,
                       "a passphrase of shares is printable ASCII, %d bytes at most",
                       KF_SHARE_MAX_TEXT);
    return KFR_OK;
}

/* It cannot be interrupted: the standard's most, 2^15, would be minutes. */
static kf_rv check_exponent(const struct kf_share *share, struct kf_error *err)
{
    if (share->exponent > KF_SHARE_MAX_EXPONENT)
        return kf_fail(err, KFR_SHARE, NULL, NULL,
                       "the shares of set %04x want 10000 * 2^%d iterations of PBKDF2, "
                       "and no more than 10000 * 2^%d are done",
                       share->set, share->exponent, KF_SHARE_MAX_EXPONENT);
    return KFR_OK;
}

static kf_rv recover_given(const struct kf_share *const *shares, size_t count,
                           unsigned char *out, struct kf_error *err)
{
    struct group *groups = OPENSSL_zalloc(KF_SHARE_MAX_COUNT * sizeof *groups);
    kf_rv rv = groups ? sort(shares, count, groups, err) : no_memory(err);

    if (!rv)
        rv = check_counts(shares[0], groups, err);
    if (!rv)
        rv = recover_all(shares[0], groups, out, err);
    OPENSSL_free(groups);
    return rv;
}

kf_rv kf_share_master(const struct kf_share *const *shares, size_t count,
                      const struct kf_secret *passphrase, struct kf_secret **out,
                      struct kf_error *err)
{
    struct kf_share_cipher how;
    struct kf_secret *master = NULL;
    kf_rv rv = check_passphrase(passphrase, err);

    *out = NULL;
    if (rv)
        return rv;
    if (count < 1 || count > KF_SHARE_MAX_GIVEN)
        return kf_fail(err, KFR_SHARE, NULL, NULL,
                       count ? "too many shares" : "there is no share");
    rv = check_exponent(shares[0], err);
    if (rv)
        return rv;
    master = kf_secret_new(shares[0]->len);
    if (!master)
        return no_memory(err);
    rv = recover_given(shares, count, master->data, err);
    how = (struct kf_share_cipher){ shares[0]->set, shares[0]->extendable,
                                    shares[0]->exponent };
    if (!rv && !kf_share_decrypt(&how, passphrase, master->data, master->len))
        rv = no_crypto(err);
    if (!rv) {
        *out = master;
        master = NULL;
    }
    kf_secret_free(master);
    return rv;
}

/* -- What they are used as ------------------------------------------------------- */

static kf_rv not_ours(const struct kf_share *share, struct kf_error *err)
{
    return kf_fail(err, KFR_SHARE, NULL, "they were made by another program",
                   "the shares of set %04x hold no %s of keyferry", share->set,
                   kf_share_colour(share) ? "key" : "domain");
}

static kf_rv text_of(const struct kf_secret *master, const struct kf_share *share,
                     struct kf_secret **out, struct kf_error *err)
{
    size_t len = master->data[0];

    if (len < 1 || len > KF_SHARE_MAX_TEXT || text_room(len) != master->len)
        return not_ours(share, err);
    *out = kf_secret_from(master->data + 1, len);
    return *out ? KFR_OK : no_memory(err);
}

static kf_rv digits_of(const struct kf_secret *master, const struct kf_share *share,
                       struct kf_secret **out, struct kf_error *err)
{
    static const char hex[] = "0123456789abcdef";
    struct kf_secret *digits = NULL;
    unsigned char *data;

    if (master->len != KF_SHARE_KEY_BYTES)
        return not_ours(share, err);
    digits = kf_secret_new(2UL * KF_SHARE_HMAC);
    if (!digits)
        return no_memory(err);
    data = digits->data;
    if (!kf_share_hkdf(master->data, master->len, colours[kf_share_colour(share)].info,
                       data)) {
        kf_secret_free(digits);
        return no_crypto(err);
    }
    for (size_t i = KF_SHARE_HMAC; i-- > 0;) { /* from behind: a byte makes two */
        data[2 * i + 1] = (unsigned char)hex[data[i] & 0xF];
        data[2 * i] = (unsigned char)hex[data[i] >> 4];
    }
    *out = digits;
    return KFR_OK;
}

kf_rv kf_share_combine(const struct kf_share *const *shares, size_t count,
                       struct kf_secret **out, struct kf_error *err)
{
    struct kf_secret *master = NULL;
    kf_rv rv = kf_share_master(shares, count, NULL, &master, err);

    *out = NULL;
    if (!rv)
        rv = kf_share_colour(shares[0]) == KF_DOMAIN_TEXT
                 ? text_of(master, shares[0], out, err)
                 : digits_of(master, shares[0], out, err);
    kf_secret_free(master);
    return rv;
}

kf_rv kf_share_check(const struct kf_secret *digits,
                     unsigned char out[KF_SHARE_CHECK_BYTES], struct kf_error *err)
{
    static const char purpose[] = "keyferry ped check 1";
    unsigned char mac[KF_SHARE_HMAC];

    if (!kf_share_hmac(digits->data, digits->len, purpose, sizeof purpose - 1, mac))
        return no_crypto(err);
    memcpy(out, mac, KF_SHARE_CHECK_BYTES);
    OPENSSL_cleanse(mac, sizeof mac);
    return KFR_OK;
}
