# The front door. `make run` and `make test` install what is missing (scripts/install_deps.sh).

SHELL  := /bin/bash
JOBS   ?= $(shell nproc)
PREFIX ?= /usr
# nginx looks for modules here on Debian; PREFIX moves it with everything else.
MODULE_DIR ?= $(PREFIX)/lib/nginx/modules
export JOBS

.DEFAULT_GOAL := help
.PHONY: run-failpoints run-crash help deps build module sidecar run test unit asan asan-unit-build fuzz valgrind property many-keys failpoints crash scale test-mainline tidy format bench install clean

help:
	@echo 'make run            build, start everything on loopback, deliver one event, run until Ctrl-C'
	@echo 'make run ONCE=1     the same, but exit 0 or 1 after the delivery'
	@echo 'make build          build/ngx_http_headgate_module.so and build/headgate'
	@echo 'make test           unit tests (under sanitizers, but for a few) and integration tests'
	@echo 'make test T=t/10-*  only these integration tests'
	@echo 'make asan           unit tests and all integration tests under AddressSanitizer'
	@echo 'make bench          the benchmark table; ROWS="publish memory" only these rows'
	@echo 'make fuzz           each fuzzer for FUZZ_SECONDS=60, from its committed corpus'
	@echo 'make valgrind       some integration tests under memcheck; T= others'
	@echo 'make test-mainline NGINX_SOURCE=DIR   integration tests with an nginx built from there'
	@echo 'make property       the long runs of the property tests; N= schedules and cases, SEED= the first'
	@echo 'make many-keys      the zone under a million distinct callers; N= of them'
	@echo 'make failpoints     the sidecar killed N=20 times at each failpoint'
	@echo 'make crash          every process killed at random, KILLS=100 N_EVENTS=100000 SEED='
	@echo 'make scale          a replay of REPLAY=100000, a start with DUE=1000000, on both stores'
	@echo 'make tidy format    clang-tidy; clang-format in place'
	@echo 'make install        DESTDIR= PREFIX=/usr'
	@echo 'make clean'

deps:
	@scripts/install_deps.sh build

build: deps
	@$(MAKE) --no-print-directory module sidecar

module:
	@scripts/build_module.sh release

sidecar:
	@echo 'sidecar build/headgate'
	@scripts/build_cmake.sh build/cmake -DCMAKE_BUILD_TYPE=RelWithDebInfo \
	    -DHEADGATE_TESTS=$$(pkg-config --exists cmocka && echo ON || echo OFF) -- headgate
	@ln -sf cmake/headgate build/headgate

run:
	@scripts/install_deps.sh build run
	@$(MAKE) --no-print-directory module sidecar
	@scripts/run.sh $(if $(ONCE),--once)

test:
	@scripts/test.sh $(T)

unit:
	@scripts/install_deps.sh build test
	@scripts/build_cmake.sh build/cmake -DCMAKE_BUILD_TYPE=RelWithDebInfo -DHEADGATE_TESTS=ON
	@ctest --test-dir build/cmake --output-on-failure -j$(JOBS)

property:
	@scripts/install_deps.sh build test
	@scripts/build_cmake.sh build/cmake -DCMAKE_BUILD_TYPE=RelWithDebInfo -DHEADGATE_TESTS=ON -- test_lease test_match_property
	@HEADGATE_LEASE_SCHEDULES=$(or $(N),500000) HEADGATE_LEASE_SEED=$(or $(SEED),$$RANDOM$$RANDOM) \
	    build/cmake/lua-free-tests/test_lease
	@HEADGATE_MATCH_CASES=$(or $(N),500000) HEADGATE_MATCH_SEED=$(or $(SEED),$$RANDOM$$RANDOM) \
	    build/cmake/lua-free-tests/test_match_property

asan:
	@scripts/test.sh --asan $(T)

fuzz:
	@scripts/install_deps.sh build test fuzz
	@scripts/fuzz.sh

# The module's tests under memcheck, in a bounded form: each file takes a few minutes' processor time.
VALGRIND_T ?= t/10-*.t t/11-*.t t/13-*.t t/17-*.t t/19-*.t t/20-*.t t/62-*.t
valgrind:
	@scripts/install_deps.sh build run test valgrind
	@$(MAKE) --no-print-directory module
	@HEADGATE_TEST_VALGRIND=1 prove -j$(JOBS) --timer -It/lib $(or $(T),$(VALGRIND_T))

# The same tests with another nginx, built from its sources: NGINX_SOURCE=DIR, a release or its repository. All but the
# examples of the documents, which call the nginx of the system; 1.31.5 is the latest that passed.
MAINLINE_T ?= $(filter-out t/60-%,$(sort $(wildcard t/*.t)))
test-mainline:
	@scripts/install_deps.sh build run test
	@$(MAKE) --no-print-directory sidecar
	@NGINX_SOURCE=$(NGINX_SOURCE) scripts/build_module.sh mainline
	@HEADGATE_NGINX=$(CURDIR)/build/mainline/nginx HEADGATE_MODULE=$(CURDIR)/build/mainline/ngx_http_headgate_module.so \
	    prove -j$(JOBS) --timer -It/lib $(or $(T),$(MAINLINE_T))

many-keys:
	@scripts/install_deps.sh build run test
	@$(MAKE) --no-print-directory module
	@HEADGATE_MANY_KEYS=$(or $(N),1000000) prove -It/lib -v t/09-many-keys.t

scale:
	@scripts/install_deps.sh build run test
	@$(MAKE) --no-print-directory module sidecar
	@REPLAY=$(or $(REPLAY),100000) DUE=$(or $(DUE),1000000) STORES='$(STORES)' prove -It/lib -v t/scale/recovery.t

failpoints crash:
	@scripts/install_deps.sh build run test
	@$(MAKE) --no-print-directory module
	@scripts/build_cmake.sh build/cmake -DCMAKE_BUILD_TYPE=RelWithDebInfo -DHEADGATE_TESTS=ON -- headgate headgate-failpoints
	@ln -sf cmake/headgate build/headgate && ln -sf cmake/headgate-failpoints build/headgate-failpoints
	@$(MAKE) --no-print-directory run-$@

run-failpoints:
	@HEADGATE_FAILPOINT_HITS=$(or $(N),20) HEADGATE_FAILPOINT_SEED=$(SEED) prove -It/lib -v t/55-failpoints.t t/77-failpoints-postgres.t

run-crash:
	@N_EVENTS=$(N_EVENTS) KILLS=$(KILLS) SEED=$(SEED) prove -It/lib -v t/crash/kill-everything.t

tidy:
	@scripts/install_deps.sh build test tidy
	@scripts/tidy.sh

format:
	@scripts/install_deps.sh tidy
	@git ls-files -co --exclude-standard '*.cpp' '*.h' | xargs clang-format -i

bench: build
	@scripts/install_deps.sh run test bench
	@bench/run.sh $(BENCH)

install:
	@test -e build/headgate -a -e build/ngx_http_headgate_module.so || { echo 'run make build first' >&2; exit 1; }
	install -D -s -m 755 build/headgate $(DESTDIR)$(PREFIX)/bin/headgate
	install -D -s -m 644 build/ngx_http_headgate_module.so $(DESTDIR)$(MODULE_DIR)/ngx_http_headgate_module.so
	install -D -m 644 conf/mod-http-headgate.conf \
	    $(DESTDIR)$(PREFIX)/share/nginx/modules-available/mod-http-headgate.conf
	install -D -m 644 conf/headgate.service $(DESTDIR)$(PREFIX)/lib/systemd/system/headgate.service

clean:
	rm -rf build
