/* SPDX-License-Identifier: MIT
 * liar: a PKCS#11 module that is SoftHSM until told to lie.
 *
 * LIAR_MODULE  the real library (default: where distributions put SoftHSM); each liar
 *              has its own private copy of it, which reads SOFTHSM2_CONF as always
 * LIAR_SCRIPT  the lies, read again whenever the file changes; counts then start anew
 * Both are looked at in C_GetFunctionList and in C_Initialize. One thread at a time.
 *
 * One lie a line; '#' begins a comment. A line that is not understood aborts the
 * process; a script that is not there is an empty one.
 *
 *   FUNCTION WHEN CKR       answers CKR, without calling the real one
 *   FUNCTION WHEN did CKR   answers CKR after the real one has done its work.
 *                           WHEN: N (the Nth call), *, or after N (every later one);
 *                           FUNCTION may be *: then all calls are counted together
 *   delay FUNCTION MS       every call takes that much longer
 *   crash FUNCTION N        the Nth call kills the process (SIGKILL) before it is made
 *   null FUNCTION           the function list, when it is asked for, has NULL there
 *   call-log FILE           appends "C_Login CKR_OK" for each call; never an argument
 *   pap DIR                 protected authentication path: a PIN of NULL is taken from
 *                           DIR/user.pin or DIR/so.pin (C_SetPIN: the new one from
 *                           DIR/new.pin); no file: CKR_FUNCTION_CANCELED. A PIN given
 *                           as text is refused with CKR_ARGUMENTS_BAD
 *   C_GetTokenInfo flags +USER_PIN_LOCKED|-LOGIN_REQUIRED
 *   C_GetTokenInfo label TEXT           the rest of the line, blank padded
 *   C_GetTokenInfo serial TEXT
 *   C_GetTokenInfo free N               bytes of memory, all of them free
 *   C_GetObjectSize size N
 *   C_GetMechanismList drop CKM
 *   C_FindObjects loop                  the search never ends
 *   C_FindObjects fail-after N CKR      N handles, then CKR
 *   C_GetAttributeValue len CKA N       a lying length (-1: unavailable), which may be
 *                                       more than the caller has room for
 *   C_GetAttributeValue value CKA HEX   a lying value
 *   C_GetAttributeValue refuse CKA CKR  that attribute is refused
 *   TEMPLATED attr-drop CKA             what is stored lacks that attribute
 *   TEMPLATED attr-set CKA HEX          what is stored has another value ("-": empty).
 *                                       TEMPLATED: C_CreateObject C_CopyObject
 *                                       C_UnwrapKey C_GenerateKey C_SetAttributeValue
 *   C_UnwrapKey ok-but-other            another key is stored: a secret key of 32 bytes
 *                                       0x5A; of private keys the one unwrapped before
 *   C_UnwrapKey ok-but-other-after N    the same, but the first N calls are honest
 *   C_WrapKey flip                      the last bit of what is wrapped is wrong
 *   C_WrapKey mechanism FROM TO         FROM is another format than the caller thinks
 *   C_UnwrapKey mechanism FROM TO
 * CKR, CKA, CKM and flags: the names below, or a number (0x...).
 */
#include "image.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { RULES_MAX = 64, TEXT_MAX = 512, TEMPLATE_MAX = 128, BLOB_MAX = 16384 };

/* Shapes that many functions share, and then all functions: name, who does the work,
 * parameters, arguments. */
#define ONE (CK_SESSION_HANDLE s), (s)
#define START (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE k), (s, m, k)
#define TAKE (CK_SESSION_HANDLE s, CK_BYTE *p, CK_ULONG n), (s, p, n)
#define GIVE (CK_SESSION_HANDLE s, CK_BYTE *q, CK_ULONG *m), (s, q, m)
#define PUMP                                                                           \
    (CK_SESSION_HANDLE s, CK_BYTE *p, CK_ULONG n, CK_BYTE *q, CK_ULONG *m),            \
        (s, p, n, q, m)
#define CHECK                                                                          \
    (CK_SESSION_HANDLE s, CK_BYTE *p, CK_ULONG n, CK_BYTE *q, CK_ULONG m),             \
        (s, p, n, q, m)
#define ATTRIBUTES                                                                     \
    (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o, CK_ATTRIBUTE *t, CK_ULONG n), (s, o, t, n)

#define OURS(F, ...) F(__VA_ARGS__)
#define REAL(F, name, ...) F(name, liar.real->name, __VA_ARGS__)
#define FUNCTIONS(F)                                                                   \
    F(C_Initialize, initialize, (void *a), (a))                                        \
    REAL(F, C_Finalize, (void *a), (a))                                                \
    REAL(F, C_GetInfo, (CK_INFO * i), (i))                                             \
    REAL(F, C_GetSlotList, (CK_BBOOL b, CK_SLOT_ID *l, CK_ULONG *n), (b, l, n))        \
    REAL(F, C_GetSlotInfo, (CK_SLOT_ID l, CK_SLOT_INFO *i), (l, i))                    \
    F(C_GetTokenInfo, token_info, (CK_SLOT_ID l, CK_TOKEN_INFO *i), (l, i))            \
    F(C_GetMechanismList, mechanism_list,                                              \
      (CK_SLOT_ID l, CK_MECHANISM_TYPE *m, CK_ULONG *n), (l, m, n))                    \
    REAL(F, C_GetMechanismInfo,                                                        \
         (CK_SLOT_ID l, CK_MECHANISM_TYPE m, CK_MECHANISM_INFO *i), (l, m, i))         \
    F(C_InitToken, init_token, (CK_SLOT_ID l, CK_BYTE *p, CK_ULONG n, CK_BYTE *t),     \
      (l, p, n, t))                                                                    \
    OURS(F, C_InitPIN, init_pin, TAKE)                                                 \
    OURS(F, C_SetPIN, set_pin, CHECK)                                                  \
    REAL(F, C_OpenSession,                                                             \
         (CK_SLOT_ID l, CK_FLAGS f, void *a, CK_NOTIFY c, CK_SESSION_HANDLE *s),       \
         (l, f, a, c, s))                                                              \
    REAL(F, C_CloseSession, ONE)                                                       \
    REAL(F, C_CloseAllSessions, (CK_SLOT_ID l), (l))                                   \
    REAL(F, C_GetSessionInfo, (CK_SESSION_HANDLE s, CK_SESSION_INFO *i), (s, i))       \
    REAL(F, C_GetOperationState, GIVE)                                                 \
    REAL(F, C_SetOperationState,                                                       \
         (CK_SESSION_HANDLE s, CK_BYTE *p, CK_ULONG n, CK_OBJECT_HANDLE e,             \
          CK_OBJECT_HANDLE a),                                                         \
         (s, p, n, e, a))                                                              \
    F(C_Login, login, (CK_SESSION_HANDLE s, CK_USER_TYPE u, CK_BYTE *p, CK_ULONG n),   \
      (s, u, p, n))                                                                    \
    REAL(F, C_Logout, ONE)                                                             \
    F(C_CreateObject, create,                                                          \
      (CK_SESSION_HANDLE s, CK_ATTRIBUTE *t, CK_ULONG n, CK_OBJECT_HANDLE *o),         \
      (s, t, n, o))                                                                    \
    F(C_CopyObject, copy,                                                              \
      (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE k, CK_ATTRIBUTE *t, CK_ULONG n,           \
       CK_OBJECT_HANDLE *o),                                                           \
      (s, k, t, n, o))                                                                 \
    REAL(F, C_DestroyObject, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o), (s, o))        \
    F(C_GetObjectSize, object_size,                                                    \
      (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o, CK_ULONG *n), (s, o, n))               \
    OURS(F, C_GetAttributeValue, get_attributes, ATTRIBUTES)                           \
    OURS(F, C_SetAttributeValue, set_attributes, ATTRIBUTES)                           \
    F(C_FindObjectsInit, find_start,                                                   \
      (CK_SESSION_HANDLE s, CK_ATTRIBUTE *t, CK_ULONG n), (s, t, n))                   \
    F(C_FindObjects, find,                                                             \
      (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE *o, CK_ULONG n, CK_ULONG *m),             \
      (s, o, n, m))                                                                    \
    REAL(F, C_FindObjectsFinal, ONE)                                                   \
    REAL(F, C_EncryptInit, START)                                                      \
    REAL(F, C_Encrypt, PUMP)                                                           \
    REAL(F, C_EncryptUpdate, PUMP)                                                     \
    REAL(F, C_EncryptFinal, GIVE)                                                      \
    REAL(F, C_DecryptInit, START)                                                      \
    REAL(F, C_Decrypt, PUMP)                                                           \
    REAL(F, C_DecryptUpdate, PUMP)                                                     \
    REAL(F, C_DecryptFinal, GIVE)                                                      \
    REAL(F, C_DigestInit, (CK_SESSION_HANDLE s, CK_MECHANISM *m), (s, m))              \
    REAL(F, C_Digest, PUMP)                                                            \
    REAL(F, C_DigestUpdate, TAKE)                                                      \
    REAL(F, C_DigestKey, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o), (s, o))            \
    REAL(F, C_DigestFinal, GIVE)                                                       \
    REAL(F, C_SignInit, START)                                                         \
    REAL(F, C_Sign, PUMP)                                                              \
    REAL(F, C_SignUpdate, TAKE)                                                        \
    REAL(F, C_SignFinal, GIVE)                                                         \
    REAL(F, C_SignRecoverInit, START)                                                  \
    REAL(F, C_SignRecover, PUMP)                                                       \
    REAL(F, C_VerifyInit, START)                                                       \
    REAL(F, C_Verify, CHECK)                                                           \
    REAL(F, C_VerifyUpdate, TAKE)                                                      \
    REAL(F, C_VerifyFinal, TAKE)                                                       \
    REAL(F, C_VerifyRecoverInit, START)                                                \
    REAL(F, C_VerifyRecover, PUMP)                                                     \
    REAL(F, C_DigestEncryptUpdate, PUMP)                                               \
    REAL(F, C_DecryptDigestUpdate, PUMP)                                               \
    REAL(F, C_SignEncryptUpdate, PUMP)                                                 \
    REAL(F, C_DecryptVerifyUpdate, PUMP)                                               \
    F(C_GenerateKey, generate,                                                         \
      (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_ATTRIBUTE *t, CK_ULONG n,              \
       CK_OBJECT_HANDLE *o),                                                           \
      (s, m, t, n, o))                                                                 \
    REAL(F, C_GenerateKeyPair,                                                         \
         (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_ATTRIBUTE *t, CK_ULONG n,           \
          CK_ATTRIBUTE *u, CK_ULONG k, CK_OBJECT_HANDLE *o, CK_OBJECT_HANDLE *p),      \
         (s, m, t, n, u, k, o, p))                                                     \
    F(C_WrapKey, wrap,                                                                 \
      (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE w, CK_OBJECT_HANDLE k,   \
       CK_BYTE *q, CK_ULONG *n),                                                       \
      (s, m, w, k, q, n))                                                              \
    F(C_UnwrapKey, unwrap,                                                             \
      (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE w, CK_BYTE *p,           \
       CK_ULONG k, CK_ATTRIBUTE *t, CK_ULONG n, CK_OBJECT_HANDLE *o),                  \
      (s, m, w, p, k, t, n, o))                                                        \
    REAL(F, C_DeriveKey,                                                               \
         (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE k, CK_ATTRIBUTE *t,   \
          CK_ULONG n, CK_OBJECT_HANDLE *o),                                            \
         (s, m, k, t, n, o))                                                           \
    REAL(F, C_SeedRandom, TAKE)                                                        \
    REAL(F, C_GenerateRandom, TAKE)                                                    \
    REAL(F, C_GetFunctionStatus, ONE)                                                  \
    REAL(F, C_CancelFunction, ONE)                                                     \
    REAL(F, C_WaitForSlotEvent, (CK_FLAGS f, CK_SLOT_ID *l, void *a), (f, l, a))

#define NUMBERED(name, ...) N_##name,
enum function { FUNCTIONS(NUMBERED) N_ANY };

#define NAMED(name, ...) #name,
static const char *const functions[] = {FUNCTIONS(NAMED) "*"};

struct name {
    const char *name;
    unsigned long value;
};
#define NAME(x) {#x, x}
static const struct name names[] = {
    NAME(CKR_OK), NAME(CKR_CANCEL), NAME(CKR_HOST_MEMORY), NAME(CKR_SLOT_ID_INVALID),
    NAME(CKR_GENERAL_ERROR), NAME(CKR_FUNCTION_FAILED), NAME(CKR_ARGUMENTS_BAD),
    NAME(CKR_ATTRIBUTE_READ_ONLY), NAME(CKR_ATTRIBUTE_SENSITIVE),
    NAME(CKR_ATTRIBUTE_TYPE_INVALID), NAME(CKR_ATTRIBUTE_VALUE_INVALID),
    NAME(CKR_DEVICE_ERROR), NAME(CKR_DEVICE_MEMORY), NAME(CKR_DEVICE_REMOVED),
    NAME(CKR_FUNCTION_CANCELED), NAME(CKR_FUNCTION_NOT_SUPPORTED),
    NAME(CKR_KEY_HANDLE_INVALID), NAME(CKR_KEY_SIZE_RANGE),
    NAME(CKR_KEY_FUNCTION_NOT_PERMITTED), NAME(CKR_KEY_NOT_WRAPPABLE),
    NAME(CKR_KEY_UNEXTRACTABLE), NAME(CKR_MECHANISM_INVALID),
    NAME(CKR_MECHANISM_PARAM_INVALID), NAME(CKR_OBJECT_HANDLE_INVALID),
    NAME(CKR_OPERATION_ACTIVE), NAME(CKR_PIN_INCORRECT), NAME(CKR_PIN_INVALID),
    NAME(CKR_PIN_LEN_RANGE), NAME(CKR_PIN_EXPIRED), NAME(CKR_PIN_LOCKED),
    NAME(CKR_SESSION_CLOSED), NAME(CKR_SESSION_COUNT), NAME(CKR_SESSION_HANDLE_INVALID),
    NAME(CKR_SESSION_READ_ONLY), NAME(CKR_SIGNATURE_INVALID),
    NAME(CKR_TEMPLATE_INCOMPLETE), NAME(CKR_TEMPLATE_INCONSISTENT),
    NAME(CKR_TOKEN_NOT_PRESENT), NAME(CKR_TOKEN_NOT_RECOGNIZED),
    NAME(CKR_TOKEN_WRITE_PROTECTED), NAME(CKR_USER_ALREADY_LOGGED_IN),
    NAME(CKR_USER_NOT_LOGGED_IN), NAME(CKR_USER_PIN_NOT_INITIALIZED),
    NAME(CKR_WRAPPED_KEY_INVALID), NAME(CKR_WRAPPED_KEY_LEN_RANGE),
    NAME(CKR_RANDOM_NO_RNG), NAME(CKR_BUFFER_TOO_SMALL),
    NAME(CKR_CRYPTOKI_NOT_INITIALIZED), NAME(CKR_CRYPTOKI_ALREADY_INITIALIZED),
    NAME(CKA_CLASS), NAME(CKA_TOKEN), NAME(CKA_PRIVATE), NAME(CKA_LABEL),
    NAME(CKA_VALUE), NAME(CKA_KEY_TYPE), NAME(CKA_SUBJECT), NAME(CKA_ID),
    NAME(CKA_SENSITIVE), NAME(CKA_ENCRYPT), NAME(CKA_DECRYPT), NAME(CKA_WRAP),
    NAME(CKA_UNWRAP), NAME(CKA_SIGN), NAME(CKA_VERIFY), NAME(CKA_DERIVE),
    NAME(CKA_MODULUS), NAME(CKA_MODULUS_BITS), NAME(CKA_PUBLIC_EXPONENT),
    NAME(CKA_VALUE_LEN), NAME(CKA_EXTRACTABLE), NAME(CKA_LOCAL),
    NAME(CKA_NEVER_EXTRACTABLE), NAME(CKA_ALWAYS_SENSITIVE),
    NAME(CKA_KEY_GEN_MECHANISM), NAME(CKA_MODIFIABLE), NAME(CKA_EC_PARAMS),
    NAME(CKA_EC_POINT), NAME(CKA_CHECK_VALUE), NAME(CKA_ALLOWED_MECHANISMS),
    NAME(CKA_WRAP_WITH_TRUSTED), NAME(CKA_START_DATE), NAME(CKA_END_DATE),
    NAME(CKM_AES_KEY_WRAP), NAME(CKM_AES_KEY_WRAP_PAD),
};
#define FLAG(x) {#x, CKF_##x}
static const struct name flags[] = {
    FLAG(RNG), FLAG(WRITE_PROTECTED), FLAG(LOGIN_REQUIRED), FLAG(USER_PIN_INITIALIZED),
    FLAG(PROTECTED_AUTHENTICATION_PATH), FLAG(TOKEN_INITIALIZED),
    FLAG(USER_PIN_COUNT_LOW), FLAG(USER_PIN_FINAL_TRY), FLAG(USER_PIN_LOCKED),
    FLAG(USER_PIN_TO_BE_CHANGED), FLAG(SO_PIN_COUNT_LOW), FLAG(SO_PIN_FINAL_TRY),
    FLAG(SO_PIN_LOCKED), FLAG(SO_PIN_TO_BE_CHANGED),
};

/* Up to LIE_PAP a line begins with the verb, then with the function. */
enum lie {
    LIE_FAIL, LIE_DELAY, LIE_CRASH, LIE_NULL, LIE_LOG, LIE_PAP, LIE_FLAGS, LIE_LABEL,
    LIE_SERIAL, LIE_NO_MECHANISM, LIE_LOOP, LIE_FAIL_AFTER, LIE_LEN, LIE_VALUE,
    LIE_REFUSE, LIE_DROP, LIE_SET, LIE_OTHER, LIE_FLIP, LIE_MECHANISM, LIE_FREE,
    LIE_SIZE,
};

/* How a line reads after its first words: n and m numbers (names too), h bytes in hex,
 * t the rest as text, f a function. */
static const struct grammar {
    const char *verb;
    enum lie lie;
    const char *rest;
} grammar[] = {
    {"delay", LIE_DELAY, "fn"}, {"crash", LIE_CRASH, "fn"}, {"null", LIE_NULL, "f"},
    {"call-log", LIE_LOG, "t"}, {"pap", LIE_PAP, "t"}, {"flags", LIE_FLAGS, "t"},
    {"label", LIE_LABEL, "t"}, {"serial", LIE_SERIAL, "t"},
    {"drop", LIE_NO_MECHANISM, "n"}, {"loop", LIE_LOOP, ""},
    {"fail-after", LIE_FAIL_AFTER, "nm"}, {"len", LIE_LEN, "nm"},
    {"value", LIE_VALUE, "nh"}, {"refuse", LIE_REFUSE, "nm"},
    {"attr-drop", LIE_DROP, "n"}, {"attr-set", LIE_SET, "nh"},
    {"ok-but-other", LIE_OTHER, ""}, {"ok-but-other-after", LIE_OTHER, "n"},
    {"flip", LIE_FLIP, ""},
    {"mechanism", LIE_MECHANISM, "nm"}, {"free", LIE_FREE, "n"},
    {"size", LIE_SIZE, "n"},
};

struct rule {
    enum lie lie;
    int function;
    unsigned long n, m;
    bool later, every, did; /* LIE_FAIL: not only the nth call */
    char text[TEXT_MAX];    /* or bytes, then n_text of them */
    size_t n_text;
};

static struct {
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
} liar;

static void bad(const char *line)
{
    fprintf(stderr, "liar: cannot read this line of the script: %s\n", line);
    abort();
}

/* Reading the script. */

static bool number(const char *word, unsigned long *out)
{
    char *end;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(word, names[i].name)) {
            *out = names[i].value;
            return true;
        }
    *out = strtoul(word, &end, 0);
    return *word && !*end;
}

static bool function(const char *word, int *out)
{
    for (int i = 0; i <= N_ANY; i++)
        if (!strcmp(word, functions[i])) {
            *out = i;
            return true;
        }
    return false;
}

static bool hex(const char *word, struct rule *rule)
{
    unsigned byte;

    rule->n_text = 0;
    if (!strcmp(word, "-"))
        return true;
    for (; word[0] && rule->n_text < sizeof rule->text; word += 2) {
        if (sscanf(word, "%2x", &byte) != 1 || !word[1])
            return false;
        rule->text[rule->n_text++] = (char)byte;
    }
    return !*word;
}

static bool rest(const char *kinds, char *line, struct rule *rule)
{
    char *word;
    bool good = true;

    for (; *kinds && good; kinds++) {
        word = strtok_r(line, *kinds == 't' ? "" : " \t", &line);
        if (!word)
            return false;
        if (*kinds == 'f')
            good = function(word, &rule->function);
        else if (*kinds == 'h')
            good = hex(word, rule);
        else if (*kinds == 't')
            snprintf(rule->text, sizeof rule->text, "%s", word + strspn(word, " \t"));
        else
            good = number(word, *kinds == 'n' ? &rule->n : &rule->m);
    }
    return good && !strtok_r(line, " \t", &line);
}

/* N CKR | after N CKR | * CKR, with "did" before CKR. "fail-at N" is N. */
static bool when(char *word, char *line, struct rule *rule)
{
    rule->lie = LIE_FAIL;
    rule->every = !strcmp(word, "*");
    rule->later = !strcmp(word, "after");
    if (rule->later || !strcmp(word, "fail-at"))
        word = strtok_r(line, " \t", &line);
    if (!word || (!rule->every && !number(word, &rule->n)))
        return false;
    word = strtok_r(line, " \t", &line);
    rule->did = word && !strcmp(word, "did");
    if (rule->did)
        word = strtok_r(line, " \t", &line);
    return word && number(word, &rule->m) && !strtok_r(line, " \t", &line);
}

static bool parse(char *line, struct rule *rule)
{
    char *word = strtok_r(line, " \t", &line);
    bool has_function = word && function(word, &rule->function);

    if (has_function)
        word = strtok_r(line, " \t", &line);
    for (size_t i = 0; word && i < sizeof grammar / sizeof *grammar; i++)
        if (!strcmp(word, grammar[i].verb)) {
            rule->lie = grammar[i].lie;
            return has_function == (rule->lie > LIE_PAP) &&
                   rest(grammar[i].rest, line, rule);
        }
    return has_function && word && when(word, line, rule);
}

static void read_script(void)
{
    char line[1024], whole[1024];
    FILE *file;
    struct rule *rule;

    liar.count = 0;
    memset(liar.calls, 0, sizeof liar.calls);
    file = fopen(liar.script, "re");
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "#\n")] = '\0';
        snprintf(whole, sizeof whole, "%s", line);
        if (!line[strspn(line, " \t")])
            continue;
        rule = &liar.rules[liar.count++];
        memset(rule, 0, sizeof *rule);
        if (liar.count == RULES_MAX || !parse(line, rule))
            bad(whole);
    }
    if (file)
        fclose(file);
}

static void refresh(void)
{
    struct stat now;

    if (!*liar.script || stat(liar.script, &now))
        return;
    if (now.st_ino == liar.seen.st_ino && now.st_size == liar.seen.st_size &&
        now.st_mtim.tv_sec == liar.seen.st_mtim.tv_sec &&
        now.st_mtim.tv_nsec == liar.seen.st_mtim.tv_nsec)
        return;
    liar.seen = now;
    read_script();
}

static void look_at_environment(void)
{
    const char *script = getenv("LIAR_SCRIPT");

    if (script)
        snprintf(liar.script, sizeof liar.script, "%s", script);
    refresh();
}

/* The next rule of that kind after `rule` (NULL: the first); NULL: no more. */
static const struct rule *next(const struct rule *rule, enum lie lie, int function)
{
    for (rule = rule ? rule + 1 : liar.rules; rule < liar.rules + liar.count; rule++)
        if (rule->lie == lie && rule->function == function)
            return rule;
    return NULL;
}

static const struct rule *first(enum lie lie, int function)
{
    return next(NULL, lie, function);
}

/* Around every call. */

static const struct rule *failure(int function)
{
    const struct rule *rule = NULL;
    unsigned long n = liar.calls[function];

    while ((rule = next(rule, LIE_FAIL, function)))
        if (rule->every || (rule->later ? n > rule->n : n == rule->n))
            return rule;
    return NULL;
}

static void record(int function, CK_RV rv)
{
    const struct rule *log = first(LIE_LOG, 0);
    char line[120];
    const char *name = NULL;
    int fd, n;

    if (!log)
        return;
    for (size_t i = 0; !name && i < sizeof names / sizeof *names; i++)
        if (names[i].value == rv && !strncmp(names[i].name, "CKR_", 4))
            name = names[i].name;
    if (name)
        n = snprintf(line, sizeof line, "%s %s\n", functions[function], name);
    else
        n = snprintf(line, sizeof line, "%s 0x%lX\n", functions[function], rv);
    fd = open(log->text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, line, (size_t)n) != n)
        bad(log->text);
    close(fd);
}

/* What this call fails with; NULL: nothing. */
static const struct rule *before(int function)
{
    const struct rule *rule;
    struct timespec pause;

    refresh();
    liar.calls[function]++;
    liar.calls[N_ANY]++;
    if ((rule = first(LIE_DELAY, function))) {
        pause.tv_sec = (time_t)(rule->n / 1000);
        pause.tv_nsec = (long)(rule->n % 1000) * 1000000;
        nanosleep(&pause, NULL);
    }
    if ((rule = first(LIE_CRASH, function)) && rule->n == liar.calls[function])
        kill(getpid(), SIGKILL);
    rule = failure(function);
    return rule ? rule : failure(N_ANY);
}

/* The lies of single functions. */

static CK_RV initialize(void *args)
{
    look_at_environment();
    return liar.real->C_Initialize(args);
}

static void pad(CK_BYTE *field, size_t size, const struct rule *rule)
{
    size_t n;

    if (!rule)
        return;
    n = strlen(rule->text);
    memset(field, ' ', size);
    memcpy(field, rule->text, n < size ? n : size);
}

static void change_flags(const char *text, CK_FLAGS *to)
{
    size_t n;
    bool add, known;

    for (; *text; text += n + (text[n] == '|')) {
        n = strcspn(text, "|");
        add = *text == '+';
        known = false;
        for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
            if (strlen(flags[i].name) == n - 1 &&
                !strncmp(text + 1, flags[i].name, n - 1)) {
                *to = add ? *to | flags[i].value : *to & ~flags[i].value;
                known = true;
            }
        if (!known || (!add && *text != '-'))
            bad(text);
    }
}

static CK_RV token_info(CK_SLOT_ID slot, CK_TOKEN_INFO *info)
{
    CK_RV rv = liar.real->C_GetTokenInfo(slot, info);
    const struct rule *rule = NULL;

    if (rv != CKR_OK)
        return rv;
    pad(info->label, sizeof info->label, first(LIE_LABEL, N_C_GetTokenInfo));
    pad(info->serialNumber, sizeof info->serialNumber,
        first(LIE_SERIAL, N_C_GetTokenInfo));
    if ((rule = first(LIE_FREE, N_C_GetTokenInfo)))
        info->ulTotalPublicMemory = info->ulFreePublicMemory =
            info->ulTotalPrivateMemory = info->ulFreePrivateMemory = rule->n;
    rule = NULL;
    if (first(LIE_PAP, 0))
        info->flags |= CKF_PROTECTED_AUTHENTICATION_PATH;
    while ((rule = next(rule, LIE_FLAGS, N_C_GetTokenInfo)))
        change_flags(rule->text, &info->flags);
    return rv;
}

static CK_RV object_size(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                         CK_ULONG *size)
{
    CK_RV rv = liar.real->C_GetObjectSize(session, object, size);
    const struct rule *rule = first(LIE_SIZE, N_C_GetObjectSize);

    if (rv == CKR_OK && rule)
        *size = rule->n;
    return rv;
}

static CK_RV mechanism_list(CK_SLOT_ID slot, CK_MECHANISM_TYPE *list, CK_ULONG *count)
{
    CK_RV rv = liar.real->C_GetMechanismList(slot, list, count);
    const struct rule *rule = NULL;
    CK_ULONG kept;

    while (rv == CKR_OK && list &&
           (rule = next(rule, LIE_NO_MECHANISM, N_C_GetMechanismList))) {
        kept = 0;
        for (CK_ULONG i = 0; i < *count; i++)
            if (list[i] != rule->n)
                list[kept++] = list[i];
        *count = kept;
    }
    return rv;
}

/* With `pap DIR`: the PIN that the operator keys in. Returns whether to go on. */
static CK_RV key_in(const char *name, CK_BYTE **pin, CK_ULONG *len, CK_BYTE room[256])
{
    const struct rule *pap = first(LIE_PAP, 0);
    char path[PATH_MAX];
    FILE *file;

    if (!pap)
        return CKR_OK;
    if (*pin)
        return CKR_ARGUMENTS_BAD;
    snprintf(path, sizeof path, "%s/%s.pin", pap->text, name);
    file = fopen(path, "re");
    if (!file)
        return CKR_FUNCTION_CANCELED;
    *len = fread(room, 1, 255, file);
    fclose(file);
    if (*len && room[*len - 1] == '\n')
        --*len;
    *pin = room;
    return CKR_OK;
}

static CK_RV init_token(CK_SLOT_ID slot, CK_BYTE *pin, CK_ULONG len, CK_BYTE *label)
{
    CK_BYTE room[256];
    CK_RV rv = key_in("so", &pin, &len, room);

    return rv == CKR_OK ? liar.real->C_InitToken(slot, pin, len, label) : rv;
}

static CK_RV init_pin(CK_SESSION_HANDLE session, CK_BYTE *pin, CK_ULONG len)
{
    CK_BYTE room[256];
    CK_RV rv = key_in("user", &pin, &len, room);

    return rv == CKR_OK ? liar.real->C_InitPIN(session, pin, len) : rv;
}

static CK_RV set_pin(CK_SESSION_HANDLE session, CK_BYTE *old, CK_ULONG old_len,
                     CK_BYTE *new, CK_ULONG new_len)
{
    CK_BYTE old_room[256], new_room[256];
    CK_RV rv = key_in("user", &old, &old_len, old_room);

    if (rv == CKR_OK)
        rv = key_in("new", &new, &new_len, new_room);
    return rv == CKR_OK ? liar.real->C_SetPIN(session, old, old_len, new, new_len) : rv;
}

static CK_RV login(CK_SESSION_HANDLE session, CK_USER_TYPE user, CK_BYTE *pin,
                   CK_ULONG len)
{
    CK_BYTE room[256];
    CK_RV rv = key_in(user == CKU_SO ? "so" : "user", &pin, &len, room);

    return rv == CKR_OK ? liar.real->C_Login(session, user, pin, len) : rv;
}

static CK_RV find_start(CK_SESSION_HANDLE session, CK_ATTRIBUTE *template,
                        CK_ULONG count)
{
    liar.found = 0;
    liar.last = 1;
    return liar.real->C_FindObjectsInit(session, template, count);
}

static CK_RV find(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE *objects, CK_ULONG max,
                  CK_ULONG *count)
{
    const struct rule *fail = first(LIE_FAIL_AFTER, N_C_FindObjects);
    CK_RV rv;

    if (fail && liar.found >= fail->n)
        return fail->m;
    if (fail && max > fail->n - liar.found)
        max = fail->n - liar.found;
    rv = liar.real->C_FindObjects(session, objects, max, count);
    if (rv != CKR_OK)
        return rv;
    if (!*count && max && first(LIE_LOOP, N_C_FindObjects)) {
        objects[0] = liar.last;
        *count = 1;
    }
    liar.found += *count;
    if (*count)
        liar.last = objects[*count - 1];
    return rv;
}

static CK_RV lie_about(CK_ATTRIBUTE *at, CK_ULONG room, CK_RV rv)
{
    const struct rule *rule = NULL;

    while ((rule = next(rule, LIE_VALUE, N_C_GetAttributeValue)))
        if (rule->n == at->type) {
            if (at->pValue && room >= rule->n_text)
                memcpy(at->pValue, rule->text, rule->n_text);
            at->ulValueLen = rule->n_text;
        }
    while ((rule = next(rule, LIE_LEN, N_C_GetAttributeValue)))
        if (rule->n == at->type)
            at->ulValueLen = rule->m;
    while ((rule = next(rule, LIE_REFUSE, N_C_GetAttributeValue)))
        if (rule->n == at->type) {
            at->ulValueLen = CK_UNAVAILABLE_INFORMATION;
            rv = rule->m;
        }
    return rv;
}

static CK_RV get_attributes(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                            CK_ATTRIBUTE *template, CK_ULONG count)
{
    CK_ULONG room[TEMPLATE_MAX];
    CK_RV rv;

    for (CK_ULONG i = 0; i < count && i < TEMPLATE_MAX; i++)
        room[i] = template[i].ulValueLen;
    rv = liar.real->C_GetAttributeValue(session, object, template, count);
    for (CK_ULONG i = 0; i < count && i < TEMPLATE_MAX; i++)
        rv = lie_about(&template[i], room[i], rv);
    return rv;
}

struct edited {
    CK_ATTRIBUTE at[TEMPLATE_MAX];
    CK_ULONG count;
};

static void put(struct edited *to, CK_ATTRIBUTE_TYPE type, void *value, CK_ULONG len)
{
    CK_ULONG i = 0;

    while (i < to->count && to->at[i].type != type)
        i++;
    if (i == TEMPLATE_MAX)
        bad("a template too long");
    if (i == to->count)
        to->count++;
    to->at[i].type = type;
    to->at[i].pValue = value;
    to->at[i].ulValueLen = len;
}

static struct edited edit(int function, CK_ATTRIBUTE *template, CK_ULONG count)
{
    struct edited to = {.count = 0};
    const struct rule *rule = NULL;
    CK_ULONG kept;

    for (CK_ULONG i = 0; i < count; i++)
        put(&to, template[i].type, template[i].pValue, template[i].ulValueLen);
    while ((rule = next(rule, LIE_SET, function)))
        put(&to, rule->n, (void *)(uintptr_t)rule->text, rule->n_text);
    while ((rule = next(rule, LIE_DROP, function))) {
        kept = 0;
        for (CK_ULONG i = 0; i < to.count; i++)
            if (to.at[i].type != rule->n)
                to.at[kept++] = to.at[i];
        to.count = kept;
    }
    return to;
}

static CK_RV create(CK_SESSION_HANDLE session, CK_ATTRIBUTE *template, CK_ULONG count,
                    CK_OBJECT_HANDLE *object)
{
    struct edited to = edit(N_C_CreateObject, template, count);

    return liar.real->C_CreateObject(session, to.at, to.count, object);
}

static CK_RV copy(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE from,
                  CK_ATTRIBUTE *template, CK_ULONG count, CK_OBJECT_HANDLE *object)
{
    struct edited to = edit(N_C_CopyObject, template, count);

    return liar.real->C_CopyObject(session, from, to.at, to.count, object);
}

static CK_RV set_attributes(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                            CK_ATTRIBUTE *template, CK_ULONG count)
{
    struct edited to = edit(N_C_SetAttributeValue, template, count);

    return liar.real->C_SetAttributeValue(session, object, to.at, to.count);
}

static CK_RV generate(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                      CK_ATTRIBUTE *template, CK_ULONG count, CK_OBJECT_HANDLE *object)
{
    struct edited to = edit(N_C_GenerateKey, template, count);

    return liar.real->C_GenerateKey(session, mechanism, to.at, to.count, object);
}

static CK_MECHANISM swapped(int function, const CK_MECHANISM *mechanism)
{
    CK_MECHANISM to = *mechanism;
    const struct rule *rule = NULL;

    while ((rule = next(rule, LIE_MECHANISM, function)))
        if (rule->n == mechanism->mechanism)
            to.mechanism = rule->m;
    return to;
}

static CK_RV wrap(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                  CK_OBJECT_HANDLE with, CK_OBJECT_HANDLE key, CK_BYTE *out,
                  CK_ULONG *len)
{
    CK_MECHANISM used = swapped(N_C_WrapKey, mechanism);
    CK_RV rv = liar.real->C_WrapKey(session, &used, with, key, out, len);

    if (rv == CKR_OK && out && *len && first(LIE_FLIP, N_C_WrapKey))
        out[*len - 1] ^= 1;
    return rv;
}

static bool is_secret_key(const struct edited *template)
{
    CK_OBJECT_CLASS class = CKO_DATA;

    for (CK_ULONG i = 0; i < template->count; i++)
        if (template->at[i].type == CKA_CLASS &&
            template->at[i].ulValueLen == sizeof class)
            memcpy(&class, template->at[i].pValue, sizeof class);
    return class == CKO_SECRET_KEY;
}

static CK_RV unwrap(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                    CK_OBJECT_HANDLE with, CK_BYTE *wrapped, CK_ULONG len,
                    CK_ATTRIBUTE *template, CK_ULONG count, CK_OBJECT_HANDLE *object)
{
    static CK_BYTE fake[32];
    CK_MECHANISM used = swapped(N_C_UnwrapKey, mechanism);
    struct edited to = edit(N_C_UnwrapKey, template, count);
    const struct rule *rule = first(LIE_OTHER, N_C_UnwrapKey);
    bool other = rule && liar.calls[N_C_UnwrapKey] > rule->n;
    bool secret = is_secret_key(&to);
    CK_RV rv;

    if (other && secret) {
        memset(fake, 0x5A, sizeof fake);
        put(&to, CKA_VALUE, fake, sizeof fake);
        return liar.real->C_CreateObject(session, to.at, to.count, object);
    }
    if (other && liar.blob_len)
        return liar.real->C_UnwrapKey(session, &used, with, liar.blob, liar.blob_len,
                                      to.at, to.count, object);
    rv = liar.real->C_UnwrapKey(session, &used, with, wrapped, len, to.at, to.count,
                                object);
    if (rv == CKR_OK && !secret && len <= sizeof liar.blob) {
        memcpy(liar.blob, wrapped, len);
        liar.blob_len = len;
    }
    return rv;
}

/* The module. */

#define WRAPPED(name, work, parameters, arguments)                                     \
    static CK_RV liar_##name parameters                                                \
    {                                                                                  \
        const struct rule *fail = before(N_##name);                                    \
        CK_RV rv = fail && !fail->did ? fail->m : work arguments;                      \
                                                                                       \
        if (fail)                                                                      \
            rv = fail->m;                                                              \
        record(N_##name, rv);                                                          \
        return rv;                                                                     \
    }
FUNCTIONS(WRAPPED)

#define LISTED(name, ...)                                                              \
    if (!first(LIE_NULL, N_##name))                                                    \
        liar.list.name = liar_##name;

__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST **list)
{
    if (!list)
        return CKR_ARGUMENTS_BAD;
    if (!liar.real)
        liar.real = kf_image_load(getenv("LIAR_MODULE"));
    if (!liar.real)
        return CKR_GENERAL_ERROR;
    look_at_environment();
    memset(&liar.list, 0, sizeof liar.list);
    liar.list.version = liar.real->version;
    liar.list.C_GetFunctionList = C_GetFunctionList;
    FUNCTIONS(LISTED)
    *list = &liar.list;
    return CKR_OK;
}
