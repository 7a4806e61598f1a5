/* SPDX-License-Identifier: MIT
 * share_words: a share as words, in a text, in a file, and what is wrong with them.
 */
#ifndef KF_BASE_SHARE_WORDS_H
#define KF_BASE_SHARE_WORDS_H

#include "base/share.h"

enum { KF_WORDS = 1024, KF_WORD_MAX = 8, KF_WORD_TELLS = 4 };

/* The word of a number below KF_WORDS. */
const char *kf_share_word(uint16_t number);
/* How many words begin with these letters, in either case; *number is the first. */
size_t kf_share_words_from(const char *letters, size_t len, uint16_t *number);
/* The word that is meant: one of the list, or KF_WORD_TELLS or more of its letters. */
bool kf_share_word_meant(const char *letters, size_t len, uint16_t *number);

/* Writes the words of a share, kf_share_length of them, into secret memory. */
void kf_share_to_words(const struct kf_share *share, uint16_t *words);
/* KFR_SHARE: how many there are, which is mistyped, which two are swapped. */
kf_rv kf_share_from_words(const uint16_t *words, size_t count, struct kf_share **out,
                          struct kf_error *err);
/* Where words that are no share differ from one: in one word by itself, or in two
 * neighbours that stand in each other's place. */
struct kf_share_slip {
    size_t at;    /* from 0 */
    size_t count; /* 1, 2; 0: it is not just that */
};
struct kf_share_slip kf_share_slip(const uint16_t *words, size_t count);
/* Whether there are shares of so many words. */
bool kf_share_can_have(size_t count);

/* Words with blanks and line ends between them. A refusal has a hint when they were meant
 * as a share: they are 8 of the list at least, and most of all. */
kf_rv kf_share_parse(const void *text, size_t len, struct kf_share **out,
                     struct kf_error *err);
/* A text file of mode 0600: what share it is, an empty line, the words. Whatever is at
 * path stays (KFR_EXISTS). A file that is only the words can be read, too. */
kf_rv kf_share_read(const char *path, struct kf_share **out, struct kf_error *err);
kf_rv kf_share_write(const struct kf_share *share, const char *path,
                     struct kf_error *err);

#endif
