# The Python that peers run in, for scripts that source this file: $PYTHON if it is set, otherwise
# an environment under target/ that is made once. Sets `root` and `python`.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-$root/target/peer/bin/python}
if [ ! -x "$python" ] && ! command -v "$python" >/dev/null; then
    python3 -m venv "$root/target/peer"
    "$root/target/peer/bin/pip" install -q torch transformers tokenizers safetensors gguf numpy tiktoken peft
fi
