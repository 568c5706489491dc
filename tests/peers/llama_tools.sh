# llama.cpp's own command line tools, for scripts that source this file: the folder that
# $LLAMA_TOOLS names, otherwise a build under target/ that is made once (ten minutes on two cores;
# needs cmake and a C++ compiler). Sets `llama_tools`. Source environment.sh before.
#
# The sources are those of the Python package llama-cpp-python, which has no binaries.
llama_tools=${LLAMA_TOOLS:-$root/target/llama-tools/bin}
if [ -z "${LLAMA_TOOLS:-}" ] && [ ! -x "$llama_tools/llama-perplexity" ]; then
    tools=$root/target/llama-tools
    if [ ! -f "$tools/llama.cpp/CMakeLists.txt" ]; then
        rm -rf "$tools" "$tools.part"
        mkdir -p "$tools.part"
        "$python" -m pip install -q scikit-build-core
        "$python" -m pip download -q --no-deps --no-binary :all: --no-build-isolation \
            -d "$tools.part" llama-cpp-python==0.3.34
        tar xzf "$tools.part"/*.tar.gz -C "$tools.part" --strip-components 1
        mkdir -p "$tools"
        mv "$tools.part/vendor/llama.cpp" "$tools/llama.cpp"
        rm -rf "$tools.part"
    fi
    cmake -S "$tools/llama.cpp" -B "$tools/build" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
        -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
        -DLLAMA_BUILD_SERVER=OFF >/dev/null
    cmake --build "$tools/build" -j "$(nproc)" \
        --target llama-perplexity llama-quantize llama-imatrix llama-bench >/dev/null
    mkdir -p "$llama_tools"
    cp -a "$tools/build/bin/." "$llama_tools/"
fi
if [ ! -x "$llama_tools/llama-perplexity" ]; then
    echo "missing $llama_tools/llama-perplexity: LLAMA_TOOLS names the folder of llama.cpp's tools" >&2
    exit 2
fi
