/* SPDX-License-Identifier: MIT */
#include "clone/softhsm_record.h"

#include "base/secret.h"

#include <stdlib.h>
#include <string.h>

enum { WORD = 8, PACKED_HEAD = 8 + 1 + 1 + 4 };

static kf_rv torn(struct kf_error *err, const char *why)
{
    return kf_fail(err, KFR_STORE, "", "", "not an object file: %s", why);
}

static void put_word(unsigned char *at, uint64_t value, size_t n)
{
    for (size_t i = 0; i < n; i++)
        at[i] = (unsigned char)(value >> (8 * (n - 1 - i)));
}

static int by_word(const void *a, const void *b)
{
    return memcmp(a, b, WORD);
}

/* A kf_reader gives what it may only be read from; these bytes are the caller's own. */
static unsigned char *own(unsigned char *bytes, const unsigned char *base,
                          const unsigned char *at)
{
    return bytes + (at - base);
}

/* One value; `at` comes with its kind. A template is still packed as the store has
 * it. */
static bool read_value(struct kf_reader *reader, unsigned char *bytes,
                       const unsigned char *base, struct kf_attribute *at)
{
    const unsigned char *value;
    uint64_t len = at->kind == KF_BOOL ? 1 : WORD;

    if (at->kind >= KF_BYTES) {
        len = kf_read_u64(reader);
        if (reader->bad || len > reader->left)
            return false;
        if (at->kind == KF_MECHANISMS && len > reader->left / WORD)
            return false;
        len *= at->kind == KF_MECHANISMS ? WORD : 1;
    }
    value = reader->at;
    if (!kf_read_bytes(reader, (size_t)len))
        return false;
    at->value = own(bytes, base, value);
    at->len = (size_t)len;
    if (at->kind == KF_BOOL)
        at->value[0] = at->value[0] != 0;
    if (at->kind == KF_MECHANISMS)
        qsort(at->value, at->len / WORD, WORD, by_word);
    return true;
}

static bool read_record(struct kf_reader *reader, unsigned char *bytes,
                        const unsigned char *base, struct kf_attribute *at)
{
    uint64_t kind;

    at->type = kf_read_u64(reader);
    kind = kf_read_u64(reader);
    if (reader->bad || kind < KF_BOOL || kind > KF_MECHANISMS)
        return false;
    at->kind = (enum kf_kind)kind;
    at->form = KF_FORM_USUAL;
    return read_value(reader, bytes, base, at);
}

/* Rewrites a template where it lies. What is written for a record is always shorter
 * than what was read for it, so the writing never overtakes the reading. */
static bool repack_template(struct kf_attribute *template)
{
    struct kf_reader reader = kf_reader_over(template->value, template->len);
    unsigned char *out = template->value;
    uint64_t last = 0;

    while (reader.left) {
        struct kf_attribute at;

        if (!read_record(&reader, template->value, template->value, &at)
            || at.kind == KF_TEMPLATE || at.len > UINT32_MAX
            || (out != template->value && at.type <= last))
            return false;
        last = at.type;
        put_word(out, at.type, WORD);
        out[WORD] = (unsigned char)at.kind;
        out[WORD + 1] = KF_FORM_USUAL;
        put_word(out + WORD + 2, at.len, 4);
        memmove(out + PACKED_HEAD, at.value, at.len);
        out += PACKED_HEAD + at.len;
    }
    template->len = (size_t)(out - template->value);
    return true;
}

/* Into its place by type, where it replaces one of the same type. */
static void insert(struct kf_attribute *at, size_t *count,
                   const struct kf_attribute *new)
{
    size_t i = *count;

    while (i > 0 && at[i - 1].type > new->type)
        i--;
    if (i > 0 && at[i - 1].type == new->type) {
        at[i - 1] = *new;
        return;
    }
    memmove(at + i + 1, at + i, (*count - i) * sizeof *at);
    at[i] = *new;
    (*count)++;
}

kf_rv kf_store_records(unsigned char *bytes, size_t len, struct kf_attribute *at,
                       size_t *count, struct kf_error *err)
{
    struct kf_reader reader = kf_reader_over(bytes, len);
    struct kf_attribute next;

    *count = 0;
    if (len > KF_STORE_FILE_MAX)
        return kf_fail(err, KFR_LIMIT, "", "", "an object file of %zu bytes", len);
    kf_read_u64(&reader);
    if (reader.bad)
        return torn(err, "it is empty or ends in its first word");
    while (reader.left) {
        if (!read_record(&reader, bytes, bytes, &next))
            return torn(err, "a record is cut off or of no known kind");
        if (next.kind == KF_TEMPLATE && !repack_template(&next))
            return torn(err, "a template in it is none");
        if (*count == KF_STORE_RECORDS_MAX)
            return kf_fail(err, KFR_LIMIT, "", "",
                           "an object of more than %d attributes",
                           KF_STORE_RECORDS_MAX);
        insert(at, count, &next);
    }
    return KFR_OK;
}

kf_rv kf_store_parse(const void *bytes, size_t len, struct kf_attributes **out,
                     struct kf_error *err)
{
    kf_rv rv = KFR_MEMORY;
    struct kf_attribute at[KF_STORE_RECORDS_MAX];
    size_t count = 0;
    struct kf_attributes *set = NULL;
    struct kf_secret *copy = NULL;

    if (len > KF_STORE_FILE_MAX) {
        rv = kf_fail(err, KFR_LIMIT, "", "", "an object file of %zu bytes", len);
        goto done;
    }
    set = kf_attributes_new(true);
    copy = kf_secret_from(bytes, len);
    if (!set || !copy)
        goto memory;
    rv = kf_store_records(copy->data, copy->len, at, &count, err);
    if (rv)
        goto done;
    for (size_t i = 0; i < count; i++)
        if (!kf_attributes_set(set, at[i].type, at[i].kind, at[i].value, at[i].len))
            goto memory;
    *out = set;
    set = NULL;
    goto done;
memory:
    rv = kf_fail(err, KFR_MEMORY, "", "", "no memory for an object file");
done:
    kf_secret_free(copy);
    kf_attributes_free(set);
    return rv;
}

static bool write_template(struct kf_writer *out, const struct kf_attribute *template);

static bool write_record(struct kf_writer *out, const struct kf_attribute *at)
{
    bool ok = true;

    kf_write_u64(out, at->type);
    kf_write_u64(out, at->kind);
    switch (at->kind) {
    case KF_BOOL:
        ok = at->len == 1;
        kf_write_u8(out, ok && at->value[0] ? 0xFF : 0); /* as File::writeBool does */
        break;
    case KF_ULONG:
        ok = at->len == WORD;
        kf_write_bytes(out, at->value, at->len);
        break;
    case KF_BYTES:
        kf_write_u64(out, at->len);
        kf_write_bytes(out, at->value, at->len);
        break;
    case KF_MECHANISMS:
        ok = at->len % WORD == 0;
        kf_write_u64(out, at->len / WORD);
        kf_write_bytes(out, at->value, at->len);
        break;
    case KF_TEMPLATE:
        ok = write_template(out, at);
        break;
    default:
        ok = false;
    }
    return ok && !out->bad;
}

static bool write_template(struct kf_writer *out, const struct kf_attribute *template)
{
    struct kf_reader reader = kf_reader_over(template->value, template->len);
    size_t length_at;
    bool ok = true;

    kf_write_u32(out, 0);
    length_at = out->len;
    kf_write_u32(out, 0);
    while (ok && reader.left) {
        struct kf_attribute at = { .type = kf_read_u64(&reader) };

        at.kind = (enum kf_kind)kf_read_u8(&reader);
        kf_read_u8(&reader);
        at.len = kf_read_u32(&reader);
        /* Only read from: the cast meets the type of the member. */
        at.value = (unsigned char *)(uintptr_t)kf_read_bytes(&reader, at.len);
        ok = !reader.bad && at.kind != KF_TEMPLATE && write_record(out, &at);
    }
    ok = ok && out->len - length_at - 4 <= UINT32_MAX;
    if (ok)
        kf_write_u32_at(out, length_at, (uint32_t)(out->len - length_at - 4));
    return ok;
}

kf_rv kf_store_encode(const struct kf_attributes *set, struct kf_writer *out,
                      struct kf_error *err)
{
    size_t start = out->len;

    if (set->count > KF_STORE_RECORDS_MAX)
        return kf_fail(err, KFR_LIMIT, "", "", "an object of %zu attributes",
                       set->count);
    kf_write_u64(out, 1);
    for (size_t i = 0; i < set->count; i++) {
        const struct kf_attribute *at = &set->at[i];
        char name[40];

        if (i && at->type <= set->at[i - 1].type)
            return kf_fail(err, KFR_ARGUMENT, "", "", "attributes out of order");
        if (!write_record(out, at) && !out->bad)
            return kf_fail(err, KFR_ARGUMENT, "", "",
                           "%s has a value no store can hold",
                           kf_name_text(KF_CKA, at->type, name, sizeof name));
    }
    if (out->bad)
        return kf_fail(err, KFR_MEMORY, "", "", "no memory for an object file");
    if (out->len - start > KF_STORE_FILE_MAX)
        return kf_fail(err, KFR_LIMIT, "", "", "an object of %zu bytes",
                       out->len - start);
    return KFR_OK;
}
