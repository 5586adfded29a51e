# livego. `make run` and `make test` are all a newcomer needs: both work on a fresh clone with Go alone.

GO       ?= go
FUZZTIME ?= 20s
DURATION ?= 40m

.PHONY: build run test test-long soak check bench bench-go fuzz cross clean help

build: ## bin/livego
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/livego ./cmd/livego

run: build ## build, then serve on the default ports (ARGS="--level=debug" for more)
	bin/livego $(ARGS)

test: ## install what the tests need where possible, then check, then every test
	scripts/test

test-long: ## the same, with the rounds and durations that take an hour instead of minutes
	TEST_LONG=1 scripts/test

soak: ## streams, viewers and losses for DURATION; a line a minute says whether anything grows
	TEST_SOAK=$(DURATION) $(GO) test -count=1 -v -timeout 0 -run '^TestSoak$$' ./e2e/scenes

check: ## what can be judged without running: vet, lint, format, dead code, imports, links, other systems
	scripts/check

bench: build bin/floor ## floor, livego and nginx-rtmp side by side; ten minutes on a machine that does nothing else (ARGS="--viewers=500")
	$(GO) run ./bench/compare $(ARGS)

bin/floor: bench/floor.c
	$(CC) -O2 -Wall -Wextra -o $@ $<

bench-go: ## Go benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./...

fuzz: ## each fuzz target for FUZZTIME
	scripts/fuzz $(FUZZTIME)

cross: ## does it build elsewhere?
	scripts/cross

clean: ## forget binaries and caches of this checkout
	rm -rf bin .cache

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 12
