/* SPDX-License-Identifier: MIT */
#include "pkcs11/object.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

/* Native numbers are eight bytes here; a port to another size converts in put(). */
_Static_assert(sizeof(CK_ULONG) == 8, "CK_ULONG has eight bytes");

enum {
    ENTRIES_MAX = 160,
    ABSENT_MAX = 256,
    BATCH_BYTES = 64 * 1024, /* memory that is never touched costs nothing */
    BATCH_MECHANISMS = 512,
    BATCH_TEMPLATE = 256,
    FIRST_BYTES = 4096,
    VALUE_MAX = 16 * 1024 * 1024,
    NESTED_MAX = 64,
    NESTED_VALUE_MAX = 64 * 1024
};

#define UNTOUCHED 0xA5 /* no boolean, and as a number one that nobody has */
#define NO_TYPE UINT64_MAX

struct entry {
    uint64_t type;
    enum kf_kind kind;
    CK_ULONG cap;
    unsigned char *at;
    bool secret; /* on some class of object */
};

struct absent {
    uint64_t object_class, key_type, type;
};

/* What reading learned of a token, kept with the session: the entries of the one big
 * call, and which attributes the token says it does not have on objects of a type. */
struct memo {
    struct entry entries[ENTRIES_MAX];
    size_t count;
    unsigned char *scratch;
    struct absent absent[ABSENT_MAX];
    size_t absent_count;
};

/* One object being read. */
struct reading {
    struct kf_session *session;
    CK_OBJECT_HANDLE handle;
    struct memo *memo;
    CK_ATTRIBUTE batch[ENTRIES_MAX];
    uint64_t object_class, key_type;
    bool is_private;
    struct kf_attributes *set;
    uint64_t unread[KF_ROWS_MAX];
    size_t unread_count;
};

/* ---- asking ---- */

static CK_RV ask(struct kf_session *session, CK_OBJECT_HANDLE handle, CK_ATTRIBUTE *at,
                 CK_ULONG count)
{
    if (!kf_session_is_open(session))
        return KFR_CLOSED;
    return KF_CALL(kf_session_module(session), C_GetAttributeValue,
                   kf_session_handle(session), handle, at, count);
}

static kf_rv read_failed(struct kf_error *err, kf_rv rv, CK_OBJECT_HANDLE handle,
                         uint64_t type)
{
    char name[64];

    if (rv == CKR_OBJECT_HANDLE_INVALID)
        return kf_fail(err, KFR_VANISHED, "C_GetAttributeValue",
                       "it was removed meanwhile, or the login has ended",
                       "object %lu is no longer there", handle);
    if (rv == KFR_MEMORY)
        return kf_fail(err, rv, NULL, NULL, "no memory to read object %lu", handle);
    if (type == CKA_CLASS &&
        (rv == CKR_ATTRIBUTE_VALUE_INVALID || rv == CKR_ATTRIBUTE_TYPE_INVALID))
        return kf_fail(
            err, rv, "C_GetAttributeValue",
            "a program that was killed may have left it half made: remove it",
            "object %lu does not say what it is", handle);
    kf_name_text(KF_CKA, type, name, sizeof name);
    if (rv == KFR_LIMIT)
        return kf_fail(err, rv, "C_GetAttributeValue", NULL,
                       "%s of object %lu is larger than this program takes", name,
                       handle);
    return kf_module_fail(err, rv, "C_GetAttributeValue", "%s of object %lu", name,
                          handle);
}

/* Answers after which there is no sense in asking for the next attribute. */
static bool is_fatal(kf_rv rv)
{
    static const kf_rv fatal[] = {
        CKR_OBJECT_HANDLE_INVALID,
        CKR_SESSION_HANDLE_INVALID,
        CKR_SESSION_CLOSED,
        CKR_DEVICE_REMOVED,
        CKR_DEVICE_ERROR,
        CKR_TOKEN_NOT_PRESENT,
        CKR_CRYPTOKI_NOT_INITIALIZED,
        CKR_HOST_MEMORY,
        CKR_USER_NOT_LOGGED_IN,
        CKR_FUNCTION_NOT_SUPPORTED,
        KFR_CLOSED,
        KFR_MEMORY,
    };

    for (size_t i = 0; i < sizeof fatal / sizeof fatal[0]; i++)
        if (fatal[i] == rv)
            return true;
    return false;
}

/* ---- native values to ours ---- */

/* Whether a length is one that a value of this kind can have. */
static bool fits(enum kf_kind kind, CK_ULONG len)
{
    switch (kind) {
    case KF_BOOL:
        return len == sizeof(CK_BBOOL);
    case KF_ULONG:
        return len == sizeof(CK_ULONG);
    case KF_MECHANISMS:
        return len % sizeof(CK_MECHANISM_TYPE) == 0;
    case KF_TEMPLATE:
        return len == 0; /* others are read by read_template */
    default:
        return true;
    }
}

/* A value that fits. False: no memory. */
static bool put(struct kf_attributes *set, uint64_t type, enum kf_kind kind,
                const unsigned char *bytes, size_t len)
{
    struct kf_writer writer = set->secret ? kf_writer_secret() : (struct kf_writer){0};
    CK_ULONG number;
    bool good;

    if (kind == KF_BOOL)
        return kf_attributes_set_bool(set, type, bytes[0] != CK_FALSE);
    if (kind != KF_ULONG && kind != KF_MECHANISMS)
        return kf_attributes_set(set, type, kind, bytes, len);
    for (size_t at = 0; at < len; at += sizeof number) {
        memcpy(&number, bytes + at, sizeof number);
        kf_write_u64(&writer, number);
    }
    good = !writer.bad &&
           kf_attributes_set(set, type, kind, len ? (void *)writer.data : "", len);
    kf_writer_clear(&writer);
    return good;
}

/* ---- one attribute ---- */

static void *room_new(bool secret, size_t n)
{
    return secret ? kf_secret_alloc(n) : OPENSSL_zalloc(n);
}

/* A number or a boolean that the module called OK and did not give. */
static bool is_unwritten(enum kf_kind kind, const unsigned char *room, size_t cap)
{
    size_t i = 0;

    while (i < cap && room[i] == UNTOUCHED)
        i++;
    return (kind == KF_BOOL || kind == KF_ULONG) && i == cap;
}

/* One attribute whose value is bytes, a number or a boolean: a guess first, because a
 * call costs more than a buffer, then the length the token names. */
static kf_rv read_flat(struct kf_session *session, CK_OBJECT_HANDLE handle,
                       uint64_t type, enum kf_kind kind, struct kf_attributes *into)
{
    size_t cap = kind == KF_BOOL    ? sizeof(CK_BBOOL)
                 : kind == KF_ULONG ? sizeof(CK_ULONG)
                                    : FIRST_BYTES;
    unsigned char *room = room_new(into->secret, cap);
    CK_ATTRIBUTE at = {type, room, cap};
    kf_rv rv = KFR_MEMORY;
    bool again;

    if (!room)
        goto done;
    memset(room, UNTOUCHED, cap);
    rv = ask(session, handle, &at, 1);
    /* What fills the room exactly may also be what nobody wrote. */
    again = cap == FIRST_BYTES &&
            (rv == CKR_BUFFER_TOO_SMALL || (rv == 0 && at.ulValueLen == cap));
    if (again) {
        at = (CK_ATTRIBUTE){type, NULL, 0};
        rv = ask(session, handle, &at, 1);
        if (rv != 0)
            goto done;
        rv = KFR_LIMIT;
        if (at.ulValueLen > VALUE_MAX)
            goto done;
        kf_secret_release(room, cap);
        cap = at.ulValueLen;
        room = room_new(into->secret, cap + 1);
        at.pValue = room;
        cap += 1;
        rv = KFR_MEMORY;
        if (!room)
            goto done;
        at.ulValueLen = cap;
        rv = ask(session, handle, &at, 1);
    }
    if (rv != 0)
        goto done;
    rv = KFR_MODULE;
    if (at.ulValueLen > cap || at.pValue != room || !fits(kind, at.ulValueLen) ||
        (!again && is_unwritten(kind, room, cap)) || (again && at.ulValueLen == cap))
        goto done;
    rv = put(into, type, kind, room, at.ulValueLen) ? 0 : KFR_MEMORY;
done:
    kf_secret_release(room, cap);
    return rv;
}

/* The values of a template whose types and lengths `array` holds: they are ours from
 * here on, the module's second thoughts are checked against them. */
static kf_rv read_nested(struct kf_session *session, CK_OBJECT_HANDLE handle,
                         uint64_t type, CK_ATTRIBUTE *array, size_t count,
                         struct kf_attributes *nested)
{
    CK_ATTRIBUTE at = {type, array, count * sizeof *array};
    struct entry entries[NESTED_MAX];
    unsigned char *room = NULL;
    size_t total = 0;
    kf_rv rv = KFR_MODULE;

    for (size_t i = 0; i < count; i++) {
        enum kf_kind kind = kf_kind_of(array[i].type);

        if (array[i].ulValueLen > NESTED_VALUE_MAX || kind == KF_TEMPLATE ||
            !fits(kind, array[i].ulValueLen))
            goto done;
        entries[i] =
            (struct entry){array[i].type, kind, array[i].ulValueLen, NULL, false};
        total += (array[i].ulValueLen + 15) / 8 * 8;
    }
    room = OPENSSL_zalloc(total + 1);
    rv = KFR_MEMORY;
    if (!room)
        goto done;
    for (size_t i = 0, used = 0; i < count; i++) {
        entries[i].at = room + used;
        array[i].pValue = entries[i].at;
        used += (entries[i].cap + 15) / 8 * 8;
    }
    rv = ask(session, handle, &at, 1);
    for (size_t i = 0; i < count && rv == 0; i++) {
        /* NSS puts pointers of its own there: then the values are not in our room. */
        if (array[i].type != entries[i].type || array[i].pValue != entries[i].at ||
            array[i].ulValueLen > entries[i].cap ||
            !fits(entries[i].kind, array[i].ulValueLen))
            rv = KFR_MODULE;
        else if (!put(nested, entries[i].type, entries[i].kind, entries[i].at,
                      array[i].ulValueLen))
            rv = KFR_MEMORY;
    }
done:
    OPENSSL_free(room);
    return rv;
}

/* An array of attributes takes three calls: its length; types and lengths, for which
 * all pointers in it must be NULL (SoftHSM writes through whatever is in them); values
 * (PKCS#11 v2.40, 5.7, C_GetAttributeValue). */
static kf_rv read_template(struct kf_session *session, CK_OBJECT_HANDLE handle,
                           uint64_t type, struct kf_attributes *into)
{
    struct kf_attributes *nested = kf_attributes_new(into->secret);
    CK_ATTRIBUTE at = {type, NULL, 0};
    CK_ATTRIBUTE array[NESTED_MAX];
    struct kf_writer writer = {0};
    size_t size, count;
    kf_rv rv = KFR_MEMORY;

    memset(array, 0, sizeof array);
    if (!nested)
        goto done;
    rv = ask(session, handle, &at, 1);
    if (rv != 0)
        goto done;
    rv = KFR_MODULE;
    size = at.ulValueLen;
    if (size > sizeof array || size % sizeof array[0] != 0)
        goto done;
    count = size / sizeof array[0];
    at.pValue = array;
    rv = count ? ask(session, handle, &at, 1) : 0;
    if (rv == 0 && at.ulValueLen != size)
        rv = KFR_MODULE;
    if (rv == 0 && count)
        rv = read_nested(session, handle, type, array, count, nested);
    if (rv != 0)
        goto done;
    kf_attributes_write(&writer, nested);
    rv = !writer.bad &&
                 kf_attributes_set(into, type, KF_TEMPLATE,
                                   writer.len ? (void *)writer.data : "", writer.len)
             ? 0
             : KFR_MEMORY;
done:
    kf_writer_clear(&writer);
    kf_attributes_free(nested);
    return rv;
}

static kf_rv read_value(struct kf_session *session, CK_OBJECT_HANDLE handle,
                        uint64_t type, struct kf_attributes *into)
{
    enum kf_kind kind = kf_kind_of(type);

    return kind == KF_TEMPLATE ? read_template(session, handle, type, into)
                               : read_flat(session, handle, type, kind, into);
}

/* ---- the one big call ---- */

static CK_ULONG batch_cap(enum kf_kind kind)
{
    switch (kind) {
    case KF_BOOL:
        return sizeof(CK_BBOOL);
    case KF_ULONG:
        return sizeof(CK_ULONG); /* NSS refuses a larger one */
    case KF_MECHANISMS:
        return BATCH_MECHANISMS * sizeof(CK_MECHANISM_TYPE);
    case KF_TEMPLATE:
        return BATCH_TEMPLATE * sizeof(CK_ATTRIBUTE);
    default:
        return BATCH_BYTES;
    }
}

static struct entry *entry_for(struct memo *memo, uint64_t type)
{
    for (size_t i = 0; i < memo->count; i++)
        if (memo->entries[i].type == type)
            return &memo->entries[i];
    if (memo->count == ENTRIES_MAX)
        return NULL;
    memo->entries[memo->count] = (struct entry){.type = type};
    return &memo->entries[memo->count++];
}

/* CKA_VALUE is a key here and a certificate there: what is secret on any object is
 * asked for only when it is known what the object is. */
static void add_rows(struct memo *memo, uint64_t object_class, uint64_t key_type)
{
    struct kf_row rows[KF_ROWS_MAX];
    size_t count = kf_rows(object_class, key_type, rows);

    for (size_t i = 0; i < count; i++) {
        struct entry *entry = entry_for(memo, rows[i].type);

        if (entry && ((rows[i].roles & KF_ROLE_KEY) ||
                      kf_attribute_is_secret(object_class, rows[i].type)))
            entry->secret = true;
    }
}

static bool is_date(uint64_t type)
{
    return type == CKA_START_DATE || type == CKA_END_DATE;
}

/* Dates last: SoftHSM stops at one that it cannot decrypt. */
static int entry_order(const void *a, const void *b)
{
    const struct entry *left = a;
    const struct entry *right = b;

    if (is_date(left->type) != is_date(right->type))
        return is_date(left->type) ? 1 : -1;
    return left->type < right->type ? -1 : left->type > right->type;
}

/* Every attribute that an object of any class and type has rows for. */
static void fill_entries(struct memo *memo)
{
    static const enum kf_family families[] = {KF_CKK, KF_CKC};
    size_t classes, count;
    size_t kept = 0;
    const struct kf_name *class = kf_names(KF_CKO, &classes);

    for (size_t i = 0; i < classes; i++) {
        add_rows(memo, class[i].value, NO_TYPE);
        for (size_t f = 0; f < sizeof families / sizeof families[0]; f++) {
            const struct kf_name *name = kf_names(families[f], &count);

            for (size_t k = 0; k < count; k++)
                add_rows(memo, class[i].value, name[k].value);
        }
    }
    for (size_t i = 0; i < memo->count; i++)
        if (!memo->entries[i].secret)
            memo->entries[kept++] = memo->entries[i];
    memo->count = kept;
    qsort(memo->entries, memo->count, sizeof memo->entries[0], entry_order);
}

static void memo_free(void *pointer)
{
    struct memo *memo = pointer;

    if (memo)
        free(memo->scratch);
    free(memo);
}

/* The session's memo, made at the first reading. NULL: no memory. */
static struct memo *memo_of(struct kf_session *session)
{
    struct memo *memo = kf_session_memo(session);
    size_t size = 0;

    if (memo)
        return memo;
    memo = calloc(1, sizeof *memo);
    if (!memo)
        return NULL;
    fill_entries(memo);
    for (size_t i = 0; i < memo->count; i++) {
        memo->entries[i].kind = kf_kind_of(memo->entries[i].type);
        memo->entries[i].cap = batch_cap(memo->entries[i].kind);
        size += (memo->entries[i].cap + 7) / 8 * 8;
    }
    memo->scratch = malloc(size + 1);
    if (!memo->scratch) {
        free(memo);
        return NULL;
    }
    size = 0;
    for (size_t i = 0; i < memo->count; i++) {
        memo->entries[i].at = memo->scratch + size;
        size += (memo->entries[i].cap + 7) / 8 * 8;
    }
    kf_session_set_memo(session, memo, memo_free);
    return memo;
}

/* Numbers get a value that shows when nobody wrote there. Templates must be all NULL.
 */
static CK_RV ask_all(struct reading *reading)
{
    struct memo *memo = reading->memo;

    for (size_t i = 0; i < memo->count; i++) {
        const struct entry *entry = &memo->entries[i];

        if (entry->kind == KF_BOOL || entry->kind == KF_ULONG)
            memset(entry->at, UNTOUCHED, entry->cap);
        else if (entry->kind == KF_TEMPLATE)
            memset(entry->at, 0, entry->cap);
        reading->batch[i] = (CK_ATTRIBUTE){entry->type, entry->at, entry->cap};
    }
    return ask(reading->session, reading->handle, reading->batch, memo->count);
}

static bool is_untouched(const struct entry *entry, const CK_ATTRIBUTE *at)
{
    CK_ULONG i = 0;

    if (entry->kind != KF_BOOL && entry->kind != KF_ULONG)
        return at->ulValueLen == entry->cap;
    while (i < entry->cap && entry->at[i] == UNTOUCHED)
        i++;
    return i == entry->cap;
}

/* What the big call gave for type; NULL when it gave nothing that can be believed. */
static const struct entry *given(const struct reading *reading, uint64_t type,
                                 CK_ULONG *len)
{
    const struct memo *memo = reading->memo;

    for (size_t i = 0; i < memo->count; i++) {
        const struct entry *entry = &memo->entries[i];
        const CK_ATTRIBUTE *at = &reading->batch[i];

        if (entry->type != type)
            continue;
        if (at->ulValueLen > entry->cap || at->pValue != entry->at || !fits(entry->kind, at->ulValueLen) ||
            is_untouched(entry, at))
            return NULL;
        *len = at->ulValueLen;
        return entry;
    }
    return NULL;
}

/* From the big call, else by itself. */
static kf_rv obtain(struct reading *reading, uint64_t type)
{
    CK_ULONG len = 0;
    const struct entry *entry = given(reading, type, &len);

    if (!entry)
        return read_value(reading->session, reading->handle, type, reading->set);
    return put(reading->set, type, entry->kind, entry->at, len) ? 0 : KFR_MEMORY;
}

/* ---- an object ---- */

/* A batch in which one attribute is missing does not say whether the others with no
 * length are missing or too large (one code for the whole call), so each is asked for
 * by itself. Once for all objects of a type is enough where nothing can be too large:
 * for numbers and booleans, and for templates, whose room is larger than any real one. */
static bool can_be_remembered(const struct reading *reading, uint64_t type)
{
    const struct memo *memo = reading->memo;
    enum kf_kind kind = kf_kind_of(type);

    if (kind == KF_BOOL || kind == KF_ULONG)
        return true;
    for (size_t i = 0; kind == KF_TEMPLATE && i < memo->count; i++)
        if (memo->entries[i].type == type)
            return reading->batch[i].ulValueLen == CK_UNAVAILABLE_INFORMATION;
    return false;
}

static bool is_noted(const struct memo *memo, uint64_t object_class, uint64_t key_type,
                     uint64_t type)
{
    for (size_t i = 0; i < memo->absent_count; i++)
        if (memo->absent[i].type == type &&
            memo->absent[i].object_class == object_class &&
            memo->absent[i].key_type == key_type)
            return true;
    return false;
}

static bool is_absent(const struct reading *reading, uint64_t type)
{
    return can_be_remembered(reading, type) &&
           is_noted(reading->memo, reading->object_class, reading->key_type, type);
}

static void note_absent(struct reading *reading, uint64_t type)
{
    struct memo *memo = reading->memo;

    if (memo->absent_count < ABSENT_MAX && can_be_remembered(reading, type) &&
        !is_absent(reading, type))
        memo->absent[memo->absent_count++] =
            (struct absent){reading->object_class, reading->key_type, type};
}

static bool is_key_class(uint64_t object_class)
{
    return object_class == CKO_PUBLIC_KEY || object_class == CKO_PRIVATE_KEY ||
           object_class == CKO_SECRET_KEY || object_class == CKO_DOMAIN_PARAMETERS;
}

/* Class and type decide which attributes are key bytes, so they must be known. */
static kf_rv identify(struct reading *reading, struct kf_error *err)
{
    uint64_t type = CKA_CLASS;
    kf_rv rv = obtain(reading, type);

    if (rv != 0)
        goto done;
    reading->object_class = kf_attributes_ulong(reading->set, CKA_CLASS, NO_TYPE);
    reading->key_type = NO_TYPE;
    if (is_key_class(reading->object_class)) {
        type = CKA_KEY_TYPE;
        rv = obtain(reading, type);
        reading->key_type = kf_attributes_ulong(reading->set, type, NO_TYPE);
    } else if (reading->object_class == CKO_CERTIFICATE) {
        type = CKA_CERTIFICATE_TYPE;
        rv = obtain(reading, type);
        reading->key_type = kf_attributes_ulong(reading->set, type, NO_TYPE);
    }
    if (rv != 0)
        goto done;
    rv = obtain(reading, CKA_PRIVATE);
    if (rv != 0 && !is_fatal(rv))
        rv = 0; /* then it is treated as private */
    reading->is_private = kf_attributes_bool(reading->set, CKA_PRIVATE, true);
done:
    return rv == 0 ? 0 : read_failed(err, rv, reading->handle, type);
}

/* Key bytes, and the value of a private data object. */
static bool is_hidden(const struct reading *reading, const struct kf_row *row)
{
    if (reading->object_class == CKO_DATA)
        return row->type == CKA_VALUE && reading->is_private;
    return (row->roles & KF_ROLE_KEY) ||
           kf_attribute_is_secret(reading->object_class, row->type);
}

bool kf_object_has_all(struct kf_session *session, const struct kf_attributes *known)
{
    const struct memo *memo = kf_session_memo(session);
    struct reading like = {
        .object_class = kf_attributes_ulong(known, CKA_CLASS, NO_TYPE),
        .key_type = kf_attributes_ulong(known, CKA_KEY_TYPE, NO_TYPE),
        .is_private = kf_attributes_bool(known, CKA_PRIVATE, true),
    };
    struct kf_row rows[KF_ROWS_MAX];
    size_t count;

    if (!memo)
        return false;
    if (like.object_class == CKO_CERTIFICATE)
        like.key_type = kf_attributes_ulong(known, CKA_CERTIFICATE_TYPE, NO_TYPE);
    count = kf_rows(like.object_class, like.key_type, rows);
    for (size_t i = 0; i < count; i++)
        if (!is_hidden(&like, &rows[i]) && !kf_attributes_get(known, rows[i].type) &&
            !is_noted(memo, like.object_class, like.key_type, rows[i].type))
            return false;
    return true;
}

static kf_rv read_row(struct reading *reading, const struct kf_row *row)
{
    bool asked_alone = false;
    CK_ULONG len = 0;
    kf_rv rv;

    if (kf_attributes_get(reading->set, row->type))
        return 0;
    if (!given(reading, row->type, &len)) {
        asked_alone = true;
        if (is_absent(reading, row->type))
            return 0;
    }
    rv = obtain(reading, row->type);
    if (rv == 0 || is_fatal(rv))
        return rv;
    if (rv == CKR_ATTRIBUTE_TYPE_INVALID && asked_alone)
        note_absent(reading, row->type);
    else
        reading->unread[reading->unread_count++] = row->type;
    return 0;
}

static kf_rv read_rows(struct reading *reading, struct kf_error *err)
{
    struct kf_row rows[KF_ROWS_MAX];
    size_t count = kf_rows(reading->object_class, reading->key_type, rows);

    for (size_t i = 0; i < count; i++) {
        kf_rv rv = is_hidden(reading, &rows[i]) ? 0 : read_row(reading, &rows[i]);

        if (rv != 0)
            return read_failed(err, rv, reading->handle, rows[i].type);
    }
    return 0;
}

static kf_rv reading_begin(struct reading *reading, struct kf_session *session,
                           CK_OBJECT_HANDLE object, bool secret, struct kf_error *err)
{
    memset(reading, 0, sizeof *reading);
    reading->session = session;
    reading->handle = object;
    reading->memo = memo_of(session);
    reading->set = kf_attributes_new(secret);
    return reading->memo && reading->set ? 0 : read_failed(err, KFR_MEMORY, object, 0);
}

kf_rv kf_object_read(struct kf_session *session, CK_OBJECT_HANDLE object,
                     struct kf_attributes **out, uint64_t *unread, size_t *unread_count,
                     struct kf_error *err)
{
    struct reading reading;
    kf_rv rv = reading_begin(&reading, session, object, false, err);

    if (rv != 0)
        goto done;
    rv = ask_all(&reading);
    if (is_fatal(rv)) {
        rv = read_failed(err, rv, object, CKA_CLASS);
        goto done;
    }
    rv = identify(&reading, err);
    if (rv == 0)
        rv = read_rows(&reading, err);
    if (rv != 0)
        goto done;
    if (unread)
        memcpy(unread, reading.unread, reading.unread_count * sizeof *unread);
    if (unread_count)
        *unread_count = reading.unread_count;
    *out = reading.set;
    reading.set = NULL;
done:
    kf_attributes_free(reading.set);
    return rv;
}

/* All or nothing: a key of which a part could not be read is not a key. A part that the
 * object does not have (an RSA key without its primes) is no failure. */
static kf_rv read_hidden(struct reading *reading, struct kf_attributes *key,
                         struct kf_error *err)
{
    struct kf_row rows[KF_ROWS_MAX];
    size_t count = kf_rows(reading->object_class, reading->key_type, rows);

    for (size_t i = 0; i < count; i++) {
        kf_rv rv;

        if (!is_hidden(reading, &rows[i]))
            continue;
        rv = read_value(reading->session, reading->handle, rows[i].type, key);
        if (rv != 0 && rv != CKR_ATTRIBUTE_TYPE_INVALID)
            return read_failed(err, rv, reading->handle, rows[i].type);
    }
    return 0;
}

kf_rv kf_object_read_key(struct kf_session *session, CK_OBJECT_HANDLE object,
                         struct kf_attributes **out, struct kf_error *err)
{
    struct kf_attributes *key = kf_attributes_new(true);
    struct reading reading;
    kf_rv rv = reading_begin(&reading, session, object, false, err);

    if (rv == 0 && !key)
        rv = read_failed(err, KFR_MEMORY, object, 0);
    if (rv != 0)
        goto done;
    /* nothing was asked in one call: all entries are without a value */
    for (size_t i = 0; i < reading.memo->count; i++)
        reading.batch[i].ulValueLen = CK_UNAVAILABLE_INFORMATION;
    rv = identify(&reading, err);
    if (rv == 0)
        rv = read_hidden(&reading, key, err);
    if (rv != 0)
        goto done;
    *out = key;
    key = NULL;
done:
    kf_attributes_free(key);
    kf_attributes_free(reading.set);
    return rv;
}

kf_rv kf_object_read_one(struct kf_session *session, CK_OBJECT_HANDLE object,
                         uint64_t type, struct kf_attributes *into,
                         struct kf_error *err)
{
    kf_rv rv = read_value(session, object, type, into);

    return rv == 0 ? 0 : read_failed(err, rv, object, type);
}
