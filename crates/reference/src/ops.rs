//! The operations between matrix products, each with its formula.
//!
//! Means and normalizers are summed in f64: compared with the matrix products the cost is not
//! measurable, and the rounding errors do not affect comparisons.
//!
//! Exponentials, here and in `rope`, are those of the `libm` crate: the standard library
//! calls the system's, whose last bits differ between systems and processors.

use rayon::prelude::*;

/// LayerNorm (Ba et al., 2016) over each row of `x` `[T, C]`:
///
/// ```text
/// y = (x - mean(x)) / sqrt(var(x) + epsilon) * weight + bias,   var without Bessel's correction
/// ```
pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], epsilon: f32) -> Vec<f32> {
    let width = weight.len();
    let mut y = vec![0.0; x.len()];
    y.par_chunks_mut(width).zip(x.par_chunks(width)).for_each(|(y, x)| {
        let n = width as f64;
        let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
        let scale = 1.0 / (variance + f64::from(epsilon)).sqrt();
        for (((y, &x), &weight), &bias) in y.iter_mut().zip(x).zip(weight).zip(bias) {
            *y = ((f64::from(x) - mean) * scale) as f32 * weight + bias;
        }
    });
    y
}

/// RMSNorm (Zhang and Sennrich, 2019) over each row of `x` `[T, C]`:
///
/// ```text
/// y = x / sqrt(mean(x²) + epsilon) * weight
/// ```
pub fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32) -> Vec<f32> {
    let width = weight.len();
    let mut y = vec![0.0; x.len()];
    y.par_chunks_mut(width).zip(x.par_chunks(width)).for_each(|(y, x)| {
        let mean = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / width as f64;
        let scale = 1.0 / (mean + f64::from(epsilon)).sqrt();
        for ((y, &x), &weight) in y.iter_mut().zip(x).zip(weight) {
            *y = (f64::from(x) * scale) as f32 * weight;
        }
    });
    y
}

/// GELU in its tanh form (Hendrycks and Gimpel, 2016), `gelu_new` of Hugging Face, in place:
///
/// ```text
/// y = x/2 · (1 + tanh(sqrt(2/π) · (x + 0.044715 x³)))
/// ```
pub fn gelu(x: &mut [f32]) {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    x.par_chunks_mut(4096).for_each(|chunk| {
        for x in chunk {
            let inner = SQRT_2_OVER_PI * (*x + 0.044_715 * *x * *x * *x);
            *x *= 0.5 * (1.0 + libm::tanhf(inner));
        }
    });
}

/// SwiGLU (Shazeer, 2020); the result replaces the gate:
///
/// ```text
/// gate = silu(gate) · up,   silu(x) = x / (1 + exp(-x))
/// ```
pub fn swiglu(gate: &mut [f32], up: &[f32]) {
    gate.par_chunks_mut(4096).zip(up.par_chunks(4096)).for_each(|(gate, up)| {
        for (gate, up) in gate.iter_mut().zip(up) {
            *gate *= up / (1.0 + libm::expf(-*gate));
        }
    });
}

/// GeGLU (Shazeer, 2020) with [`gelu`]; the result replaces the gate:
///
/// ```text
/// gate = gelu(gate) · up
/// ```
pub fn geglu(gate: &mut [f32], up: &[f32]) {
    gelu(gate);
    gate.iter_mut().zip(up).for_each(|(gate, up)| *gate *= up);
}

/// Softmax of one row, in place:
///
/// ```text
/// p_i = exp(x_i - max(x)) / Σ_j exp(x_j - max(x))
/// ```
pub fn softmax(x: &mut [f32]) {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for x in x.iter_mut() {
        *x = libm::expf(*x - max);
        sum += f64::from(*x);
    }
    for x in x.iter_mut() {
        *x = (f64::from(*x) / sum) as f32;
    }
}

/// `x += y`, the residual connection.
pub fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// Index of the largest of `logits`, the first one if several are equal; 0 if `logits` is empty.
pub fn argmax(logits: &[f32]) -> usize {
    let mut best = 0;
    for (index, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = index;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layer_norm_of_two_numbers() {
        // mean 2, variance 1: (1 - 2) / 1 · 3 + 0.5 and (3 - 2) / 1 · 4 - 0.5
        let y = layer_norm(&[1.0, 3.0], &[3.0, 4.0], &[0.5, -0.5], 0.0);
        assert_eq!(y, [-2.5, 3.5]);
    }

    #[test]
    fn layer_norm_of_a_constant_row_is_its_bias() {
        let y = layer_norm(&[7.0; 4], &[2.0; 4], &[0.25; 4], 1e-5);
        assert_eq!(y, [0.25; 4]);
    }

    #[test]
    fn the_first_of_the_largest_wins() {
        assert_eq!(argmax(&[0.0, 2.0, 1.0, 2.0]), 1);
        assert_eq!(argmax(&[-1.0]), 0);
        assert_eq!(argmax(&[]), 0);
        assert_eq!(argmax(&[f32::NEG_INFINITY, 0.0, f32::NAN]), 1);
    }

    #[test]
    fn rms_norm_of_two_numbers() {
        // mean square 4: 2 / 2 · 3 and -2 / 2 · 0.5, and the same for any multiple
        assert_eq!(rms_norm(&[2.0, -2.0], &[3.0, 0.5], 0.0), [3.0, -0.5]);
        assert_eq!(rms_norm(&[14.0, -14.0], &[3.0, 0.5], 0.0), [3.0, -0.5]);
        // mean square 3, epsilon 1
        assert_eq!(rms_norm(&[1.0, 5.0_f32.sqrt()], &[1.0, 0.0], 1.0), [0.5, 0.0]);
    }

    #[test]
    fn swiglu_at_known_points() {
        // torch.nn.functional.silu(torch.tensor([...])) * 2
        let mut gate = [-100.0, -3.0, -1.0, 0.0, 0.5, 100.0];
        swiglu(&mut gate, &[2.0; 6]);
        let expected = [0.0, -0.284_554_96, -0.537_882_8, 0.0, 0.622_459_3, 200.0];
        assert!(gate.iter().zip(expected).all(|(x, e)| (x - e).abs() < 1e-6), "{gate:?}");
    }

    #[test]
    fn gelu_at_known_points() {
        // torch.nn.functional.gelu(torch.tensor([...]), approximate="tanh")
        let mut x = [-3.0, -1.0, 0.0, 0.5, 2.0];
        gelu(&mut x);
        let expected = [-0.003_637_41, -0.158_808, 0.0, 0.345_714, 1.954_597_7];
        assert!(x.iter().zip(expected).all(|(x, e)| (x - e).abs() < 1e-6), "{x:?}");
    }

    #[test]
    fn softmax_keeps_the_ratios_and_does_not_overflow() {
        let mut x = [1000.0, 1000.0 + 2.0_f32.ln(), f32::NEG_INFINITY];
        softmax(&mut x);
        assert!((x[0] - 1.0 / 3.0).abs() < 1e-5 && (x[1] - 2.0 / 3.0).abs() < 1e-5);
        assert_eq!(x[2], 0.0);
    }
}
