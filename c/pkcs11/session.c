/* SPDX-License-Identifier: MIT */
#include "pkcs11/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct kf_session {
    struct kf_module *module;
    CK_SLOT_ID slot;
    CK_SESSION_HANDLE handle;
    bool open;
    bool writable;
    struct kf_token token;
    struct kf_secret *pin; /* of the user, while logged in with one */
    void *memo;
    void (*release_memo)(void *);
    struct kf_session *next;
};

/* The open ones, so that two are never taken for one. */
static struct kf_session *all_open;

/* What differs between the two roles. */
struct role {
    CK_USER_TYPE user;
    const char *name;
    CK_FLAGS locked, last_try;
};

static const struct role roles[] = {
    {CKU_USER, "user", CKF_USER_PIN_LOCKED, CKF_USER_PIN_FINAL_TRY},
    {CKU_SO, "security officer", CKF_SO_PIN_LOCKED, CKF_SO_PIN_FINAL_TRY},
};

static const struct role *role_of(CK_USER_TYPE user)
{
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
        if (roles[i].user == user)
            return &roles[i];
    return NULL;
}

/* ---- opening and closing ---- */

/* A module that gives a handle twice would be asked about one token and answer about
 * another. */
static kf_rv check_handle(const struct kf_session *session, struct kf_error *err)
{
    if (session->handle == CK_INVALID_HANDLE)
        return kf_module_fail(err, KFR_MODULE, "C_OpenSession",
                              "the session with token %s has no handle",
                              session->token.label);
    for (const struct kf_session *other = all_open; other; other = other->next)
        if (other->module == session->module && other->handle == session->handle)
            return kf_module_fail(err, KFR_MODULE, "C_OpenSession",
                                  "the session with token %s has the handle of another "
                                  "that is open",
                                  session->token.label);
    return 0;
}

static void forget_open(const struct kf_session *session)
{
    struct kf_session **at = &all_open;

    while (*at && *at != session)
        at = &(*at)->next;
    if (*at)
        *at = session->next;
}

kf_rv kf_session_open(struct kf_module *module, CK_SLOT_ID slot, bool writable,
                      struct kf_session **out, struct kf_error *err)
{
    CK_FLAGS flags = CKF_SERIAL_SESSION | (writable ? CKF_RW_SESSION : 0);
    struct kf_session *session = calloc(1, sizeof *session);
    kf_rv rv = KFR_MEMORY;
    CK_RV answer;

    if (!session) {
        kf_fail(err, rv, "calloc", NULL, "no memory for a session");
        goto done;
    }
    session->module = kf_module_ref(module);
    session->slot = slot;
    session->writable = writable;
    rv = kf_slot_token(module, slot, &session->token, err);
    if (rv != 0)
        goto done;
    if (!session->token.present) {
        rv = kf_module_fail(err, CKR_TOKEN_NOT_PRESENT, "C_GetTokenInfo", "slot %lu",
                            slot);
        goto done;
    }
    answer = KF_CALL(module, C_OpenSession, slot, flags, NULL, NULL, &session->handle);
    if (answer != CKR_OK) {
        rv = kf_module_fail(err, answer, "C_OpenSession", "token %s in slot %lu",
                            session->token.label, slot);
        goto done;
    }
    rv = check_handle(session, err);
    if (rv != 0)
        goto done;
    session->open = true;
    session->next = all_open;
    all_open = session;
    *out = session;
    session = NULL;
    rv = 0;
done:
    kf_session_free(session);
    return rv;
}

static void drop_pin(struct kf_session *session)
{
    kf_secret_free(session->pin);
    session->pin = NULL;
}

void kf_session_close(struct kf_session *session)
{
    if (!session)
        return;
    drop_pin(session);
    forget_open(session);
    if (session->open && kf_module_is_open(session->module))
        (void)KF_CALL(session->module, C_CloseSession, session->handle);
    session->open = false;
}

void kf_session_free(struct kf_session *session)
{
    if (!session)
        return;
    kf_session_close(session);
    if (session->release_memo)
        session->release_memo(session->memo);
    kf_module_unref(session->module);
    free(session);
}

/* ---- login ---- */

kf_rv kf_session_check_open(const struct kf_session *session, const char *call,
                            struct kf_error *err)
{
    if (kf_session_is_open(session))
        return 0;
    return kf_module_fail(err, KFR_CLOSED, call, "the session on token %s is closed",
                          session->token.label);
}

/* A refusal that can be foreseen without using up a try. */
static kf_rv foresee(const struct kf_session *session, const struct role *role,
                     const struct kf_secret *pin, struct kf_error *err)
{
    struct kf_token now;
    kf_rv rv = kf_slot_token(session->module, session->slot, &now, err);

    if (rv != 0)
        return rv;
    if (now.flags & role->locked)
        return kf_module_fail(err, CKR_PIN_LOCKED, "C_GetTokenInfo",
                              "the PIN of the %s of token %s is locked: not tried",
                              role->name, now.label);
    if (pin && kf_module_pin_refused(session->module, session->slot, role->user, pin))
        return kf_module_fail(
            err, CKR_PIN_INCORRECT, NULL,
            "the PIN of the %s of token %s was refused before in this "
            "run: not tried again",
            role->name, now.label);
    if (!pin && !(now.flags & CKF_PROTECTED_AUTHENTICATION_PATH))
        return kf_fail(err, KFR_ARGUMENT, NULL, "give its PIN",
                       "token %s has no protected authentication path", now.label);
    /* Only the user's: modules name its limits and take other PINs of an officer. */
    return role->user == CKU_USER ? kf_token_check_pin(&now, pin, role->name, err) : 0;
}

/* Adds to a refusal what the token now says of the tries that are left. */
static void add_tries(const struct kf_session *session, const struct role *role,
                      struct kf_error *err)
{
    struct kf_token now;

    if (!err || kf_slot_token(session->module, session->slot, &now, NULL) != 0)
        return;
    if (now.flags & role->locked)
        snprintf(err->hint, sizeof err->hint, "the PIN of the %s is locked now",
                 role->name);
    else if (now.flags & role->last_try)
        snprintf(err->hint, sizeof err->hint,
                 "one try is left before the PIN of the %s is locked: be sure of it",
                 role->name);
}

/* Of a Luna, where a role that has a challenge takes that for its PIN. */
#define CHALLENGE_INCORRECT 0x80000067UL

static kf_rv refused(struct kf_session *session, const struct role *role, CK_RV answer,
                     const struct kf_secret *pin, struct kf_error *err)
{
    kf_rv rv = kf_module_fail(err, answer, "C_Login", "login of the %s to token %s",
                              role->name, session->token.label);
    bool wrong = answer == CKR_PIN_INCORRECT || answer == CHALLENGE_INCORRECT;

    if (wrong && pin)
        kf_module_pin_remember(session->module, session->slot, role->user, pin);
    if (wrong)
        add_tries(session, role, err);
    return rv;
}

kf_rv kf_session_login(struct kf_session *session, CK_USER_TYPE user,
                       const struct kf_secret *pin, struct kf_error *err)
{
    const struct role *role = role_of(user);
    struct kf_secret *kept = NULL;
    kf_rv rv = KFR_ARGUMENT;
    CK_RV answer;

    if (!role)
        return kf_fail(err, rv, NULL, NULL, "there is no login for role %lu", user);
    rv = kf_session_check_open(session, "C_Login", err);
    if (rv == 0)
        rv = foresee(session, role, pin, err);
    if (rv != 0)
        return rv;
    if (pin && user == CKU_USER && !(kept = kf_secret_dup(pin)))
        return kf_fail(err, KFR_MEMORY, NULL, NULL, "no secure memory for a PIN");
    answer = KF_CALL(session->module, C_Login, session->handle, user,
                     pin ? pin->data : NULL, pin ? pin->len : 0);
    if (answer == CKR_OK)
        drop_pin(session);
    else if (answer != CKR_USER_ALREADY_LOGGED_IN)
        rv = refused(session, role, answer, pin, err);
    /* Already logged in: a PIN that the token has seen is better than this one. */
    if (rv == 0 && !session->pin) {
        session->pin = kept;
        kept = NULL;
    }
    kf_secret_free(kept);
    return rv;
}

kf_rv kf_session_logout(struct kf_session *session, struct kf_error *err)
{
    kf_rv rv = kf_session_check_open(session, "C_Logout", err);
    CK_RV answer;

    drop_pin(session);
    if (rv != 0)
        return rv;
    answer = KF_CALL(session->module, C_Logout, session->handle);
    if (answer == CKR_OK || answer == CKR_USER_NOT_LOGGED_IN)
        return 0;
    return kf_module_fail(err, answer, "C_Logout", "token %s", session->token.label);
}

kf_rv kf_session_init_pin(struct kf_session *session, const struct kf_secret *pin,
                          struct kf_error *err)
{
    kf_rv rv = kf_session_check_open(session, "C_InitPIN", err);
    CK_RV answer;

    if (rv == 0)
        rv = kf_token_check_new_pin(&session->token, pin, "user", err);
    if (rv != 0)
        return rv;
    answer = KF_CALL(session->module, C_InitPIN, session->handle,
                     pin ? pin->data : NULL, pin ? pin->len : 0);
    if (answer != CKR_OK)
        return kf_module_fail(err, answer, "C_InitPIN", "the user PIN of token %s",
                              session->token.label);
    kf_module_pin_forget(session->module, session->slot, CKU_USER);
    return 0;
}

/* ---- looking ---- */

bool kf_session_is_open(const struct kf_session *session)
{
    return session->open && kf_module_is_open(session->module);
}

kf_rv kf_session_user(const struct kf_session *session, CK_USER_TYPE *out,
                      struct kf_error *err)
{
    CK_SESSION_INFO info = { 0 };
    kf_rv rv = kf_session_check_open(session, "C_GetSessionInfo", err);
    CK_RV answer;

    if (rv != 0)
        return rv;
    answer = KF_CALL(session->module, C_GetSessionInfo, session->handle, &info);
    if (answer != CKR_OK)
        return kf_module_fail(err, answer, "C_GetSessionInfo", "token %s",
                              session->token.label);
    *out = CK_UNAVAILABLE_INFORMATION;
    if (info.state == CKS_RO_USER_FUNCTIONS || info.state == CKS_RW_USER_FUNCTIONS)
        *out = CKU_USER;
    else if (info.state == CKS_RW_SO_FUNCTIONS)
        *out = CKU_SO;
    return 0;
}

bool kf_session_is_writable(const struct kf_session *session)
{
    return session->writable;
}

CK_SESSION_HANDLE kf_session_handle(const struct kf_session *session)
{
    return session->open ? session->handle : CK_INVALID_HANDLE;
}

CK_SLOT_ID kf_session_slot(const struct kf_session *session)
{
    return session->slot;
}

struct kf_module *kf_session_module(const struct kf_session *session)
{
    return session->module;
}

const struct kf_token *kf_session_token(const struct kf_session *session)
{
    return &session->token;
}

const struct kf_secret *kf_session_pin(const struct kf_session *session)
{
    return session->pin;
}

void *kf_session_memo(const struct kf_session *session)
{
    return session->memo;
}

void kf_session_set_memo(struct kf_session *session, void *memo,
                         void (*release)(void *))
{
    if (session->release_memo)
        session->release_memo(session->memo);
    session->memo = memo;
    session->release_memo = release;
}
