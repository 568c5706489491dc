//! The measures against NumPy's (`golden/metrics.py`).

use eval::metrics::{Comparison, Metrics};

#[derive(serde::Deserialize)]
struct Golden {
    tokens: Vec<Vec<u32>>,
    base: Vec<Vec<f32>>,
    candidate: Vec<Vec<f32>>,
    metrics: Metrics,
}

#[test]
fn every_measure_equals_numpys() {
    let golden: Golden = serde_json::from_str(include_str!("golden/metrics.json")).unwrap();
    let mut comparison = Comparison::new();
    for ((tokens, base), candidate) in golden.tokens.iter().zip(&golden.base).zip(&golden.candidate)
    {
        comparison.add(tokens, base, candidate).unwrap();
    }
    let (ours, numpy) = (comparison.finish().unwrap(), golden.metrics);
    assert_eq!(ours.positions, numpy.positions);
    let pairs = [
        ("relative_rms", ours.relative_rms, numpy.relative_rms),
        ("max_difference", ours.max_difference, numpy.max_difference),
        ("correlation", ours.correlation.unwrap(), numpy.correlation.unwrap()),
        ("kl.mean", ours.kl.mean, numpy.kl.mean),
        ("kl.median", ours.kl.median, numpy.kl.median),
        ("kl.p99", ours.kl.p99, numpy.kl.p99),
        ("kl.max", ours.kl.max, numpy.kl.max),
        ("top1_agreement", ours.top1_agreement, numpy.top1_agreement),
        ("base_perplexity", ours.base_perplexity.unwrap(), numpy.base_perplexity.unwrap()),
        ("perplexity", ours.perplexity.unwrap(), numpy.perplexity.unwrap()),
    ];
    for (name, ours, numpy) in pairs {
        assert!((ours - numpy).abs() <= 1e-12 * numpy.abs(), "{name}: {ours} vs NumPy's {numpy}");
    }
}
