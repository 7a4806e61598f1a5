/* SPDX-License-Identifier: MIT
 * core_check: what the lower floors promise, tried from within. core_check CHECK FILE
 * prints "ok", or a line for each promise that does not hold and exits with 1.
 * format_spec.lua runs it; FILE is a folder for `file`, an object file for `store`.
 */
#include "base/file.h"
#include "base/names.h"
#include "base/wire.h"
#include "clone/softhsm_plan.h"
#include "clone/softhsm_record.h"
#include "pkcs11/attribute.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <p11-kit/pkcs11.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int failures;

static void check(bool good, const char *what, int line)
{
    if (good)
        return;
    printf("line %d: not so: %s\n", line, what);
    failures++;
}
#define CHECK(condition) check(condition, #condition, __LINE__)

/* ---- wire ---- */

static void wire(const char *unused)
{
    static const unsigned char bytes[] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct kf_reader reader = kf_reader_over(bytes, sizeof bytes);
    struct kf_writer writer = kf_writer_secret();

    (void)unused;
    CHECK(kf_read_u16(&reader) == 0x0102 && kf_read_u32(&reader) == 0x03040506);
    CHECK(!kf_reader_done(&reader) && !reader.bad);
    CHECK(kf_read_bytes(&reader, 3) == NULL && reader.bad);
    CHECK(kf_read_u8(&reader) == 0 && reader.bad); /* it stays bad, though two are left */
    CHECK(!kf_reader_done(&reader));
    reader = kf_reader_over(bytes, sizeof bytes);
    CHECK(kf_read_u64(&reader) == 0x0102030405060708 && kf_reader_done(&reader));
    CHECK(kf_read_bytes(&reader, 0) && kf_reader_done(&reader));
    CHECK(kf_read_bytes(&reader, SIZE_MAX) == NULL && reader.bad);
    kf_write_u32(&writer, 0);
    for (unsigned i = 0; i < 5000; i++)
        kf_write_u64(&writer, i);
    kf_write_u32_at(&writer, 0, 0xCAFEF00D);
    reader = kf_reader_over(writer.data, writer.len);
    CHECK(kf_read_u32(&reader) == 0xCAFEF00D);
    for (unsigned i = 0; i < 5000; i++)
        CHECK(kf_read_u64(&reader) == i);
    CHECK(kf_reader_done(&reader) && !writer.bad);
    CHECK(kf_write_room(&writer, SIZE_MAX - 8) == NULL && writer.bad);
    kf_writer_clear(&writer);
    CHECK(!writer.bad && writer.len == 0 && writer.secret);
}

/* ---- attributes ---- */

static struct kf_attributes *sample(void)
{
    struct kf_attributes *set = kf_attributes_new(true);

    CHECK(set && kf_attributes_set(set, CKA_LABEL, KF_BYTES, "a label", 7) &&
          kf_attributes_set_bool(set, CKA_EXTRACTABLE, false) &&
          kf_attributes_set(set, CKA_ID, KF_BYTES, "", 0) &&
          kf_attributes_set_ulong(set, CKA_CLASS, CKO_SECRET_KEY) &&
          kf_attributes_set(set, 0x80000123, KF_BYTES, "vendor", 6));
    return set;
}

static void attributes(const char *unused)
{
    struct kf_attributes *set = sample(), *again = NULL;
    struct kf_writer writer = {0};
    struct kf_reader reader;

    (void)unused;
    for (size_t i = 1; i < set->count; i++)
        CHECK(set->at[i - 1].type < set->at[i].type);
    CHECK(!kf_attributes_set(set, CKA_TOKEN, KF_BOOL, "\2", 1));
    CHECK(!kf_attributes_set(set, CKA_CLASS, KF_ULONG, "1234", 4));
    kf_attributes_write(&writer, set);
    reader = kf_reader_over(writer.data, writer.len);
    again = kf_attributes_read(&reader, 64, false);
    CHECK(again && kf_reader_done(&reader) && again->count == set->count);
    for (size_t i = 0; again && i < set->count; i++)
        CHECK(kf_attribute_equal(&set->at[i], &again->at[i]));
    kf_attributes_free(again);
    reader = kf_reader_over(writer.data, writer.len);
    CHECK(kf_attributes_read(&reader, set->count - 1, false) == NULL && reader.bad);
    for (size_t len = 0; len < writer.len; len++) {
        reader = kf_reader_over(writer.data, len);
        again = kf_attributes_read(&reader, 64, false);
        CHECK(!again || !kf_reader_done(&reader) || again->count < set->count);
        kf_attributes_free(again);
    }
    kf_writer_clear(&writer);
    kf_attributes_free(set);
}

/* ---- names ---- */

static void names(const char *unused)
{
    (void)unused;
    for (int family = 0; family < KF_FAMILIES; family++) {
        size_t count = 0;
        const struct kf_name *rows = kf_names((enum kf_family)family, &count);

        CHECK(rows && count);
        for (size_t i = 0; i < count; i++) {
            const struct kf_name *row = &rows[i];

            CHECK(!i || row[-1].value < row->value);
            CHECK(kf_name_of((enum kf_family)family, row->value) == row);
            CHECK(kf_name_find((enum kf_family)family, row->name) == row);
            CHECK(kf_name_find((enum kf_family)family, row->nick) == row);
            CHECK(family == KF_CKA ? row->kind != KF_NO_KIND : row->kind == KF_NO_KIND);
        }
    }
}

/* ---- file ---- */

static const char *in(const char *folder, const char *name)
{
    static char paths[4][PATH_MAX];
    static int next;

    next = (next + 1) % 4;
    snprintf(paths[next], PATH_MAX, "%s/%s", folder, name);
    return paths[next];
}

static kf_rv read_one(const char *path, size_t max, int *sys)
{
    struct kf_secret *bytes = NULL;
    struct kf_error err = {0};
    kf_rv rv = kf_file_read(path, max, &bytes, &err);

    CHECK((rv == 0) == (bytes != NULL));
    *sys = err.sys;
    kf_secret_free(bytes);
    return rv;
}

static void reading(const char *folder)
{
    int sys;

    CHECK(kf_file_write(in(folder, "ten"), "0123456789", 10, 0640, NULL) == 0);
    CHECK(read_one(in(folder, "ten"), 10, &sys) == 0);
    CHECK(read_one(in(folder, "ten"), 9, &sys) == KFR_LIMIT);
    CHECK(read_one(in(folder, "none"), 9, &sys) == KFR_SYSTEM && sys == ENOENT);
    CHECK(read_one(folder, 9, &sys) == KFR_ARGUMENT);
    CHECK(read_one("/dev/zero", 9, &sys) == KFR_ARGUMENT);
    CHECK(mkfifo(in(folder, "pipe"), 0600) == 0); /* nobody will ever write to it */
    CHECK(read_one(in(folder, "pipe"), 9, &sys) == KFR_ARGUMENT);
}

static void writing(const char *folder)
{
    struct kf_secret *bytes = NULL;
    struct stat st;

    umask(0077);
    CHECK(kf_file_write(in(folder, "mode"), "a", 1, 0644, NULL) == 0);
    CHECK(stat(in(folder, "mode"), &st) == 0 && (st.st_mode & 0777) == 0644);
    CHECK(symlink("mode", in(folder, "link")) == 0);
    CHECK(kf_file_write(in(folder, "link"), "bb", 2, 0600, NULL) == 0);
    CHECK(lstat(in(folder, "link"), &st) == 0 && S_ISREG(st.st_mode) && st.st_size == 2);
    CHECK(kf_file_read(in(folder, "mode"), 9, &bytes, NULL) == 0 && bytes->len == 1);
    kf_secret_free(bytes);
    CHECK(kf_file_write(in(folder, "no/folder"), "a", 1, 0600, NULL) == KFR_SYSTEM);
    CHECK(access(in(folder, "link.tmp"), F_OK) != 0);
}

static void locking(const char *folder)
{
    int a = open(in(folder, "ten"), O_RDWR), b = open(in(folder, "ten"), O_RDWR);
    struct kf_error err = {0};

    CHECK(a >= 0 && b >= 0);
    CHECK(kf_file_lock(a, false, 0, NULL) == 0 && kf_file_lock(b, false, 0, NULL) == 0);
    CHECK(kf_file_lock(a, true, 20, &err) == KFR_SYSTEM && err.sys == EAGAIN);
    kf_file_unlock(b);
    CHECK(kf_file_lock(a, true, 0, NULL) == 0);
    CHECK(kf_file_lock(b, false, 20, &err) == KFR_SYSTEM && err.sys == EAGAIN);
    close(a);
    CHECK(kf_file_lock(b, true, 0, NULL) == 0);
    close(b);
}

static void trusting(const char *folder)
{
    static const struct {
        mode_t file, folder;
        bool trusted;
    } cases[] = {
        {0600, 0700, true},  {0644, 0755, true},  {0620, 0700, false},
        {0602, 0700, false}, {0600, 0770, false}, {0600, 0707, false},
    };
    const char *dir = in(folder, "dir");

    CHECK(mkdir(dir, 0700) == 0);
    CHECK(kf_file_write(in(folder, "dir/file"), "", 0, 0600, NULL) == 0);
    CHECK(symlink("dir/file", in(folder, "to-file")) == 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kf_rv want = cases[i].trusted ? KFR_OK : KFR_REFUSED;

        CHECK(chmod(in(folder, "dir/file"), cases[i].file) == 0);
        CHECK(chmod(in(folder, "dir"), cases[i].folder) == 0);
        CHECK(kf_file_trusted(in(folder, "dir/file"), NULL) == want);
        CHECK(kf_file_trusted(in(folder, "to-file"), NULL) == want);
    }
    CHECK(kf_file_trusted(in(folder, "none"), NULL) == KFR_SYSTEM);
}

/* A tree with a link out of it: what the link leads to stays. */
static void removing(const char *folder)
{
    CHECK(chmod(in(folder, "dir"), 0700) == 0 && symlink("..", in(folder, "dir/up")) == 0);
    CHECK(kf_file_remove_tree(in(folder, "dir/up"), NULL) != 0);
    CHECK(kf_file_remove_tree(in(folder, "dir/"), NULL) == 0);
    CHECK(access(in(folder, "dir"), F_OK) != 0 && access(in(folder, "ten"), F_OK) == 0);
}

static void file(const char *folder)
{
    reading(folder);
    writing(folder);
    locking(folder);
    trusting(folder);
    removing(folder);
}

/* ---- store ---- */

/* Ends where a record ends, or is refused; what is read is the beginning of the whole. */
static void truncation(const unsigned char *bytes, size_t len,
                       const struct kf_attributes *whole, size_t *prefixes)
{
    struct kf_attributes *set = NULL;
    struct kf_error err = {0};
    unsigned char *exact = malloc(len ? len : 1); /* so that a sanitizer sees byte len */
    kf_rv rv;

    if (!exact)
        exit(2);
    memcpy(exact, bytes, len);
    rv = kf_store_parse(exact, len, &set, &err);
    CHECK(rv == KFR_STORE || (rv == KFR_OK && set && set->count <= whole->count));
    for (size_t i = 0; set && i < set->count; i++)
        CHECK(kf_attribute_equal(&set->at[i], &whole->at[i]));
    *prefixes += rv == KFR_OK;
    kf_attributes_free(set);
    free(exact);
}

static void store(const char *path)
{
    struct kf_secret *bytes = NULL;
    struct kf_attributes *whole = NULL, *set;
    size_t prefixes = 0;

    CHECK(kf_file_read(path, KF_STORE_FILE_MAX, &bytes, NULL) == 0);
    CHECK(bytes && kf_store_parse(bytes->data, bytes->len, &whole, NULL) == 0);
    for (size_t len = 0; whole && len <= bytes->len; len++)
        truncation(bytes->data, len, whole, &prefixes);
    CHECK(whole && prefixes == whole->count + 1); /* after the counter and each record */
    for (size_t i = 0; whole && i < bytes->len * 8; i++) {
        bytes->data[i / 8] ^= (unsigned char)(1U << i % 8);
        set = NULL;
        if (kf_store_parse(bytes->data, bytes->len, &set, NULL) == 0)
            CHECK(set != NULL);
        kf_attributes_free(set);
        bytes->data[i / 8] ^= (unsigned char)(1U << i % 8);
    }
    kf_attributes_free(whole);
    kf_secret_free(bytes);
}

/* ---- plan ---- */

/* Whether the plan for a public key with that CKA_EC_POINT puts it into an OCTET STRING. */
static bool is_wrapped_by_plan(const unsigned char *point, size_t len)
{
    static const unsigned char p256[] = {6, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 3, 1, 7};
    static struct kf_plan plan;
    struct kf_attributes *open = kf_attributes_new(false);
    struct kf_sealed sealed = {.open = open};
    const struct kf_attribute *made = NULL;
    bool good = open && kf_attributes_set_ulong(open, CKA_CLASS, CKO_PUBLIC_KEY) &&
                kf_attributes_set_ulong(open, CKA_KEY_TYPE, CKK_EC) &&
                kf_attributes_set(open, CKA_EC_PARAMS, KF_BYTES, p256, sizeof p256) &&
                kf_attributes_set(open, CKA_EC_POINT, KF_BYTES, point, len);

    CHECK(good && !kf_plan_make(&plan, &sealed, NULL, NULL, NULL));
    if (good)
        made = kf_attributes_get(&plan.set, CKA_EC_POINT);
    good = made && made->len == len + 2 && made->value[0] == 4 &&
           made->value[1] == len && !memcmp(made->value + 2, point, len);
    CHECK(made && (good || made->len == len));
    kf_plan_clear(&plan);
    kf_attributes_free(open);
    return good;
}

static void plan(const char *unused)
{
    static const unsigned char bare[65] = {4, 9};
    static const unsigned char looks_wrapped[65] = {4, 63};
    static const unsigned char wrapped[67] = {4, 65, 4};

    (void)unused;
    CHECK(is_wrapped_by_plan(bare, sizeof bare));
    CHECK(is_wrapped_by_plan(looks_wrapped, sizeof looks_wrapped));
    CHECK(!is_wrapped_by_plan(wrapped, sizeof wrapped));
}

static const struct {
    const char *name;
    void (*run)(const char *path);
} checks[] = {
    {"wire", wire}, {"attributes", attributes}, {"names", names},
    {"file", file}, {"store", store}, {"plan", plan},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc == 3 && i < sizeof checks / sizeof checks[0]; i++) {
        if (strcmp(argv[1], checks[i].name) != 0)
            continue;
        checks[i].run(argv[2]);
        if (!failures)
            puts("ok");
        return failures != 0;
    }
    fprintf(stderr, "usage: %s wire|attributes|names|file|store|plan PATH\n", argv[0]);
    return 2;
}
