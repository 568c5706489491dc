//! The search over whole small models.

mod files;
mod massive;

use gguf::{Metadata, TensorInfo, TensorSource, TensorType, Value, read_f32};
use reference::{MemorySource, Model};

use super::calibrate::{EncodeMatrix, encode, search_with};
use super::{Overlay, SearchJob, Verdict, search_model};

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
    let window = |i| {
        let mut window: Vec<u32> = tokens(i).collect();
        window[0] = 0;
        window
    };
    (0..count).map(window).collect()
}

fn is_matrix(tensor: &TensorInfo) -> bool {
    tensor.shape.len() == 2 && !tensor.name.starts_with("position")
}

fn q4_0(source: &dyn TensorSource) -> impl Fn(&str) -> Option<TensorType> {
    let matrices: Vec<String> =
        source.tensors().iter().filter(|t| is_matrix(t)).map(|t| t.name.clone()).collect();
    move |name| matrices.iter().any(|m| m == name).then_some(TensorType::Q4_0)
}

/// The result of a search.
struct Found<'a> {
    searched: Overlay<'a>,
    rounded: Overlay<'a>,
    verdict: Verdict,
}

fn search_for<'a>(
    source: &'a dyn TensorSource,
    wanted: &dyn Fn(&str) -> Option<TensorType>,
    windows: &[Vec<u32>],
    encode: &EncodeMatrix,
) -> Found<'a> {
    let folder = tempfile::tempdir().unwrap();
    let mut searched = Overlay::new(source, folder.path()).unwrap();
    let mut rounded = Overlay::new(source, folder.path()).unwrap();
    let interrupt = &cli::Interrupt::default();
    let job = SearchJob { wanted, windows, done: &|_| (), interrupt };
    let verdict = search_with(&mut searched, &mut rounded, &job, encode).unwrap();
    Found { searched, rounded, verdict }
}

fn found_by<'a>(source: &'a MemorySource, encode: &EncodeMatrix) -> Found<'a> {
    search_for(source, &q4_0(source), &windows(64, 1000), encode)
}

fn searched(source: &MemorySource) -> Found<'_> {
    found_by(source, &encode)
}

/// Windows that were not used in the search.
fn unseen() -> Vec<Vec<u32>> {
    windows(16, 9000)
}

/// Mean KL divergence over all tokens of some windows.
fn divergence(base: &dyn TensorSource, other: &dyn TensorSource, windows: &[Vec<u32>]) -> f64 {
    let (base, other) = (Model::load(base).unwrap(), Model::load(other).unwrap());
    let softmax = |row: &[f32]| -> Vec<f64> {
        let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
        row.iter().map(|&x| f64::from(x).exp() / sum).collect()
    };
    let mut total = 0.0;
    let vocab_size = base.config().vocab_size;
    for window in windows {
        let (p, q) = (base.logits(window).unwrap(), other.logits(window).unwrap());
        let rows = p.chunks(vocab_size).zip(q.chunks(vocab_size));
        for (p, q) in rows.map(|(p, q)| (softmax(p), softmax(q))) {
            total += p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum::<f64>();
        }
    }
    total / windows.iter().map(Vec::len).sum::<usize>() as f64
}

#[test]
fn predictions_stay_nearer_to_the_original_than_with_rounding() {
    for llama in [false, true] {
        let source = model(llama);
        let found = searched(&source);
        let ours = divergence(&source, &found.searched, &unseen());
        let alone = divergence(&source, &found.rounded, &unseen());
        assert!(ours < 0.75 * alone, "llama {llama}: {ours} against {alone}");
        assert!(found.verdict.holds() && found.verdict.rounded.is_empty(), "{:?}", found.verdict);
    }
}

#[test]
fn what_the_search_spoils_is_rounded_instead() {
    let source = model(false);
    // Twice the weights, for tensors that are wider than the model.
    let spoiled = found_by(&source, &|grid, weights, moments, has_bias| {
        let factor = if moments.mean().len() > WIDTH { 2.0 } else { 1.0 };
        let weights: Vec<f32> = weights.iter().map(|w| factor * w).collect();
        encode(grid, &weights, moments, has_bias)
    });
    assert_eq!(spoiled.verdict.rounded, ["blk.0.ffn_down.weight", "blk.1.ffn_down.weight"]);
    for tensor in source.tensors() {
        let (name, rounded) = (tensor.name.as_str(), &spoiled.rounded);
        let bytes = |overlay: &Overlay<'_>| {
            overlay.read(overlay.tensor(name).unwrap()).unwrap().into_owned()
        };
        let bias = name.starts_with("blk") && name.ends_with("bias") && !name.contains("norm");
        let spoiled_part = name.contains("ffn_down");
        let same = bytes(&spoiled.searched) == bytes(rounded);
        let searched = (is_matrix(tensor) || bias) && !spoiled_part;
        assert_eq!(same, !searched, "{name}");
    }
    assert!(spoiled.verdict.holds(), "{:?}", spoiled.verdict);
}

#[test]
fn a_search_that_is_no_use_leaves_the_rounded_model() {
    let source = model(true);
    let useless = found_by(&source, &|grid, weights, moments, has_bias| {
        encode(grid, &vec![0.0; weights.len()], moments, has_bias)
    });
    for (searched, rounded) in useless.searched.tensors().iter().zip(useless.rounded.tensors()) {
        let same =
            useless.searched.read(searched).unwrap() == useless.rounded.read(rounded).unwrap();
        assert!(same, "{}", searched.name);
    }
    assert_eq!(useless.verdict.divergence, useless.verdict.rounded_divergence);
    let matrices = source.tensors().iter().filter(|tensor| is_matrix(tensor)).count();
    assert_eq!(useless.verdict.rounded.len(), matrices);
}

#[test]
fn only_matrices_and_their_biases_change() {
    let source = model(false);
    let overlay = searched(&source).searched;
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
    let (one, other) = (searched(&source).searched, searched(&source).searched);
    for (a, b) in one.tensors().iter().zip(other.tensors()) {
        assert!(one.read(a).unwrap() == other.read(b).unwrap(), "{}", a.name);
    }
}

#[test]
fn what_cannot_be_searched_for_is_refused_by_name() {
    let refusal = |source: &MemorySource, windows: &[Vec<u32>], interrupt: &cli::Interrupt| {
        let folder = tempfile::tempdir().unwrap();
        let mut searched = Overlay::new(source, folder.path()).unwrap();
        let mut rounded = Overlay::new(source, folder.path()).unwrap();
        let wanted = q4_0(source);
        let job = SearchJob { wanted: &wanted, windows, done: &|_| (), interrupt };
        search_model(&mut searched, &mut rounded, &job).unwrap_err()
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
