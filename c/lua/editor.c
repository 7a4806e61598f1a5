/* SPDX-License-Identifier: MIT */
#include "lua/editor.h"
#include "lua/error.h"
#include "lua/interrupt.h"

#include <errno.h>
#include <histedit.h>
#include <lauxlib.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#define EDITOR "keyferry.editor"

enum { LINE_CHARACTERS = 1024 * 1024, HISTORY_LINES = 1000, PROMPT_BYTES = 256 };
enum { CTRL_C = 0x03, CTRL_D = 0x04, TAB = 0x09, CTRL_Z = 0x1A };
enum { REPLACEMENT = 0xFFFD };
enum { LEAST_COLUMNS = 20, LEAST_ROWS = 4 };

enum outcome { READING, INTERRUPTED, ENDED, TOO_LONG };

/* SIGINT, then the others that would stop or end us with the terminal unusual, and those
 * that changed it. */
static const int watched[] = { SIGINT,  SIGTERM, SIGHUP,  SIGQUIT,
                               SIGTSTP, SIGCONT, SIGWINCH };
enum { WATCHED = sizeof watched / sizeof *watched };

struct signals {
    struct sigaction before[WATCHED];
    sigset_t mask_before;
};

struct editor {
    EditLine *el;
    History *history;
    FILE *out;
    bool own_out;
    lua_State *L; /* while a line is read */
    int complete; /* reference of the function, or LUA_NOREF */
    char prompt[PROMPT_BYTES];
    struct signals signals;
    enum outcome outcome;
    int again; /* a byte that was read too far; -1: none */
};

/* -- The terminal's size ------------------------------------------------------------ */

static void at_least(EditLine *el, const char *capability, int least)
{
    char text[16];
    int now = least;

    if (el_get(el, EL_GETTC, capability, &now) != 0 || now >= least)
        return;
    snprintf(text, sizeof text, "%d", least);
    el_set(el, EL_SETTC, capability, text, NULL);
}

/* Below some columns libedit writes past the end of what it keeps of the screen: then the
 * line looks odd, and no more. While a line is edited it has to be drawn anew afterwards:
 * libedit goes on at the row of before, which there may not be any more. */
static void fit(EditLine *el)
{
    el_resize(el);
    at_least(el, "co", LEAST_COLUMNS);
    at_least(el, "li", LEAST_ROWS);
}

/* -- Signals ----------------------------------------------------------------------- */

static volatile sig_atomic_t caught[WATCHED];

static void note(int number)
{
    for (size_t i = 0; i < WATCHED; i++)
        if (watched[i] == number)
            caught[i] = 1;
}

/* They are blocked but for the wait for a key, so none slips in unseen. */
static void signals_catch(struct signals *signals)
{
    struct sigaction action = { .sa_handler = note };
    sigset_t mask;

    sigemptyset(&action.sa_mask);
    sigemptyset(&mask);
    for (size_t i = 0; i < WATCHED; i++)
        sigaddset(&mask, watched[i]);
    sigprocmask(SIG_BLOCK, &mask, &signals->mask_before);
    for (size_t i = 0; i < WATCHED; i++) {
        caught[i] = 0;
        sigaction(watched[i], NULL, &signals->before[i]);
        if (signals->before[i].sa_handler != SIG_IGN)
            sigaction(watched[i], &action, NULL);
    }
}

static void signals_release(const struct signals *signals)
{
    for (size_t i = 0; i < WATCHED; i++)
        sigaction(watched[i], &signals->before[i], NULL);
    sigprocmask(SIG_SETMASK, &signals->mask_before, NULL);
}

/* Lets the signal do what it would have done, with the terminal as it was. */
static void deliver(struct editor *editor, int number)
{
    el_set(editor->el, EL_PREP_TERM, 0);
    signals_release(&editor->signals);
    raise(number);
    signals_catch(&editor->signals);
    el_set(editor->el, EL_PREP_TERM, 1);
}

static void interrupt(struct editor *editor)
{
    fputs("^C", editor->out);
    editor->outcome = INTERRUPTED;
}

static void suspend(struct editor *editor)
{
    fputc('\n', editor->out);
    fflush(editor->out);
    deliver(editor, SIGTSTP);
    el_set(editor->el, EL_REFRESH);
}

static void obey(struct editor *editor, int number)
{
    switch (number) {
    case SIGINT:
        interrupt(editor);
        break;
    case SIGTSTP:
        suspend(editor);
        break;
    case SIGCONT:
        el_set(editor->el, EL_PREP_TERM, 1);
        el_set(editor->el, EL_REFRESH);
        break;
    case SIGWINCH:
        fputc('\r', editor->out);
        fit(editor->el);
        el_set(editor->el, EL_REFRESH);
        break;
    default: /* SIGTERM, SIGHUP; SIGQUIT does not come back */
        deliver(editor, number);
        editor->outcome = ENDED;
        break;
    }
}

static void obey_all(struct editor *editor)
{
    for (size_t i = 0; i < WATCHED; i++) {
        if (!caught[i])
            continue;
        caught[i] = 0;
        obey(editor, watched[i]);
    }
    if (kf_lua_interrupt_ending())
        editor->outcome = ENDED;
}

/* -- Keys -------------------------------------------------------------------------- */

/* A byte, or -1 when the outcome is decided. */
static int take_byte(struct editor *editor)
{
    struct pollfd keys = { .fd = STDIN_FILENO, .events = POLLIN };
    unsigned char byte;
    int n = editor->again;

    editor->again = -1;
    if (n >= 0)
        return n;
    fflush(editor->out);
    do {
        obey_all(editor);
        if (editor->outcome != READING)
            return -1;
        n = ppoll(&keys, 1, NULL, &editor->signals.mask_before);
    } while (n < 0 && errno == EINTR);
    if (n == 1 && read(STDIN_FILENO, &byte, 1) == 1)
        return byte;
    editor->outcome = ENDED;
    return -1;
}

static bool more_waits(const struct editor *editor)
{
    struct pollfd keys = { .fd = STDIN_FILENO, .events = POLLIN };

    return editor->again >= 0 || poll(&keys, 1, 0) == 1;
}

/* How many bytes follow a first one, and its share of the code point (RFC 3629, 4). */
static int follow(int first, wchar_t *code)
{
    static const struct {
        int from, to, follow, bits;
    } rows[] = {
        { 0x00, 0x7F, 0, 0x7F },
        { 0xC2, 0xDF, 1, 0x1F },
        { 0xE0, 0xEF, 2, 0x0F },
        { 0xF0, 0xF4, 3, 0x07 },
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (first >= rows[i].from && first <= rows[i].to) {
            *code = first & rows[i].bits;
            return rows[i].follow;
        }
    return -1;
}

static bool is_character(wchar_t code, int follows)
{
    static const wchar_t least[] = { 0, 0x80, 0x800, 0x10000 };

    return code >= least[follows] && code <= 0x10FFFF &&
           (code < 0xD800 || code > 0xDFFF);
}

/* One character; what is no UTF-8 shows as U+FFFD rather than vanish. */
static wchar_t take_character(struct editor *editor)
{
    wchar_t code = REPLACEMENT;
    int byte = take_byte(editor);
    int follows = byte < 0 ? 0 : follow(byte, &code);

    for (int i = 0; i < follows; i++) {
        byte = take_byte(editor);
        if (byte < 0x80 || byte > 0xBF) {
            editor->again = byte;
            return REPLACEMENT;
        }
        code = (code << 6) | (byte & 0x3F);
    }
    return follows >= 0 && is_character(code, follows) ? code : REPLACEMENT;
}

static struct editor *editor_of(EditLine *el)
{
    void *editor = NULL;

    el_get(el, EL_CLIENTDATA, &editor);
    return editor;
}

static bool is_full(const struct editor *editor)
{
    const LineInfoW *line = el_wline(editor->el);

    return line->lastchar - line->buffer >= LINE_CHARACTERS;
}

/* The rest of a line that is too long is read, and none of it kept. */
static void skip_line(struct editor *editor)
{
    int byte;

    do
        byte = take_byte(editor);
    while (byte >= 0 && byte != '\n' && byte != '\r' && byte != CTRL_C);
    if (byte >= 0)
        editor->outcome = TOO_LONG;
}

/* libedit's door to the keys. However it ends, libedit sees the Enter key: it leaves the
 * line in order then, from within a search, too. */
static int next_key(EditLine *el, wchar_t *key)
{
    struct editor *editor = editor_of(el);

    *key = L'\0';
    while (editor->outcome == READING && *key == L'\0') {
        if (is_full(editor))
            skip_line(editor);
        else
            *key = take_character(editor); /* a NUL is no key: it is passed over */
        if (*key == CTRL_C)
            interrupt(editor);
        if (*key != CTRL_Z)
            continue;
        suspend(editor);
        *key = L'\0';
    }
    if (editor->outcome == ENDED)
        return 0;
    if (editor->outcome != READING)
        *key = L'\n';
    return 1;
}

/* Ctrl-D: the end on an empty line, else as the Delete key. */
static unsigned char end_or_delete(EditLine *el, int key)
{
    const LineInfoW *line = el_wline(el);

    (void)key;
    if (line->lastchar == line->buffer) {
        editor_of(el)->outcome = ENDED;
        return CC_EOF;
    }
    if (line->cursor == line->lastchar)
        return CC_REFRESH_BEEP;
    el_cursor(el, 1);
    el_deletestr(el, 1);
    return CC_REFRESH;
}

/* -- Completion -------------------------------------------------------------------- */

/* (editor) -> first, text, below; in protected mode */
static int consult(lua_State *L)
{
    const struct editor *editor = lua_touserdata(L, 1);
    const LineInfo *line = el_line(editor->el);

    lua_rawgeti(L, LUA_REGISTRYINDEX, editor->complete);
    lua_pushlstring(L, line->buffer, (size_t)(line->lastchar - line->buffer));
    lua_pushinteger(L, line->cursor - line->buffer);
    lua_call(L, 2, 3);
    return 3;
}

/* The terminal as it was before, and who takes Ctrl-C when no line is edited. */
static struct termios usual;
static void (*answer)(int number);

/* The third one may end the process, so the first puts the terminal right. */
static void restore_and_answer(int number)
{
    tcsetattr(STDIN_FILENO, TCSANOW, &usual);
    answer(number);
}

static void catch_interrupt(const struct sigaction *before)
{
    struct sigaction action = *before;

    if (before->sa_handler == SIG_IGN || before->sa_handler == SIG_DFL)
        return;
    answer = before->sa_handler;
    action.sa_handler = restore_and_answer;
    sigaction(SIGINT, &action, NULL);
}

/* Asking may take a while (a token), so Ctrl-C is a signal for that time. */
static int ask(struct editor *editor)
{
    struct termios keys, signals;
    bool changed = tcgetattr(STDIN_FILENO, &keys) == 0;
    int status;

    signals_release(&editor->signals);
    catch_interrupt(&editor->signals.before[0]);
    if (changed) {
        signals = keys;
        signals.c_lflag |= ISIG;
        tcsetattr(STDIN_FILENO, TCSADRAIN, &signals);
    }
    kf_lua_interrupt_raise(editor->L, true);
    status = lua_pcall(editor->L, 1, 3, 0);
    kf_lua_interrupt_raise(editor->L, false);
    kf_lua_interrupt_clear();
    if (changed)
        tcsetattr(STDIN_FILENO, TCSADRAIN, &keys);
    sigaction(SIGINT, &editor->signals.before[0], NULL);
    signals_catch(&editor->signals);
    return status;
}

static int characters(const char *from, const char *to)
{
    int n = 0;

    for (; from < to; from++)
        n += (*from & 0xC0) != 0x80;
    return n;
}

static unsigned char replace(struct editor *editor, lua_Integer first, const char *text)
{
    const LineInfo *line = el_line(editor->el);

    if (first < 1 || first > line->cursor - line->buffer + 1)
        return CC_REFRESH_BEEP;
    el_deletestr(editor->el, characters(line->buffer + first - 1, line->cursor));
    return el_insertstr(editor->el, text) == 0 ? CC_REFRESH : CC_REFRESH_BEEP;
}

/* What the callback answered lies at `at` on the stack. */
static unsigned char apply(struct editor *editor, int at)
{
    lua_State *L = editor->L;
    const char *text = lua_type(L, at + 1) == LUA_TSTRING ? lua_tostring(L, at + 1) : NULL;
    unsigned char done = CC_REFRESH_BEEP;

    if (!lua_isinteger(L, at) || !text)
        return CC_REFRESH_BEEP;
    done = replace(editor, lua_tointeger(L, at), text);
    if (lua_type(L, at + 2) != LUA_TSTRING)
        return done;
    fprintf(editor->out, "\n%s\n", lua_tostring(L, at + 2));
    return CC_REDISPLAY;
}

/* A Tab in text that was pasted is a Tab. */
static unsigned char complete(EditLine *el, int key)
{
    struct editor *editor = editor_of(el);
    lua_State *L = editor->L;
    unsigned char done = CC_REFRESH_BEEP;
    int top;

    (void)key;
    if (more_waits(editor) || editor->complete == LUA_NOREF) {
        el_insertstr(el, "\t");
        return CC_REFRESH;
    }
    if (!lua_checkstack(L, 8))
        return CC_REFRESH_BEEP;
    top = lua_gettop(L);
    lua_pushcfunction(L, consult);
    lua_pushlightuserdata(L, editor);
    if (ask(editor) == LUA_OK)
        done = apply(editor, top + 1);
    lua_settop(L, top);
    return done;
}

/* -- libedit ----------------------------------------------------------------------- */

static const char *const bindings[][2] = {
    { "^I", "keyferry-complete" },  { "^D", "keyferry-end" },
    { "^R", "em-inc-search-prev" }, { "^W", "ed-delete-prev-word" },
    { "\\e[A", "ed-prev-history" }, { "\\eOA", "ed-prev-history" },
    { "\\e[B", "ed-next-history" }, { "\\eOB", "ed-next-history" },
    { "\\e[C", "ed-next-char" },    { "\\eOC", "ed-next-char" },
    { "\\e[D", "ed-prev-char" },    { "\\eOD", "ed-prev-char" },
    { "\\e[H", "ed-move-to-beg" },  { "\\eOH", "ed-move-to-beg" },
    { "\\e[1~", "ed-move-to-beg" }, { "\\e[7~", "ed-move-to-beg" },
    { "\\e[F", "ed-move-to-end" },  { "\\eOF", "ed-move-to-end" },
    { "\\e[4~", "ed-move-to-end" }, { "\\e[8~", "ed-move-to-end" },
    { "\\e[3~", "keyferry-delete" },   { "\\e[1;5C", "em-next-word" },
    { "\\e[1;5D", "ed-prev-word" },
};

static char *prompt_of(EditLine *el)
{
    return editor_of(el)->prompt;
}

/* The Delete key is no end of anything. */
static unsigned char delete_next(EditLine *el, int key)
{
    const LineInfoW *line = el_wline(el);

    return line->lastchar == line->buffer ? CC_REFRESH_BEEP : end_or_delete(el, key);
}

static bool set_up(struct editor *editor)
{
    EditLine *el = el_init("keyferry", stdin, editor->out, stderr);

    editor->el = el;
    if (!el)
        return false;
    el_set(el, EL_CLIENTDATA, editor);
    el_set(el, EL_PROMPT_ESC, prompt_of, '\1');
    el_set(el, EL_SIGNAL, 0);
    el_set(el, EL_EDITOR, "emacs");
    el_set(el, EL_GETCFN, next_key);
    el_set(el, EL_HIST, history, editor->history);
    /* el_set would copy the names and never free them. */
    el_wset(el, EL_ADDFN, L"keyferry-complete", L"Complete the word", complete);
    el_wset(el, EL_ADDFN, L"keyferry-end", L"Delete, or end", end_or_delete);
    el_wset(el, EL_ADDFN, L"keyferry-delete", L"Delete the next one", delete_next);
    for (size_t i = 0; i < sizeof bindings / sizeof *bindings; i++)
        el_set(el, EL_BIND, bindings[i][0], bindings[i][1], NULL);
    el_set(el, EL_SETTY, "-d", "-isig", NULL);
    return true;
}

static void pick_output(struct editor *editor)
{
    int fd = -1;

    editor->out = isatty(STDOUT_FILENO) ? stdout : stderr;
    if (isatty(STDOUT_FILENO) || isatty(STDERR_FILENO))
        return;
    fd = dup(STDIN_FILENO);
    if (fd < 0)
        return;
    editor->out = fdopen(fd, "w");
    editor->own_out = editor->out != NULL;
    if (!editor->own_out) {
        close(fd);
        editor->out = stderr;
    }
}

/* Outside of a line the terminal is as it was. el_end would set it again, and drop what
 * is typed ahead with it (TCSAFLUSH), unless there is nothing to edit. */
static void end(struct editor *editor)
{
    if (!editor->L)
        el_set(editor->el, EL_EDITMODE, 0);
    el_end(editor->el);
    editor->el = NULL;
}

static void tear_down(struct editor *editor)
{
    if (editor->el)
        end(editor);
    if (editor->history)
        history_end(editor->history);
    if (editor->own_out)
        fclose(editor->out);
    editor->history = NULL;
    editor->own_out = false;
}

/* -- Lua --------------------------------------------------------------------------- */

static struct editor *check_open(lua_State *L)
{
    struct editor *editor = luaL_checkudata(L, 1, EDITOR);

    luaL_argcheck(L, editor->el, 1, "this editor is closed");
    luaL_argcheck(L, !editor->L, 1, "this editor is reading a line");
    return editor;
}

static int editor_new(lua_State *L)
{
    struct editor *editor;
    HistEvent event;

    luaL_checktype(L, 1, LUA_TTABLE);
    editor = lua_newuserdatauv(L, sizeof *editor, 0);
    memset(editor, 0, sizeof *editor);
    editor->complete = LUA_NOREF;
    luaL_setmetatable(L, EDITOR);
    if (lua_getfield(L, 1, "complete") == LUA_TFUNCTION)
        editor->complete = luaL_ref(L, LUA_REGISTRYINDEX);
    else
        lua_pop(L, 1);
    pick_output(editor);
    editor->history = history_init();
    if (!editor->history || !set_up(editor))
        return luaL_error(L, "no memory for a line editor");
    history(editor->history, &event, H_SETSIZE, HISTORY_LINES);
    return 1;
}

static int refuse(lua_State *L, kf_rv rv, const char *what)
{
    struct kf_error err = { 0 };

    kf_fail(&err, rv, NULL, NULL, "%s", what);
    return kf_lua_refuse(L, &err);
}

static int editor_read(lua_State *L)
{
    struct editor *editor = check_open(L);
    size_t len;
    const char *prompt = luaL_checklstring(L, 2, &len);
    const char *line;
    int count = 0;

    luaL_argcheck(L, len < PROMPT_BYTES && strlen(prompt) == len, 2, "not a prompt");
    memcpy(editor->prompt, prompt, len + 1);
    fflush(NULL);
    editor->L = L;
    editor->outcome = READING;
    editor->again = -1;
    tcgetattr(STDIN_FILENO, &usual);
    signals_catch(&editor->signals);
    fit(editor->el);
    /* libedit would do so after the prompt: what is typed at once would show twice. */
    el_set(editor->el, EL_PREP_TERM, 1);
    line = el_gets(editor->el, &count);
    fflush(editor->out);
    signals_release(&editor->signals);
    editor->L = NULL;
    if (editor->outcome == INTERRUPTED)
        return refuse(L, KFR_INTERRUPTED, "interrupted");
    if (editor->outcome == TOO_LONG)
        return refuse(L, KFR_LIMIT, "the line is longer than a million characters");
    if (!line || count < 0 || editor->outcome == ENDED)
        return 0;
    if (count > 0 && line[count - 1] == '\n')
        count--;
    lua_pushlstring(L, line, (size_t)count);
    return 1;
}

static int editor_add(lua_State *L)
{
    struct editor *editor = check_open(L);
    HistEvent event;

    history(editor->history, &event, H_ENTER, luaL_checkstring(L, 2));
    return 0;
}

/* The buffer of the line is wiped; what libedit has of it besides (to undo, to put back
 * what was cut) goes with the EditLine, which is made anew. */
static int editor_forget(lua_State *L)
{
    struct editor *editor = check_open(L);
    const LineInfoW *wide = el_wline(editor->el);
    const LineInfo *narrow = el_line(editor->el);

    if (narrow->buffer)
        OPENSSL_cleanse((char *)narrow->buffer,
                        (size_t)(narrow->lastchar - narrow->buffer));
    OPENSSL_cleanse((wchar_t *)wide->buffer,
                    (size_t)(wide->lastchar - wide->buffer) * sizeof *wide->buffer);
    end(editor);
    if (!set_up(editor))
        return luaL_error(L, "no memory for a line editor");
    return 0;
}

static int editor_columns(lua_State *L)
{
    struct editor *editor = luaL_checkudata(L, 1, EDITOR);
    int columns = 0;

    luaL_argcheck(L, editor->el, 1, "this editor is closed");
    if (!editor->L) /* completion asks while a line is read */
        fit(editor->el);
    if (el_get(editor->el, EL_GETTC, "co", &columns) != 0 || columns < 1)
        columns = 80;
    lua_pushinteger(L, columns);
    return 1;
}

static int editor_close(lua_State *L)
{
    struct editor *editor = luaL_checkudata(L, 1, EDITOR);

    tear_down(editor);
    luaL_unref(L, LUA_REGISTRYINDEX, editor->complete);
    editor->complete = LUA_NOREF;
    return 0;
}

static const luaL_Reg methods[] = {
    { "read", editor_read },     { "add", editor_add },     { "forget", editor_forget },
    { "columns", editor_columns }, { "close", editor_close }, { NULL, NULL },
};

static const luaL_Reg meta[] = {
    { "__close", editor_close },
    { "__gc", editor_close },
    { NULL, NULL },
};

static const luaL_Reg functions[] = {
    { "editor", editor_new },
    { NULL, NULL },
};

void kf_lua_open_editor(lua_State *L)
{
    luaL_newmetatable(L, EDITOR);
    luaL_setfuncs(L, meta, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_setfuncs(L, functions, 0);
}
