/* SPDX-License-Identifier: MIT
 * What the files of luna share: slots, sessions, objects, and what the state folder
 * says.
 */
#ifndef KF_SPEC_SUPPORT_LUNA_H
#define KF_SPEC_SUPPORT_LUNA_H

#include <p11-kit/pkcs11.h>

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

enum { OUID = 12, SLOTS_MAX = 16, SESSIONS_MAX = 512, NAME_MAX_LEN = 64 };

#define CKA_LUNA_OUID 0x80000005UL
#define CKU_CRYPTO_USER 0x80000001UL

#define LUNA_USER_LOCKED_OUT 0x80000007UL
#define LUNA_PARAMETER_MISSING 0x80000009UL
#define LUNA_DATA_INVALID 0x8000000BUL
#define LUNA_NOT_AUTHORIZED 0x8000001AUL
#define LUNA_SO_THRESHOLD 0x8000001CUL
#define LUNA_STORAGE_FULL 0x8000002CUL
#define LUNA_NOT_ALLOWED 0x80000030UL
#define LUNA_CHALLENGE_INCORRECT 0x80000067UL
#define LUNA_ALREADY_EXISTS 0x8000006FUL
#define LUNA_TYPE_INVALID 0x80000112UL

enum luna_kind { LUNA_NET, LUNA_ADMIN, LUNA_HA, LUNA_EMPTY };

/* An object that somebody has seen: the same number as long as the process lives. */
struct luna_object {
    unsigned char ouid[OUID];
    CK_OBJECT_HANDLE own, real;
};

struct luna_slot {
    enum luna_kind kind;
    CK_SLOT_ID id, real;
    char folder[NAME_MAX_LEN]; /* of SoftHSM's token */
    char serial[NAME_MAX_LEN];
    bool crypto_user; /* logged in as that */
    struct luna_object *objects;
    size_t count;
    CK_OBJECT_HANDLE last; /* the number given last */
};

struct luna_session {
    CK_SESSION_HANDLE handle;
    struct luna_slot *slot; /* NULL: a free place */
    CK_OBJECT_HANDLE *found;
    size_t count, at;
    bool searching;
};

struct luna {
    CK_FUNCTION_LIST *real;
    CK_FUNCTION_LIST list;
    char state[PATH_MAX];
    struct luna_slot slots[SLOTS_MAX];
    size_t count;
    struct luna_session sessions[SESSIONS_MAX];
};
extern struct luna luna;

/* luna_state.c: LUNA_STATE and the files in it. What does not read ends the process. */
void luna_look_around(void);
void luna_forget(void);
/* SoftHSM's slots for ours, once SoftHSM has been initialised. */
void luna_match_slots(void);
/* Of a slot's partition, or of all when slot is NULL. False: there is no such file. */
bool luna_text(const struct luna_slot *slot, const char *name, char *to, size_t size);
unsigned long luna_number(const struct luna_slot *slot, const char *name,
                          unsigned long otherwise);
void luna_put(const struct luna_slot *slot, const char *name, const char *text);
/* What the next call of that function is to answer; CKR_OK: the truth. */
CK_RV luna_scripted(const char *function);
void luna_log(const char *function, const char *where, CK_RV rv);
struct luna_slot *luna_slot(CK_SLOT_ID id);
/* NULL: none of ours. */
struct luna_session *luna_session(CK_SESSION_HANDLE handle);

/* luna_object.c: every object has its OUID at the head of what SoftHSM stores as its
 * label, where nobody but the stand-in sees it. */
struct luna_tagged {
    CK_ATTRIBUTE *at;
    CK_ULONG count;
    unsigned char *label;
    unsigned char ouid[OUID];
};
/* SoftHSM's handle; 0: no such object in that session's partition. */
CK_OBJECT_HANDLE luna_real(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE own);
/* Our number for an object; `not` is one it does not get. */
CK_OBJECT_HANDLE luna_own(struct luna_slot *slot, const unsigned char *ouid,
                          CK_OBJECT_HANDLE real, CK_OBJECT_HANDLE not);
/* False: the object has none. */
bool luna_ouid(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE real, unsigned char *ouid);
/* A template with the OUID in its label (a new one, or with `keep` that of the object).
 * luna_untag always. */
CK_RV luna_tag(CK_SESSION_HANDLE session, const CK_ATTRIBUTE *template, CK_ULONG count,
               CK_OBJECT_HANDLE like, bool keep, struct luna_tagged *to);
void luna_untag(struct luna_tagged *tagged);
CK_RV luna_get(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE real, CK_ATTRIBUTE *template,
               CK_ULONG count);
/* All that match, with our numbers, in the session. */
CK_RV luna_search(struct luna_session *session, CK_ATTRIBUTE *template, CK_ULONG count);
/* How many objects the partition keeps. */
CK_ULONG luna_kept(const struct luna_slot *slot);
/* SoftHSM's handle of the object with that OUID; 0: there is none. */
CK_OBJECT_HANDLE luna_find(const struct luna_slot *slot, const unsigned char *ouid);

/* luna_store.c: an object from one store of SoftHSM to another, all attributes. */
bool luna_move(const struct luna_slot *from, const struct luna_slot *to,
               const unsigned char *ouid);
bool luna_header(const unsigned char *label, size_t len, unsigned char *ouid);
enum { LUNA_HEADER = 4 + OUID };
extern const unsigned char luna_magic[4];

/* luna_login.c */
bool luna_is_protected(const struct luna_slot *slot);
CK_RV luna_login(CK_SESSION_HANDLE handle, CK_USER_TYPE user, CK_BYTE *pin,
                 CK_ULONG len);
CK_RV luna_logout(CK_SESSION_HANDLE handle);
CK_RV luna_set_pin(CK_SESSION_HANDLE handle, CK_BYTE *old, CK_ULONG old_len,
                   CK_BYTE *new, CK_ULONG new_len);

/* luna_clone.c */
CK_RV CA_CloneObject(CK_SESSION_HANDLE target, CK_SESSION_HANDLE source, CK_ULONG type,
                     CK_OBJECT_HANDLE object, CK_OBJECT_HANDLE *clone);

#endif
