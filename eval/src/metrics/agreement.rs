//! Compares two distributions of the next token at many positions.
//!
//! With `P = softmax(p)` and `Q = softmax(q)` of one position's logits, from which the largest
//! logit is subtracted so that nothing overflows,
//!
//! ```text
//! KL(P || Q) = sum P (ln P - ln Q) = sum e^p (p - q) / sum e^p  -  ln sum e^p  +  ln sum e^q
//! ```

use rayon::prelude::*;
use reference::ops::argmax;
use serde::{Deserialize, Serialize};

use super::statistics::{Mean, quantile};
use super::{NotFinite, Side, check_finite};

/// How close the candidate's distributions are to the base's. Error bars are standard errors over
/// positions, which are taken as independent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Positions compared.
    pub positions: usize,
    /// Divergence of the candidate's next-token distribution from the base's.
    pub kl: KlDivergence,
    /// Share of positions, from 0 to 1, whose most likely token is the same.
    pub top1_agreement: f64,
    /// Error bar of the share; none in a report of an older program.
    #[serde(default)]
    pub top1_error: Option<f64>,
    /// Perplexity of the base; none if no position has a next token.
    pub base_perplexity: Option<f64>,
    /// Error bar of the base's perplexity.
    #[serde(default)]
    pub base_perplexity_error: Option<f64>,
    /// Perplexity of the candidate.
    pub perplexity: Option<f64>,
    /// Error bar of the candidate's perplexity.
    #[serde(default)]
    pub perplexity_error: Option<f64>,
    /// Root mean square of the change of the next token's probability, from 0 to 1.
    #[serde(default)]
    pub rms_probability_change: Option<f64>,
    /// Error bar of that root.
    #[serde(default)]
    pub rms_probability_change_error: Option<f64>,
}

/// Kullback-Leibler divergence over positions, in nats.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct KlDivergence {
    /// Mean.
    pub mean: f64,
    /// Error bar of the mean; none in a report of an older program.
    #[serde(default)]
    pub mean_error: Option<f64>,
    /// Median.
    pub median: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile; none in a report of an older program.
    #[serde(default)]
    pub p999: Option<f64>,
    /// Largest.
    pub max: f64,
}

/// Collects positions and stores a few numbers of each.
#[derive(Debug, Clone, Default)]
pub struct Divergence {
    positions: Vec<Position>,
}

/// The values of one position.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    kl: f64,
    same_top: bool,
    /// `-ln P(next token)` of the base and of the candidate, where there is a next token.
    surprise: Option<(f64, f64)>,
}

impl Divergence {
    /// Without any positions yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds positions: the token that followed each, the candidate's logits `[N, V]`, and for the
    /// base a function that fills in the logits `[V]` of a position.
    ///
    /// # Errors
    /// [`NotFinite`] for the first of the candidate's logits that is NaN or infinite; nothing is
    /// added then.
    ///
    /// # Panics
    /// When `candidate` is not a row of logits for each token.
    pub fn add(
        &mut self,
        next: &[u32],
        candidate: &[f32],
        base: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Result<(), NotFinite> {
        let Some(vocab_size) = candidate.len().checked_div(next.len()) else { return Ok(()) };
        assert!(vocab_size > 0 && candidate.len() == vocab_size * next.len(), "a row for each");
        let positions: Vec<Position> = candidate
            .par_chunks_exact(vocab_size)
            .enumerate()
            .map_init(
                || vec![0.0_f32; vocab_size],
                |buffer, (position, q)| {
                    check_finite(Side::Candidate, position, q)?;
                    base(position, buffer);
                    Ok(Position::compare(buffer, q, Some(next[position] as usize)))
                },
            )
            .collect::<Result<_, NotFinite>>()?;
        self.positions.extend(positions);
        Ok(())
    }

    pub(super) fn take(&mut self, position: Position) {
        self.positions.push(position);
    }

    /// The divergence at each position, in nats.
    pub fn kl(&self) -> Vec<f64> {
        self.positions.iter().map(|position| position.kl).collect()
    }

    /// The result over all positions; `None` if there was none.
    pub fn finish(&self) -> Option<Agreement> {
        let mean_kl = Mean::of(self.positions.iter().map(|position| position.kl))?;
        let mut kl = self.kl();
        kl.sort_unstable_by(f64::total_cmp);
        let same = self.positions.iter().map(|position| f64::from(u8::from(position.same_top)));
        let same = Mean::of(same)?;
        let surprises = self.positions.iter().filter_map(|position| position.surprise);
        let base_surprise = Mean::of(surprises.clone().map(|(base, _)| base));
        let surprise = Mean::of(surprises.clone().map(|(_, candidate)| candidate));
        let squared_change = surprises.map(|(base, candidate)| {
            let change = (-candidate).exp() - (-base).exp();
            change * change
        });
        let (base_perplexity, base_perplexity_error) = split(base_surprise.map(exponential));
        let (perplexity, perplexity_error) = split(surprise.map(exponential));
        let (rms, rms_error) = split(Mean::of(squared_change).map(root));
        Some(Agreement {
            positions: kl.len(),
            kl: KlDivergence {
                mean: mean_kl.value,
                mean_error: Some(mean_kl.error),
                median: quantile(&kl, 0.5),
                p99: quantile(&kl, 0.99),
                p999: Some(quantile(&kl, 0.999)),
                max: quantile(&kl, 1.0),
            },
            top1_agreement: same.value,
            top1_error: Some(same.error),
            base_perplexity,
            base_perplexity_error,
            perplexity,
            perplexity_error,
            rms_probability_change: rms,
            rms_probability_change_error: rms_error,
        })
    }
}

fn exponential(mean: Mean) -> Mean {
    let value = mean.value.exp();
    mean.through(value, value)
}

fn root(mean: Mean) -> Mean {
    let value = mean.value.sqrt();
    mean.through(value, if value > 0.0 { 0.5 / value } else { 0.0 })
}

fn split(mean: Option<Mean>) -> (Option<f64>, Option<f64>) {
    (mean.map(|mean| mean.value), mean.map(|mean| mean.error))
}

impl Position {
    /// The logits of one position, `[V]` each, and the token that followed.
    pub(super) fn compare(p: &[f32], q: &[f32], next: Option<usize>) -> Self {
        let (p_top, q_top) = (argmax(p), argmax(q));
        let (p_largest, q_largest) = (f64::from(p[p_top]), f64::from(q[q_top]));
        let (mut p_sum, mut q_sum, mut difference) = (0.0, 0.0, 0.0);
        for (&p, &q) in p.iter().zip(q) {
            let (p, q) = (f64::from(p) - p_largest, f64::from(q) - q_largest);
            let weight = p.exp();
            p_sum += weight;
            q_sum += q.exp();
            difference += weight * (p - q);
        }
        let (p_norm, q_norm) = (p_sum.ln(), q_sum.ln());
        let surprise = next.and_then(|token| {
            let (p, q) = (f64::from(*p.get(token)?), f64::from(*q.get(token)?));
            Some((p_norm + p_largest - p, q_norm + q_largest - q))
        });
        // Rounding errors can make a divergence of zero slightly negative.
        let kl = (difference / p_sum - p_norm + q_norm).max(0.0);
        Position { kl, same_top: p_top == q_top, surprise }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance, "{a} vs {b}");
    }

    /// Two positions over two tokens. Base (1/2, 1/2) at both; candidate (3/4, 1/4) and then the
    /// same as the base. Token 1 follows the first, token 0 the second.
    #[test]
    fn two_positions_by_hand() {
        let three = 3_f32.ln();
        let mut divergence = Divergence::new();
        let equal = |_: usize, row: &mut [f32]| row.fill(-7.0);
        divergence.add(&[1, 0], &[three, 0.0, 5.0, 5.0], equal).unwrap();
        let found = divergence.finish().unwrap();
        let kl = 2_f64.ln() - 0.5 * 3_f64.ln();
        assert_eq!(found.positions, 2);
        close(found.kl.mean, kl / 2.0, 1e-7);
        // Of 0 and x the mean is x / 2, the variance x^2 / 4, and there is one degree of freedom.
        close(found.kl.mean_error.unwrap(), kl / 2.0, 1e-7);
        close(found.kl.median, kl / 2.0, 1e-7);
        close(found.kl.p999.unwrap(), kl * 0.999, 1e-7);
        close(found.kl.max, kl, 1e-7);
        assert_eq!(divergence.kl().len(), 2);
        // The next token's probability: 1/2 and 1/2 in the base, 1/4 and 1/2 in the candidate.
        close(found.base_perplexity.unwrap(), 2.0, 1e-12);
        close(found.base_perplexity_error.unwrap(), 0.0, 1e-12);
        close(found.perplexity.unwrap(), 8_f64.sqrt(), 1e-6);
        // ln 4 and ln 2: the error of their mean is (ln 4 - ln 2) / 2.
        close(found.perplexity_error.unwrap(), 8_f64.sqrt() * 2_f64.ln() / 2.0, 1e-6);
        // Changes of -1/4 and 0: mean square 1/32, its error 1/32.
        close(found.rms_probability_change.unwrap(), (1.0_f64 / 32.0).sqrt(), 1e-7);
        close(found.rms_probability_change_error.unwrap(), 0.5 * (1.0_f64 / 32.0).sqrt(), 1e-7);
        assert_eq!((found.top1_agreement, found.top1_error), (1.0, Some(0.0)));
    }

    #[test]
    fn equal_distributions_are_at_no_distance() {
        let logits: Vec<f32> = (0..64).map(|i| (i * 37 % 23) as f32 * 0.7 - 300.0).collect();
        let mut divergence = Divergence::new();
        let shifted: Vec<f32> = logits.iter().map(|x| x + 256.0).collect();
        divergence
            .add(&[1, 2], &shifted, |i, row| row.copy_from_slice(&logits[32 * i..][..32]))
            .unwrap();
        let found = divergence.finish().unwrap();
        close(found.kl.max, 0.0, 1e-13);
        assert_eq!(found.top1_agreement, 1.0);
        close(found.rms_probability_change.unwrap(), 0.0, 1e-13);
    }

    #[test]
    fn a_logit_that_is_not_finite_leaves_everything_as_it_was() {
        let mut divergence = Divergence::new();
        let zeros = |_: usize, row: &mut [f32]| row.fill(0.0);
        let error = divergence.add(&[0, 0], &[0.0, 1.0, f32::NAN, 1.0], zeros).unwrap_err();
        assert_eq!(error.to_string(), "logit NaN at position 1, token 0");
        assert!(divergence.finish().is_none());
        divergence.add(&[], &[], zeros).unwrap();
        assert!(divergence.finish().is_none());
    }
}
