# The Python that peers run in, for scripts that source this file: $PYTHON if it is set, otherwise
# an environment under target/ that is made once. Sets `root` and `python`.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-$root/target/peer/bin/python}
if [ -z "${PYTHON:-}" ]; then
    [ -x "$python" ] || python3 -m venv "$root/target/peer"
    "$python" -c 'import accelerate, gguf, jinja2, lm_eval, numpy, peft, safetensors, tiktoken, tokenizers, torch, transformers, trl' 2>/dev/null ||
        "$python" -m pip install -q accelerate gguf jinja2 lm-eval==0.4.13 numpy peft safetensors tiktoken tokenizers torch transformers trl==1.16.0
fi
