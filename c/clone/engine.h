/* SPDX-License-Identifier: MIT
 * engine: how objects leave a partition and arrive in one.
 *
 * An engine works one end of a clone; the two ends are chosen by themselves and meet in
 * the sealed object. An end is a logged-in session seen through an engine, with the
 * domain that seals or opens there.
 *
 * Arrival has two steps, so that a run can be all or nothing: kf_end_stage
 * authenticates a sealed object and makes the clone ready, with no other program able
 * to see it; kf_end_commit makes all staged ones real (durable on disk where the engine
 * can), removes the old ones it is told to, reads back and compares. kf_end_abort
 * forgets what is staged. A staged object that turns out wrong at commit is undone,
 * alone when mode is KF_COMMIT_EACH, with all others (and nothing removed) when it is
 * KF_COMMIT_ALL.
 *
 * The engine luna works both ends or none, since the HSM itself clones from one
 * partition to the other. What it seals is a reference, good in this process; and as the
 * HSM makes whole objects, others can see what it has staged.
 */
#ifndef KF_CLONE_ENGINE_H
#define KF_CLONE_ENGINE_H

#include "base/error.h"
#include "base/wire.h"
#include "clone/change.h"
#include "clone/domain.h"
#include "clone/sealed.h"
#include "pkcs11/object.h"

struct kf_end;

/* What a clone could not keep, for the user: "CKA_LOCAL, CKA_DATE"; empty when exact.
 */
enum { KF_LOST_MAX = 200 };

enum { KF_WHOLE_BYTES = 64, KF_ORIGIN_MAX = 32 };

enum kf_commit { KF_COMMIT_EACH, KF_COMMIT_ALL };

/* One staged object after the commit. */
struct kf_planted {
    kf_rv rv;                /* 0, or why this one is not there */
    CK_OBJECT_HANDLE handle; /* in the end's session, when rv is 0 */
    char lost[KF_LOST_MAX];
    struct kf_error err; /* when rv is not 0 */
    bool undone;         /* nothing was wrong with it: it went because of another */
    bool exists;         /* rv is 0: the HSM had it already, and handle is of that */
};

struct kf_engine {
    const char *name;
    bool by_reference; /* what it seals opens through it alone, in this process */
    /* 0: this engine can work that session's partition; else err says why not in words
     * a user understands. Needs no login. */
    kf_rv (*probe)(struct kf_session *session, struct kf_error *err);
    /* The same for both ends together; NULL: each is probed by itself. An engine that
     * has this refuses a single end. */
    kf_rv (*probe_pair)(struct kf_session *source, struct kf_session *target,
                        struct kf_error *err);
    /* The domain that lives in the partition, as this engine can use it. KFR_NOT_FOUND.
     */
    kf_rv (*find_domain)(struct kf_session *session, struct kf_domain **out,
                         struct kf_error *err);
    /* Both keep what they need of session and domain; the session outlives the end. */
    kf_rv (*open)(struct kf_session *session, struct kf_domain *domain, void **state,
                  struct kf_error *err);
    void (*close)(void *state); /* aborts what is staged */
    /* What kf_object_read gives, by a shorter way; NULL: there is none. */
    kf_rv (*read)(void *state, CK_OBJECT_HANDLE object, struct kf_attributes **out,
                  uint64_t *unread, size_t *unread_count, struct kf_error *err);
    /* After all objects were read: those that the partition has and the module did not
     * list, an error for each; *out is freed with free(). What it is told of is to be
     * read once more before it is believed. NULL: nobody but the module knows. */
    kf_rv (*unlisted)(void *state, struct kf_error **out, size_t *count,
                      struct kf_error *err);
    /* Seals object; `known` are its attributes as kf_object_read gave them. `lost`
     * names what even the sealed object does not hold. */
    kf_rv (*seal)(void *state, CK_OBJECT_HANDLE object,
                  const struct kf_attributes *known, struct kf_writer *out,
                  char lost[KF_LOST_MAX], struct kf_error *err);
    /* Digest of its key material (kf_material_digest). KFR_NOT_FOUND: this engine
     * cannot. */
    kf_rv (*digest)(void *state, CK_OBJECT_HANDLE object,
                    const struct kf_attributes *known, uint8_t out[KF_MAC_BYTES],
                    struct kf_error *err);
    /* Two digests of all there is to an object: equal for two that are one in every
     * attribute and every byte of their key, under one domain. NULL: this engine does not
     * see all. */
    kf_rv (*whole)(void *state, CK_OBJECT_HANDLE object,
                   const struct kf_attributes *known, uint8_t out[KF_WHOLE_BYTES],
                   struct kf_error *err);
    /* What the HSM itself knows an object and its clones by: equal for two that are
     * one, and nothing is told by two that are not equal. KFR_NOT_FOUND; NULL: it has
     * none. */
    kf_rv (*origin)(void *state, CK_OBJECT_HANDLE object, uint8_t out[KF_ORIGIN_MAX],
                    size_t *len, struct kf_error *err);
    /* `changes` (NULL: none) are attributes the policy wants different on the clone. */
    kf_rv (*stage)(void *state, const struct kf_sealed *sealed,
                   const struct kf_changes *changes, struct kf_error *err);
    /* planted has room for as many as were staged, in that order. `remove` are handles
     * of this session; they go only when every staged object is in and checked,
     * whatever the mode. An rv of 0 with single planted[].rv not 0 is a partial
     * success, and nothing was removed. An rv not 0: nothing was planted, except where
     * planted[].rv is 0 all the same (all are in, but an old object would not go).
     * Nothing is staged after. */
    kf_rv (*commit)(void *state, enum kf_commit mode, const CK_OBJECT_HANDLE *remove,
                    size_t remove_count, struct kf_planted *planted,
                    struct kf_error *err);
    void (*abort)(void *state);
    /* What stage and commit would answer, as far as it can be told without a token
     * object made or a byte of a store written. `lost` as planted has it. Session
     * objects are made and destroyed; a read-only session is enough. state NULL: no
     * target, by the engine's own rules. What only the token object shows (no room, a
     * key that the module would overwrite) is not foreseen. */
    kf_rv (*foresee)(void *state, const struct kf_domain *domain,
                     const struct kf_sealed *sealed, const struct kf_changes *changes,
                     char lost[KF_LOST_MAX], struct kf_error *err);
};

extern const struct kf_engine kf_engine_softhsm; /* engine_softhsm.c */
extern const struct kf_engine kf_engine_luna;    /* engine_luna.c */
extern const struct kf_engine kf_engine_wrap;    /* engine_wrap.c */

/* All engines, best first; NULL at the end. */
extern const struct kf_engine *const kf_engines[];
const struct kf_engine *kf_engine_named(const char *name);
/* Whether it can work the source, and the target together with it. */
kf_rv kf_engine_probe_pair(const struct kf_engine *engine, struct kf_session *source,
                           struct kf_session *target, struct kf_error *err);

kf_rv kf_end_open(const struct kf_engine *engine, struct kf_session *session,
                  struct kf_domain *domain, struct kf_end **out, struct kf_error *err);
void kf_end_free(struct kf_end *end); /* aborts what is staged; NULL is fine */
const struct kf_engine *kf_end_engine(const struct kf_end *end);
struct kf_session *kf_end_session(const struct kf_end *end);

/* As kf_object_read in the end's session. */
kf_rv kf_end_read(struct kf_end *end, CK_OBJECT_HANDLE object,
                  struct kf_attributes **out, uint64_t *unread, size_t *unread_count,
                  struct kf_error *err);
/* None where the end's engine cannot tell. */
kf_rv kf_end_unlisted(struct kf_end *end, struct kf_error **out, size_t *count,
                      struct kf_error *err);
kf_rv kf_end_seal(struct kf_end *end, CK_OBJECT_HANDLE object,
                  const struct kf_attributes *known, struct kf_writer *out,
                  char lost[KF_LOST_MAX], struct kf_error *err);
kf_rv kf_end_digest(struct kf_end *end, CK_OBJECT_HANDLE object,
                    const struct kf_attributes *known, uint8_t out[KF_MAC_BYTES],
                    struct kf_error *err);
/* KFR_NOT_FOUND: the end's engine has none. */
kf_rv kf_end_whole(struct kf_end *end, CK_OBJECT_HANDLE object,
                   const struct kf_attributes *known, uint8_t out[KF_WHOLE_BYTES],
                   struct kf_error *err);
/* KFR_NOT_FOUND: the end's engine, or the HSM, has none. */
kf_rv kf_end_origin(struct kf_end *end, CK_OBJECT_HANDLE object,
                    uint8_t out[KF_ORIGIN_MAX], size_t *len, struct kf_error *err);
/* Decodes under the end's domain (KFR_DOMAIN_MISMATCH, KFR_DAMAGED, KFR_NEWER_VERSION),
 * then stages. */
kf_rv kf_end_stage(struct kf_end *end, const void *sealed, size_t len,
                   const struct kf_changes *changes, struct kf_error *err);
/* Decodes as kf_end_stage does, and changes nothing: kf_engine.foresee. */
kf_rv kf_end_foresee(struct kf_end *end, const void *sealed, size_t len,
                     const struct kf_changes *changes, char lost[KF_LOST_MAX],
                     struct kf_error *err);
/* The same without a target. */
kf_rv kf_engine_foresee(const struct kf_engine *engine, const struct kf_domain *domain,
                        const void *sealed, size_t len,
                        const struct kf_changes *changes, char lost[KF_LOST_MAX],
                        struct kf_error *err);
size_t kf_end_staged(const struct kf_end *end);
kf_rv kf_end_commit(struct kf_end *end, enum kf_commit mode,
                    const CK_OBJECT_HANDLE *remove, size_t remove_count,
                    struct kf_planted *planted, struct kf_error *err);
void kf_end_abort(struct kf_end *end);

#endif
