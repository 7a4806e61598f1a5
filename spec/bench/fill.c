/* SPDX-License-Identifier: MIT
 * fill: puts N objects into a token, 90 % AES-256, 5 % RSA-2048 private, 5 % RSA
 * public, all keys sensitive and extractable (so that loop can wrap them).
 *
 *     fill CONF N [LABEL] < pin
 *
 * A key is made as a session object and copied to the token: three writes of its file,
 * not thirty-five. RSA keys come from a few pairs; AES keys are all different.
 */
#include "token.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAIRS = 4, PRIVATE = 0, PUBLIC = 1 };

static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;

static CK_OBJECT_HANDLE secret_key(const struct token *to)
{
    CK_MECHANISM mechanism = {CKM_AES_KEY_GEN, NULL, 0};
    CK_ULONG length = 32;
    CK_OBJECT_HANDLE key;
    CK_ATTRIBUTE template[] = {
        {CKA_TOKEN, &no, sizeof no},
        {CKA_PRIVATE, &yes, sizeof yes},
        {CKA_SENSITIVE, &yes, sizeof yes},
        {CKA_EXTRACTABLE, &yes, sizeof yes},
        {CKA_ENCRYPT, &yes, sizeof yes},
        {CKA_DECRYPT, &yes, sizeof yes},
        {CKA_VALUE_LEN, &length, sizeof length},
    };

    kf_token_check(to->p11->C_GenerateKey(to->session, &mechanism, template,
                                          COUNT_OF(template), &key),
                   "C_GenerateKey");
    return key;
}

static void pair(const struct token *to, CK_OBJECT_HANDLE out[2])
{
    CK_MECHANISM mechanism = {CKM_RSA_PKCS_KEY_PAIR_GEN, NULL, 0};
    CK_ULONG bits = 2048;
    CK_BYTE exponent[] = {1, 0, 1};
    CK_ATTRIBUTE public[] = {
        {CKA_TOKEN, &no, sizeof no},
        {CKA_PRIVATE, &no, sizeof no},
        {CKA_VERIFY, &yes, sizeof yes},
        {CKA_MODULUS_BITS, &bits, sizeof bits},
        {CKA_PUBLIC_EXPONENT, exponent, sizeof exponent},
    };
    CK_ATTRIBUTE private[] = {
        {CKA_TOKEN, &no, sizeof no},       {CKA_PRIVATE, &yes, sizeof yes},
        {CKA_SENSITIVE, &yes, sizeof yes}, {CKA_EXTRACTABLE, &yes, sizeof yes},
        {CKA_SIGN, &yes, sizeof yes},
    };

    kf_token_check(to->p11->C_GenerateKeyPair(
                       to->session, &mechanism, public, COUNT_OF(public), private,
                       COUNT_OF(private), &out[PUBLIC], &out[PRIVATE]),
                   "C_GenerateKeyPair");
}

static void keep(const struct token *to, CK_OBJECT_HANDLE key, const char *kind,
                 unsigned n)
{
    char label[40];
    CK_BYTE id[4] = {(CK_BYTE)(n >> 24), (CK_BYTE)(n >> 16), (CK_BYTE)(n >> 8),
                     (CK_BYTE)n};
    CK_ATTRIBUTE template[] = {
        {CKA_TOKEN, &yes, sizeof yes},
        {CKA_LABEL, label, 0},
        {CKA_ID, id, sizeof id},
    };
    CK_OBJECT_HANDLE kept;

    template[1].ulValueLen = (CK_ULONG)snprintf(label, sizeof label, "%s-%u", kind, n);
    kf_token_check(
        to->p11->C_CopyObject(to->session, key, template, COUNT_OF(template), &kept),
        "C_CopyObject");
}

/* Of every twenty objects, two are the halves of a pair, with one id. */
static void fill(const struct token *to, unsigned count)
{
    CK_OBJECT_HANDLE pairs[PAIRS][2], key;

    for (unsigned i = 0; i < PAIRS && i * 20 < count; i++)
        pair(to, pairs[i]);
    for (unsigned n = 0; n < count; n++) {
        if (n % 20 >= 18) {
            key = pairs[n / 20 % PAIRS][n % 20 - 18];
            keep(to, key, n % 20 == 18 ? "rsa-private" : "rsa-public", n / 20);
            continue;
        }
        key = secret_key(to);
        keep(to, key, "aes", n);
        kf_token_check(to->p11->C_DestroyObject(to->session, key), "C_DestroyObject");
    }
}

int main(int argc, char **argv)
{
    struct token to;
    char pin[256];
    double start = kf_token_seconds();

    if (argc < 3 || argc > 4) {
        fprintf(stderr, "usage: fill CONF N [LABEL] < pin\n");
        return 2;
    }
    kf_token_read_pin(pin);
    kf_token_open(&to, argv[1], argc == 4 ? argv[3] : NULL, pin);
    fill(&to, (unsigned)strtoul(argv[2], NULL, 10));
    kf_token_close(&to);
    printf("%s objects, %.3f seconds\n", argv[2], kf_token_seconds() - start);
    return 0;
}
