//! Compares two forward passes: arithmetic on logits, in f64 throughout.
//!
//! Definitions, for the logits `p` of the base and `q` of the candidate, `[T, V]` each:
//!
//! | | |
//! |---|---|
//! | relative RMS error | `sqrt(sum (q - p)^2 / sum p^2)` over all logits |
//! | max difference | `max abs(q - p)` over all logits |
//! | correlation | Pearson's, over all logits |
//! | KL divergence | `sum P (ln P - ln Q)` in nats at each position, `P = softmax(p)`, `Q = softmax(q)` |
//! | top-1 agreement | share of positions whose likeliest token is the same |
//! | perplexity | `exp(mean -ln P(next token))` over the positions whose next token is in the window |
//! | RMS change of probability | `sqrt(mean (Q(next token) - P(next token))^2)` over the same positions |
//! | error bars | the standard error of the mean over positions, through the function that is taken of it |
//!
//! The direction of the KL divergence and the meaning of its columns are those of
//! `llama-perplexity --kl-divergence`, and so are the error bars, which take positions as
//! independent. Quantiles interpolate linearly, as NumPy's do. [`Divergence`] holds the measures of
//! distributions; [`Comparison`] adds those of the logits themselves.

mod agreement;
mod statistics;

use std::fmt;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use agreement::Position;
pub use agreement::{Agreement, Divergence, KlDivergence};
pub use statistics::{Mean, paired_ratio};

/// The measures of two passes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Root mean square of the differences over the root mean square of the base's logits.
    pub relative_rms: f64,
    /// Largest difference of two logits.
    pub max_difference: f64,
    /// Pearson's correlation of the logits; none if one side is constant.
    pub correlation: Option<f64>,
    /// The measures of the distributions.
    #[serde(flatten)]
    pub agreement: Agreement,
}

/// A logit that is NaN or infinite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotFinite {
    /// The pass that the logit belongs to.
    pub side: Side,
    /// Position in the window.
    pub position: usize,
    /// Token id.
    pub token: usize,
    /// `NaN`, `inf` or `-inf`.
    pub value: String,
}

/// One of the two passes that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The pass that is trusted more.
    Base,
    /// The pass that is evaluated.
    Candidate,
}

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "logit {} at position {}, token {}", self.value, self.position, self.token)
    }
}

/// Collects windows, one after the other, and stores only a few numbers for each position.
#[derive(Debug, Clone, Default)]
pub struct Comparison {
    divergence: Divergence,
    squared_difference: f64,
    squared_base: f64,
    max_difference: f64,
    moments: Moments,
}

impl Comparison {
    /// Without any windows yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one window: its tokens `[T]` and the logits `[T, V]` of both passes.
    ///
    /// # Errors
    /// [`NotFinite`] for the first logit that is NaN or infinite; nothing is added then.
    ///
    /// # Panics
    /// When the two sides have different lengths or do not have a row for each token.
    pub fn add(
        &mut self,
        tokens: &[u32],
        base: &[f32],
        candidate: &[f32],
    ) -> Result<(), NotFinite> {
        assert_eq!(base.len(), candidate.len(), "logits of both passes");
        if tokens.is_empty() {
            return Ok(());
        }
        let vocab_size = base.len() / tokens.len();
        assert!(vocab_size > 0 && base.len() == vocab_size * tokens.len(), "a row for each token");
        let rows: Vec<Row> = base
            .par_chunks_exact(vocab_size)
            .zip(candidate.par_chunks_exact(vocab_size))
            .enumerate()
            .map(|(position, (p, q))| {
                check_finite(Side::Base, position, p)?;
                check_finite(Side::Candidate, position, q)?;
                Ok(Row::compare(p, q, tokens.get(position + 1).map(|&token| token as usize)))
            })
            .collect::<Result<_, NotFinite>>()?;
        for row in rows {
            self.take(&row);
        }
        Ok(())
    }

    /// Adds one position. Rows are summed in order, so that the result does not depend on threads.
    fn take(&mut self, row: &Row) {
        self.divergence.take(row.position);
        self.squared_difference += row.squared_difference;
        self.squared_base += row.squared_base;
        self.max_difference = self.max_difference.max(row.max_difference);
        self.moments = self.moments.merge(row.moments);
    }

    /// The result over all windows; `None` if there was no position.
    pub fn finish(self) -> Option<Metrics> {
        Some(Metrics {
            relative_rms: relative(self.squared_difference, self.squared_base),
            max_difference: self.max_difference,
            correlation: self.moments.correlation(),
            agreement: self.divergence.finish()?,
        })
    }
}

/// If the base is all zeros, any difference counts as 100 %.
fn relative(squared_difference: f64, squared_base: f64) -> f64 {
    if squared_base > 0.0 {
        (squared_difference / squared_base).sqrt()
    } else if squared_difference > 0.0 {
        1.0
    } else {
        0.0
    }
}

fn check_finite(side: Side, position: usize, row: &[f32]) -> Result<(), NotFinite> {
    match row.iter().position(|logit| !logit.is_finite()) {
        None => Ok(()),
        Some(token) => Err(NotFinite { side, position, token, value: row[token].to_string() }),
    }
}

/// All values of one position.
struct Row {
    position: Position,
    squared_difference: f64,
    squared_base: f64,
    max_difference: f64,
    moments: Moments,
}

impl Row {
    fn compare(p: &[f32], q: &[f32], next: Option<usize>) -> Self {
        let (mut squared_difference, mut squared_base) = (0.0, 0.0);
        let mut max_difference = 0.0_f64;
        for (&p, &q) in p.iter().zip(q) {
            let (p, q) = (f64::from(p), f64::from(q));
            let difference = q - p;
            squared_difference += difference * difference;
            squared_base += p * p;
            max_difference = max_difference.max(difference.abs());
        }
        Row {
            position: Position::compare(p, q, next),
            squared_difference,
            squared_base,
            max_difference,
            moments: Moments::of(p, q),
        }
    }
}

/// Means and central second moments of pairs, merged without cancellation (Chan, Golub and LeVeque,
/// 1979).
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    count: f64,
    mean: (f64, f64),
    /// Sums of `(x - mx)^2`, `(y - my)^2` and `(x - mx)(y - my)`.
    squares: (f64, f64, f64),
}

impl Moments {
    fn of(p: &[f32], q: &[f32]) -> Self {
        let count = p.len() as f64;
        let mean = |row: &[f32]| row.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
        let mean = (mean(p), mean(q));
        let mut squares = (0.0, 0.0, 0.0);
        for (&p, &q) in p.iter().zip(q) {
            let (dp, dq) = (f64::from(p) - mean.0, f64::from(q) - mean.1);
            squares.0 += dp * dp;
            squares.1 += dq * dq;
            squares.2 += dp * dq;
        }
        Moments { count, mean, squares }
    }

    fn merge(self, other: Self) -> Self {
        let count = self.count + other.count;
        if count == 0.0 {
            return self;
        }
        let (dp, dq) = (other.mean.0 - self.mean.0, other.mean.1 - self.mean.1);
        let (share, weight) = (other.count / count, self.count * other.count / count);
        Moments {
            count,
            mean: (self.mean.0 + dp * share, self.mean.1 + dq * share),
            squares: (
                self.squares.0 + other.squares.0 + dp * dp * weight,
                self.squares.1 + other.squares.1 + dq * dq * weight,
                self.squares.2 + other.squares.2 + dp * dq * weight,
            ),
        }
    }

    fn correlation(self) -> Option<f64> {
        let (pp, qq, pq) = self.squares;
        (pp > 0.0 && qq > 0.0).then(|| (pq / (pp.sqrt() * qq.sqrt())).clamp(-1.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(tokens: &[u32], base: &[f32], candidate: &[f32]) -> Metrics {
        let mut comparison = Comparison::new();
        comparison.add(tokens, base, candidate).unwrap();
        comparison.finish().unwrap()
    }

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance, "{a} vs {b}");
    }

    /// P = (1/2, 1/2), Q = (3/4, 1/4): KL = ln 2 - (ln 3) / 2.
    #[test]
    fn two_tokens_by_hand() {
        let three = 3_f32.ln();
        let metrics = measure(&[0, 1], &[0.0, 0.0, 0.0, 0.0], &[three, 0.0, 0.0, three]);
        let kl = 2_f64.ln() - 0.5 * 3_f64.ln();
        close(metrics.agreement.kl.mean, kl, 1e-7);
        close(metrics.agreement.kl.median, kl, 1e-7);
        close(metrics.agreement.kl.max, kl, 1e-7);
        // Position 0 is followed by token 1: probability 1/2 in the base, 1/4 in the candidate.
        close(metrics.agreement.base_perplexity.unwrap(), 2.0, 1e-12);
        close(metrics.agreement.perplexity.unwrap(), 4.0, 1e-6);
        // Of equal logits the first counts, so position 1 disagrees.
        assert_eq!(metrics.agreement.top1_agreement, 0.5);
        assert_eq!(metrics.correlation, None, "the base is constant");
        assert_eq!(metrics.relative_rms, 1.0);
        close(metrics.max_difference, 3_f64.ln(), 1e-7);
    }

    #[test]
    fn a_pass_against_itself_is_exact() {
        let logits: Vec<f32> = (0..60).map(|i| ((i * 37 % 23) as f32).sin() * 8.0 - 30.0).collect();
        let metrics = measure(&[1, 2, 3], &logits, &logits);
        assert_eq!(metrics.agreement.kl.max, 0.0);
        assert_eq!((metrics.relative_rms, metrics.max_difference), (0.0, 0.0));
        assert_eq!(metrics.agreement.top1_agreement, 1.0);
        close(metrics.correlation.unwrap(), 1.0, 1e-15);
        assert_eq!(metrics.agreement.base_perplexity, metrics.agreement.perplexity);
    }

    #[test]
    fn a_shift_of_all_logits_changes_no_probability() {
        let base: Vec<f32> = (0..40).map(|i| (i * 7 % 11) as f32).collect();
        let shifted: Vec<f32> = base.iter().map(|x| x + 64.0).collect();
        let metrics = measure(&[0, 3], &base, &shifted);
        close(metrics.agreement.kl.max, 0.0, 1e-13);
        assert_eq!(metrics.max_difference, 64.0);
        assert_eq!(metrics.agreement.top1_agreement, 1.0);
    }

    #[test]
    fn huge_logits_do_not_overflow() {
        let metrics = measure(&[0], &[3e38, -3e38], &[-3e38, 3e38]);
        assert!(metrics.agreement.kl.mean.is_finite() && metrics.relative_rms.is_finite());
        assert_eq!(metrics.agreement.perplexity, None, "one token has no next one");
    }

    #[test]
    fn windows_do_not_depend_on_how_they_are_cut_except_at_their_seams() {
        let row = |i: usize| (0..7).map(move |v| ((i * 7 + v) as f32 * 1.3).sin() * 4.0);
        let base: Vec<f32> = (0..6).flat_map(row).collect();
        let candidate: Vec<f32> = (0..6).flat_map(|i| row(i).map(|x| x * 1.01 + 0.1)).collect();
        let whole = measure(&[1, 2, 3, 4, 5, 6], &base, &candidate);
        let mut parts = Comparison::new();
        parts.add(&[1, 2, 3], &base[..21], &candidate[..21]).unwrap();
        parts.add(&[4, 5, 6], &base[21..], &candidate[21..]).unwrap();
        let parts = parts.finish().unwrap();
        assert_eq!(parts.agreement.kl, whole.agreement.kl);
        close(parts.correlation.unwrap(), whole.correlation.unwrap(), 1e-14);
        assert_ne!(
            parts.agreement.perplexity, whole.agreement.perplexity,
            "the seam has no next token"
        );
    }

    #[test]
    fn what_is_not_finite_is_named() {
        let mut comparison = Comparison::new();
        let error = comparison.add(&[0, 1], &[0.0; 6], &[0.0, 1.0, 2.0, 3.0, f32::NAN, 5.0]);
        let error = error.unwrap_err();
        assert_eq!(error.side, Side::Candidate);
        assert_eq!(error.to_string(), "logit NaN at position 1, token 1");
        let error = comparison.add(&[0], &[f32::NEG_INFINITY, 0.0], &[0.0; 2]).unwrap_err();
        assert_eq!(
            (error.side, error.to_string().as_str()),
            (Side::Base, "logit -inf at position 0, token 0")
        );
        assert!(comparison.finish().is_none());
    }
}
