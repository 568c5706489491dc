//! Means with their standard errors, and quantiles.

/// The mean of some numbers and its uncertainty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mean {
    /// The mean itself.
    pub value: f64,
    /// Its standard error, `sqrt(variance / (n - 1))` with the variance about the mean, as in
    /// `llama-perplexity`; 0 for a single number. The numbers are taken as independent.
    pub error: f64,
}

impl Mean {
    /// `None` without numbers.
    pub fn of(values: impl Iterator<Item = f64> + Clone) -> Option<Self> {
        let count = values.clone().count() as f64;
        if count == 0.0 {
            return None;
        }
        let value = values.clone().sum::<f64>() / count;
        // In two passes: in a single pass, the variance of nearly equal numbers would cancel.
        let variance = values.map(|x| (x - value).powi(2)).sum::<f64>() / count;
        let error = if count > 1.0 { (variance / (count - 1.0)).sqrt() } else { 0.0 };
        Some(Mean { value, error })
    }

    /// A function of the mean, to first order: `slope` is its derivative there.
    pub fn through(self, value: f64, slope: f64) -> Self {
        Mean { value, error: self.error * slope.abs() }
    }
}

/// The mean of `a` over the mean of `b` if both were measured at the same positions, so that their
/// common part cancels (delta method). `None` without positions, or if the mean of `b` is 0.
pub fn paired_ratio(a: &[f64], b: &[f64]) -> Option<Mean> {
    let (mean_a, mean_b) = (Mean::of(a.iter().copied())?, Mean::of(b.iter().copied())?);
    if a.len() != b.len() || mean_b.value == 0.0 {
        return None;
    }
    let ratio = mean_a.value / mean_b.value;
    let residuals = Mean::of(a.iter().zip(b).map(|(a, b)| a - ratio * b))?;
    Some(residuals.through(ratio, 1.0 / mean_b.value))
}

/// The value below which the share `q` of `sorted` lies, interpolated linearly.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = q * last as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance, "{a} vs {b}");
    }

    #[test]
    fn quantiles_interpolate() {
        let sorted = [0.0, 1.0, 2.0, 10.0];
        assert_eq!(quantile(&sorted, 0.5), 1.5);
        close(quantile(&sorted, 0.99), 2.0 + 8.0 * 0.97, 1e-12);
        assert_eq!(quantile(&sorted, 1.0), 10.0);
        assert_eq!(quantile(&[4.0], 0.99), 4.0);
    }

    /// 1, 2, 3, 6: mean 3, squares about it 4 + 1 + 0 + 9 = 14; 14 / 4 / 3 = 7 / 6.
    #[test]
    fn a_mean_knows_its_error() {
        let mean = Mean::of([1.0, 2.0, 3.0, 6.0].into_iter()).unwrap();
        assert_eq!(mean.value, 3.0);
        close(mean.error, (7.0_f64 / 6.0).sqrt(), 1e-15);
        assert_eq!(Mean::of([5.0].into_iter()).unwrap().error, 0.0);
        assert_eq!(Mean::of(std::iter::empty()), None);
        let twice = mean.through(9.0, -6.0);
        assert_eq!((twice.value, twice.error), (9.0, 6.0 * mean.error));
    }

    #[test]
    fn a_paired_ratio_forgets_what_both_share() {
        let b = [1.0, 2.0, 3.0, 6.0];
        let exact = paired_ratio(&b.map(|x| x * 0.5), &b).unwrap();
        assert_eq!((exact.value, exact.error), (0.5, 0.0));
        // a - b / 2 = 1/2, 0, -1/2, 0: variance 1/8, error sqrt(1/24); the mean of b is 3.
        let noisy = paired_ratio(&[1.0, 1.0, 1.0, 3.0], &b).unwrap();
        assert_eq!(noisy.value, 0.5);
        close(noisy.error, (1.0_f64 / 24.0).sqrt() / 3.0, 1e-15);
        assert_eq!(paired_ratio(&[], &[]), None);
        assert_eq!(paired_ratio(&[1.0], &[0.0]), None);
        assert_eq!(paired_ratio(&[1.0], &[1.0, 2.0]), None);
    }
}
