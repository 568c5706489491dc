//! Compares the rounded model with the file that `quantize` writes, and its gradients with finite
//! differences.

use std::fs::File;
use std::path::{Path, PathBuf};

use burn::tensor::{Int, TensorData};
use checkpoint::{Checkpoint, CheckpointContents, GgufView, names};
use config::{Architecture, Initialization, Qat as Settings};
use gguf::{GgufFile, TensorSource, Writer};
use kernels::Pass;
use quantize::{QuantizeJob, quantize_file};

use super::*;
use crate::tensors::View;

/// Every family with and without a separate head, with a vocabulary of words.
fn models() -> Vec<(String, ModelConfig)> {
    let tokenizer = data::Tokenizer::simple(TEXT);
    let config = |architecture: Architecture, tie_embeddings| ModelConfig {
        architecture,
        vocab_size: tokenizer.vocab_size(),
        context_length: 16,
        n_layer: 2,
        n_head: 4,
        n_kv_head: if architecture.is_gated() { 2 } else { 4 },
        n_embd: 256,
        n_inner: 352, // whole blocks of 32, but not of 256
        norm_epsilon: 1e-5,
        rope_base: config::ROPE_BASE,
        qkv_bias: architecture.block().qkv_bias,
        tie_embeddings,
        dropout: 0.0,
        attention: config::Attention::default(),
        experts: None,
    };
    let name = |architecture: Architecture, tied| {
        format!("{} {}", architecture.name(), if tied { "tied" } else { "untied" })
    };
    let cases = Architecture::trained().flat_map(|family| [(family, true), (family, false)]);
    cases.map(|(family, tied)| (name(family, tied), config(family, tied))).collect()
}

const TEXT: &str = "the keeper winds the slow clock , and nobody in the square looks up .";

fn model(config: &ModelConfig) -> Model {
    Model::init(config, Initialization::Pytorch, 3, &device())
}

fn device() -> Device {
    Device::flex().autodiff()
}

fn tokens(device: &Device) -> Tensor<2, Int> {
    let ids: Vec<i32> = (0..12).map(|i| i * 5 % 13).collect();
    Tensor::from_data(TensorData::new(ids, [1, 12]), device)
}

fn run_file(format: &str, exported: &str) -> RunFile {
    let mut run_file = RunFile::default();
    let format = format.to_owned();
    run_file.train.qat = Some(Settings { format, start: None });
    run_file.export.tensor_type = exported.to_owned();
    run_file
}

fn rounded(config: &ModelConfig, model: &Model, format: &str, exported: &str) -> Qat {
    let state = TrainerState::default();
    let qat = Qat::new(&run_file(format, exported), config, 100, &state).unwrap();
    let mut qat = qat.unwrap();
    qat.refresh(model, &device()).unwrap();
    qat
}

/// The file that `export` and `quantize` write for a model.
fn quantized(folder: &Path, model: &Model, recipe: Recipe, exported: TensorType) -> PathBuf {
    let checkpoint = folder.join("step-000001");
    let contents = CheckpointContents {
        config: model.config(),
        weights: &View::weights(model),
        tokenizer_json: &data::Tokenizer::simple(TEXT).tokenizer_json().unwrap(),
        tokenizer_folder: None,
        optimizer: None,
        trainer: &TrainerState::default(),
        golden: None,
    };
    checkpoint::save(&checkpoint, contents).unwrap();
    let view = GgufView::new(Checkpoint::open(&checkpoint).unwrap(), exported, "model").unwrap();
    let tensors: Vec<_> =
        view.tensors().iter().map(|t| (t.name.clone(), t.shape.clone(), t.tensor_type)).collect();
    let plain = folder.join("plain.gguf");
    let mut writer = Writer::new(File::create(&plain).unwrap(), view.metadata(), &tensors).unwrap();
    for tensor in view.tensors() {
        writer.write_tensor(&tensor.name, &view.read(tensor).unwrap()).unwrap();
    }
    writer.finish().unwrap();
    quantize_file(&QuantizeJob::new(plain, recipe)).unwrap().output
}

/// Every weight of the file has the bits that the forward pass uses, and the reference's logits for
/// the file equal those of the forward pass.
#[test]
fn a_forward_pass_sees_the_weights_of_the_file() {
    for (name, config) in models() {
        let model = model(&config);
        for recipe in Recipe::ALL.into_iter().filter(|recipe| !recipe.needs_importance()) {
            let exported = if recipe == Recipe::Q4_0 { TensorType::F16 } else { TensorType::F32 };
            let qat = rounded(&config, &model, recipe.name(), exported.name());
            let qat = qat.model().unwrap();
            let folder = tempfile::tempdir().unwrap();
            let path = quantized(folder.path(), &model, recipe, exported);
            let file = GgufFile::open(&path).unwrap();

            let parameters = qat.parameters();
            let mut seen = 0;
            for row in names::tensors(&config) {
                let stored = gguf::read_f32(&file, file.tensor(&row.gguf).unwrap()).unwrap();
                let Some(found) = parameters.iter().find(|p| p.path == row.burn) else {
                    assert!(stored.iter().all(|&w| w == 0.0), "{name}, {recipe}: {}", row.gguf);
                    continue;
                };
                // A GGUF holds the factor of a norm, Burn the value that Hugging Face stores.
                let found: Vec<f32> =
                    found.values.to_data().iter::<f32>().map(|w| w + row.offset).collect();
                let found = match (lie(&row), row.burn_shape().as_slice()) {
                    (Lie::Columns, &[input, output]) => {
                        checkpoint::transpose(&found, input, output)
                    }
                    _ => found,
                };
                assert!(found == stored, "{name}, {recipe}: {}", row.gguf);
                seen += 1;
            }
            assert_eq!(seen, parameters.len(), "{name}");

            let logits = qat.forward(tokens(&device()), Pass::default()).inner().into_data();
            let ids: Vec<u32> = tokens(&device()).into_data().iter::<u32>().collect();
            let expected = reference::Model::load(&file).unwrap().logits(&ids).unwrap();
            let (mut error, mut size) = (0.0, 0.0);
            for (found, expected) in logits.iter::<f32>().zip(&expected) {
                error += f64::from(found - expected).powi(2);
                size += f64::from(*expected).powi(2);
            }
            let relative = (error / size).sqrt();
            assert!(relative < 2e-6, "{name}, {recipe}: relative RMS error {relative:e}");
        }
    }
}

/// The gradient of a weight is the derivative of the loss by its rounded value.
#[test]
fn gradients_go_straight_through() {
    for (name, config) in models() {
        let config = ModelConfig { n_layer: 1, n_embd: 32, n_inner: 64, ..config };
        let model = model(&config);
        let qat = rounded(&config, &model, "Q4_0", "F32");
        let targets = tokens(&device()).inner() + 1;
        let loss = |model: &Model, device: &Device| {
            let targets = Tensor::from_data(targets.to_data(), device);
            model.loss(model::Batch::new(tokens(device), targets), Pass::default())
        };
        let seen = qat.model().unwrap();
        let gradients = seen.take_gradients(loss(seen, &device()).backward());
        let gradients = qat.straight_through(gradients);
        let paths: Vec<String> = model.parameters().into_iter().map(|p| p.path).collect();
        assert_eq!(gradients.len(), paths.len(), "{name}");
        for path in paths {
            let gradient: Vec<f32> = gradients[&path].to_data().iter::<f32>().collect();
            // The largest, which exceeds the rounding error of f32 the most.
            let largest = |&a: &usize, &b: &usize| gradient[a].abs().total_cmp(&gradient[b].abs());
            let at = (0..gradient.len()).max_by(largest).unwrap();
            let shifted = |by: f32| -> f64 {
                let moved = seen.clone().update(|other, _, values| {
                    let Some(rule) = qat.plan.rules.get(other).filter(|r| r.source == path) else {
                        return values;
                    };
                    let mut unit = vec![0.0; gradient.len()];
                    unit[at] = by;
                    let unit =
                        Tensor::from_data(TensorData::new(unit, [gradient.len()]), &Device::flex());
                    let Rounding { row_len, from, to, .. } = rule.rounding;
                    values + transposed(unit, row_len, from, to)
                });
                f64::from(loss(&moved, &device()).inner().into_scalar::<f32>())
            };
            const STEP: f32 = 4e-3;
            let difference = (shifted(STEP) - shifted(-STEP)) / (2.0 * f64::from(STEP));
            let found = f64::from(gradient[at]);
            let apart = (found - difference).abs();
            assert!(apart < 5e-4 + 2e-2 * found.abs(), "{name}, {path}: {found}, {difference}");
        }
    }
}

#[test]
fn rounding_again_follows_the_weights_and_keeps_the_old_ones_nowhere() {
    let (_, config) = models().remove(0);
    let model = model(&config);
    let mut qat = rounded(&config, &model, "Q4_0", "F32");
    let bits = |model: &Model| -> Vec<TensorData> {
        model.parameters().into_iter().map(|p| p.values.into_data()).collect()
    };
    let first = bits(qat.model().unwrap());
    let before = bits(&model);
    let doubled = model.update(|_, _, values| values * 2.0);
    qat.refresh(&doubled, &device()).unwrap();
    for (first, second) in first.iter().zip(bits(qat.model().unwrap())) {
        for (a, b) in first.iter::<f32>().zip(second.iter::<f32>()) {
            assert_eq!(2.0 * a, b, "a power of two goes through every scale");
        }
    }
    for (before, after) in before.iter().zip(bits(&doubled)) {
        assert!(before.iter::<f32>().zip(after.iter::<f32>()).all(|(a, b)| 2.0 * a == b));
    }
}

#[test]
fn a_weight_that_no_block_holds_is_named() {
    let (_, config) = models().remove(0);
    let broken = model(&config).update(|path, _, values| match path {
        "blocks.1.mlp.c_fc.weight" => values * f32::NAN,
        _ => values,
    });
    let state = TrainerState::default();
    let mut qat = Qat::new(&run_file("Q4_0", "F32"), &config, 100, &state).unwrap().unwrap();
    let error = cli::one_line(&qat.refresh(&broken, &device()).unwrap_err());
    assert!(error.contains("Q4_0") && error.contains("blk.1.ffn_up.weight"), "{error}");
}

#[test]
fn a_start_once_begun_stays_where_it_was() {
    let (_, config) = models().remove(0);
    let start = |run_file: &RunFile, total, step, qat_start| {
        let state = TrainerState { step, qat_start, ..TrainerState::default() };
        Qat::new(run_file, &config, total, &state).map(|qat| qat.unwrap().start())
    };
    let mut run_file = run_file("q4_0", "F32");
    assert_eq!(start(&run_file, 100, 0, None).unwrap(), 75);
    assert_eq!(start(&run_file, 200, 60, Some(75)).unwrap(), 150, "not begun yet");
    assert_eq!(start(&run_file, 200, 100, Some(75)).unwrap(), 75);
    run_file.train.init_from = Some("base".into());
    assert_eq!(start(&run_file, 100, 0, None).unwrap(), 0);
    run_file.train.qat.as_mut().unwrap().start = Some(config::QatStart::Step(100));
    let error = start(&run_file, 100, 0, None).unwrap_err().to_string();
    assert!(error.contains("train.qat.start") && error.contains("100 steps"), "{error}");
    run_file.train.qat.as_mut().unwrap().format = "Q9".to_owned();
    let error = cli::one_line(&start(&run_file, 100, 0, None).unwrap_err());
    assert!(error.contains("train.qat.format: unknown recipe Q9: expected one of"), "{error}");
    run_file.train.qat.as_mut().unwrap().format = "Q2_K_S".to_owned();
    let error = cli::one_line(&start(&run_file, 100, 0, None).unwrap_err());
    assert!(error.contains("train.qat.format: Q2_K_S needs importance data"), "{error}");
}
