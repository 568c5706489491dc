//! Compares attention with its definition, computed in f64 one score after the other.

use super::super::arithmetic::{Bf16, F32};
use super::super::testing::{assert_close, gradient, noise};
use super::*;

const NONE: ScoreDropout = ScoreDropout { probability: 0.0, key: 0 };

/// The factors that dropout multiplies the probabilities of one head with: `[T, T]`.
fn mask(shape: &Attention, batch: usize, head: usize) -> Vec<f64> {
    let at = QueryHead { shape, batch, head };
    let mut mask = vec![1.0; shape.time * shape.time];
    for (t, row) in mask.chunks_exact_mut(shape.time).enumerate() {
        drop_scores(Isa::best(), at.row_dropout(t), row, 0);
    }
    mask.into_iter().map(f64::from).collect()
}

/// `qkv` in one matrix.
fn by_definition(shape: &Attention, qkv: &[f64]) -> Vec<f64> {
    let (time, width, channels) = (shape.time, shape.width, shape.channels());
    let (kv, sharing) = (shape.columns(Part::K), shape.heads / shape.kv_heads);
    let mut y = vec![0.0; shape.batch * time * channels];
    for batch in 0..shape.batch {
        for head in 0..shape.heads {
            let mask = mask(shape, batch, head);
            let row = |first: usize, head: usize, t: usize| {
                let start = (batch * time + t) * (channels + 2 * kv) + first + head * width;
                &qkv[start..start + width]
            };
            let (q, key) = (|t| row(0, head, t), |t| row(channels, head / sharing, t));
            let value = |t| row(channels + kv, head / sharing, t);
            for t in 0..time {
                let score = |s: usize| -> f64 {
                    let dot: f64 = q(t).iter().zip(key(s)).map(|(a, b)| a * b).sum();
                    (dot / (width as f64).sqrt()).exp()
                };
                let begun = shape.documents.as_ref().map_or(0, |documents| {
                    t - documents.positions().nth(batch * time + t).unwrap() as usize
                });
                let seen = begun.max(t.saturating_sub(shape.window - 1))..=t;
                let total: f64 = seen.clone().map(score).sum();
                for (s, score) in seen.clone().zip(seen.map(score)) {
                    for (d, v) in value(s).iter().enumerate() {
                        let at = (batch * time + t) * channels + head * width + d;
                        y[at] += score / total * mask[t * time + s] * v;
                    }
                }
            }
        }
    }
    y
}

fn check<A: Arithmetic>(math: A, shape: &Attention, tolerance: f64) {
    let rows = shape.batch * shape.time;
    let qkv = noise(rows * (shape.channels() + 2 * shape.columns(Part::K)), 1);
    let dy = noise(rows * shape.channels(), 2);
    let qkv64: Vec<f64> = qkv.iter().map(|&x| f64::from(x)).collect();
    let inputs = Inputs::joined(shape, &qkv);
    let (y, logs) = attention(math, shape, inputs);
    assert_close(&y, &by_definition(shape, &qkv64), tolerance);
    let gradients = attention_backward(math, shape, inputs, (&y, &logs), &dy);
    let dqkv = gradients.side_by_side(&[Part::Q, Part::K, Part::V]);
    assert_close(&dqkv, &gradient(&qkv64, &dy, |x| by_definition(shape, x)), tolerance);
}

fn shape(batch: usize, time: usize, heads: usize, width: usize) -> Attention {
    Attention {
        batch,
        time,
        heads,
        kv_heads: heads,
        width,
        window: time,
        documents: None,
        dropout: NONE,
    }
}

#[test]
fn values_and_gradients_on_odd_shapes() {
    for shape in [shape(1, 1, 1, 1), shape(2, 3, 2, 5), shape(1, 17, 3, 2), shape(1, 131, 1, 2)] {
        for &isa in Isa::available() {
            check(F32(isa), &shape, 1e-4);
            check(Bf16(isa), &shape, 2e-2);
        }
    }
}

#[test]
fn several_heads_of_queries_share_keys_and_values() {
    for (heads, kv_heads) in [(2, 1), (9, 3), (4, 2)] {
        for &isa in Isa::available() {
            check(F32(isa), &Attention { kv_heads, ..shape(2, 5, heads, 3) }, 1e-4);
            check(Bf16(isa), &Attention { kv_heads, ..shape(2, 5, heads, 3) }, 2e-2);
        }
    }
    check(F32(Isa::best()), &Attention { kv_heads: 1, ..shape(1, 131, 2, 2) }, 1e-4);
}

/// Windows of one position, shorter than a block, about as long as a block, and longer than the
/// text. `T` is more than three blocks, so that some squares are completely before a window.
#[test]
fn windows_end_where_they_should() {
    for window in [1, 2, 5, 40] {
        for &isa in Isa::available() {
            check(F32(isa), &Attention { window, kv_heads: 1, ..shape(2, 17, 2, 3) }, 1e-4);
            check(Bf16(isa), &Attention { window, ..shape(1, 17, 1, 3) }, 2e-2);
        }
    }
    for window in [1, 3, 127, 128, 129, 200] {
        check(F32(Isa::best()), &Attention { window, ..shape(1, 261, 1, 1) }, 1e-4);
    }
}

/// Rows that begin documents at these positions.
fn documents(time: usize, begins: &[&[usize]]) -> Option<Documents> {
    let starts = begins.iter().flat_map(|begins| {
        (0..time).map(|t| begins.iter().rev().find(|&&begin| begin <= t).map_or(0, |&b| b as u32))
    });
    Some(Documents::new(starts.collect::<Vec<_>>(), [begins.len(), time]))
}

/// Documents of one token, that end within a square of scores, at its border and just before or
/// after it; other ones in each row; with windows shorter and longer than they are.
#[test]
fn documents_begin_where_they_should() {
    for begins in [[&[4, 9][..], &[1]], [&[], &[1, 2, 3, 16]]] {
        let shape = Attention { documents: documents(17, &begins), ..shape(2, 17, 2, 3) };
        for &isa in Isa::available() {
            check(F32(isa), &Attention { kv_heads: 1, ..shape.clone() }, 1e-4);
            check(F32(isa), &Attention { window: 3, ..shape.clone() }, 1e-4);
            check(Bf16(isa), &shape, 2e-2);
        }
    }
    for window in [2, 128, 300] {
        for begins in [&[1][..], &[127], &[128], &[129], &[2, 140], &[130, 256], &[260]] {
            let documents = documents(261, &[begins]);
            check(F32(Isa::best()), &Attention { window, documents, ..shape(1, 261, 1, 1) }, 1e-4);
        }
    }
}

/// What another document holds does not change a bit, in values and in gradients.
#[test]
fn documents_are_independent() {
    let (time, width) = (300, 4);
    for begin in [1, 127, 128, 129, 299] {
        let documents = documents(time, &[&[begin]]);
        let dropout = ScoreDropout { probability: 0.1, key: 5 };
        let shape = Attention { documents, dropout, ..shape(1, time, 1, width) };
        let run = |qkv: &[f32], dy: &[f32]| {
            let (math, inputs) = (Bf16(Isa::best()), Inputs::joined(&shape, qkv));
            let (y, logs) = attention(math, &shape, inputs);
            let gradients = attention_backward(math, &shape, inputs, (&y, &logs), dy);
            (y, gradients.side_by_side(&[Part::Q, Part::K, Part::V]))
        };
        let (mut qkv, mut dy) = (noise(time * 3 * width, 1), noise(time * width, 2));
        let before = run(&qkv, &dy);
        let (values, columns) = (begin * width, begin * 3 * width);
        qkv[..columns].fill(30.0);
        dy[..values].fill(-7.0);
        let after = run(&qkv, &dy);
        assert_eq!(before.0[values..], after.0[values..], "{begin}");
        assert_eq!(before.1[columns..], after.1[columns..], "{begin}");
        assert_ne!(before.1[..columns], after.1[..columns], "{begin}");
    }
}

/// Three matrices or one give the same result.
#[test]
fn where_the_inputs_lie_changes_nothing() {
    let shape = Attention { kv_heads: 2, ..shape(2, 7, 4, 3) };
    let [q, k, v] = [(12, 1), (6, 2), (6, 3)].map(|(n, seed)| noise(14 * n, seed));
    let rows = q.chunks(12).zip(k.chunks(6)).zip(v.chunks(6));
    let qkv: Vec<f32> = rows.flat_map(|((q, k), v)| [q, k, v].concat()).collect();
    let math = F32(Isa::best());
    let separate = attention(math, &shape, Inputs::separate(&shape, &q, &k, &v));
    assert_eq!(separate, attention(math, &shape, Inputs::joined(&shape, &qkv)));
}

#[test]
fn dropped_scores_have_no_gradient() {
    let dropout = ScoreDropout { probability: 0.3, key: 0x1234_5678_9abc_def0 };
    for &isa in Isa::available() {
        check(F32(isa), &Attention { dropout, ..shape(2, 9, 2, 3) }, 1e-4);
        check(F32(isa), &Attention { dropout, ..shape(1, 130, 1, 2) }, 1e-4);
        check(F32(isa), &Attention { dropout, window: 4, ..shape(1, 130, 1, 2) }, 1e-4);
    }
}

#[test]
fn dropout_keeps_its_share_and_the_mean() {
    let dropout = ScoreDropout { probability: 0.1, key: 99 };
    let mut ones = vec![1.0_f32; 1 << 20];
    drop_scores(Isa::best(), dropout, &mut ones, 7);
    let mean = ones.iter().map(|&x| f64::from(x)).sum::<f64>() / ones.len() as f64;
    let dropped = ones.iter().filter(|&&x| x == 0.0).count() as f64 / ones.len() as f64;
    // Four standard deviations of a million draws.
    assert!((dropped - 0.1).abs() < 0.0012, "{dropped}");
    assert!((mean - 1.0).abs() < 0.0014, "{mean}");
}

#[test]
fn neighbouring_rows_and_heads_drop_independently() {
    let dropout = ScoreDropout { probability: 0.5, key: 99 };
    let shape = Attention { dropout, ..shape(2, 512, 2, 1) };
    let mask = |batch, head, query| {
        let mut row = vec![1.0_f32; 512];
        drop_scores(
            Isa::best(),
            QueryHead { shape: &shape, batch, head }.row_dropout(query),
            &mut row,
            0,
        );
        row
    };
    let agreement =
        |a: Vec<f32>, b: Vec<f32>| a.iter().zip(&b).filter(|(a, b)| a == b).count() as f64 / 512.0;
    for query in 0..100 {
        for other in [mask(0, 0, query + 1), mask(0, 1, query), mask(1, 0, query)] {
            // Half of the places agree by chance; six standard deviations of 512 draws.
            let share = agreement(mask(0, 0, query), other);
            assert!((share - 0.5).abs() < 0.133, "{share}");
        }
    }
}

#[test]
fn a_later_token_changes_nothing_before_it() {
    let shape = shape(1, 200, 2, 4);
    let mut qkv = noise(200 * 24, 1);
    let (before, _) = attention(Bf16(Isa::best()), &shape, Inputs::joined(&shape, &qkv));
    qkv[150 * 24..].fill(0.5);
    let (after, _) = attention(Bf16(Isa::best()), &shape, Inputs::joined(&shape, &qkv));
    assert_eq!(before[..150 * 8], after[..150 * 8]);
}
