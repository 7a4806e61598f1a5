/* SPDX-License-Identifier: MIT
 * The main of a fuzz driver where there is no libFuzzer: replays the files given, and
 * with -mutate N also N changed copies of each (the same ones at every run).
 */
#include "fuzz.h"

#include <stdio.h>
#include <string.h>

enum { FILE_MAX = 1 << 20, CHANGES_MAX = 8 };

static uint32_t state = 2463534242U; /* xorshift32 (Marsaglia) */

static uint32_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

static void mutate(uint8_t *bytes, size_t *size)
{
    for (uint32_t n = next_random() % CHANGES_MAX; *size && n > 0; n--) {
        size_t at = next_random() % *size;

        switch (next_random() % 4) {
        case 0:
            bytes[at] ^= (uint8_t)(1U << next_random() % 8);
            break;
        case 1:
            bytes[at] = (uint8_t)next_random();
            break;
        case 2: /* a byte less */
            memmove(bytes + at, bytes + at + 1, *size - at - 1);
            *size -= 1;
            break;
        default: /* the end is gone */
            *size = at;
        }
    }
}

/* An exact allocation, so that a sanitizer sees a byte read beyond it. */
static void run(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);

    FUZZ_PROMISE(copy);
    memcpy(copy, bytes, size);
    (void)LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static int replay(const char *path, long mutations)
{
    static uint8_t original[FILE_MAX], changed[FILE_MAX];
    FILE *file = fopen(path, "rb");
    size_t size, len;

    if (!file) {
        perror(path);
        return 1;
    }
    size = fread(original, 1, sizeof original, file);
    fclose(file);
    run(original, size);
    for (long i = 0; i < mutations; i++) {
        len = size;
        memcpy(changed, original, size);
        mutate(changed, &len);
        run(changed, len);
    }
    return 0;
}

int main(int argc, char **argv)
{
    long mutations = 0;
    int first = 1, failures = 0;

    if (argc > 2 && strcmp(argv[1], "-mutate") == 0) {
        mutations = strtol(argv[2], NULL, 10);
        first = 3;
    }
    for (int i = first; i < argc; i++)
        failures += replay(argv[i], mutations);
    printf("%d files, %ld changed copies of each\n", argc - first, mutations);
    return failures != 0;
}
