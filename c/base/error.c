/* SPDX-License-Identifier: MIT */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void put(char *to, size_t size, const char *text)
{
    snprintf(to, size, "%s", text ? text : "");
}

kf_rv kf_fail(struct kf_error *err, kf_rv rv, const char *call, const char *hint,
              const char *format, ...)
{
    va_list args;

    if (!err)
        return rv;
    err->rv = rv;
    err->sys = 0;
    put(err->call, sizeof err->call, call);
    put(err->hint, sizeof err->hint, hint);
    va_start(args, format);
    vsnprintf(err->what, sizeof err->what, format, args);
    va_end(args);
    return rv;
}

kf_rv kf_fail_errno(struct kf_error *err, const char *call, const char *format, ...)
{
    int sys = errno;
    size_t used;
    va_list args;

    if (!err)
        return KFR_SYSTEM;
    err->rv = KFR_SYSTEM;
    err->sys = sys;
    put(err->call, sizeof err->call, call);
    err->hint[0] = '\0';
    va_start(args, format);
    vsnprintf(err->what, sizeof err->what, format, args);
    va_end(args);
    used = strlen(err->what);
    snprintf(err->what + used, sizeof err->what - used, ": %s", strerror(sys));
    return KFR_SYSTEM;
}

bool kf_among(kf_rv rv, const kf_rv *codes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (codes[i] == rv)
            return true;
    return false;
}
