/* SPDX-License-Identifier: MIT
 * drive: a PKCS#11 module, driven call by call from standard input; knows nothing of
 * c/. A line each, words between blanks, "-" for a NULL or nothing:
 *
 *     open NAME SLOT rw|ro        a session, known by NAME from here on
 *     close NAME
 *     login NAME USER PIN         USER user, so or a number
 *     logout NAME
 *     init-token SLOT PIN LABEL
 *     init-pin NAME PIN
 *     key NAME LABEL token|session [hidden]
 *                                 a generated AES-256 key; hidden: sensitive and not
 *                                 extractable
 *     data NAME LABEL HEX [TYPE HEX]
 *                                 an object of that value, with one more attribute
 *     copy NAME HANDLE [TYPE HEX]
 *     find NAME [TYPE HEX]        all handles there are
 *     get NAME HANDLE TYPE        an attribute, in hex
 *     set NAME HANDLE TYPE HEX
 *     destroy NAME HANDLE
 *     clone TARGET SOURCE TYPE HANDLE
 *                                 CA_CloneObject; names of sessions, or numbers
 *     slot SLOT, token SLOT       what it says of itself
 *     slots present|all
 *
 * Answers a line with the CKR in hex, then what came.
 *
 *     drive MODULE < commands
 */
#include <p11-kit/pkcs11.h>

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS = 8, NAMES = 16, ROOM = 4096 };

/* As the vendor's documentation gives it. */
typedef CK_RV clone_call(CK_SESSION_HANDLE target, CK_SESSION_HANDLE source,
                         CK_ULONG type, CK_OBJECT_HANDLE object,
                         CK_OBJECT_HANDLE *clone);

static CK_FUNCTION_LIST *p11;
static clone_call *clone_object;
static char names[NAMES][32];
static CK_SESSION_HANDLE sessions[NAMES];

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "drive: %s\n", what);
    exit(2);
}

static CK_SESSION_HANDLE *named(const char *name)
{
    for (int i = 0; i < NAMES; i++)
        if (!*names[i] || !strcmp(names[i], name)) {
            snprintf(names[i], sizeof names[i], "%s", name);
            return &sessions[i];
        }
    die("too many sessions");
}

static CK_ULONG number(const char *word)
{
    char *end;
    CK_ULONG n = strtoul(word, &end, 0);

    if (!*word || *end)
        die(word);
    return n;
}

static CK_SESSION_HANDLE session(const char *word)
{
    return word[0] >= '0' && word[0] <= '9' ? number(word) : *named(word);
}

static CK_BYTE *text(char *word, CK_ULONG *len)
{
    bool none = !strcmp(word, "-");

    *len = none ? 0 : strlen(word);
    return none ? NULL : (CK_BYTE *)word;
}

static CK_ULONG hex(const char *word, CK_BYTE *to)
{
    CK_ULONG n = 0;
    unsigned byte;

    for (; strcmp(word, "-") && word[0] && n < ROOM; word += 2) {
        if (sscanf(word, "%2x", &byte) != 1)
            die(word);
        to[n++] = (CK_BYTE)byte;
    }
    return n;
}

static void print_hex(const CK_BYTE *from, CK_ULONG n)
{
    putchar(' ');
    if (!n)
        putchar('-');
    for (CK_ULONG i = 0; i < n; i++)
        printf("%02x", from[i]);
}

static void answer(CK_RV rv)
{
    printf("0x%lX", rv);
}

static void answer_handle(CK_RV rv, CK_ULONG handle)
{
    answer(rv);
    if (rv == CKR_OK)
        printf(" %lu", handle);
}

static void do_open(char **w)
{
    CK_FLAGS flags = CKF_SERIAL_SESSION;

    if (!strcmp(w[2], "rw"))
        flags |= CKF_RW_SESSION;
    answer(p11->C_OpenSession(number(w[1]), flags, NULL, NULL, named(w[0])));
}

static void do_close(char **w)
{
    answer(p11->C_CloseSession(session(w[0])));
}

static void do_login(char **w)
{
    CK_ULONG len, user = CKU_USER;
    CK_BYTE *pin = text(w[2], &len);

    if (!strcmp(w[1], "so"))
        user = CKU_SO;
    else if (strcmp(w[1], "user") != 0)
        user = number(w[1]);
    answer(p11->C_Login(session(w[0]), user, pin, len));
}

static void do_logout(char **w)
{
    answer(p11->C_Logout(session(w[0])));
}

static void do_init_token(char **w)
{
    CK_BYTE label[32];
    CK_ULONG len;
    CK_BYTE *pin = text(w[1], &len);

    memset(label, ' ', sizeof label);
    memcpy(label, w[2], strlen(w[2]) < 32 ? strlen(w[2]) : 32);
    answer(p11->C_InitToken(number(w[0]), pin, len, label));
}

static void do_init_pin(char **w)
{
    CK_ULONG len;
    CK_BYTE *pin = text(w[1], &len);

    answer(p11->C_InitPIN(session(w[0]), pin, len));
}

static void do_key(char **w)
{
    CK_MECHANISM how = {CKM_AES_KEY_GEN, NULL, 0};
    CK_BBOOL token = !strcmp(w[2], "token"), hidden = !strcmp(w[3], "hidden");
    CK_BBOOL yes = CK_TRUE, open = !hidden;
    CK_ULONG len = 32, n;
    CK_BYTE *label = text(w[1], &n);
    CK_ATTRIBUTE t[] = {
        {CKA_TOKEN, &token, 1},         {CKA_PRIVATE, &yes, 1},
        {CKA_LABEL, label, n},          {CKA_VALUE_LEN, &len, sizeof len},
        {CKA_ENCRYPT, &yes, 1},         {CKA_SENSITIVE, &hidden, 1},
        {CKA_EXTRACTABLE, &open, 1},
    };
    CK_OBJECT_HANDLE key = 0;
    CK_RV rv = p11->C_GenerateKey(session(w[0]), &how, t, sizeof t / sizeof *t, &key);

    answer_handle(rv, key);
}

static void do_data(char **w)
{
    CK_OBJECT_CLASS class = CKO_DATA;
    CK_BBOOL yes = CK_TRUE;
    CK_BYTE value[ROOM], more[ROOM];
    CK_ULONG n;
    CK_BYTE *label = text(w[1], &n);
    CK_ATTRIBUTE t[] = {
        {CKA_CLASS, &class, sizeof class}, {CKA_TOKEN, &yes, 1}, {CKA_PRIVATE, &yes, 1},
        {CKA_LABEL, label, n},             {CKA_VALUE, value, hex(w[2], value)},
        {0, more, 0},
    };
    CK_ULONG count = sizeof t / sizeof *t - 1;
    CK_OBJECT_HANDLE object = 0;
    CK_RV rv;

    if (*w[3]) {
        t[count].type = number(w[3]);
        t[count++].ulValueLen = hex(w[4], more);
    }
    rv = p11->C_CreateObject(session(w[0]), t, count, &object);
    answer_handle(rv, object);
}

static void do_copy(char **w)
{
    CK_BYTE value[ROOM];
    CK_ATTRIBUTE t = {0, value, 0};
    CK_OBJECT_HANDLE copy = 0;
    CK_RV rv;

    if (*w[2]) {
        t.type = number(w[2]);
        t.ulValueLen = hex(w[3], value);
    }
    rv = p11->C_CopyObject(session(w[0]), number(w[1]), &t, *w[2] != '\0', &copy);
    answer_handle(rv, copy);
}

static void do_find(char **w)
{
    CK_BYTE value[ROOM];
    CK_ATTRIBUTE t = {0, value, 0};
    CK_OBJECT_HANDLE found[256];
    CK_ULONG n = 0;
    CK_RV rv;

    if (*w[1]) {
        t.type = number(w[1]);
        t.ulValueLen = hex(w[2], value);
    }
    rv = p11->C_FindObjectsInit(session(w[0]), &t, *w[1] != '\0');
    if (rv == CKR_OK)
        rv = p11->C_FindObjects(session(w[0]), found, 256, &n);
    answer(rv);
    for (CK_ULONG i = 0; i < n; i++)
        printf(" %lu", found[i]);
    if (rv == CKR_OK)
        p11->C_FindObjectsFinal(session(w[0]));
}

static void do_get(char **w)
{
    CK_BYTE value[ROOM];
    CK_ATTRIBUTE t = {number(w[2]), value, sizeof value};
    CK_RV rv = p11->C_GetAttributeValue(session(w[0]), number(w[1]), &t, 1);

    answer(rv);
    if (rv == CKR_OK)
        print_hex(value, t.ulValueLen);
}

static void do_set(char **w)
{
    CK_BYTE value[ROOM];
    CK_ATTRIBUTE t = {number(w[2]), value, hex(w[3], value)};

    answer(p11->C_SetAttributeValue(session(w[0]), number(w[1]), &t, 1));
}

static void do_destroy(char **w)
{
    answer(p11->C_DestroyObject(session(w[0]), number(w[1])));
}

static void do_clone(char **w)
{
    CK_OBJECT_HANDLE clone = 0;
    CK_RV rv;

    if (!clone_object)
        die("the module has no CA_CloneObject");
    rv = clone_object(session(w[0]), session(w[1]), number(w[2]), number(w[3]), &clone);
    answer_handle(rv, clone);
}

static void field(const CK_UTF8CHAR *from, int n)
{
    while (n && from[n - 1] == ' ')
        n--;
    printf(" [%.*s]", n, (const char *)from);
}
#define FIELD(x) field(x, (int)sizeof(x))

static void do_slot(char **w)
{
    CK_SLOT_INFO info;
    CK_RV rv = p11->C_GetSlotInfo(number(w[0]), &info);

    answer(rv);
    if (rv != CKR_OK)
        return;
    FIELD(info.slotDescription);
    FIELD(info.manufacturerID);
    printf("%s", info.flags & CKF_TOKEN_PRESENT ? " present" : "");
}

static void do_token(char **w)
{
    CK_TOKEN_INFO info;
    CK_RV rv = p11->C_GetTokenInfo(number(w[0]), &info);

    answer(rv);
    if (rv != CKR_OK)
        return;
    FIELD(info.label);
    FIELD(info.serialNumber);
    FIELD(info.manufacturerID);
    printf("%s", info.flags & CKF_PROTECTED_AUTHENTICATION_PATH ? " protected" : "");
    if (info.ulFreePrivateMemory != CK_UNAVAILABLE_INFORMATION)
        printf(" free %lu", info.ulFreePrivateMemory);
}

static void do_slots(char **w)
{
    CK_SLOT_ID list[64];
    CK_ULONG n = 64;
    CK_RV rv = p11->C_GetSlotList(!strcmp(w[0], "present"), list, &n);

    answer(rv);
    for (CK_ULONG i = 0; rv == CKR_OK && i < n; i++)
        printf(" %lu", list[i]);
}

static const struct {
    const char *name;
    void (*run)(char **words);
    int words;
} verbs[] = {
    {"open", do_open, 3},     {"close", do_close, 1},
    {"login", do_login, 3},   {"logout", do_logout, 1},
    {"key", do_key, 3},       {"data", do_data, 3},
    {"find", do_find, 1},     {"get", do_get, 3},
    {"set", do_set, 4},       {"destroy", do_destroy, 2},
    {"clone", do_clone, 4},   {"slot", do_slot, 1},
    {"token", do_token, 1},   {"slots", do_slots, 1},
    {"copy", do_copy, 2},
    {"init-token", do_init_token, 3}, {"init-pin", do_init_pin, 2},
};

static void run(char *line)
{
    static const char blank[] = " \n";
    static char nothing[1];
    char *words[WORDS + 1];
    int n = 0;

    for (int i = 0; i <= WORDS; i++)
        words[i] = nothing;
    for (char *word = strtok(line, blank); word && n < WORDS;
         word = strtok(NULL, blank))
        words[n++] = word;
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (!strcmp(words[0], verbs[i].name) && n > verbs[i].words) {
            verbs[i].run(words + 1);
            putchar('\n');
            fflush(stdout);
            return;
        }
    die(words[0]);
}

int main(int argc, char **argv)
{
    CK_RV (*get)(CK_FUNCTION_LIST **) = NULL;
    char line[ROOM];
    void *module = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;

    if (!module)
        die(argc == 2 ? dlerror() : "usage: drive MODULE < commands");
    *(void **)&get = dlsym(module, "C_GetFunctionList");
    *(void **)&clone_object = dlsym(module, "CA_CloneObject");
    if (!get || get(&p11) != CKR_OK || p11->C_Initialize(NULL) != CKR_OK)
        die("the module does not begin");
    while (fgets(line, sizeof line, stdin))
        run(line);
    return p11->C_Finalize(NULL) == CKR_OK ? 0 : 1;
}
