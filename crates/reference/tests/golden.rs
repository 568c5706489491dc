//! The logits of another implementation: Hugging Face's GPT-2 in float64.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod random_weights;

use random_weights::{config, source};
use reference::Model;

#[test]
fn logits_are_those_of_hugging_face() {
    let golden: serde_json::Value = serde_json::from_str(include_str!("golden/gpt2.json")).unwrap();
    let numbers = |value: &serde_json::Value| -> Vec<f64> {
        value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    };
    let tokens: Vec<u32> = numbers(&golden["tokens"]).iter().map(|&id| id as u32).collect();
    let expected: Vec<f64> =
        golden["logits"].as_array().unwrap().iter().flat_map(numbers).collect();

    let model = Model::from_parts(config(), &source(&config(), |_| ())).unwrap();
    let logits = model.logits(&tokens).unwrap();
    assert_eq!(logits.len(), expected.len());
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
    let error = squares(&mut logits.iter().zip(&expected).map(|(&x, e)| f64::from(x) - e));
    let size = squares(&mut expected.iter().copied());
    let relative_rms = (error / size).sqrt();
    assert!(relative_rms < 5e-7, "relative RMS error {relative_rms:e}");
}
