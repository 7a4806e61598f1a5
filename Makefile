# keyferry. `make help` lists what there is to make. Everything made goes under build/
# (B), which `make clean` removes.

VERSION  := 0.1.0
PREFIX   ?= /usr/local
B        ?= build
CC       ?= cc
LUA      ?= lua5.4
LUA_PC   ?= lua5.4

# Lazy, so that `make deps` and `make clean` run on a machine that has nothing yet.
PKG       = $(shell pkg-config $(1) $(2))
CPPFLAGS  = -Ic -D_GNU_SOURCE $(FORTIFY) -DKEYFERRY_VERSION='"$(VERSION)"'
FORTIFY  ?= -D_FORTIFY_SOURCE=2
CFLAGS   ?= -O2 -g
WARN      = -std=c11 -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes \
            -Wmissing-prototypes -Wvla -Wformat=2 $(WERROR)
HARDEN    = -fPIC -fvisibility=hidden -fstack-protector-strong -fstack-clash-protection
LDFLAGS   = -Wl,-z,relro,-z,now -Wl,-z,noexecstack
SANITIZE ?=
SANITIZE_LIBS ?=
# A compiler to come may warn of more: `make WERROR=` builds all the same.
WERROR   ?= -Werror

# Each floor sees its own headers and those below; only the door sees lua.h.
FLOOR_base   = $(call PKG,--cflags,libcrypto)
FLOOR_pkcs11 = $(FLOOR_base) $(call PKG,--cflags,p11-kit-1)
FLOOR_clone  = $(FLOOR_pkcs11)
FLOOR_lua    = $(FLOOR_clone) $(call PKG,--cflags,$(LUA_PC))
FLOOR_c      = $(FLOOR_lua)
floor_of     = $(FLOOR_$(notdir $(patsubst %/,%,$(dir $(1)))))
LIBS         = $(call PKG,--libs,libcrypto p11-kit-1) -ldl $(SANITIZE_LIBS)
LUA_LIBS     = $(call PKG,--libs,$(LUA_PC))
EDIT_LIBS    = $(call PKG,--libs,libedit)

CORE := $(patsubst c/%.c,$(B)/c/%.o,$(wildcard c/base/*.c c/pkcs11/*.c c/clone/*.c))
# The prompt is the program's alone: plain lua5.4 needs no libedit for a backup.
MAIN := $(addprefix $(B)/c/,main.o lua/editor.o lua/history.o)
DOOR := $(filter-out $(MAIN),$(patsubst c/%.c,$(B)/c/%.o,$(wildcard c/lua/*.c)))

.DEFAULT_GOAL := all
.PHONY: all deps deps-test deps-demo core core.so demo test matrix check lint sanitize memcheck bench clean help \
        install install-lua install-tree uninstall man completion reference

all: $(B)/keyferry $(B)/lua/keyferry/core.so ## the program and the Lua module

$(B)/c/lua/editor.o: CPPFLAGS += $(call PKG,--cflags,libedit)

core: $(CORE)

core.so: $(B)/lua/keyferry/core.so

$(B)/c/%.o: c/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(call floor_of,$<) $(WARN) $(CFLAGS) $(HARDEN) $(SANITIZE) \
	  -MMD -MP -c -o $@ $<

# The program hosts Lua and has the core inside; plain lua5.4 loads the same core.
$(B)/keyferry: $(MAIN) $(DOOR) $(CORE)
	$(CC) $(SANITIZE) -pie -Wl,-E -o $@ $^ $(LDFLAGS) $(LUA_LIBS) $(EDIT_LIBS) $(LIBS)

$(B)/lua/keyferry/core.so: $(DOOR) $(CORE)
	@mkdir -p $(@D)
	$(CC) $(SANITIZE) -shared -o $@ $^ $(LDFLAGS) $(LIBS)

# ---- What has to be there first

DEBS_DEMO := gcc make pkg-config libssl-dev liblua5.4-dev lua5.4 libp11-kit-dev \
             libedit-dev softhsm2 lua-cjson openssl opensc expect
DEBS_TEST := $(DEBS_DEMO) libnss3 lua-unit tmux procps binutils valgrind zsh bash-completion mandoc
DEBS      := $(DEBS_TEST) clang clang-tidy cppcheck lua-check shellcheck

# DEPS=no: I see to it myself.
DEPS ?= yes

deps: DEBS_WANTED = $(DEBS)
deps-test: DEBS_WANTED = $(DEBS_TEST)
deps-demo: DEBS_WANTED = $(DEBS_DEMO)

deps: ## install the packages needed (Debian's names; apt-get)
# Installs what is missing and says nothing when all is there.
deps deps-test deps-demo:
	@[ '$(DEPS)' = yes ] || exit 0; \
	command -v apt-get >/dev/null || { \
	  echo 'make deps knows apt-get only. Needed, by the names Debian has for them:' >&2; \
	  echo '  $(DEBS_WANTED)' >&2; \
	  echo 'Once they are there: make DEPS=no demo (or test, or check)' >&2; exit 1; }; \
	missing=; for deb in $(DEBS_WANTED); do \
	  [ "$$(dpkg-query -W -f '$${db:Status-Status}' "$$deb" 2>/dev/null)" = installed ] || \
	    missing="$$missing $$deb"; done; \
	[ -n "$$missing" ] || exit 0; \
	root=; [ "$$(id -u)" = 0 ] || root=sudo; \
	echo "installing:$$missing"; \
	$$root apt-get update -q && $$root env DEBIAN_FRONTEND=noninteractive \
	  apt-get install -q -y --no-install-recommends $$missing </dev/null

# ---- Seeing it work

# A sub-make each, since nothing can be compiled before deps are there.
demo: deps-demo ## back a partition up and prove the backup, before your eyes
	@$(MAKE) -s --no-print-directory all
	@KEYFERRY_BUILD=$(B) $(LUA) spec/demo/run.lua

# One process more than there are processors runs the specs: they wait, too.
JOBS ?= $(shell expr 1 + $$(nproc 2>/dev/null || echo 1))

test: deps-test ## run the specs; the last line is "N passed, N failed"
	@$(MAKE) --no-print-directory all spec-tools
	@KEYFERRY_BUILD=$(B) $(LUA) spec/run.lua -j $(JOBS) $(SPECS)

bench: deps-test ## measure it against plain PKCS#11 programs
	@$(MAKE) --no-print-directory all spec-tools
	@KEYFERRY_BUILD=$(B) $(LUA) spec/bench/run.lua
	@KEYFERRY_BUILD=$(B) $(LUA) spec/bench/shell.lua
	@KEYFERRY_BUILD=$(B) $(LUA) spec/bench/life.lua

matrix: deps-test ## every end backed up to every end, each kind of object, and what came of it
	@$(MAKE) --no-print-directory all spec-tools
	@KEYFERRY_BUILD=$(B) $(LUA) spec/matrix/run.lua

check: ## lint, sanitize and memcheck
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory sanitize
	@$(MAKE) --no-print-directory memcheck

# ---- Finding fault with it

C_FILES   := $(wildcard c/*.c c/*/*.c)
LUA_FILES  = lua scripts spec rockspec/*.rockspec
SH_FILES   = .ci/run
CPPCHECK   = cppcheck -q --std=c11 --language=c --error-exitcode=1 --inline-suppr \
  --enable=warning,performance,portability --suppress=missingIncludeSystem -Ic -Ispec \
  -D__GNUC__ -DKEYFERRY_VERSION='"x"'
TIDY_FLAGS = $(CPPFLAGS) $(call floor_of,$*.c) -std=c11

lint: deps ## both compilers without a warning, cppcheck, clang-tidy, luacheck
	@$(MAKE) --no-print-directory B=$(B)/gcc CC=gcc all spec-tools
	@$(MAKE) --no-print-directory B=$(B)/clang CC=clang all spec-tools
	$(CPPCHECK) c spec
	@$(MAKE) --no-print-directory tidy
	luacheck -q $(LUA_FILES)
	@$(MAKE) --no-print-directory completion
	shellcheck $(SH_FILES) $(B)/completion/keyferry
	zsh -n $(B)/completion/_keyferry

.PHONY: tidy
tidy: $(C_FILES:%.c=$(B)/tidy/%.ok)

$(B)/tidy/%.ok: %.c .clang-tidy
	@mkdir -p $(@D)
	clang-tidy --quiet --warnings-as-errors='*' $< -- $(TIDY_FLAGS)
	@touch $@

# Leaks are memcheck's: the leak finder must trace the process, which keyferry forbids.
# lua5.4 is not sanitized and loads core.so, so it has to start with the library in place:
# by the loader's option, since LD_PRELOAD would reach other people's programs. SoftHSM
# throws exceptions, which the library can follow only when libstdc++ is there from the start.
ASAN     = $(B)/asan
ASAN_ENV = ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 \
           UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1

sanitize: deps-test ## all specs again, under AddressSanitizer and UBSan
	@$(MAKE) --no-print-directory B=$(ASAN) FORTIFY= CFLAGS='-O1 -g -fno-omit-frame-pointer' \
	  SANITIZE='-fsanitize=address,undefined -fno-sanitize-recover=all' \
	  SANITIZE_LIBS='-Wl,--no-as-needed -lstdc++' \
	  all spec-tools $(ASAN)/lua5.4
	@mkdir -p $(B)/share && ln -sfn ../.. $(B)/share/keyferry
	@PATH="$(abspath $(ASAN)):$$PATH" $(ASAN_ENV) KEYFERRY_BUILD=$(ASAN) \
	  $(ASAN)/lua5.4 spec/run.lua -j $(JOBS) $(SPECS)

$(B)/lua5.4: Makefile
	@mkdir -p $(@D)
	@lua=$$(command -v $(LUA)); printf '#!/bin/sh\nexec %s --preload %s --argv0 %s %s "$$@"\n' \
	  "$$(readelf -l "$$lua" | sed -n 's/.*interpreter: \(.*\)]/\1/p')" \
	  "$$($(CC) -print-file-name=libasan.so):libstdc++.so.6" '$(abspath $@)' "$$lua" >$@
	@chmod +x $@

memcheck: deps-test ## a whole backup under valgrind
	@$(MAKE) --no-print-directory all
	@KEYFERRY_BUILD=$(B) $(LUA) spec/demo/memcheck.lua

# ---- Manual pages

man: $(B)/keyferry ## the manual pages, from what the commands say of themselves
	@rm -rf $(B)/man && mkdir -p $(B)/man/man1
	$(B)/keyferry --man $(B)/man/man1

# ---- The reference of the library

reference: ## lua/README.md, from what the sources say
	$(LUA) spec/reference/run.lua

# ---- Completion in bash and zsh

completion: all ## the completion files of bash and zsh
	@mkdir -p $(B)/completion
	$(B)/keyferry --completion bash >$(B)/completion/keyferry
	$(B)/keyferry --completion zsh >$(B)/completion/_keyferry

# ---- Installing

SHARE     = $(DESTDIR)$(PREFIX)/share/keyferry
BASH_FILE = $(DESTDIR)$(PREFIX)/share/bash-completion/completions/keyferry
ZSH_FILE  = $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_keyferry
MAN1      = $(DESTDIR)$(PREFIX)/share/man/man1
LIBDIR   ?= $(PREFIX)/lib/lua/5.4
LUADIR   ?= $(PREFIX)/share/lua/5.4
put_tree  = (cd $(1) && find . -type f -name '*.lua' -o -type f -name '*.md') | \
  while read -r file; do install -D -m 644 "$(1)/$$file" "$(2)/$$file" || exit 1; done

install: all install-lua install-tree completion ## to PREFIX (/usr/local), below DESTDIR
	install -D -m 755 $(B)/keyferry $(DESTDIR)$(PREFIX)/bin/keyferry
	install -d -m 755 $(MAN1)
	$(DESTDIR)$(PREFIX)/bin/keyferry --man $(MAN1)
	install -D -m 644 $(B)/completion/keyferry $(BASH_FILE)
	install -D -m 644 $(B)/completion/_keyferry $(ZSH_FILE)

# What the program finds beside itself: its Lua files, the scripts, the guides to both.
install-tree:
	$(call put_tree,lua,$(SHARE)/lua)
	$(call put_tree,scripts,$(SHARE)/scripts)

# The library for plain lua5.4, without the program; keyferry.testing runs policies and the
# stock commands that they call.
install-lua: core.so
	install -D -m 755 $(B)/lua/keyferry/core.so $(DESTDIR)$(LIBDIR)/keyferry/core.so
	$(call put_tree,lua/keyferry,$(DESTDIR)$(LUADIR)/keyferry)
	$(call put_tree,scripts,$(DESTDIR)$(LUADIR)/keyferry/scripts)

uninstall: ## take away what install put there
	rm -f $(DESTDIR)$(PREFIX)/bin/keyferry $(BASH_FILE) $(ZSH_FILE) $(MAN1)/keyferry.1 $(MAN1)/keyferry-*.1
	rm -rf $(SHARE) $(DESTDIR)$(LIBDIR)/keyferry $(DESTDIR)$(LUADIR)/keyferry

clean: ## remove what was built
	rm -rf $(B)

help:
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(firstword $(MAKEFILE_LIST)) | \
	  expand -t 18

include spec/spec.mk
-include $(CORE:.o=.d) $(DOOR:.o=.d) $(MAIN:.o=.d)
