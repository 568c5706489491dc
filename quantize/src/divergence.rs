//! KL divergence of predictions from those of the original model.
//!
//! `eval` computes the same quantity (`eval/src/metrics/agreement.rs`) together with perplexity and
//! top-1 agreement, in f64 from the logits of both models. Here the original's log-probabilities
//! are stored in f32, since a search compares with them many times. The functions of `libm` give the
//! same bits on every machine, and the search decides by the result.

use anyhow::Result;
use rayon::prelude::*;
use reference::Blockwise;

/// Log-probabilities of the next token at every `stride`-th position of each residual stream
/// `[T, C]` after the last block, `[T / stride, V]`.
///
/// # Errors
/// When the model's head cannot be read.
pub(crate) fn log_probabilities(
    model: &Blockwise<'_>,
    streams: &[impl AsRef<[f32]>],
    stride: usize,
) -> Result<Vec<Vec<f32>>> {
    let (norm, head) = (model.last_norm()?, model.head()?);
    let (c, v) = (model.config().n_embd, model.config().vocab_size);
    let all = streams.iter().map(|x| {
        let rows = x.as_ref().chunks_exact(c).skip(stride - 1).step_by(stride);
        let some: Vec<f32> = rows.flatten().copied().collect();
        let mut logits = head.forward(&norm.forward(&some));
        logits.par_chunks_exact_mut(v).for_each(log_softmax);
        logits
    });
    Ok(all.collect())
}

/// `x - ln Σ exp x`
fn log_softmax(row: &mut [f32]) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|&x| libm::exp(f64::from(x - largest))).sum();
    let shift = largest + libm::log(sum) as f32;
    row.iter_mut().for_each(|x| *x -= shift);
}

/// Mean over rows of `Σ P (ln P - ln Q)`, in nats.
pub(crate) fn mean_divergence(expected: &[Vec<f32>], found: &[Vec<f32>], vocab_size: usize) -> f64 {
    let rows: Vec<f64> = expected
        .iter()
        .zip(found)
        .flat_map(|(p, q)| p.chunks_exact(vocab_size).zip(q.chunks_exact(vocab_size)))
        .collect::<Vec<_>>()
        .into_par_iter()
        .map(|(p, q)| {
            let terms = p.iter().zip(q).map(|(&p, &q)| libm::exp(f64::from(p)) * f64::from(p - q));
            terms.sum::<f64>().max(0.0)
        })
        .collect();
    rows.iter().sum::<f64>() / rows.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The case of `eval/src/metrics/agreement.rs`: (1/2, 1/2) twice, against (3/4, 1/4) and (1/2,
    /// 1/2).
    #[test]
    fn two_positions_by_hand() {
        let rows = |logits: [f32; 4]| {
            let mut rows = logits.to_vec();
            rows.chunks_exact_mut(2).for_each(log_softmax);
            vec![rows]
        };
        let (base, candidate) = (rows([-7.0; 4]), rows([3_f32.ln(), 0.0, 5.0, 5.0]));
        let expected = (2_f64.ln() - 0.5 * 3_f64.ln()) / 2.0;
        assert!((mean_divergence(&base, &candidate, 2) - expected).abs() < 1e-7);
        assert_eq!(mean_divergence(&base, &base, 2), 0.0);
        assert_eq!(mean_divergence(&[], &[], 2), 0.0);
    }
}
