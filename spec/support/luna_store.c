/* SPDX-License-Identifier: MIT
 * How luna moves an object that the API does not let out: in the files of SoftHSM, from
 * the folder of one token to that of another, every attribute as it was. Written apart
 * from c/clone.
 */
#include "luna.h"

#include <dirent.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KEY = 32, IV = 16, SALT = 8, BLOB = 72, FILE_LARGEST = 8 * 1024 * 1024 };
enum { BOOLEAN = 1, NUMBER = 2, BYTES = 3, TEMPLATE = 4, MECHANISMS = 5 };
#define USER_BLOB 0x8000534DU

struct bytes {
    unsigned char *at;
    size_t len;
};

struct record {
    uint64_t type, kind;
    struct bytes head, value; /* head: all that comes before the value */
};

static void path_in(const struct luna_slot *slot, const char *name, char path[PATH_MAX])
{
    if (snprintf(path, PATH_MAX, "%s/tokens/%s/%s", luna.state, slot->folder, name) >=
        PATH_MAX)
        abort();
}

/* To be freed. */
static bool slurp(const struct luna_slot *slot, const char *name, struct bytes *file)
{
    char path[PATH_MAX];
    struct stat about;
    FILE *in;
    bool good = false;

    path_in(slot, name, path);
    in = fopen(path, "rbe");
    if (!in)
        return false;
    if (!fstat(fileno(in), &about) && about.st_size < FILE_LARGEST) {
        file->len = (size_t)about.st_size;
        file->at = malloc(file->len + 1);
        good = file->at && fread(file->at, 1, file->len, in) == file->len;
    }
    fclose(in);
    return good;
}

static bool take(struct bytes *from, uint64_t n, struct bytes *part)
{
    if (n > from->len)
        return false;
    *part = (struct bytes){from->at, (size_t)n};
    from->at += n;
    from->len -= (size_t)n;
    return true;
}

static bool word(struct bytes *from, uint64_t *value)
{
    struct bytes eight;

    if (!take(from, 8, &eight))
        return false;
    *value = 0;
    for (int i = 0; i < 8; i++)
        *value = *value << 8 | eight.at[i];
    return true;
}

static bool next(struct bytes *from, struct record *to)
{
    uint64_t n = 0;

    to->head.at = from->at;
    if (!word(from, &to->type) || !word(from, &to->kind))
        return false;
    if (to->kind == BOOLEAN)
        n = 1;
    else if (to->kind == NUMBER)
        n = 8;
    else if (!word(from, &n) || to->kind > MECHANISMS)
        return false;
    if (to->kind == MECHANISMS)
        n = n < FILE_LARGEST ? n * 8 : n;
    to->head.len = (size_t)(from->at - to->head.at);
    return take(from, n, &to->value);
}

/* AES-256-CBC with PKCS#7, after the IV. `out` has room for in.len + IV. */
static bool cipher(bool encrypt, const unsigned char *key, const unsigned char *iv,
                   struct bytes in, struct bytes *out)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n = 0, last = 0;
    bool good = ctx &&
                EVP_CipherInit_ex(ctx, EVP_aes_256_cbc(), NULL, key, iv, encrypt) &&
                EVP_CipherUpdate(ctx, out->at, &n, in.at, (int)in.len) &&
                EVP_CipherFinal_ex(ctx, out->at + n, &last);

    out->len = (size_t)(n + last);
    EVP_CIPHER_CTX_free(ctx);
    return good;
}

static bool open_value(const unsigned char *key, struct bytes in, struct bytes *out)
{
    struct bytes body;

    if (in.len < 2 * IV)
        return false;
    body = (struct bytes){in.at + IV, in.len - IV};
    return cipher(false, key, in.at, body, out);
}

/* The key that all of a token is under, by the user's PIN. */
static bool token_key(const struct luna_slot *slot, unsigned char key[KEY])
{
    struct bytes file = {NULL, 0}, rest, blob = {NULL, 0}, opened;
    struct record record;
    unsigned char digest[SHA256_DIGEST_LENGTH], first[SALT + 256], plain[BLOB + IV];
    char pin[256];
    bool good = false;

    if (!luna_text(slot, "pin", pin, sizeof pin) ||
        !slurp(slot, "token.object", &file) || file.len < 8)
        goto done;
    rest = (struct bytes){file.at + 8, file.len - 8};
    while (next(&rest, &record))
        if (record.type == USER_BLOB)
            blob = record.value;
    if (blob.len != BLOB)
        goto done;
    memcpy(first, blob.at, SALT);
    memcpy(first + SALT, pin, strlen(pin));
    SHA256(first, SALT + strlen(pin), digest);
    for (int i = 1; i < 1500 + blob.at[SALT - 1]; i++)
        SHA256(digest, sizeof digest, digest);
    opened = (struct bytes){plain, 0};
    blob = (struct bytes){blob.at + SALT, BLOB - SALT};
    good = open_value(digest, blob, &opened) && opened.len == 3 + KEY;
    if (good)
        memcpy(key, plain + 3, KEY);
done:
    free(file.at);
    return good;
}

static bool is_private(struct bytes file)
{
    struct record record;
    bool is = false;

    while (next(&file, &record))
        if (record.type == CKA_PRIVATE && record.kind == BOOLEAN)
            is = record.value.at[0] != 0;
    return is;
}

/* Dates lie there in the clear, and so does what was never set. */
static bool is_encrypted(const struct record *record, bool private)
{
    return private && record->kind == BYTES && record->value.len >= 2 * IV;
}

static bool has_ouid(struct bytes file, const unsigned char *key,
                     const unsigned char *ouid)
{
    bool private = is_private(file);
    unsigned char its[OUID];
    struct bytes label = {malloc(file.len + IV), 0};
    struct record record;
    bool has = false;

    while (label.at && next(&file, &record)) {
        if (record.type != CKA_LABEL || record.kind != BYTES)
            continue;
        if (!is_encrypted(&record, private))
            has = luna_header(record.value.at, record.value.len, its);
        else if (open_value(key, record.value, &label))
            has = luna_header(label.at, label.len, its);
        has = has && !memcmp(its, ouid, OUID);
    }
    free(label.at);
    return has;
}

/* The file of an object, to be freed. */
static bool find_file(const struct luna_slot *slot, const unsigned char *key,
                      const unsigned char *ouid, struct bytes *file)
{
    char path[PATH_MAX];
    struct dirent *entry;
    DIR *dir;
    size_t n;
    bool found = false;

    path_in(slot, "", path);
    dir = opendir(path);
    while (dir && !found && (entry = readdir(dir))) {
        n = strlen(entry->d_name);
        if (n < 8 || strcmp(entry->d_name + n - 7, ".object") != 0 ||
            !strcmp(entry->d_name, "token.object"))
            continue;
        found = slurp(slot, entry->d_name, file) && file->len > 8 &&
                has_ouid((struct bytes){file->at + 8, file->len - 8}, key, ouid);
        if (!found) {
            free(file->at);
            file->at = NULL;
        }
    }
    if (dir)
        closedir(dir);
    return found;
}

static void append(struct bytes *to, const void *from, size_t n)
{
    memcpy(to->at + to->len, from, n);
    to->len += n;
}

/* A value under another key. `plain` is room. */
static bool under(const unsigned char *from, const unsigned char *into,
                  const struct record *record, struct bytes *plain, struct bytes *to)
{
    struct bytes out = {NULL, 0};
    unsigned char iv[IV];
    size_t n;

    if (!open_value(from, record->value, plain) || RAND_bytes(iv, IV) != 1)
        return false;
    n = to->len + record->head.len;
    append(to, record->head.at, record->head.len);
    append(to, iv, IV);
    out.at = to->at + to->len;
    if (!cipher(true, into, iv, *plain, &out))
        return false;
    to->len += out.len;
    n = to->len - n; /* the length, at the end of the head */
    for (int i = 1; i <= 8; i++, n >>= 8)
        out.at[-IV - i] = (unsigned char)n;
    return true;
}

static bool recode(struct bytes file, const unsigned char *from,
                   const unsigned char *into, struct bytes *to)
{
    static const unsigned char first[8] = {0, 0, 0, 0, 0, 0, 0, 1};
    bool private = is_private((struct bytes){file.at + 8, file.len - 8});
    struct bytes plain = {malloc(file.len + IV), 0};
    struct record record;
    bool good = plain.at != NULL;

    append(to, first, sizeof first);
    file.at += 8;
    file.len -= 8;
    while (good && file.len) {
        good = next(&file, &record);
        if (good && is_encrypted(&record, private))
            good = under(from, into, &record, &plain, to);
        else if (good)
            append(to, record.head.at, record.head.len + record.value.len);
    }
    free(plain.at);
    return good;
}

static bool write_file(const struct luna_slot *slot, const char *name,
                       struct bytes content)
{
    char path[PATH_MAX];
    int fd;
    bool good;

    path_in(slot, name, path);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    good = fd >= 0 && write(fd, content.at, content.len) == (ssize_t)content.len;
    if (fd >= 0)
        close(fd);
    return good;
}

/* So that SoftHSM looks into the folder at its next search. */
static bool raise_generation(const struct luna_slot *slot)
{
    struct bytes file = {NULL, 0};
    bool good = slurp(slot, "generation", &file) && file.len == 8;

    for (int i = 7; good && i >= 0 && ++file.at[i] == 0; i--)
        ;
    good = good && write_file(slot, "generation", file);
    free(file.at);
    return good;
}

static bool put_file(const struct luna_slot *slot, struct bytes content)
{
    unsigned char r[16];
    char name[64], lock[64], new[64], from[PATH_MAX], to[PATH_MAX];
    int n = 0;

    if (RAND_bytes(r, sizeof r) != 1)
        return false;
    for (int i = 0; i < 16; i++)
        n += sprintf(new + n, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x",
                     r[i]);
    snprintf(lock, sizeof lock, "%.36s.lock", new);
    snprintf(name, sizeof name, "%.36s.object", new);
    strcat(new, ".tmp");
    path_in(slot, new, from);
    path_in(slot, name, to);
    return write_file(slot, lock, (struct bytes){r, 0}) &&
           write_file(slot, new, content) && !rename(from, to) &&
           raise_generation(slot);
}

bool luna_move(const struct luna_slot *from, const struct luna_slot *to,
               const unsigned char *ouid)
{
    unsigned char source[KEY], target[KEY];
    struct bytes file = {NULL, 0}, out = {NULL, 0};
    bool good = token_key(from, source) && token_key(to, target) &&
                find_file(from, source, ouid, &file);

    if (good)
        out.at = malloc(file.len + IV);
    good = good && out.at && recode(file, source, target, &out) && put_file(to, out);
    free(file.at);
    free(out.at);
    return good;
}
