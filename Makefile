# keyferry: `make deps`, then `make`; `make demo` and `make test` do everything by
# themselves. Everything made goes under build/ (B), which `make clean` removes.

VERSION  := 0.1.0
PREFIX   ?= /usr/local
B        ?= build
CC       ?= cc
LUA      ?= lua5.4
LUA_PC   ?= lua5.4

# Lazy, so that `make deps` and `make clean` run on a machine that has nothing yet.
PKG       = $(shell pkg-config $(1) $(2))
CPPFLAGS  = -Ic -D_GNU_SOURCE -D_FORTIFY_SOURCE=2 -DKEYFERRY_VERSION='"$(VERSION)"'
CFLAGS   ?= -O2 -g
WARN      = -std=c11 -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes \
            -Wmissing-prototypes -Wvla -Wformat=2 -Werror
HARDEN    = -fPIC -fvisibility=hidden -fstack-protector-strong -fstack-clash-protection
LDFLAGS   = -Wl,-z,relro,-z,now -Wl,-z,noexecstack
SANITIZE ?=

# Each floor sees its own headers and those below; only the door sees lua.h.
FLOOR_base   = $(call PKG,--cflags,libcrypto)
FLOOR_pkcs11 = $(FLOOR_base) $(call PKG,--cflags,p11-kit-1)
FLOOR_clone  = $(FLOOR_pkcs11)
FLOOR_lua    = $(FLOOR_clone) $(call PKG,--cflags,$(LUA_PC)) $(call PKG,--cflags,libedit)
FLOOR_c      = $(FLOOR_lua)
LIBS         = $(call PKG,--libs,libcrypto p11-kit-1) -ldl
LUA_LIBS     = $(call PKG,--libs,$(LUA_PC))

CORE := $(patsubst c/%.c,$(B)/c/%.o,$(wildcard c/base/*.c c/pkcs11/*.c c/clone/*.c))
DOOR := $(patsubst c/%.c,$(B)/c/%.o,$(wildcard c/lua/*.c))
MAIN := $(B)/c/main.o

.PHONY: all deps core demo test check lint sanitize bench install uninstall clean

all: $(B)/keyferry $(B)/lua/keyferry/core.so

core: $(CORE)

$(B)/c/%.o: c/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(FLOOR_$(notdir $(patsubst %/,%,$(dir $<)))) $(WARN) $(CFLAGS) \
	  $(HARDEN) $(SANITIZE) -MMD -MP -c -o $@ $<

# The program hosts Lua and has the core inside; plain lua5.4 loads the same core.
$(B)/keyferry: $(MAIN) $(DOOR) $(CORE)
	$(CC) $(SANITIZE) -pie -Wl,-E -o $@ $^ $(LDFLAGS) $(LUA_LIBS) $(LIBS)

$(B)/lua/keyferry/core.so: $(DOOR) $(CORE)
	@mkdir -p $(@D)
	$(CC) $(SANITIZE) -shared -o $@ $^ $(LDFLAGS) $(LIBS)

clean:
	rm -rf $(B)

include spec/spec.mk
-include $(CORE:.o=.d) $(DOOR:.o=.d) $(MAIN:.o=.d)
