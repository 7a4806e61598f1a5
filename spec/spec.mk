# What the specs and the bench need besides the product. Included by the Makefile. Not
# sanitized with it (SPEC_SANITIZE does that): other people's programs load liar.so, too.
SPEC_FUZZ  := $(addprefix $(B)/spec/fuzz_,sealed attributes material softhsm_store stream share)
SPEC_CORE  := $(B)/spec/sealed $(B)/spec/core_check $(B)/spec/shamir_check $(SPEC_FUZZ)
SPEC_TOOLS := $(addprefix $(B)/spec/,liar.so mortal.so not_pkcs11.so interface.so luna.so luna_liar.so drive softhsm_dump fill loop) $(SPEC_CORE)
SPEC_CC     = $(CC) $(CPPFLAGS) $(FLOOR_pkcs11) $(WARN) $(CFLAGS) $(HARDEN) $(SPEC_SANITIZE)
SPEC_LINK   = $(LDFLAGS) $(call PKG,--libs,libcrypto) -ldl

.PHONY: spec-tools
spec-tools: $(SPEC_TOOLS)

$(B)/spec/%.o: spec/%.c Makefile spec/spec.mk
	@mkdir -p $(@D)
	$(SPEC_CC) -Ispec -MMD -MP -c -o $@ $<

$(B)/spec/liar.so: $(addprefix $(B)/spec/support/,$(addsuffix .o,liar liar_answers \
  liar_path liar_script pad image))
$(B)/spec/luna_liar.so: $(B)/spec/support/luna_liar.o
$(B)/spec/luna.so: $(addprefix $(B)/spec/support/,$(addsuffix .o,luna luna_login luna_state \
  luna_object luna_store luna_clone pad image))
$(B)/spec/drive: $(B)/spec/support/drive.o
$(B)/spec/mortal.so: $(B)/spec/support/mortal.o
$(B)/spec/interface.so: $(B)/spec/support/interface.o
$(B)/spec/not_pkcs11.so: $(B)/spec/support/not_pkcs11.o
$(B)/spec/softhsm_dump: $(B)/spec/support/softhsm_dump.o
$(B)/spec/fill: $(addprefix $(B)/spec/,bench/fill.o bench/token.o support/image.o)
$(B)/spec/loop: $(addprefix $(B)/spec/,bench/loop.o bench/token.o support/image.o)

# These have the core inside, and are sanitized with it.
$(B)/spec/sealed: $(B)/spec/fixtures/sealed.o
$(B)/spec/core_check: $(B)/spec/clone/core_check.o
$(B)/spec/shamir_check: $(B)/spec/base/shamir_check.o
$(SPEC_FUZZ): $(B)/spec/fuzz_%: $(B)/spec/fuzz/%.o $(B)/spec/fuzz/replay.o
$(SPEC_CORE): $(CORE)
	$(CC) $(SANITIZE) $(SPEC_SANITIZE) -o $@ $^ $(LDFLAGS) $(LIBS)

$(B)/spec/%.so:
	$(CC) -shared $(SPEC_SANITIZE) -o $@ $^ $(SPEC_LINK)

$(B)/spec/softhsm_dump $(B)/spec/fill $(B)/spec/loop $(B)/spec/drive:
	$(CC) $(SPEC_SANITIZE) -o $@ $^ $(SPEC_LINK)

-include $(wildcard $(B)/spec/*/*.d)
