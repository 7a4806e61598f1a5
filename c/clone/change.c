/* SPDX-License-Identifier: MIT */
#include "clone/change.h"

#include <string.h>

/* The value of a flag that takes a right away. */
static const struct flag {
    uint64_t type;
    bool stricter;
} RIGHTS[] = {
    { CKA_PRIVATE, true },         { CKA_SENSITIVE, true },
    { CKA_ALWAYS_AUTHENTICATE, true }, { CKA_WRAP_WITH_TRUSTED, true },
    { CKA_EXTRACTABLE, false },    { CKA_ENCRYPT, false },
    { CKA_DECRYPT, false },        { CKA_SIGN, false },
    { CKA_SIGN_RECOVER, false },   { CKA_VERIFY, false },
    { CKA_VERIFY_RECOVER, false }, { CKA_WRAP, false },
    { CKA_UNWRAP, false },         { CKA_DERIVE, false },
    { CKA_TRUSTED, false },        { CKA_MODIFIABLE, false },
    { CKA_COPYABLE, false },       { CKA_DESTROYABLE, false },
};

/* What a key was: may be denied, never claimed. */
static const struct flag PAST[] = {
    { CKA_LOCAL, false },
    { CKA_ALWAYS_SENSITIVE, false },
    { CKA_NEVER_EXTRACTABLE, false },
};

#define COUNT(list) (sizeof list / sizeof *list)

/* Free to be another: they name and describe, and give no right. */
static const uint64_t FREE[] = {
    CKA_LABEL,      CKA_ID,          CKA_APPLICATION, CKA_SUBJECT,
    CKA_START_DATE, CKA_END_DATE,    CKA_URL,
};

/* None allowed means all allowed; else every mechanism must have been allowed
 * before. */
static bool is_narrower(const struct kf_attribute *old, const struct kf_attribute *new)
{
    for (size_t n = 0; old->len && n + 8 <= new->len; n += 8) {
        bool found = false;

        for (size_t o = 0; o + 8 <= old->len; o += 8)
            found = found || memcmp(old->value + o, new->value + n, 8) == 0;
        if (!found)
            return false;
    }
    return !old->len || new->len;
}

static bool is_free(uint64_t type)
{
    for (size_t i = 0; i < COUNT(FREE); i++)
        if (FREE[i] == type)
            return true;
    return false;
}

static const struct flag *flag_in(const struct flag *list, size_t count,
                                  const struct kf_attribute *new)
{
    for (size_t i = 0; i < count; i++)
        if (list[i].type == new->type && new->len == 1)
            return &list[i];
    return NULL;
}

static bool takes_a_right(const struct kf_attribute *new)
{
    const struct flag *flag = flag_in(RIGHTS, COUNT(RIGHTS), new);

    if (!flag)
        flag = flag_in(PAST, COUNT(PAST), new);
    return flag && new->value[0] == flag->stricter;
}

static bool is_a_right(const struct kf_attribute *new)
{
    return new->type == CKA_ALLOWED_MECHANISMS || flag_in(RIGHTS, COUNT(RIGHTS), new);
}

static bool may_change(const struct kf_attribute *old, const struct kf_attribute *new)
{
    if (is_free(new->type) || takes_a_right(new))
        return true;
    if (!old)
        return false;
    return kf_attribute_equal(old, new) ||
           (new->type == CKA_ALLOWED_MECHANISMS && is_narrower(old, new));
}

kf_rv kf_change_check(const struct kf_attribute *old, const struct kf_attribute *new,
                      bool more_rights, struct kf_error *err)
{
    bool fits = !old || old->kind == new->kind;
    char name[40];

    kf_name_text(KF_CKA, new->type, name, sizeof name);
    if (fits && (may_change(old, new) || (more_rights && is_a_right(new))))
        return KFR_OK;
    if (!old || !fits)
        return kf_fail(err, KFR_ARGUMENT, "", "", "such an object has no %s%s", name,
                       old ? " of that kind" : "");
    if (is_a_right(new))
        return kf_fail(err, KFR_REFUSED, "",
                       "a policy that wants it says more_rights = true",
                       "%s may not be changed so: the clone would have more rights than "
                       "its original",
                       name);
    return kf_fail(err, KFR_REFUSED, "",
                   "a change may describe differently or take rights away",
                   "%s of a clone may not be changed so", name);
}

uint64_t kf_change_denies(const struct kf_attribute *new)
{
    bool on = new->len == 1 && new->value[0];

    if (new->type == CKA_EXTRACTABLE && on)
        return CKA_NEVER_EXTRACTABLE;
    if (new->type == CKA_SENSITIVE && !on)
        return CKA_ALWAYS_SENSITIVE;
    return CK_UNAVAILABLE_INFORMATION;
}

kf_rv kf_change_apply(struct kf_attributes *set, const struct kf_changes *changes,
                      struct kf_error *err)
{
    const struct kf_attributes *from = changes ? changes->set : NULL;

    for (size_t i = 0; from && i < from->count; i++) {
        const struct kf_attribute *new = &from->at[i];
        uint64_t untrue = kf_change_denies(new);
        kf_rv rv = kf_change_check(kf_attributes_get(set, new->type), new,
                                   changes->more_rights, err);

        if (rv)
            return rv;
        if (!kf_attributes_set(set, new->type, new->kind, new->value, new->len) ||
            (kf_attributes_get(set, untrue) &&
             !kf_attributes_set_bool(set, untrue, false)))
            return kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for attributes");
    }
    return KFR_OK;
}
