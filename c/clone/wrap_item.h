/* SPDX-License-Identifier: MIT
 * wrap_item: one arriving object of the engine wrap: what it is to be, and the calls
 * that make it so.
 */
#ifndef KF_CLONE_WRAP_ITEM_H
#define KF_CLONE_WRAP_ITEM_H

#include "clone/change.h"
#include "clone/sealed.h"
#include "clone/wrap_format.h"

struct kf_wrap_item {
    struct kf_attributes *want;   /* what the clone is to be, without key bytes */
    struct kf_attributes *hidden; /* key bytes or a private value; NULL: none */
    struct kf_writer public_value; /* for modules that want it; empty: not computed */
    unsigned char *wrapped;       /* the body; NULL: none */
    size_t wrapped_len;
    enum kf_body body;
    CK_OBJECT_CLASS object_class;
    bool direct; /* made on the token at once, not by a copy */
    bool create; /* C_UnwrapKey will not: from `hidden`, by C_CreateObject */
    CK_OBJECT_HANDLE staged; /* the session object */
};

/* Fills a zeroed item: the sealed object under the changes. KFR_REFUSED where they
 * would make the clone less protected; KFR_DAMAGED. Whatever the answer, the item is to be cleared.
 */
kf_rv kf_wrap_item_fill(struct kf_wrap_item *item, const struct kf_sealed *sealed,
                        const struct kf_changes *changes, struct kf_error *err);
/* Destroys the session object, wipes and frees. */
void kf_wrap_item_clear(struct kf_wrap_format *format, struct kf_wrap_item *item);

/* What an object is made for. */
enum kf_wrap_aim {
    KF_WRAP_STAGED,   /* a session object, to be copied */
    KF_WRAP_TRIAL,    /* the clone, but without the flags that would forbid to undo it */
    KF_WRAP_FINAL,    /* the clone */
    KF_WRAP_REHEARSAL /* the clone, but as a session object */
};
bool kf_wrap_is_token(enum kf_wrap_aim aim);
/* MODIFIABLE, COPYABLE and DESTROYABLE false are said. */
bool kf_wrap_is_whole(enum kf_wrap_aim aim);

/* Makes it, with everything in the template, else with what is needed, else with the least
 * (what is left out is the read-back's), else by the other call (item->create). The first
 * refusal is the one that is told. */
kf_rv kf_wrap_make(struct kf_wrap_format *format, struct kf_wrap_item *item,
                   enum kf_wrap_aim aim, CK_OBJECT_HANDLE *out, struct kf_error *err);

/* A copy of the staged session object; MODIFIABLE and DESTROYABLE false can be said in
 * the copy's template only. */
kf_rv kf_wrap_copy(struct kf_wrap_format *format, const struct kf_wrap_item *item,
                   enum kf_wrap_aim aim, CK_OBJECT_HANDLE *out);

bool kf_wrap_is_key(CK_OBJECT_CLASS object_class); /* one with key bytes */
/* MODIFIABLE, COPYABLE, DESTROYABLE. */
bool kf_wrap_true_by_default(uint64_t type);
/* The public numbers of keys, and CKA_VALUE. */
bool kf_wrap_is_number(uint64_t type);
unsigned kf_wrap_roles(const struct kf_row *rows, size_t count, uint64_t type);
/* Refusals of something in a template, after which another template may do. */
bool kf_wrap_is_about_template(kf_rv rv);

#endif
