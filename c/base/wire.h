/* SPDX-License-Identifier: MIT
 * wire: big-endian reading and writing, bounded and sticky.
 *
 * A reader that was asked for more than is left goes bad and stays so: read, read,
 * read, then ask once. A writer that ran out of memory does the same. What a reader
 * returns points into its input.
 */
#ifndef KF_BASE_WIRE_H
#define KF_BASE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kf_reader {
    const unsigned char *at;
    size_t left;
    bool bad;
};

struct kf_reader kf_reader_over(const void *bytes, size_t len);
uint8_t kf_read_u8(struct kf_reader *reader);
uint16_t kf_read_u16(struct kf_reader *reader);
uint32_t kf_read_u32(struct kf_reader *reader);
uint64_t kf_read_u64(struct kf_reader *reader);
/* n bytes, or NULL and a bad reader; n = 0 gives a pointer not to be read from. */
const unsigned char *kf_read_bytes(struct kf_reader *reader, size_t n);
/* A byte of length and that many bytes without a NUL, as a C string into text; bad when
 * they are not, or are more than `size` has room for. */
void kf_read_text(struct kf_reader *reader, char *text, size_t size);
/* Everything was read and nothing was missing. */
bool kf_reader_done(const struct kf_reader *reader);

struct kf_writer {
    unsigned char *data; /* NULL until the first byte */
    size_t len;
    size_t cap;
    bool secret; /* the bytes lie in the secure heap */
    bool bad;
};

/* {0} is a writer of ordinary bytes, this one of secret ones. */
struct kf_writer kf_writer_secret(void);
void kf_write_u8(struct kf_writer *writer, uint8_t value);
void kf_write_u16(struct kf_writer *writer, uint16_t value);
void kf_write_u32(struct kf_writer *writer, uint32_t value);
void kf_write_u64(struct kf_writer *writer, uint64_t value);
void kf_write_bytes(struct kf_writer *writer, const void *bytes, size_t n);
/* What kf_read_text reads: a C string, `size` (256 at most) bytes with its NUL. */
void kf_write_text(struct kf_writer *writer, const char *text, size_t size);
/* Writes a u32 over the four bytes at `at`, which were written before. */
void kf_write_u32_at(struct kf_writer *writer, size_t at, uint32_t value);
/* Room for n more bytes, counted as written: the caller fills them. NULL: bad. */
unsigned char *kf_write_room(struct kf_writer *writer, size_t n);
/* Wipes and frees; the writer is empty and good again, of the same kind. */
void kf_writer_clear(struct kf_writer *writer);

#endif
