//! A token whose residual stream is far larger than that of all others, as in trained models (Sun
//! et al., "Massive Activations in Large Language Models", 2024).

use gguf::{TensorSource, read_f32};
use reference::{Blockwise, MemorySource};

use super::{CONTEXT, INNER, WIDTH, divergence, model, searched, unseen, windows};
use crate::search::Overlay;
use crate::search::dense::Cholesky;
use crate::search::guard::HeldInputs;
use crate::search::inputs::difference;
use crate::search::moments::{Drift, Moments, token_weights};
use crate::search::target::target;

/// A LLaMA in which one token, the first of every window, has inputs a thousand times as large as
/// all others, as trained models have: its embedding is all in one channel, on which one unit of
/// the first block answers, and that unit writes to one channel of the residual stream.
fn with_massive_activations() -> MemorySource {
    let (token, input, unit, output) = (0, 7, 3, 5);
    let plain = model(true);
    let mut source = MemorySource::new(plain.metadata().clone());
    for tensor in plain.tensors() {
        let shape: Vec<usize> = tensor.shape.iter().rev().map(|&n| n as usize).collect();
        let mut weights = read_f32(&plain, tensor).unwrap();
        match tensor.name.as_str() {
            "token_embd.weight" => weights[token * WIDTH + input] = 30.0,
            "blk.0.ffn_gate.weight" | "blk.0.ffn_up.weight" => weights[unit * WIDTH + input] = 4.0,
            "blk.0.ffn_down.weight" => weights[output * INNER + unit] = 1.0,
            _ => (),
        }
        source.add(&tensor.name, &shape, weights);
    }
    source
}

#[test]
fn massive_activations_do_not_own_the_search() {
    let source = with_massive_activations();
    let found = searched(&source);
    let ours = divergence(&source, &found.searched, &unseen());
    let alone = divergence(&source, &found.rounded, &unseen());
    assert!(ours < 0.8 * alone, "{ours} against {alone}");
}

/// The last matrix that adds to the residual stream; it compensates everything that the stream has
/// lost.
const LAST: &str = "blk.1.ffn_down.weight";

/// One window at [`LAST`], in a model that is rounded everywhere before it.
struct Seen {
    /// The inputs, `[T, F]`.
    x: Vec<f32>,
    /// The difference that the stream after the block is missing with the original matrix,
    /// `[T, C]`.
    lost: Vec<f32>,
    /// That stream in the original model, `[T, C]`.
    stream: Vec<f32>,
}

fn seen(source: &dyn TensorSource, rounded: &Overlay<'_>, windows: &[Vec<u32>]) -> Vec<Seen> {
    let (was, now) = (Blockwise::new(source).unwrap(), Blockwise::new(rounded).unwrap());
    let at_last = |window: &Vec<u32>| {
        let mut stream = was.embedding().unwrap().embed(window).unwrap();
        let mut behind = now.embedding().unwrap().embed(window).unwrap();
        let mut x = Vec::new();
        for layer in 0..2 {
            was.block(layer).unwrap().forward(&mut stream).unwrap();
            let block = now.block(layer).unwrap();
            let mut take = |names: &[&str], input: &[f32]| {
                if names == [LAST] {
                    x = input.to_vec();
                }
            };
            block.observe(&mut behind, &mut take).unwrap();
        }
        Seen { x, lost: difference(&stream, &behind), stream }
    };
    windows.iter().map(at_last).collect()
}

fn by_size(window: &Seen) -> Vec<f32> {
    token_weights(&window.stream, WIDTH)
}

fn all_alike(window: &Seen) -> Vec<f32> {
    vec![1.0; window.stream.len() / WIDTH]
}

fn moments(windows: &[Seen], weights: impl Fn(&Seen) -> Vec<f32>) -> Moments {
    let mut moments = Moments::new(INNER, Drift::OfOutputs);
    for window in windows {
        moments.add(&window.x, &weights(window));
        moments.add_drift(&window.lost, &window.x, &weights(window));
    }
    moments
}

/// `W*` with the damping of GPTQ and GPTAQ: a hundredth of the mean of `H`'s diagonal.
fn target_with_little_damping(weights: &[f32], moments: &Moments) -> Vec<f32> {
    let mut h = moments.matrix(false);
    let n = h.rows;
    let mean = (0..n).map(|i| h[(i, i)]).sum::<f64>() / n as f64;
    (0..n).for_each(|i| h[(i, i)] += 0.01 * mean);
    let mut correction = moments.drift(false).unwrap();
    Cholesky::new(h).unwrap().solve_rows(&mut correction);
    let corrected = |(i, w): (usize, &f32)| w + correction[(i / n, i % n)] as f32;
    weights.iter().enumerate().map(corrected).collect()
}

/// Whether a token with this weight is far larger than the others.
fn is_massive(weight: f32) -> bool {
    weight < 1e-3
}

/// The error of the stream after all other tokens, relative to its size.
fn error_of_others(windows: &[Seen], weights: &[f32], target: &[f32]) -> f64 {
    let mut inputs = HeldInputs::new(Drift::OfOutputs);
    for window in windows {
        let mut counts = by_size(window);
        counts.iter_mut().filter(|weight| is_massive(**weight)).for_each(|weight| *weight = 0.0);
        inputs.add(&window.lost, &window.x, &counts);
    }
    inputs.error((weights, None), (target, None))
}

/// The first token's difference is so large that it dominates a correction with equal weights for
/// all tokens; a correction with little damping fits the noise of a text of three tokens to a
/// column.
#[test]
fn tokens_that_count_alike_and_little_damping_would_spoil_the_others() {
    let source = with_massive_activations();
    let mut rounded = searched(&source).rounded;
    rounded.restore(LAST);
    let held = seen(&source, &rounded, &unseen());
    assert!(held.iter().all(|window| is_massive(by_size(window)[0])));
    let fit = seen(&source, &rounded, &windows((3 * INNER / CONTEXT) as u64, 1000));

    let weights = read_f32(&source, source.tensor(LAST).unwrap()).unwrap();
    let error = |target: &[f32]| error_of_others(&held, &weights, target);
    let (weighted, alike) = (moments(&fit, by_size), moments(&fit, all_alike));
    let alone = error(&weights);
    let ours = error(&target(&weights, &weighted, false).unwrap());
    assert!(ours < alone, "{ours} against {alone} without a correction");
    for (what, target) in [
        ("damping", target_with_little_damping(&weights, &weighted)),
        ("weights", target(&weights, &alike, false).unwrap()),
        ("damping and weights", target_with_little_damping(&weights, &alike)),
    ] {
        let error = error(&target);
        assert!(error > 1.1 * alone, "without {what}: {error} against {alone} uncorrected");
    }
}
