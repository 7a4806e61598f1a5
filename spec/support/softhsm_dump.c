/* SPDX-License-Identifier: MIT
 * softhsm_dump: every attribute of every object in the folder of a SoftHSM token,
 * opened with a PIN read from standard input. Written apart from c/clone, to judge it.
 *
 *     softhsm_dump [-so] TOKEN-FOLDER < pin
 *
 * One line an attribute, files sorted, attributes as they lie in the file:
 *     FILE TYPE KIND FORM VALUE
 * TYPE 0x..., KIND 1 boolean, 2 number, 3 bytes, 4 template, 5 mechanisms; FORM "clear"
 * or "encrypted" (how it lies there); VALUE in hex, decrypted, "-" when empty. Any file
 * that is not exactly an object ends the dump with status 1.
 */
#include <dirent.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { KEY = 32, IV = 16, SALT = 8, BLOB = 72, FILE_MAX = 64 * 1024 * 1024 };
enum { BOOLEAN = 1, NUMBER = 2, BYTES = 3, TEMPLATE = 4, MECHANISMS = 5 };
#define CLASS_PRIVATE 0x2U
#define START_DATE 0x110U
#define END_DATE 0x111U
#define SO_BLOB 0x8000534CU
#define USER_BLOB 0x8000534DU

struct bytes {
    unsigned char *at;
    size_t len;
};

struct record {
    uint64_t type, kind;
    struct bytes value;
};

static void die(const char *format, ...)
    __attribute__((format(printf, 1, 2), noreturn));
static void die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

static struct bytes slurp(const char *folder, const char *name)
{
    struct bytes file = {NULL, 0};
    struct stat stat_of;
    char path[4096];
    FILE *in;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    in = fopen(path, "rb");
    if (!in || fstat(fileno(in), &stat_of) || stat_of.st_size > FILE_MAX)
        die("%s: cannot be read", path);
    file.at = malloc((size_t)stat_of.st_size + 1);
    if (!file.at)
        die("no memory");
    file.len = fread(file.at, 1, (size_t)stat_of.st_size, in);
    if (file.len != (size_t)stat_of.st_size)
        die("%s: changed while it was read", path);
    fclose(in);
    return file;
}

static struct bytes take(struct bytes *from, uint64_t n, const char *name)
{
    struct bytes part = {from->at, (size_t)n};

    if (n > from->len)
        die("%s: ends inside a record", name);
    from->at += n;
    from->len -= (size_t)n;
    return part;
}

static uint64_t word(struct bytes *from, const char *name)
{
    struct bytes eight = take(from, 8, name);
    uint64_t value = 0;

    for (size_t i = 0; i < eight.len; i++)
        value = value << 8 | eight.at[i];
    return value;
}

static struct record record(struct bytes *from, const char *name)
{
    struct record next = {0, 0, {NULL, 0}};
    uint64_t n = 0;

    next.type = word(from, name);
    next.kind = word(from, name);
    if (next.kind == BOOLEAN)
        n = 1;
    else if (next.kind == NUMBER)
        n = 8;
    else if (next.kind == BYTES || next.kind == TEMPLATE || next.kind == MECHANISMS)
        n = word(from, name);
    else
        die("%s: kind %llu", name, (unsigned long long)next.kind);
    if (next.kind == MECHANISMS)
        n = n > FILE_MAX ? n : n * 8;
    next.value = take(from, n, name);
    return next;
}

/* CBC with PKCS#7 after an IV. False: not under that key. out has room for len bytes.
 */
static bool decrypt(const unsigned char *key, struct bytes in, struct bytes *out)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n = 0, last = 0;
    bool good = ctx && in.len >= 2 * IV && in.len % IV == 0;

    good = good && EVP_DecryptInit_ex(ctx, EVP_aes_256_cbc(), NULL, key, in.at) &&
           EVP_DecryptUpdate(ctx, out->at, &n, in.at + IV, (int)(in.len - IV)) &&
           EVP_DecryptFinal_ex(ctx, out->at + n, &last);
    out->len = (size_t)(n + last);
    EVP_CIPHER_CTX_free(ctx);
    return good;
}

static struct bytes find_blob(struct bytes file, uint64_t type)
{
    struct bytes blob = {NULL, 0};
    struct record next;

    word(&file, "token.object");
    while (file.len) {
        next = record(&file, "token.object");
        if (next.type == type)
            blob = next.value;
    }
    if (blob.len != BLOB)
        die("token.object: no PIN of that user");
    return blob;
}

static void token_key(const char *folder, uint64_t type, unsigned char key[KEY])
{
    struct bytes file = slurp(folder, "token.object");
    struct bytes blob = find_blob(file, type);
    unsigned char digest[SHA256_DIGEST_LENGTH], first[SALT + 257], plain[BLOB];
    struct bytes opened = {plain, 0};
    size_t pin;

    memcpy(first, blob.at, SALT);
    pin = fread(first + SALT, 1, 256, stdin);
    if (pin && first[SALT + pin - 1] == '\n')
        pin--;
    SHA256(first, SALT + pin, digest);
    for (int i = 1; i < 1500 + blob.at[SALT - 1]; i++)
        SHA256(digest, sizeof digest, digest);
    blob = (struct bytes){blob.at + SALT, BLOB - SALT};
    if (!decrypt(digest, blob, &opened) || opened.len != 3 + KEY ||
        memcmp(plain, "RJR", 3))
        die("the PIN is wrong");
    memcpy(key, plain + 3, KEY);
    OPENSSL_cleanse(first, sizeof first);
    OPENSSL_cleanse(digest, sizeof digest);
    OPENSSL_cleanse(plain, sizeof plain);
    free(file.at);
}

static bool is_private(struct bytes file, const char *name)
{
    struct record next;
    bool private = false;

    word(&file, name);
    while (file.len) {
        next = record(&file, name);
        if (next.type == CLASS_PRIVATE && next.kind == BOOLEAN)
        private = next.value.at[0] != 0;
    }
    return private;
}

/* A date set by an application lies in the clear even in a private object. */
static bool is_encrypted(const struct record *r, bool private)
{
    bool date = r->type == START_DATE || r->type == END_DATE;

    return private && r->kind == BYTES && r->value.len && !(date && r->value.len == 8);
}

static void print(const char *name, const struct record *r, const char *form,
                  struct bytes value)
{
    printf("%s 0x%llx %llu %s ", name, (unsigned long long)r->type,
           (unsigned long long)r->kind, form);
    for (size_t i = 0; i < value.len; i++)
        printf("%02x", value.at[i]);
    puts(value.len ? "" : "-");
}

static void dump(const char *folder, const char *name, const unsigned char key[KEY])
{
    struct bytes file = slurp(folder, name), rest = file;
    struct bytes plain = {malloc(file.len + 1), 0};
    bool private = is_private(file, name);
    struct record next;

    if (!plain.at)
        die("no memory");
    word(&rest, name);
    while (rest.len) {
        next = record(&rest, name);
        if (!is_encrypted(&next, private))
            print(name, &next, "clear", next.value);
        else if (decrypt(key, next.value, &plain))
            print(name, &next, "encrypted", plain);
        else
            die("%s: 0x%llx does not decrypt", name, (unsigned long long)next.type);
    }
    OPENSSL_cleanse(plain.at, file.len + 1);
    free(plain.at);
    free(file.at);
}

static int is_object(const struct dirent *entry)
{
    size_t n = strlen(entry->d_name);

    return n > 7 && !strcmp(entry->d_name + n - 7, ".object") &&
           strcmp(entry->d_name, "token.object") != 0;
}

int main(int argc, char **argv)
{
    bool so = argc == 3 && !strcmp(argv[1], "-so");
    unsigned char key[KEY];
    struct dirent **names;
    int n;

    if (argc != 2 + so)
        die("usage: softhsm_dump [-so] TOKEN-FOLDER < pin");
    token_key(argv[1 + so], so ? SO_BLOB : USER_BLOB, key);
    n = scandir(argv[1 + so], &names, is_object, alphasort);
    if (n < 0)
        die("%s: cannot be listed", argv[1 + so]);
    for (int i = 0; i < n; i++) {
        dump(argv[1 + so], names[i]->d_name, key);
        free(names[i]);
    }
    free(names);
    OPENSSL_cleanse(key, sizeof key);
    return 0;
}
