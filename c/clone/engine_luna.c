/* SPDX-License-Identifier: MIT
 * engine_luna: the HSM itself clones, from one of its partitions to another, under the
 * domain that both have in its hardware. No key passes through this process.
 */
#include "clone/engine.h"
#include "clone/luna_plant.h"
#include "clone/material.h"
#include "clone/process_domain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- probe ---- */

static kf_rv probe(struct kf_session *session, struct kf_error *err)
{
    (void)session;
    return kf_fail(err, KFR_NO_ENGINE, NULL, "name both partitions",
                   "the engine luna works two partitions of one HSM together");
}

static kf_rv probe_pair(struct kf_session *source, struct kf_session *target,
                        struct kf_error *err)
{
    struct kf_module *module = kf_session_module(source);
    kf_rv rv;

    if (!kf_luna_call(module))
        return kf_fail(err, KFR_NO_ENGINE, "dlsym", "use the engine wrap",
                       "the module %s has no CA_CloneObject, with which the engine "
                       "luna clones",
                       kf_module_path(module));
    if (module != kf_session_module(target))
        return kf_fail(err, KFR_NO_ENGINE, NULL, "use the engine wrap",
                       "source and target are of two modules, and CA_CloneObject "
                       "clones within one only");
    if (kf_session_slot(source) == kf_session_slot(target))
        return kf_fail(err, KFR_NO_ENGINE, NULL, "name another target",
                       "source and target are the same partition");
    rv = kf_luna_check_slot(source, true, err);
    return rv ? rv : kf_luna_check_slot(target, false, err);
}

/* ---- one end ---- */

static kf_rv find_domain(struct kf_session *session, struct kf_domain **out,
                         struct kf_error *err)
{
    *out = NULL;
    if (!kf_luna_call(kf_session_module(session)))
        return kf_fail(err, KFR_NOT_FOUND, NULL, NULL,
                       "the HSM keeps no cloning domains itself");
    return kf_domain_of_hardware(out, err);
}

static kf_rv open_end(struct kf_session *session, struct kf_domain *domain,
                      void **state, struct kf_error *err)
{
    struct kf_luna_plant *plant = calloc(1, sizeof *plant);

    *state = NULL;
    if (!plant)
        return kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for the engine luna");
    plant->session = session;
    plant->domain = kf_domain_ref(domain);
    *state = plant;
    return KFR_OK;
}

static void close_end(void *state)
{
    struct kf_luna_plant *plant = state;

    if (!plant)
        return;
    kf_luna_plant_close(plant);
    kf_domain_unref(plant->domain);
    free(plant);
}

/* ---- departure ---- */

static kf_rv seal(void *state, CK_OBJECT_HANDLE object,
                  const struct kf_attributes *known, struct kf_writer *out,
                  char lost[KF_LOST_MAX], struct kf_error *err)
{
    struct kf_luna_plant *end = state;
    struct kf_sealed sealed = { .engine = "luna" };
    kf_rv rv = KFR_VANISHED;

    lost[0] = '\0';
    if (kf_object_touch(end->session, object, err) == KFR_VANISHED)
        return rv;
    snprintf(sealed.source_serial, sizeof sealed.source_serial, "%s",
             kf_session_token(end->session)->serial);
    sealed.open = kf_attributes_dup(known);
    rv = sealed.open ? kf_luna_refer(end->session, object, &sealed, err)
                     : kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for attributes");
    if (!rv)
        rv = kf_sealed_encode(&sealed, end->domain, out, err);
    kf_sealed_clear(&sealed);
    return rv;
}

/* What of its key the HSM shows; nothing is wrapped for it. */
static struct kf_attributes *shown_key(struct kf_session *session,
                                       CK_OBJECT_HANDLE object)
{
    struct kf_attributes *key = NULL;

    if (!kf_object_read_key(session, object, &key, NULL))
        return key;
    kf_attributes_free(key);
    return kf_attributes_new(true);
}

static kf_rv digest(void *state, CK_OBJECT_HANDLE object,
                    const struct kf_attributes *known, uint8_t out[KF_MAC_BYTES],
                    struct kf_error *err)
{
    struct kf_luna_plant *end = state;
    struct kf_attributes *key = shown_key(end->session, object);
    kf_rv rv = key ? kf_material_digest(known, key, end->domain, out, err)
                   : kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for a digest");

    kf_attributes_free(key);
    return rv;
}

static kf_rv origin(void *state, CK_OBJECT_HANDLE object, uint8_t out[KF_ORIGIN_MAX],
                    size_t *len, struct kf_error *err)
{
    struct kf_luna_plant *end = state;

    *len = KF_OUID_BYTES;
    return kf_luna_ouid(end->session, object, out, err);
}

/* ---- arrival ---- */

static kf_rv stage(void *state, const struct kf_sealed *sealed,
                   const struct kf_changes *changes, struct kf_error *err)
{
    return kf_luna_stage(state, sealed, changes, err);
}

static kf_rv commit(void *state, enum kf_commit mode, const CK_OBJECT_HANDLE *remove,
                    size_t remove_count, struct kf_planted *planted,
                    struct kf_error *err)
{
    return kf_luna_commit(state, mode, remove, remove_count, planted, err);
}

static void abort_staged(void *state)
{
    kf_luna_abort(state);
}

static kf_rv foresee(void *state, const struct kf_domain *domain,
                     const struct kf_sealed *sealed, const struct kf_changes *changes,
                     char lost[KF_LOST_MAX], struct kf_error *err)
{
    (void)domain; /* the end's own */
    if (!state)
        return kf_fail(err, KFR_NO_ENGINE, NULL, "name the target partition",
                       "the engine luna clones from one partition of an HSM to "
                       "another, and there is no target");
    return kf_luna_foresee(state, sealed, changes, lost, err);
}

const struct kf_engine kf_engine_luna = {
    .name = "luna",
    .by_reference = true,
    .probe = probe,
    .probe_pair = probe_pair,
    .find_domain = find_domain,
    .open = open_end,
    .close = close_end,
    .seal = seal,
    .digest = digest,
    .origin = origin,
    .stage = stage,
    .commit = commit,
    .abort = abort_staged,
    .foresee = foresee,
};
