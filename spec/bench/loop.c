/* SPDX-License-Identifier: MIT
 * loop: what anyone would write in an afternoon, and what keyferry is measured against.
 * Every key of a token is wrapped (CKM_AES_KEY_WRAP_PAD) under an AES-256 session key
 * and unwrapped as a token object of another; public keys are read and created.
 *
 *     loop SOURCE-CONF TARGET-CONF [SOURCE-LABEL TARGET-LABEL] < pin
 *
 * Both tokens have the same PIN. Prints the number of objects and the seconds from
 * start to end, opening and closing included.
 */
#include "token.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>

enum { BLOB_MAX = 8192, TEXT_MAX = 256, FOUND_MAX = 4096 };

static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
static CK_MECHANISM format = {CKM_AES_KEY_WRAP_PAD, NULL, 0};

static CK_OBJECT_HANDLE wrapping_key(const struct token *token, CK_BYTE value[32])
{
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_KEY_TYPE type = CKK_AES;
    CK_OBJECT_HANDLE key;
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof class},
        {CKA_KEY_TYPE, &type, sizeof type},
        {CKA_TOKEN, &no, sizeof no},
        {CKA_SENSITIVE, &yes, sizeof yes},
        {CKA_WRAP, &yes, sizeof yes},
        {CKA_UNWRAP, &yes, sizeof yes},
        {CKA_VALUE, value, 32},
    };

    kf_token_check(
        token->p11->C_CreateObject(token->session, template, COUNT_OF(template), &key),
        "C_CreateObject");
    return key;
}

static CK_OBJECT_HANDLE *find_all(const struct token *from, CK_ULONG *count)
{
    CK_ATTRIBUTE stored = {CKA_TOKEN, &yes, sizeof yes};
    CK_OBJECT_HANDLE *all = NULL;
    CK_ULONG n;

    *count = 0;
    kf_token_check(from->p11->C_FindObjectsInit(from->session, &stored, 1),
                   "C_FindObjectsInit");
    do {
        all = realloc(all, (*count + FOUND_MAX) * sizeof *all);
        if (!all)
            exit(1);
        kf_token_check(
            from->p11->C_FindObjects(from->session, all + *count, FOUND_MAX, &n),
            "C_FindObjects");
        *count += n;
    } while (n);
    kf_token_check(from->p11->C_FindObjectsFinal(from->session), "C_FindObjectsFinal");
    return all;
}

static void clone_public(const struct token *from, const struct token *to,
                         CK_OBJECT_HANDLE object, CK_ATTRIBUTE known[4])
{
    CK_BYTE modulus[1024], exponent[1024];
    CK_OBJECT_HANDLE clone;
    CK_ATTRIBUTE template[] = {
        known[0],
        known[1],
        known[2],
        known[3],
        {CKA_TOKEN, &yes, sizeof yes},
        {CKA_PRIVATE, &no, sizeof no},
        {CKA_VERIFY, &yes, sizeof yes},
        {CKA_MODULUS, modulus, sizeof modulus},
        {CKA_PUBLIC_EXPONENT, exponent, sizeof exponent},
    };

    kf_token_check(
        from->p11->C_GetAttributeValue(from->session, object, template + 7, 2),
        "C_GetAttributeValue");
    kf_token_check(
        to->p11->C_CreateObject(to->session, template, COUNT_OF(template), &clone),
        "C_CreateObject");
}

static void clone_key(const struct token *from, const struct token *to,
                      const CK_OBJECT_HANDLE wrapping[2], CK_OBJECT_HANDLE object,
                      CK_ATTRIBUTE known[4])
{
    CK_BYTE blob[BLOB_MAX];
    CK_ULONG len = sizeof blob;
    CK_OBJECT_HANDLE clone;
    int secret = *(CK_OBJECT_CLASS *)known[0].pValue == CKO_SECRET_KEY;
    CK_ATTRIBUTE template[] = {
        known[0],
        known[1],
        known[2],
        known[3],
        {CKA_TOKEN, &yes, sizeof yes},
        {CKA_PRIVATE, &yes, sizeof yes},
        {CKA_SENSITIVE, &yes, sizeof yes},
        {CKA_EXTRACTABLE, &yes, sizeof yes},
        {secret ? CKA_ENCRYPT : CKA_SIGN, &yes, sizeof yes},
        {CKA_DECRYPT, secret ? &yes : &no, sizeof yes},
    };

    kf_token_check(
        from->p11->C_WrapKey(from->session, &format, wrapping[0], object, blob, &len),
        "C_WrapKey");
    kf_token_check(to->p11->C_UnwrapKey(to->session, &format, wrapping[1], blob, len,
                                        template, COUNT_OF(template), &clone),
                   "C_UnwrapKey");
}

static CK_ULONG clone_all(const struct token *from, const struct token *to)
{
    CK_BYTE value[32], label[TEXT_MAX] = {0}, id[TEXT_MAX] = {0};
    CK_OBJECT_HANDLE wrapping[2], *all;
    CK_OBJECT_CLASS class;
    CK_KEY_TYPE type;
    CK_ULONG count;

    if (RAND_bytes(value, sizeof value) != 1)
        exit(1);
    wrapping[0] = wrapping_key(from, value);
    wrapping[1] = wrapping_key(to, value);
    all = find_all(from, &count);
    for (CK_ULONG i = 0; i < count; i++) {
        CK_ATTRIBUTE known[] = {
            {CKA_CLASS, &class, sizeof class},
            {CKA_KEY_TYPE, &type, sizeof type},
            {CKA_LABEL, label, sizeof label},
            {CKA_ID, id, sizeof id},
        };

        kf_token_check(from->p11->C_GetAttributeValue(from->session, all[i], known, 4),
                       "C_GetAttributeValue");
        if (class == CKO_PUBLIC_KEY)
            clone_public(from, to, all[i], known);
        else
            clone_key(from, to, wrapping, all[i], known);
    }
    free(all);
    return count;
}

int main(int argc, char **argv)
{
    struct token from, to;
    char pin[256];
    CK_ULONG count;
    double start = kf_token_seconds();

    if (argc != 3 && argc != 5) {
        fprintf(stderr, "usage: loop SOURCE-CONF TARGET-CONF [LABEL LABEL] < pin\n");
        return 2;
    }
    kf_token_read_pin(pin);
    kf_token_open(&from, argv[1], argc == 5 ? argv[3] : NULL, pin);
    kf_token_open(&to, argv[2], argc == 5 ? argv[4] : NULL, pin);
    count = clone_all(&from, &to);
    kf_token_close(&from);
    kf_token_close(&to);
    printf("%lu objects, %.3f seconds\n", count, kf_token_seconds() - start);
    return 0;
}
