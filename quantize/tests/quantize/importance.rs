//! Importance data: from a file to ggml's bytes.

use std::path::Path;

use gguf::{GgufFile, TensorSource, TensorType, Value};
use quantize::{ImatrixFile, Importance, QuantizeJob, Recipe, Sums, quantize_file};
use tempfile::TempDir;

use crate::models::{GPT2, LLAMA, Model};
use crate::oracle::{Wishes, llama_quantize_with};
use crate::{assert_same_model, job, refusal};

/// Positive numbers of very different size, as squares of activations are.
fn columns(count: usize, mut state: u64) -> Vec<f32> {
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    (0..count).map(|_| (8.0 * next() - 6.0).exp()).collect()
}

/// Data for the matrices of a GGUF for which `wanted` holds, as means.
fn made(model: &Path, wanted: impl Fn(&str) -> bool) -> Vec<(String, Vec<f32>)> {
    let file = GgufFile::open(model).unwrap();
    let matrices = file.tensors().iter().filter(|tensor| tensor.shape.len() > 1);
    matrices
        .filter(|tensor| wanted(&tensor.name))
        .zip(1..)
        .map(|(tensor, seed)| {
            let experts = tensor.shape.get(2).map_or(1, |&n| n as usize);
            (tensor.name.clone(), columns(tensor.row_len() * experts, seed))
        })
        .collect()
}

/// The same data as a file; every sum is over one token.
fn write(path: &Path, data: &[(String, Vec<f32>)], experts: usize) {
    let sums = |(name, means): &(String, Vec<f32>)| {
        let parts = if name.contains("_exps") { experts } else { 1 };
        (name.clone(), Sums { squares: means.clone(), counts: vec![1.0; parts] })
    };
    let file = ImatrixFile {
        datasets: vec!["calibration.txt".to_owned()],
        chunks: 12,
        chunk_size: 512,
        entries: data.iter().map(sums).collect(),
    };
    file.write(path, true, &[]).unwrap();
}

fn assert_same_as_llama(model: Model, recipes: &[Recipe], wanted: impl Fn(&str) -> bool) {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    model.write(&path("in.gguf"), 11);
    let importance = made(&path("in.gguf"), wanted);
    write(&path("imatrix.gguf"), &importance, model.experts as usize);
    let wishes = Wishes { importance, ..Wishes::default() };
    for &recipe in recipes {
        let what = format!("{recipe} of {model:?}");
        let (ours, theirs) =
            (path(&format!("ours-{recipe}.gguf")), path(&format!("theirs-{recipe}.gguf")));
        assert!(llama_quantize_with(&path("in.gguf"), &theirs, recipe, &wishes), "{what}");
        let job = QuantizeJob {
            importance: Some(path("imatrix.gguf")),
            ..job(&path("in.gguf"), &ours, recipe)
        };
        quantize_file(&job).unwrap();
        assert_same_model(&what, &ours, &theirs);
    }
}

/// As llama-imatrix writes it: without data for the first and last tensors of the model.
fn in_blocks(name: &str) -> bool {
    name.starts_with("blk.")
}

#[test]
fn every_recipe_equals_llama_quantize_with_importance() {
    assert_same_as_llama(GPT2, &Recipe::ALL, in_blocks);
    assert_same_as_llama(Model { layers: 8, ..LLAMA }, &Recipe::ALL, in_blocks);
}

#[test]
fn data_for_every_matrix_or_few_of_them_equals_llama_quantize() {
    for tied in [true, false] {
        let model = Model { layers: 2, tied, ..GPT2 };
        assert_same_as_llama(model, &Recipe::ALL, |_| true);
        let mut all = Recipe::ALL.to_vec();
        all.retain(|recipe| !recipe.needs_importance());
        assert_same_as_llama(model, &all, |name| name.contains("ffn_down"));
    }
}

#[test]
fn narrow_rows_equal_llama_quantize_with_importance() {
    for (width, inner) in [(64, 172), (96, 384), (160, 512), (72, 200)] {
        let model = Model { layers: 2, width, inner, ..LLAMA };
        assert_same_as_llama(model, &Recipe::ALL, in_blocks);
    }
}

#[test]
fn each_expert_has_columns_of_its_own() {
    let model = Model { layers: 1, experts: 4, rows: Some(3), ..LLAMA };
    assert_same_as_llama(model, &Recipe::ALL, in_blocks);
}

#[test]
fn half_precision_and_slabs_equal_llama_quantize_with_importance() {
    let model = Model { layers: 1, matrices: TensorType::F16, inner: 9984, ..GPT2 };
    assert_same_as_llama(model, &[Recipe::Q8_0, Recipe::Q4_0, Recipe::IQ4_XS], in_blocks);
}

#[test]
fn the_file_says_what_it_was_made_with() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    Model { layers: 1, ..GPT2 }.write(&path("in.gguf"), 1);
    let data = made(&path("in.gguf"), |name| name.contains("ffn"));
    write(&path("imatrix.gguf"), &data, 0);
    let job = QuantizeJob {
        importance: Some(path("imatrix.gguf")),
        ..job(&path("in.gguf"), &path("out.gguf"), Recipe::Q4_K_M)
    };
    let report = quantize_file(&job).unwrap();

    let file = GgufFile::open(&path("out.gguf")).unwrap();
    let key = |name: &str| file.metadata().get(&format!("quantize.imatrix.{name}")).unwrap();
    let Value::String(named) = key("file") else { panic!("no text") };
    assert!(path("imatrix.gguf").to_str().unwrap().starts_with(named.as_str()));
    assert_eq!(*key("dataset"), Value::String("calibration.txt".to_owned()));
    assert_eq!(*key("entries_count"), Value::U32(2));
    assert_eq!(*key("chunks_count"), Value::U32(12));

    let importance = report.importance.as_ref().unwrap();
    assert_eq!((importance.entries, importance.chunks), (2, 12));
    assert_eq!(
        importance.without,
        ["token_embd.weight", "blk.0.attn_output.weight", "blk.0.attn_qkv.weight"]
    );
    let text = report.to_string();
    assert!(text.contains("imatrix  no data for token_embd.weight, blk.0.attn_output"), "{text}");
}

#[test]
fn data_of_another_model_is_refused_by_tensor() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    Model { layers: 1, ..GPT2 }.write(&path("in.gguf"), 1);
    let refused = |name: &str, data: &[(String, Vec<f32>)], recipe: Recipe| {
        write(&path(name), data, 0);
        let output = path(&format!("{name}-out.gguf"));
        let job =
            QuantizeJob { importance: Some(path(name)), ..job(&path("in.gguf"), &output, recipe) };
        let theirs = Wishes { importance: data.to_vec(), ..Wishes::default() };
        assert!(!llama_quantize_with(&path("in.gguf"), &path("theirs"), recipe, &theirs), "{name}");
        let refused = refusal(&job);
        assert!(!output.exists());
        refused
    };
    let wide = [("blk.0.ffn_up.weight".to_owned(), columns(512, 1))];
    let message = refused("wide", &wide, Recipe::Q4_K_M);
    assert!(message.contains("tensor blk.0.ffn_up.weight: "), "{message}");
    assert!(message.contains("holds 512 columns of it, not 256"), "{message}");

    let mut bad = made(&path("in.gguf"), in_blocks);
    bad[1].1[7] = f32::NAN;
    let message = refused("bad", &bad, Recipe::Q4_K_M);
    assert!(message.contains(&format!("tensor {}: NaN as the mean", bad[1].0)), "{message}");

    let few = made(&path("in.gguf"), |name| name.contains("ffn_up"));
    let message = refused("few", &few, Recipe::Q2_K_S);
    assert!(message.contains("Q2_K_S needs importance data for it, which"), "{message}");
}

/// The data of an embedding that was measured as the head of another model is ignored, as in
/// llama-quantize.
#[test]
fn data_of_another_embedding_is_ignored() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    Model { layers: 1, ..GPT2 }.write(&path("in.gguf"), 1);
    let importance = vec![("token_embd.weight".to_owned(), columns(512, 1))];
    write(&path("imatrix.gguf"), &importance, 0);
    let wishes = Wishes { importance, ..Wishes::default() };
    assert!(llama_quantize_with(&path("in.gguf"), &path("theirs"), Recipe::Q4_K_M, &wishes));
    let job = QuantizeJob {
        importance: Some(path("imatrix.gguf")),
        ..job(&path("in.gguf"), &path("ours"), Recipe::Q4_K_M)
    };
    quantize_file(&job).unwrap();
    assert_same_model("a foreign embedding", &path("ours"), &path("theirs"));
}

#[test]
fn experts_without_tokens_count_evenly() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("imatrix.gguf");
    let sums = Sums { squares: vec![8.0, 4.0, 5.0, 6.0], counts: vec![2.0, 0.0] };
    let file = ImatrixFile {
        datasets: Vec::new(),
        chunks: 1,
        chunk_size: 2,
        entries: [("blk.0.ffn_up_exps.weight".to_owned(), sums)].into(),
    };
    file.write(&path, false, &[]).unwrap();
    assert_eq!(ImatrixFile::open(&path).unwrap(), file);
    assert_eq!(file.means()["blk.0.ffn_up_exps.weight"], [4.0, 2.0, 1.0, 1.0]);
    assert_eq!(Importance::open(&path).unwrap().len(), 1);
}

/// A file that is not importance data is refused with the file's name.
#[test]
fn other_files_are_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("imatrix");
    let refused = || cli::one_line(&Importance::open(&path).unwrap_err());
    Model { layers: 1, rows: Some(2), ..GPT2 }.write(&path, 1);
    assert!(refused().contains("imatrix.datasets is missing"), "{}", refused());
    std::fs::write(&path, "a text of some length").unwrap();
    assert!(refused().contains("neither a GGUF nor the format before it"), "{}", refused());
    std::fs::write(&path, "").unwrap();
    assert!(refused().contains("imatrix"), "{}", refused());
    let no_data = ImatrixFile { chunks: 1, chunk_size: 1, ..ImatrixFile::default() };
    no_data.write(&path, true, &[]).unwrap();
    assert!(refused().contains("there is no data in it"), "{}", refused());
}
