# Two commands: `make run` takes the built-in story to an on-device bundle, `make test` checks everything.

CARGO := cargo
# One profile for the program, its tests and its benchmarks: nothing is compiled twice.
PROFILE := --release

.PHONY: run setup build test check unit end-to-end book test-app test-peers test-sanitizers test-wgpu bench bench-app \
	bench-convert bench-gpu bench-quantize bench-train learning \
	test-network test-wheel test-real test-real-short test-faults test-faults-short fuzz notices sbom

run: build
	target/release/pocketgpt run --config configs/quickstart.toml

setup:
	./setup.sh

# One program; links to it, by which the stages are called, lie beside it.
build: setup
	$(CARGO) build $(PROFILE) --workspace
	target/release/pocketgpt links

test: check unit end-to-end

check: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(PROFILE) --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc $(PROFILE) --workspace --no-deps --document-private-items

unit: setup
	$(CARGO) test $(PROFILE) --workspace

# The whole pipeline through the real binaries, with a model that trains in seconds.
end-to-end: build
	tests/end_to_end.sh target/release
	tests/stories260k.sh target/release
	tests/book.sh target/release

# The book: its generated pages, and target/book where mdBook (cargo install mdbook) is installed.
book: build
	target/release/pocketgpt reference commands >docs/book/src/reference/commands.md
	target/release/pocketgpt reference run-file >docs/book/src/reference/run-file.md
	target/release/pocketgpt reference schema >docs/run-file.schema.json
	if command -v mdbook >/dev/null; then mdbook build docs/book; fi

# The web chat, driven in a real browser through a real bundle.
test-app: build
	tests/app.sh target/release

# The Python wheel, built, installed into an empty environment and run to a bundle there.
test-wheel: build
	tests/wheel.sh

# Kills and input/output errors at every system call that writes, in every command that writes; hours.
# Needs Linux 5.5, a C compiler and Python.
test-faults: build
	tests/faults/faults.py target/release

# The same at two calls of each command.
test-faults-short: build
	tests/faults/faults.py target/release --calls 2

# Every parser of files that others made, SECONDS_EACH (60) each, with the stable compiler.
fuzz: build
	fuzz/make_corpus.py target/release
	fuzz/run.sh

# The model on a GPU (or a software Vulkan driver) against the CPU; builds for 20 minutes.
test-wgpu: setup
	tests/wgpu.sh

# Unsafe blocks under AddressSanitizer; the first build takes a quarter of an hour.
test-sanitizers: setup
	tests/sanitizers.sh

# Comparisons with Python packages and llama.cpp's own tools; these install what they compare with.
test-peers: build
	$(CARGO) build $(PROFILE) --workspace --example logits --example ids --example burn_logits \
		--example render_chat --example chat_tokens
	tests/peers.sh target/release
	tests/peers/perplexity.sh target/release

# A real model, SmolLM2-135M-Instruct, from a package of PyPI: one answer in every engine, two formats
# searched for and judged beside importance data, the guard; a quarter of an hour.
test-real-short: build
	tests/real/short.sh target/release

# The same through every stage, beside llama.cpp's own tools, which it builds; two hours.
test-real: build
	tests/real/full.sh target/release

# Models in pieces at real stores on this machine (moto, azurite), which it installs; a build of its own.
test-network: setup
	$(CARGO) clippy $(PROFILE) -p pocketgpt-fragment --features network --all-targets -- -D warnings
	$(CARGO) test $(PROFILE) -p pocketgpt-fragment --features network
	$(CARGO) build $(PROFILE) -p pocketgpt --features network
	tests/network.sh target/release

# The time and memory of `export` beside convert_hf_to_gguf.py.
bench-convert: build
	tests/peers/convert_speed.sh target/release

# The time, memory and quality of `quantize` beside llama.cpp's tools: MODEL is an F32 file, CALIBRATION
# and TEXT are texts that do not overlap.
bench-quantize: build
	tests/peers/quantize_speed.sh target/release $(MODEL)
	tests/peers/quantize_quality.sh target/release $(MODEL) $(CALIBRATION) $(TEXT)

# The Verdict from three seeds with plain and with fused operations; an hour on two cores.
learning: build
	tests/learning.sh target/release

# The licences of what is in the program and in the web chat, after a dependency has changed.
notices: setup
	licenses/notices.py

# What both consist of, as CycloneDX files.
sbom: setup
	licenses/sbom.py target/sbom

bench: build
	tests/bench.sh target/release

# The model in the browser beside llama.cpp on the same machine: RUN is a finished run folder.
RUN := runs/quickstart
bench-app: build
	tests/app/bench.sh $(RUN)/bundle

bench-train: build
	$(CARGO) build $(PROFILE) --workspace --example products
	tests/bench_train.sh target/release

# The same on an NVIDIA card: TEXT is a corpus of a few hundred thousand tokens.
bench-gpu: setup
	$(CARGO) build $(PROFILE) -p pocketgpt --features cuda
	tests/bench_gpu.sh target/release $(TEXT)
