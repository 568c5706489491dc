"""`eval sweep` beside llama-perplexity. Run by perplexity.sh.

usage: perplexity.py EVAL LLAMA_PERPLEXITY BASE.gguf TEXT CONTEXT [VARIANT.gguf...]

llama-perplexity stores its base in 16 bits over 16 nats, leaves out what is less likely and does not
make its sum 1 again, so divergences agree to within that and no better. Perplexities know no base. What
is left is that two builds of llama.cpp round activations to 8 bits in kernels of their own, which shows
the more the smaller a model is: 0.05 % of perplexity and 2 % of the mean divergence for 260K weights in
Q8_0 (and about as much between llama-perplexity with and without --no-repack), and most in the 10
positions above the 99.9th percentile.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TOKENS = int(os.environ.get("TOKENS", 20000))
THREADS = os.environ.get("THREADS", "2")
# Relative, of a perplexity.
PERPLEXITY_LIMIT = 1e-3
# Of a mean divergence: relative, and nats.
DIVERGENCE_LIMIT = (0.03, 2e-6)


def run(command, awaited):
    """What llama-perplexity prints. Its log is written by a thread that it does not always wait for, so
    a run whose last line is missing is repeated."""
    for _ in range(5):
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        said = done.stdout + done.stderr
        if done.returncode:
            sys.exit(f"failed: {command}\n{said[-2000:]}")
        if awaited in said:
            return said
    sys.exit(f"llama-perplexity prints no \"{awaited}\":\n{said[-2000:]}")


def number(pattern, text):
    found = re.search(pattern + r"\s*[:=]\s*(-?[0-9.]+)", text)
    if not found:
        sys.exit(f"llama-perplexity prints no {pattern}:\n{text[-2000:]}")
    return float(found.group(1))


def main():
    evaluate, perplexity, base, text = (Path(argument) for argument in sys.argv[1:5])
    context, variants = int(sys.argv[5]), [Path(argument) for argument in sys.argv[6:]]
    with tempfile.TemporaryDirectory() as work:
        logits = Path(work, "base.kld")
        sweep = [evaluate, "sweep", "--base", base, "--text", text, "--context", context, "--tokens", TOKENS,
                 "--threads", THREADS, "--no-speed", "--json", "--base-logits", Path(work, "ours.kld")]
        report = json.loads(subprocess.run([str(part) for part in [*sweep, *(variants or [base])]], check=True,
                                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)
        windows = report["text"]["windows"]
        common = ["-f", text, "-c", context, "-t", THREADS, "--chunks", windows]
        said = run([perplexity, "-m", base, *common, "--kl-divergence-base", logits], "Final estimate")
        ours = report["rows"][0]["quality"]["perplexity"]
        compare(base.name, "perplexity", ours, number("PPL", said), PERPLEXITY_LIMIT * ours)
        for path, row in zip(variants, report["rows"][1:]):
            command = [perplexity, "-m", path, *common, "--kl-divergence-base", logits, "--kl-divergence"]
            said = run(command, "Same top p:")
            quality, kl = row["quality"], row["quality"]["kl"]
            relative, absolute = DIVERGENCE_LIMIT
            figures = [
                ("perplexity", quality["perplexity"], r"PPL\(Q\)", PERPLEXITY_LIMIT * quality["perplexity"]),
                ("its error bar", quality["perplexity_error"], None, 0),
                ("mean KL", kl["mean"], "Mean    KLD", relative * kl["mean"] + absolute),
                ("median KL", kl["median"], "Median  KLD", 0.05 * kl["median"] + 1e-5),
                ("99 % KL", kl["p99"], "99.0%   KLD", 0.1 * kl["p99"] + 1e-4),
                ("99.9 % KL", kl["p999"], "99.9%   KLD", 0.3 * kl["p999"] + 1e-4),
                ("RMS change, %", 100 * quality["rms_probability_change"], "RMS Δp", 0.02),
                ("top-1, %", 100 * quality["top1_agreement"], "Same top p", 0.2),
            ]
            for name, own, pattern, limit in figures:
                if pattern:
                    compare(path.name, name, own, number(pattern, said), limit)
                else:
                    found = re.search(r"PPL\(Q\)\s*:\s*[0-9.]+ ±\s*([0-9.]+)", said)
                    compare(path.name, name, own, float(found.group(1)), 0.01 * own)
        print(f"{base.name}: {windows} windows of {context} tokens from {text.name}")


def compare(file, name, ours, theirs, limit):
    ratio = f"{ours / theirs - 1:+.2e}" if theirs else "-"
    print(f"{file:<24} {name:<14} eval sweep {ours:<12.6g} llama-perplexity {theirs:<12.6g} {ratio}")
    if abs(ours - theirs) > limit:
        sys.exit(f"{file}: {name} is off by {abs(ours - theirs):.3g}, at most {limit:.3g}")


main()
