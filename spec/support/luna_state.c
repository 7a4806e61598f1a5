/* SPDX-License-Identifier: MIT
 * The state folder of luna: its slots, its switches, its log.
 */
#include "luna.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct luna luna;

static _Noreturn void bad(const char *what)
{
    fprintf(stderr, "luna: cannot read this of the state: %s\n", what);
    abort();
}

static void path_of(const struct luna_slot *slot, const char *name, char path[PATH_MAX])
{
    int n;

    if (slot)
        n = snprintf(path, PATH_MAX, "%s/%s/%s", luna.state, slot->serial, name);
    else
        n = snprintf(path, PATH_MAX, "%s/%s", luna.state, name);
    if (n < 0 || n >= PATH_MAX)
        bad(name);
}

bool luna_text(const struct luna_slot *slot, const char *name, char *to, size_t size)
{
    char path[PATH_MAX];
    FILE *file;
    size_t n;

    path_of(slot, name, path);
    file = fopen(path, "re");
    if (!file)
        return false;
    n = fread(to, 1, size - 1, file);
    fclose(file);
    to[n] = '\0';
    to[strcspn(to, "\n")] = '\0';
    return true;
}

unsigned long luna_number(const struct luna_slot *slot, const char *name,
                          unsigned long otherwise)
{
    char text[64], *end;
    unsigned long n;

    if (!luna_text(slot, name, text, sizeof text))
        return otherwise;
    n = strtoul(text, &end, 0);
    if (!*text || *end)
        bad(name);
    return n;
}

void luna_put(const struct luna_slot *slot, const char *name, const char *text)
{
    char path[PATH_MAX];
    FILE *file;

    path_of(slot, name, path);
    file = fopen(path, "we");
    if (!file || fputs(text, file) < 0 || fclose(file))
        bad(name);
}

/* The first line of next.FUNCTION, which is taken away. */
CK_RV luna_scripted(const char *function)
{
    char name[NAME_MAX_LEN], path[PATH_MAX], text[4096], *end;
    FILE *file;
    size_t n;
    unsigned long code;

    snprintf(name, sizeof name, "next.%s", function);
    path_of(NULL, name, path);
    file = *luna.state ? fopen(path, "re") : NULL;
    if (!file)
        return CKR_OK;
    n = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[n] = '\0';
    if (!*text)
        return CKR_OK;
    code = strtoul(text, &end, 0);
    if (*end != '\n')
        bad(name);
    luna_put(NULL, name, end + 1);
    return code;
}

void luna_log(const char *function, const char *where, CK_RV rv)
{
    char path[PATH_MAX], line[160];
    int fd, n;

    if (!*luna.state)
        return;
    path_of(NULL, "log", path);
    n = snprintf(line, sizeof line, "%s%s 0x%lX\n", function, where, rv);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, line, (size_t)n) != n)
        bad("log");
    close(fd);
}

static void read_slot(const char *line, struct luna_slot *slot)
{
    static const char *const kinds[] = {"net", "admin", "ha", "empty"};
    char kind[8];
    int n = sscanf(line, "%7s %lu %63s %63s", kind, &slot->id, slot->folder,
                   slot->serial);
    int i = LUNA_EMPTY;

    while (i >= 0 && n >= 2 && strcmp(kind, kinds[i]) != 0)
        i--;
    if (n < 2 || i < 0 || n != (i == LUNA_EMPTY ? 2 : 4))
        bad(line);
    slot->kind = (enum luna_kind)i;
}

void luna_forget(void)
{
    for (size_t i = 0; i < luna.count; i++)
        free(luna.slots[i].objects);
    for (size_t i = 0; i < SESSIONS_MAX; i++)
        free(luna.sessions[i].found);
    memset(luna.slots, 0, sizeof luna.slots);
    memset(luna.sessions, 0, sizeof luna.sessions);
    luna.count = 0;
}

void luna_look_around(void)
{
    const char *state = getenv("LUNA_STATE");
    char path[PATH_MAX], line[256];
    FILE *file;

    luna_forget();
    if (!state || strlen(state) >= sizeof luna.state)
        bad("LUNA_STATE");
    strcpy(luna.state, state);
    path_of(NULL, "slots", path);
    file = fopen(path, "re");
    if (!file)
        bad(path);
    while (fgets(line, sizeof line, file) && luna.count < SLOTS_MAX) {
        luna.slots[luna.count].last = luna.count;
        read_slot(line, &luna.slots[luna.count++]);
    }
    fclose(file);
}

/* SoftHSM's serial number is the end of the folder's name. */
static bool is_token(const struct luna_slot *slot, const CK_TOKEN_INFO *info)
{
    const char *name = slot->folder;

    return strlen(name) == 36 && !memcmp(info->serialNumber, name + 19, 4) &&
           !memcmp(info->serialNumber + 4, name + 24, 12);
}

void luna_match_slots(void)
{
    CK_SLOT_ID list[SLOTS_MAX * 2];
    CK_ULONG count = SLOTS_MAX * 2;
    CK_TOKEN_INFO info;
    size_t matched = 0, wanted = 0;

    if (luna.real->C_GetSlotList(CK_TRUE, list, &count) != CKR_OK)
        bad("the slots of SoftHSM");
    for (size_t i = 0; i < luna.count; i++) {
        wanted += luna.slots[i].kind != LUNA_EMPTY;
        for (CK_ULONG j = 0; j < count; j++)
            if (luna.real->C_GetTokenInfo(list[j], &info) == CKR_OK &&
                is_token(&luna.slots[i], &info)) {
                luna.slots[i].real = list[j];
                matched++;
            }
    }
    if (matched != wanted)
        bad("slots");
}

struct luna_slot *luna_slot(CK_SLOT_ID id)
{
    for (size_t i = 0; i < luna.count; i++)
        if (luna.slots[i].id == id)
            return &luna.slots[i];
    return NULL;
}

struct luna_session *luna_session(CK_SESSION_HANDLE handle)
{
    for (size_t i = 0; i < SESSIONS_MAX; i++)
        if (luna.sessions[i].slot && luna.sessions[i].handle == handle)
            return &luna.sessions[i];
    return NULL;
}
