/* SPDX-License-Identifier: MIT
 * stream: sealed objects one after another, as a file or through a pipe.
 *
 * The bytes are specified in c/README.md. A chain of digests ties each frame to all
 * before it and to its head, and a mac under the domain vouches for the chain up to
 * there: an object that was swapped, doubled, left out or taken from another stream is
 * KFR_DAMAGED, as is any flipped bit; a stream that was cut anywhere is KFR_TRUNCATED.
 * Never more than one object is in memory.
 */
#ifndef KF_CLONE_STREAM_H
#define KF_CLONE_STREAM_H

#include "base/channel.h"
#include "base/error.h"
#include "clone/domain.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KF_STREAM_VERSION = 1, KF_STREAM_ID_BYTES = 16 };

#define KF_STREAM_UNKNOWN UINT64_MAX /* expected: nobody said */

struct kf_stream_head {
    unsigned version;                   /* set by the writer, as check and id are */
    uint8_t check[KF_CHECK_BYTES];      /* of the domain */
    uint8_t id[KF_STREAM_ID_BYTES];     /* random: no two streams are the same */
    uint64_t created;                   /* seconds since 1970 */
    uint64_t expected;                  /* objects of the source */
    char label[33], serial[17], model[17], manufacturer[33]; /* the source's token */
    char keyferry[33];                  /* the version of the program */
};

struct kf_stream_end {
    uint64_t objects;         /* that are in it */
    uint64_t failed, skipped; /* that the source has and that are not */
};

/* Writing */

struct kf_stream_writer;

/* `channel` is the writer's from here on, also after a failure. The head is out when it
 * returns. */
kf_rv kf_stream_create(struct kf_channel *channel, struct kf_domain *domain,
                       const struct kf_stream_head *head, struct kf_stream_writer **out,
                       struct kf_error *err);
/* `digest` (NULL: none) is kf_material_digest of what is in it. KFR_DOMAIN_MISMATCH,
 * KFR_DAMAGED: it is not put in, and the stream is as it was. After a failed write
 * every call fails the same way. */
kf_rv kf_stream_add(struct kf_stream_writer *writer, const void *sealed, size_t len,
                    const uint8_t digest[KF_MAC_BYTES], struct kf_error *err);
/* The end; kf_channel_finish. */
kf_rv kf_stream_finish(struct kf_stream_writer *writer, uint64_t failed,
                       uint64_t skipped, struct kf_error *err);
/* What is not finished is no stream: its file goes. NULL is fine. */
void kf_stream_writer_free(struct kf_stream_writer *writer);

/* Reading */

struct kf_stream_reader;

struct kf_stream_object {
    const unsigned char *sealed; /* till the next call; NULL: the end was reached */
    size_t len;
    bool has_digest;
    uint8_t digest[KF_MAC_BYTES];
};

/* `channel` is the reader's from here on, also after a failure. Reads the head:
 * KFR_ARGUMENT (no stream), KFR_TRUNCATED, KFR_DAMAGED, KFR_NEWER_VERSION. */
kf_rv kf_stream_open(struct kf_channel *channel, struct kf_stream_reader **out,
                     struct kf_error *err);
void kf_stream_reader_free(struct kf_stream_reader *reader);
/* Not authenticated before kf_stream_opens. */
const struct kf_stream_head *kf_stream_head(const struct kf_stream_reader *reader);
/* Whether the head was written under that domain: KFR_DOMAIN_MISMATCH, KFR_DAMAGED. */
kf_rv kf_stream_opens(const struct kf_stream_reader *reader,
                      const struct kf_domain *domain, struct kf_error *err);
/* The next object. With a domain, everything up to it is authenticated before it is
 * given; without (NULL), it is only checked against accidents. After a failure every
 * call fails the same way. */
kf_rv kf_stream_next(struct kf_stream_reader *reader, const struct kf_domain *domain,
                     struct kf_stream_object *object, struct kf_error *err);
/* False before the end was reached. */
bool kf_stream_ended(const struct kf_stream_reader *reader, struct kf_stream_end *end);
bool kf_stream_can_rewind(const struct kf_stream_reader *reader);
/* Back to before the first object of the same stream; KFR_DAMAGED: there is another
 * now. */
kf_rv kf_stream_rewind(struct kf_stream_reader *reader, struct kf_error *err);

#endif
