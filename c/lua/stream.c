/* SPDX-License-Identifier: MIT */
#include "lua/stream.h"

#include "lua/domain.h"
#include "lua/door.h"
#include "lua/error.h"
#include "lua/interrupt.h"
#include "lua/sealed.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WRITER "keyferry.stream.writer"
#define READER "keyferry.stream.reader"

struct writer_box {
    struct kf_stream_writer *writer; /* NULL: closed */
};

struct reader_box {
    struct kf_stream_reader *reader; /* NULL: closed */
};

struct kf_stream_writer *kf_lua_check_stream_writer(lua_State *L, int index)
{
    struct writer_box *box = luaL_checkudata(L, index, WRITER);

    if (!box->writer)
        luaL_argerror(L, index, "the stream is closed");
    return box->writer;
}

struct kf_stream_reader *kf_lua_check_stream_reader(lua_State *L, int index)
{
    struct reader_box *box = luaL_checkudata(L, index, READER);

    if (!box->reader)
        luaL_argerror(L, index, "the stream is closed");
    return box->reader;
}

/* A path, or NULL for the number of the standard one. */
static const char *check_where(lua_State *L, int index, int standard)
{
    if (lua_type(L, index) == LUA_TSTRING)
        return kf_lua_check_text(L, index);
    if (!lua_isinteger(L, index) || lua_tointeger(L, index) != standard)
        luaL_argerror(L, index, lua_pushfstring(L, "a path or %d expected", standard));
    return NULL;
}

/* ---- writing ---- */

static lua_Integer check_count(lua_State *L, const char *key)
{
    lua_Integer count = lua_tointeger(L, -1);

    if (!lua_isinteger(L, -1) || count < 0)
        luaL_error(L, "'%s' is a number of at least 0", key);
    return count;
}

struct text {
    const char *key;
    size_t at, size;
};

#define TEXT(field)                                          \
    {                                                        \
        #field, offsetof(struct kf_stream_head, field),      \
            sizeof(((struct kf_stream_head *)NULL)->field)   \
    }

static const struct text texts[] = {
    TEXT(label), TEXT(serial), TEXT(model), TEXT(manufacturer), TEXT(keyferry),
};
enum { TEXTS = sizeof texts / sizeof *texts };

/* The field on top of the stack. */
static void set_text(lua_State *L, const struct text *text, struct kf_stream_head *head)
{
    size_t len = 0;
    const char *value = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;

    if (!value || len >= text->size || memchr(value, '\0', len))
        luaL_error(L, "'%s' is a text of at most %d bytes", text->key,
                   (int)text->size - 1);
    memcpy((char *)head + text->at, value, len + 1);
}

static void set_field(lua_State *L, const char *key, struct kf_stream_head *head,
                      bool *force)
{
    for (size_t i = 0; i < TEXTS; i++) {
        if (strcmp(key, texts[i].key) == 0) {
            set_text(L, &texts[i], head);
            return;
        }
    }
    if (strcmp(key, "created") == 0)
        head->created = (uint64_t)check_count(L, key);
    else if (strcmp(key, "expected") == 0)
        head->expected = (uint64_t)check_count(L, key);
    else if (strcmp(key, "force") == 0)
        *force = lua_toboolean(L, -1);
    else
        luaL_error(L, "the head of a stream has no field '%s'", key);
}

/* A misspelt key must not vanish silently. */
static void check_head(lua_State *L, int index, struct kf_stream_head *head, bool *force)
{
    *head = (struct kf_stream_head){ .created = (uint64_t)time(NULL),
                                     .expected = KF_STREAM_UNKNOWN,
                                     .keyferry = KEYFERRY_VERSION };
    *force = false;
    if (lua_isnoneornil(L, index))
        return;
    luaL_checktype(L, index, LUA_TTABLE);
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING)
            luaL_error(L, "the fields of a head have names");
        set_field(L, lua_tostring(L, -2), head, force);
    }
}

/***
A new stream of sealed objects. A file is written beside its place, readable to its owner
only, and gets there whole with writer:finish; what is there already is refused, or with
`force` replaced then. A pipe or a device is written as it is.
@function stream.create
@param where a path, or 1: standard output
@tparam domain domain that its objects are sealed under
@tparam[opt] table head what is said of the source's token: `label`, `serial`, `model`,
  `manufacturer`; `keyferry` (the version; by itself), `created` (seconds since 1970;
  now), `expected` (how many objects the source has), and `force`. Another name raises.
@treturn[1] writer
@treturn[2] nil
@treturn[2] err KFR_EXISTS, KFR_ARGUMENT (a directory, a terminal), KFR_SYSTEM
*/
static int stream_create(lua_State *L)
{
    const char *path = check_where(L, 1, STDOUT_FILENO);
    struct kf_domain *domain = kf_lua_check_domain(L, 2);
    struct kf_channel *channel = NULL;
    struct kf_stream_head head;
    struct writer_box *box;
    struct kf_error err = { 0 };
    bool force;

    check_head(L, 3, &head, &force);
    box = lua_newuserdatauv(L, sizeof *box, 0);
    box->writer = NULL;
    luaL_setmetatable(L, WRITER);
    if (kf_channel_target(path, force, kf_lua_interrupted, &channel, &err) ||
        kf_stream_create(channel, domain, &head, &box->writer, &err))
        return kf_lua_refuse(L, &err);
    return 1;
}

/***
Puts an object into the stream.
@function writer:add
@tparam sealed sealed of the stream's domain
@string[opt] digest what endpoint:digest says of it, so that a receiver whose HSM shows no
  key can tell it from others
@treturn[1] true
@treturn[2] nil
@treturn[2] err KFR_DOMAIN_MISMATCH, KFR_DAMAGED (nothing was put in); KFR_SYSTEM (the stream
  cannot be gone on with)
*/
static int writer_add(lua_State *L)
{
    struct kf_stream_writer *writer = kf_lua_check_stream_writer(L, 1);
    const struct kf_writer *sealed = kf_lua_check_sealed(L, 2);
    size_t len = KF_MAC_BYTES;
    const char *digest = luaL_optlstring(L, 3, NULL, &len);
    struct kf_error err = { 0 };
    kf_rv rv;

    luaL_argcheck(L, !digest || len == KF_MAC_BYTES, 3, "not a digest of 32 bytes");
    rv = kf_stream_add(writer, sealed->data, sealed->len, (const uint8_t *)digest, &err);
    return kf_lua_done(L, rv, &err);
}

static uint64_t opt_count(lua_State *L, int index, const char *key)
{
    lua_Integer count = 0;

    if (lua_isnoneornil(L, index))
        return 0;
    luaL_checktype(L, index, LUA_TTABLE);
    if (lua_getfield(L, index, key) != LUA_TNIL)
        count = check_count(L, key);
    lua_pop(L, 1);
    return (uint64_t)count;
}

/***
Forgets the stream. One that was not finished is none: its file goes.
@function writer:close
*/
static int writer_close(lua_State *L)
{
    struct writer_box *box = luaL_checkudata(L, 1, WRITER);

    kf_stream_writer_free(box->writer);
    box->writer = NULL;
    return 0;
}

/***
The end of the stream: without it a reader says that the stream was cut. A file is durable and
in its place after it. The writer is closed then, also after a failure.
@function writer:finish
@tparam[opt] table counts of the source's objects, how many `failed` and were `skipped`
@treturn[1] true
@treturn[2] nil
@treturn[2] err KFR_EXISTS (something came there meanwhile), KFR_SYSTEM
*/
static int writer_finish(lua_State *L)
{
    uint64_t failed = opt_count(L, 2, "failed"), skipped = opt_count(L, 2, "skipped");
    struct kf_error err = { 0 };
    kf_rv rv = kf_stream_finish(kf_lua_check_stream_writer(L, 1), failed, skipped, &err);

    writer_close(L);
    return kf_lua_done(L, rv, &err);
}

/* ---- reading ---- */

/***
A stream to be read: its head is read and checked against damage.
@function stream.open
@param where a path (a file or a pipe), or 0: standard input
@treturn[1] reader
@treturn[2] nil
@treturn[2] err KFR_ARGUMENT (it is no sealed stream), KFR_TRUNCATED, KFR_DAMAGED,
  KFR_NEWER_VERSION, KFR_SYSTEM
*/
static int stream_open(lua_State *L)
{
    const char *path = check_where(L, 1, STDIN_FILENO);
    struct kf_channel *channel = NULL;
    struct reader_box *box = lua_newuserdatauv(L, sizeof *box, 0);
    struct kf_error err = { 0 };

    box->reader = NULL;
    luaL_setmetatable(L, READER);
    if (kf_channel_source(path, kf_lua_interrupted, &channel, &err) ||
        kf_stream_open(channel, &box->reader, &err))
        return kf_lua_refuse(L, &err);
    return 1;
}

/***
What the stream says of itself: to be relied upon only after reader:opens, or once reader:next
gave something with a domain.
@function reader:head
@treturn table version, check (of the domain: 32 hex digits), label, serial, model, manufacturer
  (of the source's token), keyferry, created, expected (nil: unknown)
*/
static int reader_head(lua_State *L)
{
    const struct kf_stream_head *head = kf_stream_head(kf_lua_check_stream_reader(L, 1));
    char check[2 * KF_CHECK_BYTES + 1];

    lua_createtable(L, 0, 9);
    for (size_t i = 0; i < TEXTS; i++) {
        lua_pushstring(L, (const char *)head + texts[i].at);
        lua_setfield(L, -2, texts[i].key);
    }
    for (size_t i = 0; i < KF_CHECK_BYTES; i++)
        snprintf(check + 2 * i, 3, "%02x", head->check[i]);
    lua_pushstring(L, check);
    lua_setfield(L, -2, "check");
    lua_pushinteger(L, (lua_Integer)head->version);
    lua_setfield(L, -2, "version");
    lua_pushinteger(L, (lua_Integer)head->created);
    lua_setfield(L, -2, "created");
    if (head->expected != KF_STREAM_UNKNOWN) {
        lua_pushinteger(L, (lua_Integer)head->expected);
        lua_setfield(L, -2, "expected");
    }
    return 1;
}

/***
Whether the stream was written under a domain; no object is read.
@function reader:opens
@tparam domain domain
@treturn[1] true
@treturn[2] nil
@treturn[2] err KFR_DOMAIN_MISMATCH, KFR_DAMAGED
*/
static int reader_opens(lua_State *L)
{
    const struct kf_stream_reader *reader = kf_lua_check_stream_reader(L, 1);
    const struct kf_domain *domain = kf_lua_check_domain(L, 2);
    struct kf_error err = { 0 };

    return kf_lua_done(L, kf_stream_opens(reader, domain, &err), &err);
}

/***
The next object. With a domain everything up to it, and it, is authenticated before it is
given; without one it is only checked against accidents. The end is reached only when the
stream is whole; after a failure every call fails the same way.
@function reader:next
@tparam[opt] domain domain
@treturn[1] sealed
@treturn[1] ?string the digest that the sender gave, 32 bytes
@treturn[2] nil at the end
@treturn[3] nil
@treturn[3] err KFR_TRUNCATED, KFR_DAMAGED, KFR_DOMAIN_MISMATCH, KFR_SYSTEM, ...
*/
static int reader_next(lua_State *L)
{
    struct kf_stream_reader *reader = kf_lua_check_stream_reader(L, 1);
    const struct kf_domain *domain =
        lua_isnoneornil(L, 2) ? NULL : kf_lua_check_domain(L, 2);
    struct kf_writer *sealed = kf_lua_new_sealed(L);
    struct kf_stream_object object;
    struct kf_error err = { 0 };

    if (kf_stream_next(reader, domain, &object, &err))
        return kf_lua_refuse(L, &err);
    if (!object.sealed) {
        lua_pushnil(L);
        return 1;
    }
    kf_write_bytes(sealed, object.sealed, object.len);
    if (sealed->bad)
        return luaL_error(L, "not enough memory");
    if (!object.has_digest)
        return 1;
    lua_pushlstring(L, (const char *)object.digest, sizeof object.digest);
    return 2;
}

/***
What the stream's end says.
@function reader:finished
@treturn ?table objects (in it), failed and skipped (of the source, not in it); nil before
  reader:next has come to the end
*/
static int reader_finished(lua_State *L)
{
    struct kf_stream_end end;

    if (!kf_stream_ended(kf_lua_check_stream_reader(L, 1), &end)) {
        lua_pushnil(L);
        return 1;
    }
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, (lua_Integer)end.objects);
    lua_setfield(L, -2, "objects");
    lua_pushinteger(L, (lua_Integer)end.failed);
    lua_setfield(L, -2, "failed");
    lua_pushinteger(L, (lua_Integer)end.skipped);
    lua_setfield(L, -2, "skipped");
    return 1;
}

/***
Whether it can be read a second time: a file can, a pipe cannot.
@function reader:seekable
@treturn boolean
*/
static int reader_seekable(lua_State *L)
{
    lua_pushboolean(L, kf_stream_can_rewind(kf_lua_check_stream_reader(L, 1)));
    return 1;
}

/***
Goes back to before the first object.
@function reader:rewind
@treturn[1] true
@treturn[2] nil
@treturn[2] err KFR_ARGUMENT (it is a pipe), KFR_DAMAGED (another stream is there now)
*/
static int reader_rewind(lua_State *L)
{
    struct kf_error err = { 0 };
    kf_rv rv = kf_stream_rewind(kf_lua_check_stream_reader(L, 1), &err);

    return kf_lua_done(L, rv, &err);
}

/***
Closes the file. Objects that it gave live on.
@function reader:close
*/
static int reader_close(lua_State *L)
{
    struct reader_box *box = luaL_checkudata(L, 1, READER);

    kf_stream_reader_free(box->reader);
    box->reader = NULL;
    return 0;
}

static int reader_tostring(lua_State *L)
{
    const struct reader_box *box = luaL_checkudata(L, 1, READER);
    const struct kf_stream_head *head;

    if (!box->reader) {
        lua_pushliteral(L, "sealed stream (closed)");
        return 1;
    }
    head = kf_stream_head(box->reader);
    kf_lua_push_label(L, (const unsigned char *)head->label, strlen(head->label));
    lua_pushfstring(L, "sealed stream of \"%s\"", lua_tostring(L, -1));
    return 1;
}

static const luaL_Reg writer_methods[] = {
    { "add", writer_add },
    { "finish", writer_finish },
    { "close", writer_close },
    { NULL, NULL },
};

static const luaL_Reg reader_methods[] = {
    { "head", reader_head },         { "opens", reader_opens },
    { "next", reader_next },         { "finished", reader_finished },
    { "seekable", reader_seekable }, { "rewind", reader_rewind },
    { "close", reader_close },       { NULL, NULL },
};

static const luaL_Reg functions[] = {
    { "create", stream_create },
    { "open", stream_open },
    { NULL, NULL },
};

static void new_class(lua_State *L, const char *name, const luaL_Reg *methods,
                      lua_CFunction close)
{
    luaL_newmetatable(L, name);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, close);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, close);
    lua_setfield(L, -2, "__close");
    lua_pop(L, 1);
}

void kf_lua_open_stream(lua_State *L)
{
    new_class(L, WRITER, writer_methods, writer_close);
    new_class(L, READER, reader_methods, reader_close);
    luaL_getmetatable(L, READER);
    lua_pushcfunction(L, reader_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    lua_setfield(L, -2, "stream");
}
