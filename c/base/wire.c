/* SPDX-License-Identifier: MIT */
#include "base/wire.h"

#include "base/secret.h"

#include <openssl/crypto.h>
#include <string.h>

enum { FIRST_CAPACITY = 256 };

struct kf_reader kf_reader_over(const void *bytes, size_t len)
{
    struct kf_reader reader = { .at = bytes, .left = len, .bad = false };

    return reader;
}

const unsigned char *kf_read_bytes(struct kf_reader *reader, size_t n)
{
    const unsigned char *at = reader->at;

    if (reader->bad || n > reader->left) {
        reader->bad = true;
        return NULL;
    }
    if (n == 0)
        return (const unsigned char *)"";
    reader->at += n;
    reader->left -= n;
    return at;
}

static uint64_t read_number(struct kf_reader *reader, size_t n)
{
    const unsigned char *bytes = kf_read_bytes(reader, n);
    uint64_t value = 0;

    for (size_t i = 0; bytes && i < n; i++)
        value = value << 8 | bytes[i];
    return value;
}

uint8_t kf_read_u8(struct kf_reader *reader)
{
    return (uint8_t)read_number(reader, 1);
}

uint16_t kf_read_u16(struct kf_reader *reader)
{
    return (uint16_t)read_number(reader, 2);
}

uint32_t kf_read_u32(struct kf_reader *reader)
{
    return (uint32_t)read_number(reader, 4);
}

uint64_t kf_read_u64(struct kf_reader *reader)
{
    return read_number(reader, 8);
}

void kf_read_text(struct kf_reader *reader, char *text, size_t size)
{
    size_t len = kf_read_u8(reader);
    const unsigned char *bytes = kf_read_bytes(reader, len);

    if (!bytes || len >= size || memchr(bytes, '\0', len)) {
        reader->bad = true;
        return;
    }
    memcpy(text, bytes, len);
    text[len] = '\0';
}

bool kf_reader_done(const struct kf_reader *reader)
{
    return !reader->bad && reader->left == 0;
}

struct kf_writer kf_writer_secret(void)
{
    struct kf_writer writer = { .secret = true };

    return writer;
}

static void release(const struct kf_writer *writer)
{
    if (writer->secret)
        kf_secret_release(writer->data, writer->cap);
    else if (writer->data)
        OPENSSL_clear_free(writer->data, writer->cap);
}

static bool reserve(struct kf_writer *writer, size_t n)
{
    size_t cap = writer->cap ? writer->cap : FIRST_CAPACITY;
    unsigned char *data;

    if (writer->bad || n > SIZE_MAX / 4 - writer->len) {
        writer->bad = true;
        return false;
    }
    if (writer->data && writer->len + n <= writer->cap)
        return true;
    while (cap < writer->len + n)
        cap *= 2;
    data = writer->secret ? kf_secret_alloc(cap) : OPENSSL_malloc(cap);
    if (!data) {
        writer->bad = true;
        return false;
    }
    if (writer->len)
        memcpy(data, writer->data, writer->len);
    release(writer);
    writer->data = data;
    writer->cap = cap;
    return true;
}

unsigned char *kf_write_room(struct kf_writer *writer, size_t n)
{
    unsigned char *room;

    if (!reserve(writer, n))
        return NULL;
    room = writer->data + writer->len;
    writer->len += n;
    return room;
}

void kf_write_bytes(struct kf_writer *writer, const void *bytes, size_t n)
{
    unsigned char *room = kf_write_room(writer, n);

    if (room && n)
        memcpy(room, bytes, n);
}

static void write_number(struct kf_writer *writer, uint64_t value, size_t n)
{
    unsigned char *room = kf_write_room(writer, n);

    for (size_t i = 0; room && i < n; i++)
        room[i] = (unsigned char)(value >> (8 * (n - 1 - i)));
}

void kf_write_u8(struct kf_writer *writer, uint8_t value)
{
    write_number(writer, value, 1);
}

void kf_write_u16(struct kf_writer *writer, uint16_t value)
{
    write_number(writer, value, 2);
}

void kf_write_u32(struct kf_writer *writer, uint32_t value)
{
    write_number(writer, value, 4);
}

void kf_write_u64(struct kf_writer *writer, uint64_t value)
{
    write_number(writer, value, 8);
}

void kf_write_text(struct kf_writer *writer, const char *text, size_t size)
{
    size_t len = strnlen(text, size - 1);

    kf_write_u8(writer, (uint8_t)len);
    kf_write_bytes(writer, text, len);
}

void kf_write_u32_at(struct kf_writer *writer, size_t at, uint32_t value)
{
    if (writer->bad || at > writer->len || writer->len - at < 4) {
        writer->bad = true;
        return;
    }
    for (size_t i = 0; i < 4; i++)
        writer->data[at + i] = (unsigned char)(value >> (8 * (3 - i)));
}

void kf_writer_clear(struct kf_writer *writer)
{
    bool secret = writer->secret;

    release(writer);
    *writer = (struct kf_writer){ .secret = secret };
}
