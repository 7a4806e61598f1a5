/* SPDX-License-Identifier: MIT */
#include "clone/der.h"

#include <string.h>

/* Four bytes of length are more than any key has. */
enum { LONG_FORM = 0x80, LENGTH_BYTES_MAX = 4, HEADER_MAX = 2 + LENGTH_BYTES_MAX };

bool kf_der_next_is(const struct kf_reader *in, unsigned tag)
{
    return !in->bad && in->left > 0 && *in->at == tag;
}

struct kf_reader kf_der_take(struct kf_reader *in, unsigned tag)
{
    struct kf_reader content = kf_reader_over("", 0);
    size_t len;

    if (!kf_der_next_is(in, tag))
        in->bad = true;
    (void)kf_read_u8(in);
    len = kf_read_u8(in);
    if (len >= LONG_FORM) {
        size_t bytes = len - LONG_FORM; /* 0 is the indefinite form */
        if (bytes == 0 || bytes > LENGTH_BYTES_MAX)
            in->bad = true;
        for (len = 0; bytes > 0 && !in->bad; bytes--)
            len = len << 8 | kf_read_u8(in);
    }
    content.at = kf_read_bytes(in, len);
    content.bad = in->bad;
    content.left = in->bad ? 0 : len;
    return content;
}

struct kf_reader kf_der_take_number(struct kf_reader *in)
{
    struct kf_reader number = kf_der_take(in, KF_DER_INTEGER);

    if (number.left == 0 || *number.at & 0x80) { /* none, or negative */
        in->bad = true;
        number.bad = true;
        number.left = 0;
    }
    while (number.left && *number.at == 0)
        (void)kf_read_u8(&number);
    return number;
}

bool kf_der_take_small(struct kf_reader *in, unsigned n)
{
    struct kf_reader number = kf_der_take_number(in);

    if (!number.bad && (n ? number.left == 1 && *number.at == n : number.left == 0))
        return true;
    in->bad = true;
    return false;
}

void kf_der_close(struct kf_writer *out, size_t start, unsigned tag)
{
    size_t len = out->len - start, count = 0;
    unsigned char header[HEADER_MAX];

    header[count++] = (unsigned char)tag;
    if (len >= LONG_FORM) {
        size_t bytes = len > 0xffffff ? 4 : len > 0xffff ? 3 : len > 0xff ? 2 : 1;

        header[count++] = (unsigned char)(LONG_FORM + bytes);
        while (bytes > 0)
            header[count++] = (unsigned char)(len >> (8 * --bytes));
    } else {
        header[count++] = (unsigned char)len;
    }
    if (!kf_write_room(out, count))
        return;
    memmove(out->data + start + count, out->data + start, len);
    memcpy(out->data + start, header, count);
}

void kf_der_write_number(struct kf_writer *out, const void *bytes, size_t len)
{
    const unsigned char *at = bytes;
    size_t start = out->len;

    while (len && *at == 0) {
        at++;
        len--;
    }
    if (len == 0 || *at & 0x80)
        kf_write_u8(out, 0);
    kf_write_bytes(out, at, len);
    kf_der_close(out, start, KF_DER_INTEGER);
}

void kf_der_write_small(struct kf_writer *out, unsigned n)
{
    unsigned char byte = (unsigned char)n;

    kf_der_write_number(out, &byte, 1);
}
