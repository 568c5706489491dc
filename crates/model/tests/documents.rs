//! Several documents in a row, and positions that do not train: compared with each document alone,
//! and with PyTorch.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use std::collections::BTreeMap;

use crate::common::{golden_model, windowed};
use crate::random_weights::{families, phi3_longrope};
use burn::tensor::{Device, Int, Tensor, TensorData};
use config::{Initialization, Lora, LoraTarget, ModelConfig};
use kernels::{Distillation, Documents, Pass, Precision};
use model::parameters::ParameterGradients;
use model::{Batch, Model, Teacher, lora};

/// Tokens of the documents of each row; they end just before, at and after the borders of squares
/// of 128 scores, at other places in each row.
const LENGTHS: [&[usize]; 2] = [&[1, 127, 128, 129, 44], &[300, 129]];

/// Allowed errors of gradients in f32, relative to their length. Rotations turn the same documents by
/// other angles, with other rounding errors, which small and steep models amplify.
const F32: f32 = 5e-4;

/// A text, the tokens that follow, and the positions that train.
#[derive(Clone)]
struct Document {
    tokens: Vec<i32>,
    targets: Vec<i32>,
    trained: Vec<usize>,
}

/// Documents of these lengths, in which every `every`-th position trains.
fn rows(lengths: &[&[usize]], every: usize) -> Vec<Vec<Document>> {
    let mut count = 0..;
    let mut draw = |len: usize| -> Vec<i32> {
        count.by_ref().take(len).map(|i: i32| (i * 37 + i / 7 * 11) % 101).collect()
    };
    let mut document = |&len: &usize| Document {
        tokens: draw(len),
        targets: draw(len),
        trained: (0..len).filter(|i| i % every == every - 1).collect(),
    };
    lengths.iter().map(|lengths| lengths.iter().map(&mut document).collect()).collect()
}

fn integers<const RANK: usize>(numbers: Vec<i32>, shape: [usize; RANK]) -> Tensor<RANK, Int> {
    Tensor::from_data(TensorData::new(numbers, shape), &device())
}

fn device() -> Device {
    Device::flex().autodiff()
}

/// The documents side by side in one batch, or `None` if no position trains.
fn packed(rows: &[Vec<Document>]) -> Option<Batch> {
    let (mut tokens, mut starts, mut trained, mut targets) = (vec![], vec![], vec![], vec![]);
    for row in rows {
        let mut start = 0;
        for document in row {
            let first = tokens.len();
            trained.extend(document.trained.iter().map(|&i| (first + i) as i32));
            targets.extend(document.trained.iter().map(|&i| document.targets[i]));
            tokens.extend(&document.tokens);
            starts.extend(document.tokens.iter().map(|_| start));
            start += document.tokens.len() as u32;
        }
    }
    let (shape, count) = ([rows.len(), tokens.len() / rows.len()], trained.len());
    let all = count == tokens.len();
    (count > 0).then(|| Batch {
        tokens: integers(tokens, shape),
        documents: Some(Documents::new(starts, shape)),
        trained: (!all).then(|| integers(trained, [count])),
        targets: integers(targets, [count]),
    })
}

/// Each document in a batch of its own, without anything said about documents.
fn alone(rows: &[Vec<Document>]) -> Vec<Batch> {
    let batches = rows.iter().flatten().filter_map(|document| packed(&[vec![document.clone()]]));
    batches.map(|batch| Batch { documents: None, ..batch }).collect()
}

/// The mean loss over all trained positions of the batches, and its gradients.
fn mean(
    model: &Model,
    batches: Vec<Batch>,
    loss: impl Fn(&Model, Batch) -> Tensor<1>,
) -> (f64, ParameterGradients) {
    let total: usize = batches.iter().map(|batch| batch.targets.dims()[0]).sum();
    let (mut sum, mut gradients) = (0.0, BTreeMap::new());
    for batch in batches {
        let share = batch.targets.dims()[0] as f64 / total as f64;
        let loss = loss(model, batch) * share;
        sum += f64::from(loss.clone().inner().into_scalar::<f32>());
        gradients = model.take_gradients(model.accumulate(loss, gradients).backward());
    }
    (sum, gradients)
}

fn assert_alike(
    name: &str,
    found: (f64, ParameterGradients),
    expected: (f64, ParameterGradients),
    tolerance: f32,
) {
    let off = (found.0 - expected.0).abs();
    assert!(off <= 10.0 * f64::from(tolerance), "{name}: {}, not {}", found.0, expected.0);
    assert_eq!(found.1.len(), expected.1.len(), "{name}");
    for (path, expected) in expected.1 {
        let size = expected.clone().square().sum().into_scalar::<f32>().sqrt();
        let error = (found.1[&path].clone() - expected).square().sum().into_scalar::<f32>().sqrt();
        assert!(error <= tolerance * size + 3e-7, "{name} {path}: {error} of {size}");
    }
}

/// How far all gradients together are from others, relative to their length: some single ones are
/// almost zero, as those of queries with a steep softmax.
fn distance(found: &ParameterGradients, exact: &ParameterGradients) -> f64 {
    let square = |x: Tensor<1>| f64::from(x.square().sum().into_scalar::<f32>());
    let (mut error, mut size) = (0.0, 0.0);
    for (path, exact) in exact {
        error += square(found[path].clone() - exact.clone());
        size += square(exact.clone());
    }
    (error / size).sqrt()
}

/// A model with room for the documents, all of whose values differ from their first ones.
fn model(config: &ModelConfig) -> Model {
    let config = ModelConfig { context_length: 512, ..config.clone() };
    Model::init(&config, Initialization::Gpt2, 5, &device())
        .update(|_, _, values| values.clone() * 3.0 + 0.01)
}

fn with_adapters(model: Model) -> Model {
    let targets = vec![LoraTarget::Query, LoraTarget::Value, LoraTarget::Down];
    let settings = Lora { rank: 2, alpha: 4.0, targets, ..Lora::default() };
    let values = |path: &str, shape: &[usize]| {
        let values = lora::initial_values(1, path, shape);
        Ok::<_, ()>(values.into_iter().map(|value| value + 0.02).collect())
    };
    model.with_adapters(&settings, values).unwrap()
}

#[test]
fn documents_in_a_row_are_what_they_are_alone() {
    for (name, config) in families().into_iter().chain([windowed()]) {
        let model = model(&config);
        // All positions train, and a third of them.
        for every in [1, 3] {
            let rows = rows(&LENGTHS, every);
            let run = |batches, precision| {
                let pass = Pass { precision, ..Pass::default() };
                mean(&model, batches, |model, batch| model.loss(batch, pass))
            };
            let both = || [vec![packed(&rows).unwrap()], alone(&rows)];
            let [packed, alone] = both().map(|batches| run(batches, Precision::F32));
            assert_alike(name, packed, alone.clone(), F32);
            // In bf16, as close to the gradients in f32 as the documents alone are.
            let [packed, single] = both().map(|batches| run(batches, Precision::Bf16));
            let [packed_off, single_off] = [&packed, &single].map(|x| distance(&x.1, &alone.1));
            assert!(packed_off < 1.5 * single_off, "{name}: {packed_off}, alone {single_off}");
            assert!((packed.0 - single.0).abs() < 0.03, "{name}: {}, {}", packed.0, single.0);
            if every == 3 {
                let [packed, _] = both();
                let plain = kernels::with_plain_operations(|| run(packed, Precision::F32));
                assert_alike(name, plain, alone, F32);
            }
        }
    }
}

#[test]
fn checkpointing_adapters_and_a_teacher_see_the_same_documents() {
    for (name, config) in families().into_iter().take(3).chain([windowed()]) {
        let rows = rows(&LENGTHS, 3);
        let teacher = model(&config).update(|_, _, values| values * 0.7).without_graph();
        for model in [model(&config), with_adapters(model(&config))] {
            for checkpointing in [false, true] {
                let pass = Pass { checkpointing, ..Pass::default() };
                let loss = |model: &Model, batch| model.loss(batch, pass);
                let found = mean(&model, vec![packed(&rows).unwrap()], loss);
                let expected =
                    mean(&model, alone(&rows), |model, batch| model.loss(batch, Pass::default()));
                assert_alike(name, found, expected, F32);

                let settings = Distillation { share: 0.4, temperature: 2.0 };
                let distilled = |model: &Model, batch| {
                    model.distilled_loss(batch, Teacher::Model(&teacher), settings, pass).loss
                };
                let batches = || [vec![packed(&rows).unwrap()], alone(&rows)];
                let [found, expected] = batches().map(|some| mean(&model, some, distilled));
                assert_alike(name, found.clone(), expected, F32);
                let [some, _] = batches();
                let plain = kernels::with_plain_operations(|| mean(&model, some, distilled));
                assert_alike(name, plain, found, F32);
            }
        }
    }
}

/// Where only the second document trains, the first changes nothing, to the last bit.
#[test]
fn a_token_of_one_document_changes_nothing_in_another() {
    for (name, config) in families().into_iter().chain([windowed()]) {
        let model = model(&config);
        for lengths in [[1, 140], [127, 14], [128, 13], [129, 12]] {
            for precision in [Precision::F32, Precision::Bf16] {
                let run = |token: i32| {
                    let mut rows = rows(&[&lengths], 1);
                    rows[0][0].trained.clear();
                    rows[0][0].tokens.fill(token);
                    let pass = Pass { precision, ..Pass::default() };
                    let batch = packed(&rows).unwrap();
                    mean(&model, vec![batch], |model, batch| model.loss(batch, pass))
                };
                let (one, other) = (run(3), run(77));
                assert_eq!(one.0, other.0, "{name} {lengths:?}");
                for (path, gradient) in one.1 {
                    let gap = (gradient - other.1[&path].clone()).abs().max();
                    assert_eq!(gap.into_scalar::<f32>(), 0.0, "{name} {lengths:?} {path}");
                }
            }
        }
    }
}

/// One pass over all rows has the loss and gradients of a pass for each row, weighted by the number
/// of positions that train in it.
#[test]
fn passes_with_unequal_numbers_of_trained_positions_add_up() {
    let (name, config) = families().into_iter().nth(2).unwrap();
    let model = model(&config);
    let mut rows = rows(&[&[9, 20], &[29], &[3, 26]], 1);
    rows[0][1].trained.truncate(2);
    rows[1][0].trained.truncate(17);
    let run = |batches| mean(&model, batches, |model, batch| model.loss(batch, Pass::default()));
    let one = run(vec![packed(&rows).unwrap()]);
    let several = rows.into_iter().map(|row| packed(&[row]).unwrap()).collect();
    assert_alike(name, run(several), one, 1e-5);
}

#[test]
fn whole_rows_as_documents_are_rows() {
    for (name, config) in families() {
        let model = model(&config);
        let rows = rows(&[&[50], &[50]], 1);
        let batch = packed(&rows).unwrap();
        let without = Batch { documents: None, ..batch.clone() };
        let [found, expected] = [batch, without].map(|batch| {
            mean(&model, vec![batch], |model, batch| model.loss(batch, Pass::default()))
        });
        assert_eq!(found.0, expected.0, "{name}");
    }
}

/// A row that is longer than the first context of the model holds documents that are not: their
/// rotation is that of short texts.
#[test]
fn longrope_goes_by_the_length_of_documents() {
    let model = model(&phi3_longrope());
    let rows = rows(&[&[12, 5, 9], &[8, 8, 10]], 1);
    let run = |batches| mean(&model, batches, |model, batch| model.loss(batch, Pass::default()));
    assert_alike("longrope", run(vec![packed(&rows).unwrap()]), run(alone(&rows)), F32);
}

#[test]
fn losses_are_those_of_pytorch() {
    let golden: serde_json::Value =
        serde_json::from_str(include_str!("golden/packed_loss.json")).unwrap();
    let numbers = |name: &str| -> Vec<i32> {
        let rows = golden[name].as_array().unwrap().iter();
        rows.flat_map(|row| row.as_array().unwrap()).map(|x| x.as_i64().unwrap() as i32).collect()
    };
    let labels = numbers("labels");
    let shape = [2, labels.len() / 2];
    let starts: Vec<u32> = numbers("starts").into_iter().map(|start| start as u32).collect();
    let trained: Vec<i32> =
        (0..labels.len()).filter(|&i| labels[i] >= 0).map(|i| i as i32).collect();
    let targets: Vec<i32> = labels.into_iter().filter(|&label| label >= 0).collect();
    let batch = || Batch {
        tokens: integers(numbers("tokens"), shape),
        documents: Some(Documents::new(starts.clone(), shape)),
        trained: Some(integers(trained.clone(), [trained.len()])),
        targets: integers(targets.clone(), [targets.len()]),
    };
    let configs: Vec<_> =
        families().into_iter().chain([("phi3_longrope", phi3_longrope())]).collect();
    let expected = golden["families"].as_object().unwrap();
    assert_eq!(expected.len(), 11);
    for (name, expected) in expected {
        let (_, config) = configs.iter().find(|(family, _)| family == name).unwrap();
        let model = golden_model(config, &device());
        let run = || mean(&model, vec![batch()], |model, batch| model.loss(batch, Pass::default()));
        for (loss, gradients) in [run(), kernels::with_plain_operations(run)] {
            let norm = gradients["wte.weight"].clone().square().sum().into_scalar::<f32>().sqrt();
            let found = [loss, f64::from(norm)];
            for (key, found) in ["loss", "embedding_gradient_norm"].into_iter().zip(found) {
                let expected = expected[key].as_f64().unwrap();
                let off = (found / expected - 1.0).abs();
                assert!(off < 3e-6, "{name}: {key} is {found}, expected {expected}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "a batch with a position that trains")]
fn a_batch_in_which_nothing_trains_has_no_loss() {
    let (_, config) = families().remove(0);
    let nothing = |len| integers(Vec::new(), [len]);
    let batch = Batch {
        tokens: integers(vec![1, 2], [1, 2]),
        documents: None,
        trained: Some(nothing(0)),
        targets: nothing(0),
    };
    model(&config).loss(batch, Pass::default());
}

#[test]
#[should_panic(expected = "a target for each position that trains")]
fn a_target_too_few_is_refused() {
    let (_, config) = families().remove(0);
    let batch = Batch {
        tokens: integers(vec![1, 2], [1, 2]),
        documents: None,
        trained: None,
        targets: integers(vec![1], [1]),
    };
    model(&config).loss(batch, Pass::default());
}
