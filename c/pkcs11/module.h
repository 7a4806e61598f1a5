/* SPDX-License-Identifier: MIT
 * module: a PKCS#11 library, loaded and initialised.
 *
 * Several are open at once. A soft HSM gets a private copy of its library image, so
 * that SoftHSM, a singleton, can be there more than once; each copy reads its own
 * settings. Sessions hold a reference: a module closed under them answers KFR_CLOSED.
 */
#ifndef KF_PKCS11_MODULE_H
#define KF_PKCS11_MODULE_H

#include "base/error.h"
#include "base/secret.h"

#include <p11-kit/pkcs11.h>
#include <stdbool.h>
#include <stddef.h>

struct kf_module;

struct kf_setting {
    const char *name;
    const char *value; /* NULL: unset while the module initialises */
};

struct kf_module_options {
    bool private_copy;            /* load a copy of the image, not the image */
    const struct kf_setting *env; /* environment around dlopen and C_Initialize only */
    size_t env_count;
    const char *init_args; /* pReserved of C_Initialize as a string (NSS), or NULL */
    const char *functions; /* the symbol that gives its function list (NSS in FIPS mode:
                              FC_GetFunctionList); NULL: see function_list.h */
};

/* Loads path and calls C_Initialize. A module already initialised by someone else in
 * this process (CKR_CRYPTOKI_ALREADY_INITIALIZED) is refused: its settings are not
 * ours (but see unfinalized.h). options may be NULL. */
kf_rv kf_module_open(const char *path, const struct kf_module_options *options,
                     struct kf_module **out, struct kf_error *err);

struct kf_module *kf_module_ref(struct kf_module *module);
/* Gives a reference back; the last one closes and unloads. NULL is fine. */
void kf_module_unref(struct kf_module *module);

/* The symbol that gave its functions, where one was asked for; or NULL. */
const char *kf_module_functions_from(const struct kf_module *module);

/* C_Finalize now, whoever still holds a reference. Closing twice is fine. In a child
 * that was forked since, nothing is called: the module belongs to the parent. */
void kf_module_close(struct kf_module *module);
/* False also in such a child. */
bool kf_module_is_open(const struct kf_module *module);

/* The functions; NULL when the module is closed. A module may leave a pointer of its
 * list NULL: use KF_CALL, which answers CKR_FUNCTION_NOT_SUPPORTED. */
CK_FUNCTION_LIST *kf_module_functions(const struct kf_module *module);
#define KF_CALL(module, function, ...)                \
    (!kf_module_functions(module) ? (CK_RV)KFR_CLOSED \
     : !kf_module_functions(module)->function         \
         ? (CK_RV)CKR_FUNCTION_NOT_SUPPORTED          \
         : kf_module_left(kf_module_enter(module, #function)->function(__VA_ARGS__)))
/* Whether its list has a function, by name ("C_WrapKey"); false when the module is closed,
 * and for a name that no list has. */
bool kf_module_has(const struct kf_module *module, const char *function);
CK_FUNCTION_LIST *kf_module_enter(const struct kf_module *module, const char *function);
CK_RV kf_module_left(CK_RV answer);
/* Which call of which module is being made; false: none. For whoever is to say why the
 * process ends: modules call exit(). */
bool kf_module_calling(const char **path, const char **function);

const char *kf_module_path(const struct kf_module *module);
/* The value of one of the options' env at opening; NULL when it was not among them. */
const char *kf_module_env(const struct kf_module *module, const char *name);
const CK_INFO *kf_module_info(const struct kf_module *module);
/* A symbol of the module's own image (vendor extensions), or NULL. */
void *kf_module_symbol(const struct kf_module *module, const char *name);

/* PINs that were refused, so that no script locks a token by trying one again. Kept as
 * a digest under a random salt, for the life of the module or until the PIN is set anew
 * (forget). */
bool kf_module_pin_refused(const struct kf_module *module, CK_SLOT_ID slot,
                           CK_USER_TYPE user, const struct kf_secret *pin);
void kf_module_pin_remember(struct kf_module *module, CK_SLOT_ID slot,
                            CK_USER_TYPE user, const struct kf_secret *pin);
void kf_module_pin_forget(struct kf_module *module, CK_SLOT_ID slot, CK_USER_TYPE user);

/* Fills err from a CK_RV of `call`: name, hint for the well known ones. Returns rv (a
 * module that answers with one of our own codes is KFR_MODULE). */
kf_rv kf_module_fail(struct kf_error *err, CK_RV rv, const char *call,
                     const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif
