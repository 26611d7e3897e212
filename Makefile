# payment: a payment backend inside PostgreSQL
#
#   make, make install, make installcheck    as for any PGXS extension
#   make demo, make play, make play-stop     see it work on private servers
#   make test                                everything, on private servers
#   make help                                the rest

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
SHELL = /bin/bash

# Sources are found by wildcard; what lies in these folders is the module.
here := $(dir $(firstword $(MAKEFILE_LIST)))
folders := src src/instance src/ledger src/order src/webhook src/reconcile \
	src/partition src/event worker worker/psp worker/settlement
sources := $(sort $(wildcard $(folders:%=$(here)%/*.c)))
headers := $(sort $(wildcard $(folders:%=$(here)%/*.h)))

MODULE_big = payment
OBJS = $(patsubst $(here)%.c,%.o,$(sources))
EXTENSION = payment
DATA = $(notdir $(sort $(wildcard $(here)payment--*.sql)))
PGFILEDESC = "payment - payment backend"

# PostgreSQL's headers as system headers: -Wextra is for our code.
PG_CPPFLAGS = -I$(here)src -I$(here)worker \
	-isystem $(shell $(PG_CONFIG) --includedir-server 2>/dev/null) \
	-isystem $(shell $(PG_CONFIG) --includedir 2>/dev/null) \
	$(shell curl-config --cflags 2>/dev/null)
PG_CFLAGS = -Wall -Wextra
SHLIB_LINK = $(or $(shell curl-config --libs 2>/dev/null),-lcurl) -lcsv $(libpq)

# Tests against the server that PGHOST, PGPORT and PGUSER name.
# TESTS= picks some by name: make installcheck TESTS="money ledger".
pick = $(if $(TESTS),$(filter $(TESTS),$(1)),$(1))
REGRESS = $(call pick,$(sort $(notdir $(basename $(wildcard $(here)test/sql/*.sql)))))
REGRESS_OPTS = --inputdir=$(here)test --load-extension=payment
ISOLATION = $(call pick,$(sort $(notdir $(basename $(wildcard $(here)test/specs/*.spec)))))
ISOLATION_OPTS = --inputdir=$(here)test --outputdir=. --load-extension=payment
tap_files := $(sort $(wildcard $(here)test/t/*.pl))
PROVE_TESTS = $(if $(TESTS),$(filter $(TESTS:%=\%/%.pl),$(tap_files)),$(tap_files))
EXTRA_CLEAN = .build_id

# Left away when there is nothing to run, or nothing to run it with.
ifeq ($(strip $(REGRESS)),)
undefine REGRESS
endif
ifeq ($(strip $(ISOLATION)),)
undefine ISOLATION
endif
ifneq ($(strip $(PROVE_TESTS)),)
ifneq ($(shell perl -MIPC::Run -e 'print 1' 2>/dev/null),)
TAP_TESTS = 1
endif
endif

ifneq ($(PGXS),)

# Bitcode for the JIT needs the clang that PostgreSQL was built with.
clang := $(shell sed -n 's/^CLANG *= *//p' $(dir $(PGXS))../Makefile.global)
ifeq ($(shell command -v '$(clang)'),)
override with_llvm = no
endif

include $(PGXS)

PROVE_FLAGS += -I $(here)test/lib --timer

# PGXS tracks no headers, nor another PostgreSQL or other flags.
.build_id_now := $(shell $(PG_CONFIG) --version) $(CC) $(CFLAGS) $(COPT) $(CPPFLAGS)
$(shell echo '$(subst ','\'',$(.build_id_now))' | cmp -s - .build_id || \
	echo '$(subst ','\'',$(.build_id_now))' > .build_id)
$(OBJS) $(OBJS:.o=.bc): $(headers) $(here)Makefile .build_id

# A build outside of the source tree lacks the folders.
ifneq ($(here),./)
$(shell mkdir -p $(folders))
endif

clean: clean-sandbox clean-gateway clean-bench clean-model

else

all install uninstall installcheck clean:
	@echo "$(PG_CONFIG) is missing: 'make deps' installs what is needed" >&2
	@exit 1

endif

.PHONY: sandbox gateway install-gateway clean-sandbox clean-gateway clean-bench
sandbox:
	$(MAKE) -C $(here)sandbox

gateway:
	$(MAKE) -C $(here)gateway PG_CONFIG='$(PG_CONFIG)'

install-gateway:
	$(MAKE) -C $(here)gateway install PG_CONFIG='$(PG_CONFIG)'

clean-gateway:
	$(MAKE) -C $(here)gateway clean PG_CONFIG='$(PG_CONFIG)'

clean-sandbox:
	$(MAKE) -C $(here)sandbox clean

clean-bench:
	$(MAKE) -C $(here)bench clean

# The client of the ledger's model-based test.
.PHONY: ledger-model clean-model
ledger-model:
	$(MAKE) -C $(here)test/model PG_CONFIG='$(PG_CONFIG)'

clean-model:
	$(MAKE) -C $(here)test/model clean PG_CONFIG='$(PG_CONFIG)'

# Private servers, sandbox and tests: see script/.
.PHONY: deps test test-regress test-isolation test-pgtap test-tap test-crash \
	check-style format demo play play-stop bench bench-ledger bench-dispatch help
export TESTS PG_MAJOR

deps:
	@$(here)script/deps

test: deps
	@$(here)script/test

test-regress test-isolation test-pgtap test-tap: test-%: deps
	@$(here)script/test $*

# MINUTES=60 of kills, faults and load; PAYMENT_CRASH_SEED repeats a run.
test-crash: deps
	@TESTS=140_crash PAYMENT_CRASH_SECONDS=$$((60 * $(or $(MINUTES),60))) $(here)script/test tap

check-style: deps
	@$(here)script/check-style

format:
	cd $(here)./ && clang-format -i $$(find $(folders) sandbox gateway bench test \
		-name '*.[ch]' 2>/dev/null | sort -u)

demo: deps
	@$(here)demo/demo

play: deps
	@$(here)demo/demo --play

play-stop:
	@$(here)demo/demo --stop

# FULL=1: with 50 M entries present; PARTS="single batch" picks some.
bench: bench-ledger bench-dispatch

bench-ledger: deps
	@PAYMENT_BENCH_FULL=$(FULL) $(here)bench/bench ledger $(PARTS)

# FULL=1: with 1,000,000 tasks queued; PARTS="rate wire" picks some.
bench-dispatch: deps
	@PAYMENT_BENCH_FULL=$(FULL) $(here)bench/bench dispatch $(PARTS)

help:
	@echo 'make                       build the extension'
	@echo 'make install               install it (DESTDIR= as usual)'
	@echo 'make installcheck          test it on the server at PGHOST, PGPORT'
	@echo 'make deps                  install what is missing, from Debian packages'
	@echo 'make demo                  a day of payments on private servers'
	@echo 'make play, play-stop       the same, left running to look around'
	@echo 'make test                  all tests on private servers'
	@echo 'make test-regress, test-isolation, test-pgtap, test-tap [TESTS="a b"]'
	@echo 'make test-crash            an hour of crashes under load [MINUTES=60]'
	@echo 'make bench, bench-ledger, bench-dispatch  measure it [FULL=1] [PARTS="single batch"]'
	@echo 'make check-style           format, warnings, static analysis'
	@echo 'make format                put all C files into the format'
	@echo 'make sandbox               the PSP to test against'
	@echo 'make gateway               what takes webhooks to the database; make install-gateway'
