/* SPDX-License-Identifier: MIT
 * softhsm_batch: new objects into a SoftHSM token store, and old ones out, so that a
 * crash at any moment leaves the one state or the other.
 *
 *   kf_batch_stage     any number of times: files that no program looks at
 *   kf_batch_publish   durable, then under their names, then one bump of the generation
 *   kf_batch_conclude  what was published stays, and the old files go; or
 *   kf_batch_undo      what was published goes, all or some of it
 *
 * Between publish and conclude a batch may be tentative: a journal beside the files
 * names what has to go if the program ends here. kf_batch_conclude replaces it by the
 * list of the old files, which is the moment of decision. The next writer finishes what
 * the journal says before it does anything else.
 *
 * One writer at a time holds keyferry.lock; readers, SoftHSM too, know nothing of it.
 */
#ifndef KF_CLONE_SOFTHSM_BATCH_H
#define KF_CLONE_SOFTHSM_BATCH_H

#include "base/error.h"
#include "clone/softhsm_store.h"

#include <stdbool.h>
#include <stddef.h>

struct kf_batch;

/* Writes nothing yet. The store outlives the batch. */
struct kf_batch *kf_batch_new(struct kf_store *store); /* NULL: no memory */
void kf_batch_free(struct kf_batch *batch); /* undoes what is not concluded */

/* Takes the writer's lock and finishes what an earlier run left. Done by the first
 * kf_batch_stage anyway. KFR_REFUSED: another keyferry is writing into this token. */
kf_rv kf_batch_begin(struct kf_batch *batch, struct kf_error *err);
/* Whether a run that was killed left something for begin to settle. */
bool kf_batch_is_pending(const struct kf_batch *batch);

/* The bytes of one object file (kf_store_encode); `name` is what it will be called. */
kf_rv kf_batch_stage(struct kf_batch *batch, const void *bytes, size_t len,
                     char name[KF_STORE_NAME], struct kf_error *err);
/* Forgets what is staged from the one with that index on. */
void kf_batch_discard(struct kf_batch *batch, size_t from);

/* All staged ones, or none: on failure nothing has a name and nothing is staged. */
kf_rv kf_batch_publish(struct kf_batch *batch, bool tentative, struct kf_error *err);
bool kf_batch_is_published(const struct kf_batch *batch); /* and not concluded yet */
/* Ends the batch: removes the files of `names` (each gone already is fine). A failure
 * after which the batch still is published decided nothing; after any other the new
 * files stay, and what could not be removed yet goes when the next writer begins. */
kf_rv kf_batch_conclude(struct kf_batch *batch, const char *const *names, size_t count,
                        struct kf_error *err);
/* Removes published files: those of `names`, or all when names is NULL, which also ends
 * the batch. */
kf_rv kf_batch_undo(struct kf_batch *batch, const char *const *names, size_t count,
                    struct kf_error *err);

/* Adds one to the token's generation, by which running programs notice. */
kf_rv kf_batch_bump(struct kf_batch *batch, struct kf_error *err);
/* Once more, some 20 ms after the last bump, and again while another hand changes the
 * generation: a program that starts, or makes an object of its own, undoes or swallows
 * a single bump. Called by kf_batch_free, too. */
void kf_batch_settle(struct kf_batch *batch);

#endif
