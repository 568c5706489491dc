//! Properties of the GPT-2 module that do not need trained weights.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use burn::tensor::{Device, Int, Tensor, TensorData, Tolerance};
use checkpoint::names;
use config::{Architecture, Initialization, ModelConfig};
use kernels::{Dropout, Pass};
use model::{Batch, Model};

fn config(qkv_bias: bool, tie_embeddings: bool) -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Gpt2,
        vocab_size: 29,
        context_length: 13,
        n_layer: 3,
        n_head: 2,
        n_kv_head: 2,
        n_embd: 10,
        n_inner: 17,
        norm_epsilon: 1e-5,
        rope_base: config::ROPE_BASE,
        qkv_bias,
        tie_embeddings,
        dropout: 0.2,
        attention: config::Attention::default(),
        experts: None,
    }
}

fn tokens(rows: usize, device: &Device) -> Tensor<2, Int> {
    let ids: Vec<i32> = (0..rows * 7).map(|i| (i * 5 % 29) as i32).collect();
    Tensor::from_data(TensorData::new(ids, [rows, 7]), device)
}

#[test]
fn parameters_are_those_of_the_name_table() {
    for config in [config(true, true), config(false, false)] {
        let model = Model::init(&config, Initialization::Gpt2, 1, &Device::flex());
        let mut ours: Vec<_> = model.parameters().into_iter().map(|p| (p.path, p.shape)).collect();
        let mut table: Vec<_> = names::tensors(&config)
            .into_iter()
            .filter(|row| row.in_model())
            .map(|row| (row.burn.clone(), row.burn_shape()))
            .collect();
        ours.sort();
        table.sort();
        assert_eq!(ours, table);
    }
}

#[test]
fn the_seed_fixes_the_weights() {
    let config = config(true, false);
    let weights = |seed| -> Vec<TensorData> {
        let model = Model::init(&config, Initialization::Gpt2, seed, &Device::flex());
        model.parameters().into_iter().map(|p| p.values.into_data()).collect()
    };
    assert_eq!(weights(1), weights(1));
    assert_ne!(weights(1), weights(2));
}

#[test]
fn residual_projections_start_narrower() {
    let config = ModelConfig { n_embd: 64, n_inner: 256, ..config(true, true) };
    let model = Model::init(&config, Initialization::Gpt2, 1, &Device::flex());
    let deviation = |path: &str| {
        let parameters = model.parameters();
        let found = parameters.iter().find(|p| p.path == path).unwrap();
        found.values.clone().square().mean().into_scalar::<f32>().sqrt()
    };
    assert!((deviation("blocks.1.mlp.c_fc.weight") - 0.02).abs() < 1e-3);
    let narrow = 0.02 / (2.0 * 3.0_f32).sqrt();
    assert!((deviation("blocks.1.mlp.c_proj.weight") - narrow).abs() < 1e-3);
    assert!((deviation("blocks.1.attn.c_proj.weight") - narrow).abs() < 1e-3);
    assert_eq!(deviation("blocks.1.mlp.c_proj.bias"), 0.0);
    assert_eq!(deviation("ln_f.gamma"), 1.0);
}

#[test]
fn every_parameter_has_a_gradient() {
    for config in [config(true, true), config(false, false)] {
        let device = Device::flex().autodiff();
        let model = Model::init(&config, Initialization::Gpt2, 1, &device);
        let loss = model.loss(Batch::new(tokens(2, &device), tokens(2, &device)), Pass::default());
        let gradients = model.take_gradients(loss.backward());
        for parameter in model.parameters() {
            let gradient = &gradients[&parameter.path];
            assert_eq!(gradient.dims(), parameter.values.dims(), "{}", parameter.path);
            let largest = gradient.clone().abs().max().into_scalar::<f32>();
            assert!(largest > 0.0 && largest.is_finite(), "{}: {largest}", parameter.path);
        }
    }
}

/// Compares the slope of the loss along a direction, by finite differences and by the gradient.
#[test]
fn gradients_follow_finite_differences() {
    let device = Device::flex().autodiff();
    let config = config(true, true);
    let model = Model::init(&config, Initialization::Gpt2, 5, &device);
    let loss_of = |model: &Model| {
        let loss = model
            .loss(Batch::new(tokens(2, &device), tokens(2, &device).flip([1])), Pass::default());
        (loss.clone().into_scalar::<f32>(), loss)
    };
    let gradients = model.take_gradients(loss_of(&model).1.backward());
    for path in ["wte.weight", "wpe.weight", "blocks.1.attn.c_attn.weight", "ln_f.gamma"] {
        // Along the gradient itself, so that the slope is its squared length.
        let slope = gradients[path].clone().square().sum().into_scalar::<f32>();
        let h = 2e-2 / slope.sqrt();
        let shifted = |h: f32| {
            let moved = model.clone().update(|p, _, values| match p == path {
                true => values + gradients[path].clone() * h,
                false => values,
            });
            loss_of(&moved).0
        };
        let measured = (shifted(h) - shifted(-h)) / (2.0 * h);
        assert!((measured / slope - 1.0).abs() < 2e-2, "{path}: {measured}, gradient {slope}");
    }
}

#[test]
fn a_fresh_model_knows_nothing() {
    let device = Device::flex();
    let model = Model::init(&config(true, false), Initialization::Gpt2, 1, &device);
    let loss = model
        .loss(Batch::new(tokens(3, &device), tokens(3, &device)), Pass::default())
        .into_scalar::<f32>();
    assert!((loss - 29_f32.ln()).abs() < 0.1, "{loss}");
}

#[test]
fn dropout_follows_from_its_key_and_only_acts_when_asked() {
    let device = Device::flex();
    let model = Model::init(&config(true, true), Initialization::Gpt2, 1, &device);
    let run = |dropout| {
        let pass = Pass { dropout, ..Pass::default() };
        model.forward(tokens(1, &device), pass).into_data()
    };
    assert_eq!(run(None), run(None));
    assert_eq!(run(Dropout::new(0.2, 1)), run(Dropout::new(0.2, 1)));
    assert_ne!(run(Dropout::new(0.2, 1)), run(Dropout::new(0.2, 2)));
    assert_ne!(run(Dropout::new(0.2, 1)), run(None));
}

#[test]
fn a_position_does_not_see_the_next_and_rows_do_not_mix() {
    let device = Device::flex();
    let model = Model::init(&config(true, true), Initialization::Gpt2, 1, &device);
    let short = tokens(1, &device).slice([0..1, 0..4]);
    let long = model.forward(tokens(2, &device), Pass::default()).slice([0..4, 0..29]);
    let short = model.forward(short, Pass::default());
    short.into_data().assert_approx_eq::<f32>(&long.into_data(), Tolerance::absolute(1e-6));
}

#[test]
fn next_logits_are_those_of_each_rows_last_position() {
    let device = Device::flex();
    let model = Model::init(&config(false, false), Initialization::Gpt2, 1, &device);
    let all = model.forward(tokens(3, &device), Pass::default());
    let last = Tensor::cat([6, 13, 20].map(|i| all.clone().slice([i..i + 1, 0..29])).to_vec(), 0);
    let next = model.next_logits(tokens(3, &device));
    next.into_data().assert_approx_eq::<f32>(&last.into_data(), Tolerance::absolute(1e-6));
}

#[test]
fn pytorchs_defaults_are_wide_tables_and_uniform_matrices() {
    let config = ModelConfig { n_embd: 64, n_inner: 256, ..config(true, false) };
    let model = Model::init(&config, Initialization::Pytorch, 1, &Device::flex());
    let largest_and_deviation = |path: &str| {
        let parameters = model.parameters();
        let values = parameters.iter().find(|p| p.path == path).unwrap().values.clone();
        let deviation = values.clone().square().mean().into_scalar::<f32>().sqrt();
        (values.abs().max().into_scalar::<f32>(), deviation)
    };
    assert!((largest_and_deviation("wte.weight").1 - 1.0).abs() < 0.1);
    // Uniform within 1 / sqrt(inputs): 1/8 of 64 inputs, 1/16 of 256.
    for (path, limit) in [
        ("blocks.0.attn.c_attn.weight", 0.125),
        ("blocks.2.attn.c_proj.bias", 0.125),
        ("lm_head.weight", 0.125),
        ("blocks.1.mlp.c_proj.weight", 0.0625),
    ] {
        let (largest, deviation) = largest_and_deviation(path);
        assert!(largest <= limit && largest > 0.9 * limit, "{path}: {largest}");
        assert!((deviation / limit - 3_f32.sqrt().recip()).abs() < 0.1, "{path}: {deviation}");
    }
    assert_eq!(largest_and_deviation("ln_f.gamma"), (1.0, 1.0));
}
