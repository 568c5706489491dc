"""Every intermediate result of the reference pass against transformers', for every class.

usage: trace.py EVAL [PART_OF_A_NAME]
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging

import folders
from trace_hf import trace

TOLERANCE = 1e-4
"""Largest relative RMS of the difference of two passes in f32."""

IDS = [(i * 37 + i * i * 11) % 256 for i in range(40)]


def main():
    program, *part = sys.argv[1:]
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    failed = 0
    chosen = [case for case in folders.cases() if not part or part[0] in case.name]
    for seed, case in enumerate(chosen):
        with tempfile.TemporaryDirectory() as scratch:
            folder, file = Path(scratch, case.name), Path(scratch, "trace.safetensors")
            folders.write(case, folder, seed)
            model = AutoModelForCausalLM.from_pretrained(
                folder, attn_implementation="eager", dtype=torch.float32
            )
            save_file(trace(model, IDS), file)
            done = subprocess.run(
                [program, "trace", "--model", folder, "--against", file, "--tolerance", str(TOLERANCE), "--json"],
                capture_output=True, text=True,
            )
        if done.returncode == 2:
            print(f"{case.name}: FAILED: {done.stderr.strip()}")
            failed += 1
            continue
        report = json.loads(done.stdout)
        apart = report["only_in_model"] + report["only_in_other"]
        worst = max(stage["relative_rms"] or 0.0 for stage in report["stages"])
        ok = done.returncode == 0 and not apart
        failed += not ok
        print(f"{case.name}: {len(report['stages'])} stages, largest relative RMS {worst:.1e}"
              + ("" if ok else f"; FAILED: first {report['first_over']}, only one side has {apart}"))
    print(f"{len(chosen) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
