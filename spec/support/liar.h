/* SPDX-License-Identifier: MIT
 * What the files of liar share: the functions of a module, and what the script says.
 */
#ifndef KF_SPEC_SUPPORT_LIAR_H
#define KF_SPEC_SUPPORT_LIAR_H

#include "liar_answers.h"

#include <p11-kit/pkcs11.h>

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

enum { RULES_MAX = 64, TEXT_MAX = 512, TEMPLATE_MAX = 128, BLOB_MAX = 16384 };

/* A handle as the real module knows it. */
#define S liar_session(s)
#define O(x) liar_object(x)

/* Shapes that many functions share, and then all functions: name, who does the work,
 * parameters, arguments. */
#define ONE (CK_SESSION_HANDLE s), (S)
#define START (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE k), (S, m, O(k))
#define TAKE (CK_SESSION_HANDLE s, CK_BYTE *p, CK_ULONG n), (S, p, n)
#define GIVE(F, name)                                                                  \
    F(name, liar_give, (CK_SESSION_HANDLE s, CK_BYTE *q, CK_ULONG *m),                 \
      (N_##name, liar.real->name, S, q, m))
#define PUMP(F, name)                                                                  \
    F(name, liar_pump,                                                                 \
      (CK_SESSION_HANDLE s, CK_BYTE *p, CK_ULONG n, CK_BYTE *q, CK_ULONG *m),          \
      (N_##name, liar.real->name, S, p, n, q, m))
#define CHECK                                                                          \
    (CK_SESSION_HANDLE s, CK_BYTE *p, CK_ULONG n, CK_BYTE *q, CK_ULONG m),             \
        (S, p, n, q, m)
#define ATTRIBUTES                                                                     \
    (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o, CK_ATTRIBUTE *t, CK_ULONG n),            \
        (S, O(o), t, n)

#define OURS(F, ...) F(__VA_ARGS__)
#define REAL(F, name, ...) F(name, liar.real->name, __VA_ARGS__)
#define FUNCTIONS(F)                                                                   \
    F(C_Initialize, initialize, (void *a), (a))                                        \
    REAL(F, C_Finalize, (void *a), (a))                                                \
    F(C_GetInfo, get_info, (CK_INFO * i), (i))                                         \
    F(C_GetSlotList, slot_list, (CK_BBOOL b, CK_SLOT_ID *l, CK_ULONG *n), (b, l, n))   \
    F(C_GetSlotInfo, slot_info, (CK_SLOT_ID l, CK_SLOT_INFO *i), (l, i))               \
    F(C_GetTokenInfo, token_info, (CK_SLOT_ID l, CK_TOKEN_INFO *i), (l, i))            \
    F(C_GetMechanismList, mechanism_list,                                              \
      (CK_SLOT_ID l, CK_MECHANISM_TYPE *m, CK_ULONG *n), (l, m, n))                    \
    F(C_GetMechanismInfo, mechanism_info,                                              \
         (CK_SLOT_ID l, CK_MECHANISM_TYPE m, CK_MECHANISM_INFO *i), (l, m, i))         \
    F(C_InitToken, liar_init_token,                                                    \
      (CK_SLOT_ID l, CK_BYTE *p, CK_ULONG n, CK_BYTE *t), (l, p, n, t))                \
    OURS(F, C_InitPIN, liar_init_pin, TAKE)                                            \
    OURS(F, C_SetPIN, liar_set_pin, CHECK)                                             \
    F(C_OpenSession, open_session,                                                     \
         (CK_SLOT_ID l, CK_FLAGS f, void *a, CK_NOTIFY c, CK_SESSION_HANDLE *s),       \
         (l, f, a, c, s))                                                              \
    REAL(F, C_CloseSession, ONE)                                                       \
    REAL(F, C_CloseAllSessions, (CK_SLOT_ID l), (l))                                   \
    F(C_GetSessionInfo, session_info, (CK_SESSION_HANDLE s, CK_SESSION_INFO *i),       \
      (S, i))                                                                          \
    GIVE(F, C_GetOperationState)                                                       \
    REAL(F, C_SetOperationState,                                                       \
         (CK_SESSION_HANDLE s, CK_BYTE *p, CK_ULONG n, CK_OBJECT_HANDLE e,             \
          CK_OBJECT_HANDLE a),                                                         \
         (S, p, n, e, a))                                                              \
    F(C_Login, liar_login,                                                             \
      (CK_SESSION_HANDLE s, CK_USER_TYPE u, CK_BYTE *p, CK_ULONG n), (S, u, p, n))     \
    REAL(F, C_Logout, ONE)                                                             \
    F(C_CreateObject, create,                                                          \
      (CK_SESSION_HANDLE s, CK_ATTRIBUTE *t, CK_ULONG n, CK_OBJECT_HANDLE *o),         \
      (S, t, n, o))                                                                    \
    F(C_CopyObject, copy,                                                              \
      (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE k, CK_ATTRIBUTE *t, CK_ULONG n,           \
       CK_OBJECT_HANDLE *o),                                                           \
      (S, O(k), t, n, o))                                                              \
    REAL(F, C_DestroyObject, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o), (S, O(o)))     \
    F(C_GetObjectSize, object_size,                                                    \
      (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o, CK_ULONG *n), (S, O(o), n))            \
    OURS(F, C_GetAttributeValue, get_attributes, ATTRIBUTES)                           \
    OURS(F, C_SetAttributeValue, set_attributes, ATTRIBUTES)                           \
    F(C_FindObjectsInit, find_start,                                                   \
      (CK_SESSION_HANDLE s, CK_ATTRIBUTE *t, CK_ULONG n), (S, t, n))                   \
    F(C_FindObjects, find,                                                             \
      (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE *o, CK_ULONG n, CK_ULONG *m),             \
      (S, o, n, m))                                                                    \
    REAL(F, C_FindObjectsFinal, ONE)                                                   \
    REAL(F, C_EncryptInit, START)                                                      \
    PUMP(F, C_Encrypt)                                                                 \
    PUMP(F, C_EncryptUpdate)                                                           \
    GIVE(F, C_EncryptFinal)                                                            \
    REAL(F, C_DecryptInit, START)                                                      \
    PUMP(F, C_Decrypt)                                                                 \
    PUMP(F, C_DecryptUpdate)                                                           \
    GIVE(F, C_DecryptFinal)                                                            \
    REAL(F, C_DigestInit, (CK_SESSION_HANDLE s, CK_MECHANISM *m), (S, m))              \
    PUMP(F, C_Digest)                                                                  \
    REAL(F, C_DigestUpdate, TAKE)                                                      \
    REAL(F, C_DigestKey, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o), (S, O(o)))         \
    GIVE(F, C_DigestFinal)                                                             \
    REAL(F, C_SignInit, START)                                                         \
    PUMP(F, C_Sign)                                                                    \
    REAL(F, C_SignUpdate, TAKE)                                                        \
    GIVE(F, C_SignFinal)                                                               \
    REAL(F, C_SignRecoverInit, START)                                                  \
    PUMP(F, C_SignRecover)                                                             \
    REAL(F, C_VerifyInit, START)                                                       \
    REAL(F, C_Verify, CHECK)                                                           \
    REAL(F, C_VerifyUpdate, TAKE)                                                      \
    REAL(F, C_VerifyFinal, TAKE)                                                       \
    REAL(F, C_VerifyRecoverInit, START)                                                \
    PUMP(F, C_VerifyRecover)                                                           \
    PUMP(F, C_DigestEncryptUpdate)                                                     \
    PUMP(F, C_DecryptDigestUpdate)                                                     \
    PUMP(F, C_SignEncryptUpdate)                                                       \
    PUMP(F, C_DecryptVerifyUpdate)                                                     \
    F(C_GenerateKey, generate,                                                         \
      (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_ATTRIBUTE *t, CK_ULONG n,              \
       CK_OBJECT_HANDLE *o),                                                           \
      (S, m, t, n, o))                                                                 \
    F(C_GenerateKeyPair, generate_pair,                                                \
         (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_ATTRIBUTE *t, CK_ULONG n,           \
          CK_ATTRIBUTE *u, CK_ULONG k, CK_OBJECT_HANDLE *o, CK_OBJECT_HANDLE *p),      \
         (S, m, t, n, u, k, o, p))                                                     \
    F(C_WrapKey, wrap,                                                                 \
      (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE w, CK_OBJECT_HANDLE k,   \
       CK_BYTE *q, CK_ULONG *n),                                                       \
      (S, m, O(w), O(k), q, n))                                                        \
    F(C_UnwrapKey, unwrap,                                                             \
      (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE w, CK_BYTE *p,           \
       CK_ULONG k, CK_ATTRIBUTE *t, CK_ULONG n, CK_OBJECT_HANDLE *o),                  \
      (S, m, O(w), p, k, t, n, o))                                                     \
    F(C_DeriveKey, derive,                                                             \
         (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE k, CK_ATTRIBUTE *t,   \
          CK_ULONG n, CK_OBJECT_HANDLE *o),                                            \
         (S, m, O(k), t, n, o))                                                        \
    REAL(F, C_SeedRandom, TAKE)                                                        \
    OURS(F, C_GenerateRandom, random_bytes, TAKE)                                      \
    REAL(F, C_GetFunctionStatus, ONE)                                                  \
    REAL(F, C_CancelFunction, ONE)                                                     \
    REAL(F, C_WaitForSlotEvent, (CK_FLAGS f, CK_SLOT_ID *l, void *a), (f, l, a))
#define NUMBERED(name, ...) N_##name,
enum function { FUNCTIONS(NUMBERED) N_ANY };

/* By number; the last one is "*". */
extern const char *const liar_functions[];

struct name {
    const char *name;
    unsigned long value;
};
/* Up to LIE_PAP a line begins with the verb, then with the function. */
enum lie {
    LIE_FAIL, LIE_DELAY, LIE_CRASH, LIE_NULL, LIE_LOG, LIE_NO_LIST, LIE_VERSION,
    LIE_PAP, LIE_FLAGS, LIE_LABEL, LIE_SERIAL, LIE_NO_MECHANISM, LIE_LOOP,
    LIE_FAIL_AFTER, LIE_LEN, LIE_VALUE, LIE_REFUSE, LIE_DROP, LIE_SET, LIE_OTHER,
    LIE_FLIP, LIE_MECHANISM, LIE_FREE, LIE_SIZE, LIE_SAYS, LIE_FILL, LIE_HANDLE,
    LIE_ROTATE, LIE_TWICE, LIE_ENDLESS, LIE_MORE, LIE_GROW, LIE_ADD, LIE_OWN, LIE_PAD,
    LIE_PIN,
};

struct rule {
    enum lie lie;
    int function;
    unsigned long n, m;
    bool later, every, did; /* LIE_FAIL: not only the nth call */
    char text[TEXT_MAX];    /* or bytes, then n_text of them */
    size_t n_text;
};

struct liar {
    CK_FUNCTION_LIST *real;
    CK_FUNCTION_LIST list;
    char script[PATH_MAX];
    struct stat seen;
    struct rule rules[RULES_MAX];
    size_t count;
    unsigned long calls[N_ANY + 1];
    CK_ULONG found; /* handles given in this search */
    CK_OBJECT_HANDLE last;
    CK_BYTE blob[BLOB_MAX]; /* the private key unwrapped before */
    CK_ULONG blob_len;
};
extern struct liar liar;

/* Ends the process: that part of the script cannot be read. */
_Noreturn void liar_bad(const char *line);
/* Takes LIAR_SCRIPT from the environment, and reads it. */
void liar_look_around(void);
/* Reads the script again when it has changed. */
void liar_refresh(void);
/* Flags by name, such as "+RNG|-LOGIN_REQUIRED". */
void liar_change_flags(const char *text, CK_FLAGS *to);
/* The name of a CKR; NULL: it has none here. */
const char *liar_result_name(CK_RV rv);

/* The next rule of that kind after `rule` (NULL: the first); NULL: no more. */
const struct rule *liar_next(const struct rule *rule, enum lie lie, int function);
const struct rule *liar_first(enum lie lie, int function);

#endif
