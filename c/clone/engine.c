/* SPDX-License-Identifier: MIT */
#include "clone/engine.h"

#include <stdlib.h>
#include <string.h>

struct kf_end {
    const struct kf_engine *engine;
    struct kf_session *session;
    struct kf_domain *domain;
    void *state;
    size_t staged;
};

const struct kf_engine *const kf_engines[] = {&kf_engine_softhsm, &kf_engine_luna,
                                              &kf_engine_wrap, NULL};

const struct kf_engine *kf_engine_named(const char *name)
{
    const struct kf_engine *const *at;

    for (at = kf_engines; *at; at++)
        if (name && !strcmp((*at)->name, name))
            return *at;
    return NULL;
}

kf_rv kf_engine_probe_pair(const struct kf_engine *engine, struct kf_session *source,
                           struct kf_session *target, struct kf_error *err)
{
    kf_rv rv;

    if (engine->probe_pair)
        return engine->probe_pair(source, target, err);
    rv = engine->probe(source, err);
    return rv ? rv : engine->probe(target, err);
}

kf_rv kf_end_open(const struct kf_engine *engine, struct kf_session *session,
                  struct kf_domain *domain, struct kf_end **out, struct kf_error *err)
{
    kf_rv rv = KFR_MEMORY;
    struct kf_end *end;

    *out = NULL;
    end = calloc(1, sizeof *end);
    if (!end)
        return kf_fail(err, rv, NULL, NULL, "no memory for an end of the clone");
    end->engine = engine;
    end->session = session;
    end->domain = kf_domain_ref(domain);
    rv = engine->open(session, domain, &end->state, err);
    if (rv) {
        kf_domain_unref(end->domain);
        free(end);
        return rv;
    }
    *out = end;
    return KFR_OK;
}

void kf_end_free(struct kf_end *end)
{
    if (!end)
        return;
    kf_end_abort(end);
    end->engine->close(end->state);
    kf_domain_unref(end->domain);
    free(end);
}

const struct kf_engine *kf_end_engine(const struct kf_end *end)
{
    return end->engine;
}

struct kf_session *kf_end_session(const struct kf_end *end)
{
    return end->session;
}

kf_rv kf_end_read(struct kf_end *end, CK_OBJECT_HANDLE object,
                  struct kf_attributes **out, uint64_t *unread, size_t *unread_count,
                  struct kf_error *err)
{
    if (!end->engine->read)
        return kf_object_read(end->session, object, out, unread, unread_count, err);
    return end->engine->read(end->state, object, out, unread, unread_count, err);
}

kf_rv kf_end_unlisted(struct kf_end *end, struct kf_error **out, size_t *count,
                      struct kf_error *err)
{
    *out = NULL;
    *count = 0;
    if (!end->engine->unlisted)
        return KFR_OK;
    return end->engine->unlisted(end->state, out, count, err);
}

kf_rv kf_end_seal(struct kf_end *end, CK_OBJECT_HANDLE object,
                  const struct kf_attributes *known, struct kf_writer *out,
                  char lost[KF_LOST_MAX], struct kf_error *err)
{
    lost[0] = '\0';
    return end->engine->seal(end->state, object, known, out, lost, err);
}

kf_rv kf_end_digest(struct kf_end *end, CK_OBJECT_HANDLE object,
                    const struct kf_attributes *known, uint8_t out[KF_MAC_BYTES],
                    struct kf_error *err)
{
    return end->engine->digest(end->state, object, known, out, err);
}

kf_rv kf_end_whole(struct kf_end *end, CK_OBJECT_HANDLE object,
                   const struct kf_attributes *known, uint8_t out[KF_WHOLE_BYTES],
                   struct kf_error *err)
{
    if (!end->engine->whole)
        return kf_fail(err, KFR_NOT_FOUND, "", "",
                       "the engine %s does not see all of an object",
                       end->engine->name);
    return end->engine->whole(end->state, object, known, out, err);
}

kf_rv kf_end_origin(struct kf_end *end, CK_OBJECT_HANDLE object,
                    uint8_t out[KF_ORIGIN_MAX], size_t *len, struct kf_error *err)
{
    if (!end->engine->origin)
        return kf_fail(err, KFR_NOT_FOUND, "", "",
                       "the engine %s has no name of the HSM's own for an object",
                       end->engine->name);
    return end->engine->origin(end->state, object, out, len, err);
}

/* A reference opens through the engine that made it, and nothing else does. */
static kf_rv check_kind(const struct kf_engine *engine, const void *sealed, size_t len,
                        struct kf_error *err)
{
    if (kf_sealed_is_reference(sealed, len) == engine->by_reference)
        return KFR_OK;
    return kf_fail(err, KFR_NO_ENGINE, "", "use one engine for both ends",
                   engine->by_reference
                       ? "the engine %s takes in what it has sealed, and nothing else"
                       : "the object was sealed as a reference, which the engine %s "
                         "cannot open",
                   engine->name);
}

kf_rv kf_end_stage(struct kf_end *end, const void *sealed, size_t len,
                   const struct kf_changes *changes, struct kf_error *err)
{
    struct kf_sealed open = {0};
    kf_rv rv;

    rv = kf_sealed_decode(sealed, len, end->domain, &open, err);
    if (!rv)
        rv = check_kind(end->engine, sealed, len, err);
    if (!rv)
        rv = end->engine->stage(end->state, &open, changes, err);
    if (!rv)
        end->staged++;
    kf_sealed_clear(&open);
    return rv;
}

static kf_rv foresee(const struct kf_engine *engine, void *state,
                     const struct kf_domain *domain, const struct kf_slice *sealed,
                     const struct kf_changes *changes, char lost[KF_LOST_MAX],
                     struct kf_error *err)
{
    struct kf_sealed open = {0};
    kf_rv rv;

    lost[0] = '\0';
    rv = kf_sealed_decode(sealed->bytes, sealed->len, domain, &open, err);
    if (!rv)
        rv = check_kind(engine, sealed->bytes, sealed->len, err);
    if (!rv)
        rv = engine->foresee(state, domain, &open, changes, lost, err);
    if (rv)
        lost[0] = '\0';
    kf_sealed_clear(&open);
    return rv;
}

kf_rv kf_end_foresee(struct kf_end *end, const void *sealed, size_t len,
                     const struct kf_changes *changes, char lost[KF_LOST_MAX],
                     struct kf_error *err)
{
    const struct kf_slice slice = {sealed, len};

    return foresee(end->engine, end->state, end->domain, &slice, changes, lost, err);
}

kf_rv kf_engine_foresee(const struct kf_engine *engine, const struct kf_domain *domain,
                        const void *sealed, size_t len,
                        const struct kf_changes *changes, char lost[KF_LOST_MAX],
                        struct kf_error *err)
{
    const struct kf_slice slice = {sealed, len};

    return foresee(engine, NULL, domain, &slice, changes, lost, err);
}

size_t kf_end_staged(const struct kf_end *end)
{
    return end->staged;
}

/* A commit that failed as a whole says so of every object that it did not answer for.
 */
static void settle_failed(struct kf_planted *planted, size_t count, kf_rv rv,
                          const struct kf_error *err)
{
    size_t i;

    for (i = 0; i < count; i++) {
        if (planted[i].rv || planted[i].handle != CK_INVALID_HANDLE)
            continue;
        planted[i].rv = rv;
        if (err)
            planted[i].err = *err;
    }
}

kf_rv kf_end_commit(struct kf_end *end, enum kf_commit mode,
                    const CK_OBJECT_HANDLE *remove, size_t remove_count,
                    struct kf_planted *planted, struct kf_error *err)
{
    size_t count = end->staged;
    kf_rv rv;

    if (count)
        memset(planted, 0, count * sizeof *planted);
    rv = end->engine->commit(end->state, mode, remove, remove_count, planted, err);
    end->staged = 0;
    if (rv)
        settle_failed(planted, count, rv, err);
    return rv;
}

void kf_end_abort(struct kf_end *end)
{
    end->engine->abort(end->state);
    end->staged = 0;
}
