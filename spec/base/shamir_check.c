/* SPDX-License-Identifier: MIT
 * shamir_check: what M-1 values tell of a secret, and that any M of N give it back. Prints
 * "ok", or a line for each promise that does not hold and exits with 1. shamir_spec.lua
 * runs it.
 */
#include "base/secret.h"
#include "base/shamir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;

static void check(bool good, const char *what, int line)
{
    if (good)
        return;
    printf("line %d: not so: %s\n", line, what);
    failures++;
}
#define CHECK(condition) check(condition, #condition, __LINE__)

enum { BYTES = 256, PAIRS = BYTES * BYTES, DIGEST = 254, SECRET = 255, LEN = 32 };

static unsigned char first[PAIRS], second[PAIRS], secret[PAIRS], a[PAIRS], b[PAIRS];
static bool seen[PAIRS];

/* M = 2. For each byte that the secret may have, what the holder of one value sees is each
 * of the 256 bytes for exactly one choice of the random one: it fits every secret. */
static void one_of_two(void)
{
    for (int x = 0; x < KF_SHAMIR_MAX; x++) {
        for (int s = 0; s < BYTES; s++) {
            struct kf_point points[] = { { DIGEST, first }, { SECRET, secret } };

            memset(secret, s, BYTES);
            kf_shamir_interpolate(points, 2, (uint8_t)x, BYTES, a);
            memset(seen, 0, sizeof seen);
            for (int i = 0; i < BYTES; i++) {
                CHECK(!seen[a[i]]);
                seen[a[i]] = true;
            }
        }
    }
}

/* M = 3. The same for the two bytes of two holders: each of the 65536 pairs once. */
static void two_of_three(int x, int y)
{
    struct kf_point points[] = { { 0, first }, { DIGEST, second }, { SECRET, secret } };

    for (int s = 0; s < BYTES; s += 51) {
        memset(secret, s, PAIRS);
        kf_shamir_interpolate(points, 3, (uint8_t)x, PAIRS, a);
        kf_shamir_interpolate(points, 3, (uint8_t)y, PAIRS, b);
        memset(seen, 0, sizeof seen);
        for (int i = 0; i < PAIRS; i++) {
            CHECK(!seen[a[i] * BYTES + b[i]]);
            seen[a[i] * BYTES + b[i]] = true;
        }
    }
}

/* M values of 16, from place `from` on in steps of three, which meets all of them. */
static void take(const unsigned char *values, size_t m, size_t from,
                 struct kf_point *points)
{
    for (size_t i = 0; i < m; i++) {
        size_t place = (from + 3 * i) % KF_SHAMIR_MAX;

        points[i] = (struct kf_point){ (uint8_t)place, values + place * LEN };
    }
}

static void any_m_of_n(size_t m)
{
    unsigned char values[KF_SHAMIR_MAX * LEN], out[LEN];
    struct kf_point points[KF_SHAMIR_MAX];
    bool fits = false;

    CHECK(kf_shamir_split(first, LEN, m, KF_SHAMIR_MAX, values));
    for (size_t from = 0; from < KF_SHAMIR_MAX; from++) {
        take(values, m, from, points);
        CHECK(kf_shamir_recover(points, m, LEN, out, &fits) && fits);
        CHECK(memcmp(out, first, LEN) == 0);
        if (m < 3)
            continue;
        CHECK(kf_shamir_recover(points, m - 1, LEN, out, &fits) && !fits);
        CHECK(memcmp(out, first, LEN) != 0);
    }
    if (m > 1) {
        values[3 * LEN]++;
        take(values, m, 3, points);
        CHECK(kf_shamir_recover(points, m, LEN, out, &fits) && !fits);
    }
}

int main(void)
{
    unsigned char few[KF_SHAMIR_MAX * LEN];

    if (!kf_secret_heap())
        return EXIT_FAILURE;
    for (int i = 0; i < PAIRS; i++) {
        first[i] = (unsigned char)i;
        second[i] = (unsigned char)(i >> 8);
    }
    one_of_two();
    for (int x = 0; x < 4; x++)
        for (int y = x + 1; y < 5; y++)
            two_of_three(x, y);
    for (size_t m = 1; m <= KF_SHAMIR_MAX; m++)
        any_m_of_n(m);
    CHECK(!kf_shamir_split(first, LEN, 3, 2, few));
    CHECK(!kf_shamir_split(first, LEN, 0, 2, few));
    CHECK(!kf_shamir_split(first, 15, 2, 3, few));
    if (!failures)
        puts("ok");
    return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
