/* SPDX-License-Identifier: MIT
 * share: one of N shares of a secret, any M of which give it back, as words (SLIP-0039,
 * https://github.com/satoshilabs/slips/blob/master/slip-0039.md).
 *
 * What keyferry makes is one group of shares of the extendable kind, without a passphrase.
 * The two lowest bits of its identifier tell the colour; the other 13 are random. A key
 * (blue, black, red) is 32 random bytes. A domain text is its length as a byte, the text,
 * and random bytes, 8 at least, to an even number: without them, who has M-1 shares could
 * try texts against the digest.
 * What is read and combined may be anything of the standard, up to KF_SHARE_MAX_BYTES and,
 * to be combined, KF_SHARE_MAX_EXPONENT.
 *
 * A refusal names shares by colour, set and number and words by position, never a word.
 */
#ifndef KF_BASE_SHARE_H
#define KF_BASE_SHARE_H

#include "base/error.h"
#include "base/secret.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kf_colour { KF_DOMAIN_TEXT, KF_BLUE, KF_BLACK, KF_RED, KF_COLOURS };

enum {
    KF_SHARE_MAX_BYTES = 260,
    KF_SHARE_MIN_WORDS = 20,
    KF_SHARE_MAX_WORDS = 215,
    KF_SHARE_MAX_EXPONENT = 10, /* of its PBKDF2: seconds; what keyferry makes has 0 */
    KF_SHARE_MAX_COUNT = 16,    /* shares of a group */
    KF_SHARE_MAX_GIVEN = 256,   /* shares of all groups */
    KF_SHARE_KEY_BYTES = 32,
    KF_SHARE_MAX_TEXT = 250,
    KF_SHARE_CHECK_BYTES = 16
};

/* Lives in secret memory. Counts are 1 to 16; places (group, member) begin with 0. */
struct kf_share {
    uint16_t set; /* the identifier, 15 bits */
    bool extendable;
    uint8_t exponent;
    uint8_t group, group_threshold, group_count;
    uint8_t member, threshold;
    uint8_t count; /* of the shares made together; 0: not known, words do not tell */
    size_t len;
    unsigned char value[KF_SHARE_MAX_BYTES];
};

struct kf_share *kf_share_new(void); /* NULL: no memory */
void kf_share_free(struct kf_share *share);
void kf_shares_free(struct kf_share **shares, size_t count); /* each, and sets it NULL */

/* "domain", "blue", "black", "red" */
const char *kf_colour_name(enum kf_colour colour);
enum kf_colour kf_share_colour(const struct kf_share *share);
size_t kf_share_length(const struct kf_share *share); /* in words */

/* m of n shares of a new key; of a domain text (1 to KF_SHARE_MAX_TEXT bytes); of what
 * shares in hand are of, as a new set. n shares go into out, which the caller frees.
 * KFR_ARGUMENT: m and n, or the length of the text; KFR_SHARE: the shares in hand. */
kf_rv kf_share_create(enum kf_colour colour, size_t m, size_t n, struct kf_share **out,
                      struct kf_error *err);
kf_rv kf_share_split(const struct kf_secret *text, size_t m, size_t n,
                     struct kf_share **out, struct kf_error *err);
kf_rv kf_share_again(const struct kf_share *const *shares, size_t count, size_t m,
                     size_t n, struct kf_share **out, struct kf_error *err);

/* KFR_SHARE unless the two can be shares of one secret, and not twice the same. */
kf_rv kf_share_fits(const struct kf_share *share, const struct kf_share *other,
                    struct kf_error *err);

/* The standard's master secret, from exactly as many shares as are needed. KFR_SHARE: too
 * few, too many, or not of one set. A passphrase (NULL: none) that is wrong is no error
 * but gives another secret. */
kf_rv kf_share_master(const struct kf_share *const *shares, size_t count,
                      const struct kf_secret *passphrase, struct kf_secret **out,
                      struct kf_error *err);
/* What it is used as: the domain text; or the 64 hex digits that a key stands for. */
kf_rv kf_share_combine(const struct kf_share *const *shares, size_t count,
                       struct kf_secret **out, struct kf_error *err);
/* Tells whether 64 such digits are the same without telling them. */
kf_rv kf_share_check(const struct kf_secret *digits,
                     unsigned char out[KF_SHARE_CHECK_BYTES], struct kf_error *err);

#endif
