# livego. `make run` and `make test` are all a newcomer needs: both work on a fresh clone with Go alone. Times are those of two cores,
# warm; cold they are longer by what has to be installed and compiled.

GO       ?= go
FUZZTIME ?= 20s
DURATION ?= 40m

.PHONY: build run test test-long soak check bench bench-go fuzz cross release clean help

build: ## bin/livego with the player, if Node is there; seconds, a minute cold
	scripts/web
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/livego ./cmd/livego

run: build ## build, then serve on the default ports (ARGS="--level=debug" for more)
	bin/livego $(ARGS)

test: ## does it work? Installs what the tests need where possible, then runs unit and end-to-end tests; 8 min, 20 min cold
	scripts/test

test-long: ## the same, with the rounds and durations that prove more; an hour
	TEST_LONG=1 scripts/test

soak: ## streams, viewers and losses for DURATION; a line a minute says whether anything grows; 40 min
	TEST_SOAK=$(DURATION) $(GO) test -count=1 -v -timeout 0 -run '^TestSoak$$' ./e2e/resilience

check: ## lint, format, dead code, imports, links, other systems, and the tests under the race detector; 10 min
	scripts/check

bench: build bin/floor ## floor, livego and nginx-rtmp side by side; 45 min on a machine that does nothing else (ARGS="--viewers=500")
	$(GO) run ./bench/compare $(ARGS)

bin/floor: bench/floor.c
	$(CC) -O2 -Wall -Wextra -o $@ $<

bench-go: ## Go benchmarks; 5 min
	$(GO) test -run '^$$' -bench . -benchmem ./...

fuzz: ## each fuzz target for FUZZTIME (20s), as many at once as there are cores; 15 min, or 2 min with FUZZTIME=1s
	scripts/fuzz $(FUZZTIME)

release: ## dist/: archives, .deb, .rpm, checksums and bills of materials for all systems; 3 min, 8 min cold
	scripts/release

cross: ## does it build for other systems? 1 min
	scripts/cross

clean: ## forget binaries and caches of this checkout
	rm -rf bin dist .cache

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 12
