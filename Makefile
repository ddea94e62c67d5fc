# The front door. Each target first brings the machine to what it needs (setup/install.sh: a fraction of a second when
# nothing is missing), so that any of them is the only command a fresh clone needs.
# Variables: PRESET (cpu, debug, asan, tsan, cuda), JOBS (parallel compilations), QWEN3_DEPS (dependency cache, default
# ~/.cache/qwen3), QWEN3_TORCH_DIR (a LibTorch 2.11 of your own instead of the pinned wheel).
PRESET ?= cpu
JOBS ?= $(shell nproc)
export CCACHE_NOHASHDIR ?= 1
export CCACHE_BASEDIR ?= $(CURDIR)

.DEFAULT_GOAL := help
.PHONY: help install configure build test test-plans format quickstart bench bench-quickstart goldens bundle lint test-sanitizers cuda clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 18

install:
	@setup/install.sh

configure: install
	@cmake --preset $(PRESET) --log-level=WARNING >/dev/null

build: configure ## compile everything; binaries in build/bin
	@cmake --build --preset $(PRESET) -j $(JOBS)

test: build ## build, then run every test (pure, numeric, ranks, e2e, faults)
	@ctest --preset $(PRESET)

test-plans: build ## thousands of parallel plans of tiny models against one process; an hour or more
	@OMP_NUM_THREADS=1 QWEN3_PLANS=all build/tests/plans_test

quickstart: build ## train the debug model on two ranks through the whole service; ends with one JSON line
	@setup/quickstart.sh

bench: build ## measure against the peers; table on stdout, build/bench.json
	@bench/run.sh

bench-quickstart: build ## the quickstart job beside the same job with transformers; a quarter of an hour or more
	@QWEN3_BENCH_ROWS=quickstart bench/run.sh

goldens: install ## make the committed reference values again, with the peers that computed them
	@setup/goldens.sh

bundle: build ## binaries and their libraries in one relocatable folder, build/bundle
	@setup/bundle.sh build/bin build/bundle

lint: build ## format, protos, include directions, what links what
	@ctest --preset $(PRESET) -L lint

test-sanitizers: install ## control-plane tests under address, undefined-behaviour and thread sanitizers
	@setup/sanitizers.sh

cuda: install ## compile and link the NCCL and device code (needs nvcc 13, no GPU)
	@setup/cuda.sh

format: install ## clang-format over the tree
	@tests/structure/format.sh --fix

clean: ## remove what was built; the dependency cache stays
	@rm -rf build build-cuda
