/* SPDX-License-Identifier: MIT
 * The script of liar: how its lines read, and when they are read again.
 */
#include "liar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct liar liar;

#define NAMED(name, ...) #name,
const char *const liar_functions[] = {FUNCTIONS(NAMED) "*"};

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
    {"list", LIE_NO_LIST, "m"}, {"list-version", LIE_VERSION, "n"},
    {"says", LIE_SAYS, "n"}, {"fill", LIE_FILL, "n"}, {"handle", LIE_HANDLE, "n"},
    {"rotate", LIE_ROTATE, "n"}, {"twice", LIE_TWICE, ""}, {"also", LIE_TWICE, "nm"},
    {"endless", LIE_ENDLESS, ""}, {"more", LIE_MORE, "n"}, {"grow", LIE_GROW, ""},
    {"add", LIE_ADD, "n"}, {"own", LIE_OWN, "n"}, {"pad", LIE_PAD, "n"},
    {"pin", LIE_PIN, "nm"},
};
void liar_bad(const char *line)
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
        if (!strcmp(word, liar_functions[i])) {
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
            liar_bad(whole);
    }
    if (file)
        fclose(file);
}

void liar_refresh(void)
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

void liar_look_around(void)
{
    const char *script = getenv("LIAR_SCRIPT");

    if (script)
        snprintf(liar.script, sizeof liar.script, "%s", script);
    liar_refresh();
}
const struct rule *liar_next(const struct rule *rule, enum lie lie, int function)
{
    for (rule = rule ? rule + 1 : liar.rules; rule < liar.rules + liar.count; rule++)
        if (rule->lie == lie && rule->function == function)
            return rule;
    return NULL;
}

const struct rule *liar_first(enum lie lie, int function)
{
    return liar_next(NULL, lie, function);
}

void liar_change_flags(const char *text, CK_FLAGS *to)
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
            liar_bad(text);
    }
}
const char *liar_result_name(CK_RV rv)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].value == rv && !strncmp(names[i].name, "CKR_", 4))
            return names[i].name;
    return NULL;
}
