/* SPDX-License-Identifier: MIT */
#include "pkcs11/module.h"

#include "pkcs11/function_list.h"
#include "pkcs11/quirk.h"
#include "pkcs11/unfinalized.h"

#include "base/file.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    IMAGE_MAX = 64 * 1024 * 1024,
    CHUNK = 64 * 1024,
    LOAD_PATH = 4096,
    DIGEST = 32,
    REFUSED_MAX = 64
};

/* NULL name: end. The value is what the variable had before, NULL when it was unset. */
struct saved {
    char *name;
    char *value;
};

struct refused {
    CK_SLOT_ID slot;
    CK_USER_TYPE user;
    unsigned char digest[DIGEST];
};

struct kf_module {
    unsigned refs;
    bool open;
    pid_t pid;
    char *path;
    void *image;
    int fd;          /* of the private copy: as long as it is loaded, or -1 */
    char loaded[48]; /* the name it was loaded under, when fd is not -1 */
    CK_FUNCTION_LIST *functions;
    char *functions_from;         /* options->functions, or NULL */
    struct kf_unfinalized *left;  /* of a library that is never finalised */
    CK_INFO info;
    struct saved *env; /* the options' settings, copied */
    unsigned char salt[DIGEST];
    struct refused refused[REFUSED_MAX];
    size_t refused_count;
};

/* The call that is being made, one at a time; function NULL: none. */
static struct {
    const char *path;
    const char *function;
} current;

/* NSS reads one pointer more than PKCS#11 (v2.40, 5.4) gives CK_C_INITIALIZE_ARGS. */
struct long_args {
    CK_C_INITIALIZE_ARGS args;
    void *zero;
};

/* ---- environment around loading ---- */

static void saved_free(struct saved *list)
{
    if (!list)
        return;
    for (struct saved *one = list; one->name; one++) {
        free(one->name);
        free(one->value);
    }
    free(list);
}

static struct saved *settings_copy(const struct kf_module_options *options)
{
    struct saved *list = calloc(options->env_count + 1, sizeof *list);
    bool good = list != NULL;

    for (size_t i = 0; good && i < options->env_count; i++) {
        const struct kf_setting *from = &options->env[i];

        list[i].name = strdup(from->name);
        list[i].value = list[i].name && from->value ? strdup(from->value) : NULL;
        good = list[i].name && (list[i].value || !from->value);
    }
    if (!good) {
        saved_free(list);
        list = NULL;
    }
    return list;
}

static bool environment_set(const char *name, const char *value)
{
    return (value ? setenv(name, value, 1) : unsetenv(name)) == 0;
}

/* Backwards, so that a name given twice gets its first value back. */
static void environment_restore(struct saved *before)
{
    size_t count = 0;

    while (before[count].name)
        count++;
    while (count-- > 0)
        environment_set(before[count].name, before[count].value);
}

/* Sets all of wanted; gives what was there before, or NULL with everything as it was.
 */
static struct saved *environment_enter(const struct saved *wanted)
{
    struct saved *before;
    size_t count = 0;
    bool good = true;

    while (wanted[count].name)
        count++;
    before = calloc(count + 1, sizeof *before);
    if (!before)
        return NULL;
    for (size_t i = 0; good && i < count; i++) {
        const char *now = getenv(wanted[i].name);

        before[i].value = now ? strdup(now) : NULL;
        before[i].name = !now || before[i].value ? strdup(wanted[i].name) : NULL;
        good = before[i].name && environment_set(wanted[i].name, wanted[i].value);
        if (!before[i].name)
            free(before[i].value);
    }
    if (!good) {
        environment_restore(before);
        saved_free(before);
        before = NULL;
    }
    return before;
}

/* ---- loading ---- */

/* A file to load, checked: dlopen's own words for these are poor. */
static kf_rv image_open(const char *path, int *out, struct kf_error *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return kf_fail(err, KFR_NOT_FOUND, "open",
                       "install it, or correct the module's path in the configuration",
                       "there is no PKCS#11 module %s", path);
    if (fd < 0)
        return kf_fail_errno(err, "open", "PKCS#11 module %s", path);
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > IMAGE_MAX) {
        close(fd);
        return kf_fail(err, KFR_MODULE, "open", "give the path of a shared library",
                       "%s is not a file that could be a PKCS#11 module", path);
    }
    *out = fd;
    return 0;
}

static kf_rv image_copy(int from, int to, const char *path, struct kf_error *err)
{
    unsigned char *chunk = malloc(CHUNK);
    size_t total = 0;
    ssize_t got = 0;
    kf_rv rv = KFR_MEMORY;

    if (!chunk) {
        kf_fail(err, rv, "malloc", NULL, "no memory to copy %s", path);
        goto done;
    }
    if (lseek(from, 0, SEEK_SET) != 0) {
        rv = kf_fail_errno(err, "lseek", "PKCS#11 module %s", path);
        goto done;
    }
    while (total <= IMAGE_MAX && (got = kf_file_read_full(from, chunk, CHUNK)) > 0) {
        if (kf_file_write_full(to, chunk, (size_t)got) != got) {
            rv = kf_fail_errno(err, "write", "a private copy of %s", path);
            goto done;
        }
        total += (size_t)got;
    }
    if (got < 0)
        rv = kf_fail_errno(err, "read", "PKCS#11 module %s", path);
    else if (total > IMAGE_MAX)
        rv =
            kf_fail(err, KFR_LIMIT, "read", NULL, "%s is too large for a module", path);
    else
        rv = 0;
done:
    free(chunk);
    return rv;
}

static kf_rv image_load(struct kf_module *module, const char *name,
                        struct kf_error *err)
{
    const char *why;

    module->image = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (module->image)
        return 0;
    why = dlerror();
    if (why && strncmp(why, name, strlen(name)) == 0) /* a copy's name says nothing */
        why += strlen(name) + strspn(why + strlen(name), ": ");
    return kf_fail(err, KFR_MODULE, "dlopen", "give the path of a PKCS#11 library",
                   "%s cannot be loaded: %s", module->path,
                   why ? why : "no reason given");
}

/* The fd stays open: glibc knows libraries by name, and a closed fd's number, so this
 * name, would come again with the next copy, which would then be the first one. */
static kf_rv load_from_memory(struct kf_module *module, int from, struct kf_error *err)
{
    kf_rv rv = KFR_SYSTEM;
    int fd = memfd_create("pkcs11-module", MFD_CLOEXEC);

    if (fd < 0)
        return kf_fail_errno(err, "memfd_create", "a private copy of %s", module->path);
    rv = image_copy(from, fd, module->path, err);
    if (rv != 0)
        goto done;
    snprintf(module->loaded, sizeof module->loaded, "/proc/self/fd/%d", fd);
    rv = image_load(module, module->loaded, err);
    if (rv != 0)
        goto done;
    module->fd = fd;
    fd = -1;
done:
    if (fd >= 0)
        close(fd);
    return rv;
}

/* Where memory files are not to be had or not executable. mkdtemp's names do not come
 * again, and the folder is ours alone (0700). */
static kf_rv load_from_file(struct kf_module *module, int from, struct kf_error *err)
{
    const char *tmp = getenv("TMPDIR");
    char folder[LOAD_PATH];
    char file[LOAD_PATH + 16];
    int fd = -1;
    int len = snprintf(folder, sizeof folder, "%s/keyferry-XXXXXX",
                       tmp && *tmp == '/' ? tmp : "/tmp");
    kf_rv rv = KFR_SYSTEM;

    if (len < 0 || (size_t)len >= sizeof folder || !mkdtemp(folder))
        return kf_fail_errno(err, "mkdtemp", "a private copy of %s", module->path);
    snprintf(file, sizeof file, "%s/module.so", folder);
    fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0700);
    if (fd < 0) {
        rv = kf_fail_errno(err, "open", "%s", file);
        goto done;
    }
    rv = image_copy(from, fd, module->path, err);
    if (rv == 0)
        rv = image_load(module, file, err);
done:
    if (fd >= 0)
        close(fd);
    unlink(file);
    rmdir(folder);
    return rv;
}

static kf_rv load(struct kf_module *module, bool private_copy, struct kf_error *err)
{
    bool is_path = strchr(module->path, '/') != NULL;
    int fd = -1;
    kf_rv rv;

    if (private_copy && !is_path)
        return kf_fail(err, KFR_ARGUMENT, "open", "give its full path",
                       "cannot tell which file the module %s is", module->path);
    if (is_path) {
        rv = image_open(module->path, &fd, err);
        if (rv != 0)
            return rv;
    }
    if (!private_copy)
        rv = image_load(module, module->path, err);
    else if ((rv = load_from_memory(module, fd, err)) != 0)
        rv = load_from_file(module, fd, err);
    if (fd >= 0)
        close(fd);
    return rv;
}

static kf_rv initialize_with(struct kf_module *module, const char *init_args,
                             CK_FLAGS flags)
{
    struct long_args long_args = {.args = {.flags = flags}};
    char *copy = init_args ? strdup(init_args) : NULL;
    CK_RV rv = CKR_HOST_MEMORY;

    if (init_args && !copy)
        return rv;
    long_args.args.pReserved = copy;
    rv = kf_module_left(
        kf_module_enter(module, "C_Initialize")->C_Initialize(&long_args.args));
    free(copy);
    return rv;
}

/* A module that knows no locks (CKR_CANT_LOCK, PKCS#11 v2.40, 5.4) is called by one thread
 * at a time, as all are here. */
static kf_rv initialize(struct kf_module *module,
                        const struct kf_module_options *options, struct kf_error *err)
{
    CK_RV rv = initialize_with(module, options->init_args, CKF_OS_LOCKING_OK);

    if (rv == CKR_CANT_LOCK)
        rv = initialize_with(module, options->init_args, 0);
    if (rv == CKR_CRYPTOKI_ALREADY_INITIALIZED && !options->private_copy)
        module->left = kf_unfinalized_take(module->path, options);
    if (rv == CKR_OK || module->left) {
        module->open = true;
        return 0;
    }
    kf_module_fail(err, rv, "C_Initialize", "module %s", module->path);
    if (err && strstr(module->path, "softhsm"))
        snprintf(
            err->hint, sizeof err->hint, "%s",
            rv == CKR_CRYPTOKI_ALREADY_INITIALIZED
                ? "open it as a private copy"
                : "is its configuration (SOFTHSM2_CONF) readable, is "
                  "objectstore.backend `file`, and does directories.tokendir exist?");
    return rv;
}

static kf_rv load_and_initialize(struct kf_module *module,
                                 const struct kf_module_options *options,
                                 struct kf_error *err)
{
    struct saved *before = environment_enter(module->env);
    kf_rv rv;

    if (!before)
        return kf_fail(err, KFR_ARGUMENT, "setenv",
                       "a name has no `=` and is not empty",
                       "the environment for %s cannot be set", module->path);
    rv = load(module, options->private_copy, err);
    if (rv == 0)
        rv = kf_function_list_take(module->image, module->path, options->functions,
                                   &module->functions, err);
    if (rv == 0)
        rv = initialize(module, options, err);
    environment_restore(before);
    saved_free(before);
    return rv;
}

kf_rv kf_module_open(const char *path, const struct kf_module_options *options,
                     struct kf_module **out, struct kf_error *err)
{
    static const struct kf_module_options none = {0};
    const struct kf_module_options *with = options ? options : &none;
    struct kf_module *module = calloc(1, sizeof *module);
    kf_rv rv = KFR_MEMORY;
    CK_RV answer;

    if (module) {
        module->refs = 1;
        module->fd = -1;
        module->pid = getpid();
        module->path = strdup(path);
        module->env = settings_copy(with);
        module->functions_from = with->functions ? strdup(with->functions) : NULL;
    }
    if (!module || !module->path || !module->env ||
        (with->functions && !module->functions_from)) {
        kf_fail(err, rv, "malloc", NULL, "no memory to open module %s", path);
        goto done;
    }
    if (RAND_bytes(module->salt, sizeof module->salt) != 1) {
        rv = kf_fail(err, KFR_CRYPTO, "RAND_bytes", NULL, "no random numbers");
        goto done;
    }
    rv = load_and_initialize(module, with, err);
    if (rv != 0)
        goto done;
    answer = KF_CALL(module, C_GetInfo, &module->info);
    if (answer != CKR_OK) {
        rv = kf_module_fail(err, answer, "C_GetInfo", "module %s", path);
        goto done;
    }
    if (!module->left && kf_quirk_has(module, KF_QUIRK_NOT_FINALIZED))
        module->left = kf_unfinalized_new(path, with);
    *out = module;
    module = NULL;
done:
    kf_module_unref(module);
    return rv;
}

/* ---- life ---- */

struct kf_module *kf_module_ref(struct kf_module *module)
{
    module->refs++;
    return module;
}

/* A library that would not go (NODELETE) keeps its name: then its fd, too, must stay.
 */
static void unload(struct kf_module *module)
{
    void *still = NULL;

    if (module->left)
        return;
    if (module->image)
        dlclose(module->image);
    if (module->fd >= 0) {
        still = dlopen(module->loaded, RTLD_LAZY | RTLD_NOLOAD);
        if (still)
            dlclose(still);
        else
            close(module->fd);
    }
    module->image = NULL;
    module->fd = -1;
}

void kf_module_unref(struct kf_module *module)
{
    if (!module || --module->refs > 0)
        return;
    kf_module_close(module);
    /* The destructors of a library are no business of a forked child. */
    if (module->pid == getpid())
        unload(module);
    saved_free(module->env);
    free(module->functions_from);
    free(module->path);
    OPENSSL_cleanse(module->refused, sizeof module->refused);
    OPENSSL_cleanse(module->salt, sizeof module->salt);
    free(module);
}

void kf_module_close(struct kf_module *module)
{
    bool finalize = module && kf_module_is_open(module);

    if (!module)
        return;
    module->open = false;
    if (finalize && module->left)
        kf_unfinalized_leave(module->left, module->functions);
    else if (finalize && module->functions->C_Finalize)
        kf_module_left(kf_module_enter(module, "C_Finalize")->C_Finalize(NULL));
}

const char *kf_module_functions_from(const struct kf_module *module)
{
    return module->functions_from;
}

CK_FUNCTION_LIST *kf_module_enter(const struct kf_module *module, const char *function)
{
    current.path = module->path;
    current.function = function;
    return module->functions;
}

CK_RV kf_module_left(CK_RV answer)
{
    current.function = NULL;
    return answer;
}

bool kf_module_calling(const char **path, const char **function)
{
    *path = current.path;
    *function = current.function;
    return current.function != NULL;
}

bool kf_module_is_open(const struct kf_module *module)
{
    return module->open && module->pid == getpid();
}

CK_FUNCTION_LIST *kf_module_functions(const struct kf_module *module)
{
    return module->open ? module->functions : NULL;
}

const char *kf_module_path(const struct kf_module *module)
{
    return module->path;
}

const char *kf_module_env(const struct kf_module *module, const char *name)
{
    const char *value = NULL;

    for (const struct saved *one = module->env; one->name; one++)
        if (strcmp(one->name, name) == 0)
            value = one->value;
    return value;
}

const CK_INFO *kf_module_info(const struct kf_module *module)
{
    return &module->info;
}

bool kf_module_has(const struct kf_module *module, const char *function)
{
    return module->open && kf_function_list_has(module->functions, function);
}

void *kf_module_symbol(const struct kf_module *module, const char *name)
{
    return module->open ? kf_function_list_symbol(module->image, name) : NULL;
}

/* ---- refused PINs ---- */

static bool pin_digest(const struct kf_module *module, const struct kf_secret *pin,
                       unsigned char out[DIGEST])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 &&
                EVP_DigestUpdate(ctx, module->salt, sizeof module->salt) == 1 &&
                EVP_DigestUpdate(ctx, pin->data, pin->len) == 1 &&
                EVP_DigestFinal_ex(ctx, out, NULL) == 1;

    EVP_MD_CTX_free(ctx);
    return good;
}

bool kf_module_pin_refused(const struct kf_module *module, CK_SLOT_ID slot,
                           CK_USER_TYPE user, const struct kf_secret *pin)
{
    unsigned char digest[DIGEST];
    bool refused = false;

    if (module->refused_count == 0 || !pin_digest(module, pin, digest))
        return false;
    for (size_t i = 0; i < module->refused_count; i++) {
        const struct refused *one = &module->refused[i];

        if (one->slot == slot && one->user == user &&
            CRYPTO_memcmp(one->digest, digest, sizeof digest) == 0)
            refused = true;
    }
    OPENSSL_cleanse(digest, sizeof digest);
    return refused;
}

/* When the list is full the oldest goes. */
void kf_module_pin_remember(struct kf_module *module, CK_SLOT_ID slot,
                            CK_USER_TYPE user, const struct kf_secret *pin)
{
    struct refused one = {.slot = slot, .user = user};

    if (!pin_digest(module, pin, one.digest))
        return;
    if (module->refused_count == REFUSED_MAX) {
        memmove(&module->refused[0], &module->refused[1],
                (REFUSED_MAX - 1) * sizeof module->refused[0]);
        module->refused_count--;
    }
    module->refused[module->refused_count++] = one;
    OPENSSL_cleanse(&one, sizeof one);
}

void kf_module_pin_forget(struct kf_module *module, CK_SLOT_ID slot, CK_USER_TYPE user)
{
    size_t kept = 0;

    for (size_t i = 0; i < module->refused_count; i++)
        if (module->refused[i].slot != slot || module->refused[i].user != user)
            module->refused[kept++] = module->refused[i];
    module->refused_count = kept;
}
