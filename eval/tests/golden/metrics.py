"""Writes metrics.json: two random passes and every measure between them, by NumPy in float64.

    python3 eval/tests/golden/metrics.py > eval/tests/golden/metrics.json
"""

import json

import numpy as np

rng = np.random.default_rng(123)
windows, context, vocab = 2, 9, 13
tokens = rng.integers(0, vocab, (windows, context))
base = (rng.normal(size=(windows, context, vocab)) * 3 - 20).astype(np.float32)
noise = rng.normal(size=base.shape) * rng.uniform(0, 0.8, (windows, context, 1))
candidate = (base + noise).astype(np.float32)

p, q = base.astype(np.float64), candidate.astype(np.float64)


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def surprise(log_probabilities):
    return -np.take_along_axis(log_probabilities[:, :-1], tokens[:, 1:, None], -1).ravel()


def error(x):
    """The standard error of the mean."""
    return float(x.std(ddof=1) / np.sqrt(len(x)))


lp, lq = log_softmax(p), log_softmax(q)
kl = (np.exp(lp) * (lp - lq)).sum(-1).ravel()
same = (p.argmax(-1) == q.argmax(-1)).ravel().astype(np.float64)
sp, sq = surprise(lp), surprise(lq)
squared_change = (np.exp(-sq) - np.exp(-sp)) ** 2
rms = float(np.sqrt(squared_change.mean()))
print(json.dumps({
    "tokens": tokens.tolist(),
    "base": base.reshape(windows, -1).tolist(),
    "candidate": candidate.reshape(windows, -1).tolist(),
    "metrics": {
        "positions": windows * context,
        "relative_rms": float(np.sqrt(((q - p) ** 2).sum() / (p**2).sum())),
        "max_difference": float(np.abs(q - p).max()),
        "correlation": float(np.corrcoef(p.ravel(), q.ravel())[0, 1]),
        "kl": {
            "mean": float(kl.mean()),
            "mean_error": error(kl),
            "median": float(np.quantile(kl, 0.5)),
            "p99": float(np.quantile(kl, 0.99)),
            "p999": float(np.quantile(kl, 0.999)),
            "max": float(kl.max()),
        },
        "top1_agreement": float(same.mean()),
        "top1_error": error(same),
        "base_perplexity": float(np.exp(sp.mean())),
        "base_perplexity_error": float(np.exp(sp.mean())) * error(sp),
        "perplexity": float(np.exp(sq.mean())),
        "perplexity_error": float(np.exp(sq.mean())) * error(sq),
        "rms_probability_change": rms,
        "rms_probability_change_error": 0.5 / rms * error(squared_change),
    },
}))
