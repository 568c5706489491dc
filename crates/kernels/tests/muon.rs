//! Muon beside PyTorch's, whose figures `tests/peers/muon.py` has written.

use burn::tensor::{Device, Tensor, TensorData};
use kernels::{MuonStep, muon};
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

fn tensor(value: &Value) -> Tensor<1> {
    let values = numbers(value);
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), &Device::flex())
}

fn largest_difference(found: &Tensor<1>, expected: &Value) -> f32 {
    let found: Vec<f32> = found.to_data().try_to_vec().unwrap();
    let differences = found.iter().zip(numbers(expected)).map(|(x, y)| (x - y).abs());
    differences.fold(0.0, f32::max)
}

#[test]
fn four_steps_are_those_of_pytorch() {
    let golden: Value = serde_json::from_str(include_str!("golden/muon.json")).unwrap();
    let setting = |name: &str| golden["settings"][name].as_f64().unwrap();
    let step = MuonStep {
        learning_rate: setting("lr"),
        momentum: setting("momentum") as f32,
        weight_decay: setting("weight_decay") as f32,
        gradient_scale: 1.0,
    };
    for case in golden["cases"].as_array().unwrap() {
        let shape: Vec<usize> = numbers(&case["shape"]).iter().map(|&x| x as usize).collect();
        let (mut weight, gradients) =
            (tensor(&case["start"]), case["gradients"].as_array().unwrap());
        let mut momentum = weight.zeros_like();
        for (gradient, expected) in gradients.iter().zip(case["weights"].as_array().unwrap()) {
            weight = muon(weight, tensor(gradient), &mut momentum, &shape, &step);
            // PyTorch's updates are off by a hundredth in each step: it orthogonalizes in bf16.
            let difference = largest_difference(&weight, expected);
            let longest = *shape.iter().max().unwrap() as f32;
            let scale = step.learning_rate as f32 * 0.2 * longest.sqrt();
            assert!(difference < 0.04 * scale, "{shape:?}: a weight is off by {difference}");
        }
        let difference = largest_difference(&momentum, &case["momentum_buffer"]);
        assert!(difference < 1e-6, "{shape:?}: the momentum is off by {difference}");
    }
}
