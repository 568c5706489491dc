//! The search over whole small models.

use gguf::{Metadata, TensorInfo, TensorSource, TensorType, Value, blocks, read_f32};
use reference::{MemorySource, Model};

use super::{Overlay, SearchJob, search_model};

const VOCABULARY: u32 = 96;
const WIDTH: usize = 64;
const INNER: usize = 128;
const CONTEXT: usize = 32;

fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next() + next() + next()).collect()
}

/// A model of two blocks: a tied GPT-2 with biases, or an untied LLaMA without.
fn model(llama: bool) -> MemorySource {
    let name = if llama { "llama" } else { "gpt2" };
    let norm = if llama { "layer_norm_rms_epsilon" } else { "layer_norm_epsilon" };
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", Value::String(name.to_owned()));
    let mut number = |key: &str, n: usize| {
        metadata.set(format!("{name}.{key}"), Value::U32(n as u32));
    };
    number("context_length", CONTEXT);
    number("embedding_length", WIDTH);
    number("feed_forward_length", INNER);
    number("block_count", 2);
    number("attention.head_count", 4);
    if llama {
        number("attention.head_count_kv", 2);
        number("rope.dimension_count", WIDTH / 4);
    }
    metadata.set(format!("{name}.attention.{norm}"), Value::F32(1e-5));

    let mut source = MemorySource::new(metadata);
    let mut seed = 0;
    let mut add = |name: &str, shape: &[usize]| {
        seed += 1;
        let is_norm = name.contains("norm.weight");
        let (mean, spread) = if is_norm { (1.0, 0.2) } else { (0.0, 0.12) };
        let count = shape.iter().product();
        source.add(name, shape, numbers(count, seed).iter().map(|x| mean + spread * x).collect());
    };
    add("token_embd.weight", &[VOCABULARY as usize, WIDTH]);
    add("output_norm.weight", &[WIDTH]);
    if llama {
        add("output.weight", &[VOCABULARY as usize, WIDTH]);
    } else {
        add("output_norm.bias", &[WIDTH]);
        add("position_embd.weight", &[CONTEXT, WIDTH]);
    }
    for layer in 0..2 {
        let mut add = |part: &str, shape: &[usize]| {
            add(&format!("blk.{layer}.{part}.weight"), shape);
            if !llama {
                add(&format!("blk.{layer}.{part}.bias"), &shape[..1]);
            }
        };
        add("attn_norm", &[WIDTH]);
        add("ffn_norm", &[WIDTH]);
        add("attn_output", &[WIDTH, WIDTH]);
        add("ffn_up", &[INNER, WIDTH]);
        add("ffn_down", &[WIDTH, INNER]);
        if llama {
            add("attn_q", &[WIDTH, WIDTH]);
            add("attn_k", &[WIDTH / 2, WIDTH]);
            add("attn_v", &[WIDTH / 2, WIDTH]);
            add("ffn_gate", &[INNER, WIDTH]);
        } else {
            add("attn_qkv", &[3 * WIDTH, WIDTH]);
        }
    }
    source
}

fn windows(count: u64, seed: u64) -> Vec<Vec<u32>> {
    let tokens = |i| numbers(CONTEXT, seed + i).into_iter().map(|x| x.to_bits() % VOCABULARY);
    (0..count).map(|i| tokens(i).collect()).collect()
}

fn is_matrix(tensor: &TensorInfo) -> bool {
    tensor.shape.len() == 2 && !tensor.name.starts_with("position")
}

fn q4_0(source: &dyn TensorSource) -> impl Fn(&str) -> Option<TensorType> {
    let matrices: Vec<String> =
        source.tensors().iter().filter(|t| is_matrix(t)).map(|t| t.name.clone()).collect();
    move |name| matrices.iter().any(|m| m == name).then_some(TensorType::Q4_0)
}

fn searched<'a>(source: &'a MemorySource, folder: &std::path::Path) -> Overlay<'a> {
    let mut overlay = Overlay::new(source, folder).unwrap();
    let wanted = q4_0(source);
    let job = SearchJob {
        wanted: &wanted,
        windows: &windows(64, 1000),
        done: &|_| (),
        interrupt: &cli::Interrupt::default(),
    };
    search_model(&mut overlay, &job).unwrap();
    overlay
}

/// Each matrix rounded by itself.
fn rounded<'a>(source: &'a MemorySource, folder: &std::path::Path) -> Overlay<'a> {
    let mut overlay = Overlay::new(source, folder).unwrap();
    for tensor in source.tensors().iter().filter(|tensor| is_matrix(tensor)) {
        let weights = read_f32(source, tensor).unwrap();
        let mut bytes = vec![0; TensorType::Q4_0.size_of(&tensor.shape).unwrap() as usize];
        blocks::quantize(TensorType::Q4_0, &weights, tensor.row_len(), None, &mut bytes).unwrap();
        overlay.replace(&tensor.name, TensorType::Q4_0, &bytes).unwrap();
    }
    overlay
}

/// Mean KL divergence over windows that no search has seen.
fn divergence(base: &dyn TensorSource, other: &dyn TensorSource) -> f64 {
    let (base, other) = (Model::load(base).unwrap(), Model::load(other).unwrap());
    let softmax = |row: &[f32]| -> Vec<f64> {
        let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
        row.iter().map(|&x| f64::from(x).exp() / sum).collect()
    };
    let mut total = 0.0;
    for window in windows(16, 9000) {
        let (p, q) = (base.logits(&window).unwrap(), other.logits(&window).unwrap());
        let rows = p.chunks(VOCABULARY as usize).zip(q.chunks(VOCABULARY as usize));
        for (p, q) in rows.map(|(p, q)| (softmax(p), softmax(q))) {
            total += p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum::<f64>();
        }
    }
    total / (16 * CONTEXT) as f64
}

#[test]
fn predictions_stay_nearer_to_the_original_than_with_rounding() {
    for llama in [false, true] {
        let source = model(llama);
        let folder = tempfile::tempdir().unwrap();
        let ours = divergence(&source, &searched(&source, folder.path()));
        let alone = divergence(&source, &rounded(&source, folder.path()));
        assert!(ours < 0.75 * alone, "llama {llama}: {ours} against {alone}");
    }
}

#[test]
fn only_matrices_and_their_biases_change() {
    let source = model(false);
    let folder = tempfile::tempdir().unwrap();
    let overlay = searched(&source, folder.path());
    for (before, after) in source.tensors().iter().zip(overlay.tensors()) {
        let same = source.read(before).unwrap() == overlay.read(after).unwrap();
        let is_bias = before.name.ends_with(".bias") && !before.name.contains("norm");
        assert_eq!(!same, is_matrix(before) || is_bias, "{}", before.name);
        let expected = if is_matrix(before) { TensorType::Q4_0 } else { TensorType::F32 };
        assert_eq!(after.tensor_type, expected, "{}", before.name);
    }
}

#[test]
fn the_same_text_gives_the_same_bytes() {
    let source = model(true);
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (searched(&source, folder.path()), searched(&source, folder.path()));
    for (a, b) in one.tensors().iter().zip(other.tensors()) {
        assert!(one.read(a).unwrap() == other.read(b).unwrap(), "{}", a.name);
    }
}

#[test]
fn what_cannot_be_searched_for_is_refused_by_name() {
    let refusal = |source: &MemorySource, windows: &[Vec<u32>], interrupt: &cli::Interrupt| {
        let folder = tempfile::tempdir().unwrap();
        let mut overlay = Overlay::new(source, folder.path()).unwrap();
        let wanted = q4_0(source);
        let job = SearchJob { wanted: &wanted, windows, done: &|_| (), interrupt };
        search_model(&mut overlay, &job).unwrap_err()
    };
    let never = cli::Interrupt::default();
    let source = model(false);
    assert!(refusal(&source, &[], &never).to_string().contains("no text"));

    let mut damaged = MemorySource::new(source.metadata().clone());
    for tensor in source.tensors() {
        let shape: Vec<usize> = tensor.shape.iter().rev().map(|&n| n as usize).collect();
        let mut weights = read_f32(&source, tensor).unwrap();
        if tensor.name == "blk.1.ffn_down.weight" {
            weights[77] = f32::NAN;
        }
        damaged.add(&tensor.name, &shape, weights);
    }
    let error = format!("{:#}", refusal(&damaged, &windows(2, 1), &never));
    assert!(error.contains("tensor blk.1.ffn_down.weight: weight 77 is NaN"), "{error}");

    let stop = cli::Interrupt::default();
    stop.request();
    assert!(refusal(&source, &windows(2, 1), &stop).is::<cli::Interrupted>());
}
