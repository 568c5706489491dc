//! Compares logits with those of another implementation: Hugging Face's models in float64.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::random_weights::{families, phi3_longrope, source, with_experts};
use reference::Model;

/// Root of the mean squared difference over that of `golden`'s logits, for the family `name`.
fn relative_rms(name: &str, golden: &str) -> f64 {
    let golden: serde_json::Value = serde_json::from_str(golden).unwrap();
    let numbers = |value: &serde_json::Value| -> Vec<f64> {
        value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    };
    let tokens: Vec<u32> = numbers(&golden["tokens"]).iter().map(|&id| id as u32).collect();
    let expected: Vec<f64> =
        golden["logits"].as_array().unwrap().iter().flat_map(numbers).collect();

    let longrope = ("phi3_longrope", phi3_longrope());
    let mut families = families().into_iter().chain(with_experts()).chain([longrope]);
    let (_, config) = families.find(|(family, _)| *family == name).unwrap();
    let model = Model::from_parts(config.clone(), &source(&config, |_| ())).unwrap();
    let logits = model.logits(&tokens).unwrap();
    assert_eq!(logits.len(), expected.len());
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
    let error = squares(&mut logits.iter().zip(&expected).map(|(&x, e)| f64::from(x) - e));
    let size = squares(&mut expected.iter().copied());
    (error / size).sqrt()
}

#[test]
fn logits_are_those_of_hugging_face() {
    for (name, golden) in [
        ("gpt2", include_str!("golden/gpt2.json")),
        ("gptneox", include_str!("golden/gptneox.json")),
        ("llama", include_str!("golden/llama.json")),
        ("qwen2", include_str!("golden/qwen2.json")),
        ("qwen3", include_str!("golden/qwen3.json")),
        ("llama3", include_str!("golden/llama3.json")),
        ("smollm3", include_str!("golden/smollm3.json")),
        ("olmo2", include_str!("golden/olmo2.json")),
        ("gemma3", include_str!("golden/gemma3.json")),
        ("phi3", include_str!("golden/phi3.json")),
        ("phi3_longrope", include_str!("golden/phi3_longrope.json")),
        ("mixtral", include_str!("golden/mixtral.json")),
        ("qwen3moe", include_str!("golden/qwen3moe.json")),
    ] {
        let error = relative_rms(name, golden);
        assert!(error < 5e-7, "{name}: relative RMS error {error:e}");
    }
}
