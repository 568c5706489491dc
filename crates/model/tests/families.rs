//! Compares every family with Hugging Face's models, and tests properties of all of them.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use crate::common::{golden_model, windowed};
use crate::random_weights::{families, phi3_longrope, source};
use burn::tensor::{Device, Int, Tensor, TensorData, Tolerance};
use checkpoint::names;
use config::{Initialization, Lora, LoraTarget, ModelConfig, StageValues};
use kernels::{Dropout, Pass};
use model::{Batch, Model, lora};

fn tokens(rows: usize, device: &Device) -> Tensor<2, Int> {
    let ids: Vec<i32> = (0..rows * 7).map(|i| (i * 5 % 29) as i32).collect();
    Tensor::from_data(TensorData::new(ids, [rows, 7]), device)
}

#[test]
fn logits_are_those_of_hugging_face() {
    for (name, golden) in [
        ("gpt2", include_str!("../../reference/tests/golden/gpt2.json")),
        ("gptneox", include_str!("../../reference/tests/golden/gptneox.json")),
        ("llama", include_str!("../../reference/tests/golden/llama.json")),
        ("qwen2", include_str!("../../reference/tests/golden/qwen2.json")),
        ("qwen3", include_str!("../../reference/tests/golden/qwen3.json")),
        ("llama3", include_str!("../../reference/tests/golden/llama3.json")),
        ("smollm3", include_str!("../../reference/tests/golden/smollm3.json")),
        ("olmo2", include_str!("../../reference/tests/golden/olmo2.json")),
        ("gemma3", include_str!("../../reference/tests/golden/gemma3.json")),
        ("phi3", include_str!("../../reference/tests/golden/phi3.json")),
        ("phi3_longrope", include_str!("../../reference/tests/golden/phi3_longrope.json")),
    ] {
        let golden: serde_json::Value = serde_json::from_str(golden).unwrap();
        let numbers = |value: &serde_json::Value| -> Vec<f64> {
            value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
        };
        let ids: Vec<i32> = numbers(&golden["tokens"]).iter().map(|&id| id as i32).collect();
        let expected = golden["logits"].as_array().unwrap().iter().flat_map(numbers);
        let mut families = families().into_iter().chain([("phi3_longrope", phi3_longrope())]);
        let (_, config) = families.find(|(family, _)| *family == name).unwrap();
        let shape = [1, ids.len()];
        let tokens = Tensor::from_data(TensorData::new(ids, shape), &Device::flex());
        let logits =
            golden_model(&config, &Device::flex()).forward(tokens, Pass::default()).into_data();
        let (mut error, mut size) = (0.0, 0.0);
        for (&x, expected) in logits.as_slice::<f32>().unwrap().iter().zip(expected) {
            error += (f64::from(x) - expected).powi(2);
            size += expected.powi(2);
        }
        let relative = (error / size).sqrt();
        assert!(relative < 2e-6, "{name}: relative RMS error {relative:e}");
    }
}

/// Both implementations have the same stages in the same order, so that traces can be compared line
/// by line.
#[test]
fn every_stage_is_that_of_the_reference() {
    let ids: Vec<u32> = (0..23).map(|i| (i * 37 + i * i * 11) % 101).collect();
    for (name, config) in
        families().into_iter().chain([windowed(), ("phi3_longrope", phi3_longrope())])
    {
        let weights = source(&config, |_| ());
        let reference = reference::Model::from_parts(config.clone(), &weights).unwrap();
        let expected = reference.stages(&ids).unwrap();
        let ids: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
        let tokens = Tensor::from_data(TensorData::new(ids, [1, 23]), &Device::flex());
        let found = golden_model(&config, &Device::flex()).stages(tokens);
        let list = |stages: &[StageValues]| -> Vec<_> {
            stages.iter().map(|s| (s.stage.to_string(), s.shape.clone())).collect()
        };
        assert_eq!(list(&found), list(&expected), "{name}");
        for (found, expected) in found.iter().zip(&expected) {
            let pairs = found.values.iter().zip(&expected.values);
            let error: f64 = pairs.map(|(&x, &y)| f64::from(x - y).powi(2)).sum();
            let size: f64 = expected.values.iter().map(|&x| f64::from(x).powi(2)).sum();
            let relative = (error / size).sqrt();
            assert!(relative < 5e-6, "{name} {}: relative RMS error {relative:e}", found.stage);
        }
    }
}

#[test]
fn windows_partial_rotations_and_scales_are_those_of_the_reference() {
    let (name, config) = windowed();
    let ids: Vec<u32> = (0..23).map(|i| (i * 37 + i * i * 11) % 101).collect();
    let reference = reference::Model::from_parts(config.clone(), &source(&config, |_| ())).unwrap();
    let expected = reference.logits(&ids).unwrap();
    let ids: Vec<i32> = ids.into_iter().map(|id| id as i32).collect();
    let tokens = Tensor::from_data(TensorData::new(ids, [1, 23]), &Device::flex());
    let logits =
        golden_model(&config, &Device::flex()).forward(tokens, Pass::default()).into_data();
    let (mut error, mut size) = (0.0, 0.0);
    for (&x, &expected) in logits.as_slice::<f32>().unwrap().iter().zip(&expected) {
        error += f64::from(x - expected).powi(2);
        size += f64::from(expected).powi(2);
    }
    let relative = (error / size).sqrt();
    assert!(relative < 2e-6, "{name}: relative RMS error {relative:e}");
}

#[test]
fn parameters_are_those_of_the_name_table() {
    for (name, config) in families() {
        let model = Model::init(&config, Initialization::Gpt2, 1, &Device::flex());
        let mut ours: Vec<_> = model.parameters().into_iter().map(|p| (p.path, p.shape)).collect();
        let table = names::tensors(&config).into_iter().filter(|row| row.in_model());
        let mut table: Vec<_> = table.map(|row| (row.burn.clone(), row.burn_shape())).collect();
        ours.sort();
        table.sort();
        assert_eq!(ours, table, "{name}");
    }
}

#[test]
fn projections_into_the_residual_stream_start_narrower() {
    for (name, config) in families() {
        let config = ModelConfig { n_head: 2, n_kv_head: 2, n_embd: 64, n_inner: 256, ..config };
        let model = Model::init(&config, Initialization::Gpt2, 1, &Device::flex());
        let narrow = 0.02 / (2.0 * config.n_layer as f32).sqrt();
        for parameter in model.parameters().into_iter().filter(|p| p.shape.len() == 2) {
            let deviation = parameter.values.square().mean().into_scalar::<f32>().sqrt();
            let ends =
                ["attn.c_proj.weight", "attn.output.weight", "down.weight", "mlp.c_proj.weight"];
            let is_narrow = ends.iter().any(|end| parameter.path.ends_with(end));
            let expected = if is_narrow { narrow } else { 0.02 };
            assert!((deviation - expected).abs() < 2e-3, "{name} {}: {deviation}", parameter.path);
        }
    }
}

/// The loss of models as deep as these is too nonlinear for finite differences, so the gradients
/// are compared with Burn's own gradients of its own operations.
#[test]
fn gradients_are_those_of_plain_operations() {
    let device = Device::flex().autodiff();
    for (name, config) in families().into_iter().chain([windowed()]) {
        let model = Model::init(&config, Initialization::Gpt2, 5, &device);
        let model = model.update(|_, _, values| values.clone() * 3.0 + 0.01);
        let gradients = || {
            let targets = tokens(2, &device).flip([1]);
            let loss = model.loss(Batch::new(tokens(2, &device), targets), Pass::default());
            model.take_gradients(loss.backward())
        };
        let (ours, plain) = (gradients(), kernels::with_plain_operations(gradients));
        assert_eq!(ours.len(), plain.len(), "{name}");
        for (path, expected) in plain {
            let size = expected.clone().square().sum().into_scalar::<f32>();
            let error = (ours[&path].clone() - expected).square().sum().into_scalar::<f32>();
            assert!(error <= 1e-7 * size + 1e-13, "{name} {path}: {error} of {size}");
        }
    }
}

/// Compares the slope of the loss along each parameter's gradient, by finite differences, with the
/// squared length of the gradient.
#[test]
fn gradients_follow_finite_differences() {
    let device = Device::flex().autodiff();
    for (name, config) in families().into_iter().filter(|(_, config)| config.n_layer == 2) {
        let model = Model::init(&config, Initialization::Gpt2, 5, &device);
        // Changes all values, so that scales are not exactly 1 and shifts not exactly 0.
        let model = model.update(|_, _, values| values.clone() * 3.0 + 0.01);
        let loss_of = |model: &Model| {
            model
                .loss(Batch::new(tokens(2, &device), tokens(2, &device).flip([1])), Pass::default())
        };
        let gradients = model.take_gradients(loss_of(&model).backward());
        for parameter in model.parameters() {
            let path = &parameter.path;
            let gradient = &gradients[path];
            assert_eq!(gradient.dims(), parameter.values.dims(), "{name} {path}");
            let slope = gradient.clone().square().sum().into_scalar::<f32>();
            // Too small, as for a bias of the keys, which changes all scores of a row almost
            // equally.
            if slope < 1e-5 {
                continue;
            }
            let h = 2e-4 / slope; // the loss moves by 2e-4 each way
            let shifted = |h: f32| {
                let moved = model.clone().update(|p, _, values| match p == path {
                    true => values + gradient.clone() * h,
                    false => values,
                });
                loss_of(&moved).into_scalar::<f32>()
            };
            let measured = (shifted(h) - shifted(-h)) / (2.0 * h);
            let error = (measured / slope - 1.0).abs();
            assert!(error < 5e-2, "{name} {path}: {measured}, gradient {slope}");
        }
    }
}

#[test]
fn a_position_does_not_see_the_next_and_rows_do_not_mix() {
    let device = Device::flex();
    for (name, config) in families() {
        let model = Model::init(&config, Initialization::Gpt2, 1, &device);
        let v = config.vocab_size;
        let short = tokens(1, &device).slice([0..1, 0..4]);
        let long = model.forward(tokens(2, &device), Pass::default()).slice([0..4, 0..v]);
        let short = model.forward(short, Pass::default());
        println!("{name}");
        short.into_data().assert_approx_eq::<f32>(&long.into_data(), Tolerance::absolute(1e-6));
    }
}

#[test]
fn dropout_acts_only_when_asked() {
    let device = Device::flex();
    for (name, config) in families() {
        let model = Model::init(&config, Initialization::Gpt2, 1, &device);
        let run = |dropout| {
            let pass = Pass { dropout, ..Pass::default() };
            model.forward(tokens(1, &device), pass).into_data()
        };
        assert_eq!(run(Dropout::new(0.2, 1)), run(Dropout::new(0.2, 1)), "{name}");
        assert_ne!(run(Dropout::new(0.2, 1)), run(None), "{name}");
    }
}

const LORA: [LoraTarget; 7] = [
    LoraTarget::Query,
    LoraTarget::Key,
    LoraTarget::Value,
    LoraTarget::Output,
    LoraTarget::Gate,
    LoraTarget::Up,
    LoraTarget::Down,
];

#[test]
fn adapters_start_as_nothing_and_are_all_that_is_trained() {
    let device = Device::flex().autodiff();
    for (name, config) in families() {
        let settings = Lora { rank: 2, alpha: 4.0, targets: LORA.to_vec(), ..Lora::default() };
        let plain = Model::init(&config, Initialization::Gpt2, 1, &device);
        let logits = |model: &Model| model.forward(tokens(1, &device), Pass::default());
        let before = logits(&plain).into_data();
        let adapted = plain
            .with_adapters(&settings, |path, shape| {
                Ok::<_, ()>(lora::initial_values(1, path, shape))
            })
            .unwrap();
        logits(&adapted).into_data().assert_eq(&before, true);

        // Every matrix of a block has two factors, and only these have gradients.
        let matrices = adapted.parameters().into_iter().filter(|p| {
            p.shape.len() == 2 && p.path.starts_with("blocks.") && p.path.ends_with(".weight")
        });
        let mut expected: Vec<String> = matrices
            .flat_map(|p| ["lora.a", "lora.b"].map(|factor| format!("{}.{factor}", p.path)))
            .collect();
        expected.sort();
        let mut trainable: Vec<String> = adapted.trainable().into_iter().map(|p| p.path).collect();
        trainable.sort();
        assert_eq!(trainable, expected, "{name}");
        let loss =
            adapted.loss(Batch::new(tokens(2, &device), tokens(2, &device)), Pass::default());
        let gradients = adapted.take_gradients(loss.backward());
        assert_eq!(gradients.into_keys().collect::<Vec<_>>(), expected, "{name}");
    }
}

#[test]
fn a_merged_adapter_computes_the_same_and_is_gone() {
    let device = Device::flex();
    let (_, config) = families().into_iter().nth(2).unwrap();
    let settings = Lora { rank: 2, alpha: 4.0, targets: LORA.to_vec(), ..Lora::default() };
    let adapted = Model::init(&config, Initialization::Gpt2, 1, &device)
        .with_adapters(&settings, |_, shape| {
            Ok::<_, ()>((0..shape.iter().product()).map(|i| (i % 7) as f32 * 0.01).collect())
        })
        .unwrap();
    let logits = |model: &Model| model.forward(tokens(1, &device), Pass::default()).into_data();
    let merged = adapted.merged();
    logits(&merged).assert_eq(&logits(&adapted), true);
    assert!(merged.parameters().iter().all(|p| lora::adapted(&p.path).is_none()));
    // W + alpha / rank * A B, for one element of one matrix.
    let find = |model: &Model, path: &str| -> Vec<f32> {
        let found = model.parameters().into_iter().find(|p| p.path == path).unwrap();
        found.values.into_data().iter::<f32>().collect()
    };
    let path = "blocks.1.attn.k.weight";
    let [w, a, b] = ["", ".lora.a", ".lora.b"].map(|end| find(&adapted, &format!("{path}{end}")));
    let (row, column, output) = (5, 3, config.kv_width());
    let product: f32 = (0..2).map(|r| a[row * 2 + r] * b[r * output + column]).sum();
    let expected = w[row * output + column] + 2.0 * product;
    let found = find(&merged, path)[row * output + column];
    assert!((found - expected).abs() < 1e-6, "{found}, expected {expected}");
}

/// With a dropout that drops nothing an adapter beside its matrix is what it is as a part of it, and with
/// one that drops everything the base is left; between the two, each key gives its own result.
#[test]
fn dropout_of_an_adapter_is_on_its_own_input_only() {
    let device = Device::flex();
    for (name, config) in families() {
        let settings = Lora { rank: 2, alpha: 4.0, targets: LORA.to_vec(), ..Lora::default() };
        let base = Model::init(&config, Initialization::Gpt2, 1, &device);
        let adapted = base
            .clone()
            .with_adapters(&settings, |_, shape| {
                Ok::<_, ()>((0..shape.iter().product()).map(|i| (i % 7) as f32 * 0.01).collect())
            })
            .unwrap();
        let logits = |model: &Model, probability: f32, key: u64| {
            let adapter_dropout = Dropout::new(probability, key);
            let pass = Pass { adapter_dropout, ..Pass::default() };
            model.forward(tokens(1, &device), pass).into_data()
        };
        let near = Tolerance::absolute(1e-5);
        let merged = logits(&adapted, 0.0, 1);
        logits(&adapted, 1e-9, 1).assert_approx_eq::<f32>(&merged, near);
        let without = logits(&base, 0.0, 1);
        logits(&adapted, 1.0 - 1e-6, 1).assert_approx_eq::<f32>(&without, near);
        logits(&base, 0.5, 1).assert_eq(&without, true);
        assert_ne!(merged, without, "{name}");
        assert_ne!(logits(&adapted, 0.5, 1), logits(&adapted, 0.5, 2), "{name}");
        assert_eq!(logits(&adapted, 0.5, 1), logits(&adapted, 0.5, 1), "{name}");
    }
}

#[test]
fn a_factor_that_cannot_be_read_is_an_error() {
    let (_, config) = families().into_iter().nth(2).unwrap();
    let settings = Lora { rank: 2, ..Lora::default() };
    let model = Model::init(&config, Initialization::Gpt2, 1, &Device::flex());
    let error = model.with_adapters(&settings, |path, _| Err(path.to_owned())).unwrap_err();
    assert_eq!(error, "blocks.0.attn.q.weight.lora.a");
}

/// Of the first row the last three positions train, of the second the last one, as in a padded
/// batch of answers; expected are sums of the log-softmax of transformers' logits.
#[test]
fn log_probabilities_of_rows_are_those_of_hugging_face() {
    for (name, golden) in [
        ("gpt2", include_str!("../../reference/tests/golden/gpt2.json")),
        ("llama", include_str!("../../reference/tests/golden/llama.json")),
    ] {
        let golden: serde_json::Value = serde_json::from_str(golden).unwrap();
        let numbers = |value: &serde_json::Value| -> Vec<f64> {
            value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
        };
        let ids: Vec<i32> = numbers(&golden["tokens"]).iter().map(|&id| id as i32).collect();
        let logits: Vec<Vec<f64>> =
            golden["logits"].as_array().unwrap().iter().map(numbers).collect();
        let log_probability = |at: usize, target: i32| {
            let sum: f64 = logits[at].iter().map(|logit| logit.exp()).sum();
            logits[at][target as usize] - sum.ln()
        };
        let (_, config) = families().into_iter().find(|(family, _)| *family == name).unwrap();
        let device = Device::flex();
        let time = ids.len();
        let (trained, targets) = ([time - 3, time - 2, time - 1, 2 * time - 1], [4, 1, 7, 2]);
        let expected = [
            (0..3).map(|at| log_probability(time - 3 + at, targets[at])).sum::<f64>(),
            log_probability(time - 1, targets[3]),
        ];
        let integers = |values: Vec<i32>| {
            let len = values.len();
            Tensor::<1, Int>::from_data(TensorData::new(values, [len]), &device)
        };
        let batch = Batch {
            tokens: integers([ids.clone(), ids].concat()).reshape([2, time]),
            documents: None,
            trained: Some(integers(trained.map(|at| at as i32).to_vec())),
            targets: integers(targets.to_vec()),
        };
        let model = golden_model(&config, &device);
        let found = model.log_probabilities(batch, &[3, 1], Pass::default());
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-4, "{name}: {found}, expected {expected}");
        }
    }
}
