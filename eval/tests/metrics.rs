//! The measures, compared with NumPy's (`golden/metrics.py`).

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
    let agreements = (ours.agreement, numpy.agreement);
    let pairs = [
        ("relative_rms", ours.relative_rms, numpy.relative_rms),
        ("max_difference", ours.max_difference, numpy.max_difference),
        ("correlation", ours.correlation.unwrap(), numpy.correlation.unwrap()),
    ];
    let (ours, numpy) = agreements;
    assert_eq!(ours.positions, numpy.positions);
    let always = [
        ("kl.mean", ours.kl.mean, numpy.kl.mean),
        ("kl.median", ours.kl.median, numpy.kl.median),
        ("kl.p99", ours.kl.p99, numpy.kl.p99),
        ("kl.max", ours.kl.max, numpy.kl.max),
        ("top1_agreement", ours.top1_agreement, numpy.top1_agreement),
    ];
    let optional = [
        ("kl.mean_error", ours.kl.mean_error, numpy.kl.mean_error),
        ("kl.p999", ours.kl.p999, numpy.kl.p999),
        ("top1_error", ours.top1_error, numpy.top1_error),
        ("base_perplexity", ours.base_perplexity, numpy.base_perplexity),
        ("base_perplexity_error", ours.base_perplexity_error, numpy.base_perplexity_error),
        ("perplexity", ours.perplexity, numpy.perplexity),
        ("perplexity_error", ours.perplexity_error, numpy.perplexity_error),
        ("rms_change", ours.rms_probability_change, numpy.rms_probability_change),
        ("rms_change_error", ours.rms_probability_change_error, numpy.rms_probability_change_error),
    ]
    .map(|(name, ours, numpy)| (name, ours.unwrap(), numpy.unwrap()));
    let pairs = pairs.into_iter().chain(always).chain(optional);
    for (name, ours, numpy) in pairs {
        assert!((ours - numpy).abs() <= 1e-12 * numpy.abs(), "{name}: {ours} vs NumPy's {numpy}");
    }
}
