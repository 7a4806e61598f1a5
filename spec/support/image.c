/* SPDX-License-Identifier: MIT */
#include "image.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char *const usual[] = {
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
};

static const char *find_usual(void)
{
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
        if (access(usual[i], R_OK) == 0)
            return usual[i];
    return NULL;
}

static int copy_all(int from, int to)
{
    static char buffer[65536];
    ssize_t got, done, put;

    while ((got = read(from, buffer, sizeof buffer)) > 0)
        for (done = 0; done < got; done += put)
            if ((put = write(to, buffer + done, (size_t)(got - done))) <= 0)
                return -1;
    return got == 0 ? 0 : -1;
}

CK_FUNCTION_LIST *kf_image_load(const char *path)
{
    CK_FUNCTION_LIST *list = NULL;
    CK_C_GetFunctionList get = NULL;
    char name[40];
    void *handle;
    int from = -1, to = -1;

    if (!path)
        path = find_usual();
    if (!path) {
        fprintf(stderr, "image: no SoftHSM library found\n");
        goto done;
    }
    from = open(path, O_RDONLY | O_CLOEXEC);
    /* Never closed: glibc knows a loaded library by its name, and the next memfd of the
     * same number would be taken for this one. */
    to = memfd_create("pkcs11", MFD_CLOEXEC);
    if (from < 0 || to < 0 || copy_all(from, to)) {
        fprintf(stderr, "image: %s: %s\n", path, strerror(errno));
        goto done;
    }
    snprintf(name, sizeof name, "/proc/self/fd/%d", to);
    handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (handle)
        *(void **)&get = dlsym(handle, "C_GetFunctionList");
    if (!get || get(&list) != CKR_OK) {
        fprintf(stderr, "image: %s: %s\n", path, handle ? "not PKCS#11" : dlerror());
        list = NULL;
    }
done:
    if (from >= 0)
        close(from);
    return list;
}
