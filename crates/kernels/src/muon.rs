//! Muon: momentum with an orthogonalized update, for the matrices inside a network (Jordan et al.,
//! 2024, <https://kellerjordan.github.io/posts/muon/>).
//!
//! ```text
//! m = b m + (1 - b) g          momentum
//! u = (1 - b) g + b m          Nesterov's look ahead
//! w = (1 - lr d) w - lr 0.2 sqrt(max(rows, columns)) o(u)
//! ```
//!
//! `o(u)` is nearly `U V^T` of the singular value decomposition `u = U S V^T`: all directions of the
//! matrix move at about the same rate, also those in which the gradient is small. It comes from five
//! Newton-Schulz steps, which need products only:
//!
//! ```text
//! x = u / |u|                  Frobenius norm: singular values at most 1
//! x <- a x + (b A + c A^2) x   with A = x x^T
//! ```
//!
//! The coefficients were chosen for speed: singular values end between 0.7 and 1.2, not at 1. The
//! scale gives the update the root mean square 0.2, which AdamW's has in practice, so that both take
//! the same learning rate and decay (Liu et al., "Muon is Scalable for LLM Training", 2025;
//! `match_rms_adamw` of `torch.optim.Muon`).

use burn::tensor::Tensor;

use crate::optimizer::take;

/// `a`, `b` and `c` of a Newton-Schulz step.
const COEFFICIENTS: [f32; 3] = [3.4445, -4.7750, 2.0315];
/// Newton-Schulz steps.
const STEPS: usize = 5;
/// The least norm that is divided by.
const SMALLEST_NORM: f32 = 1e-7;
/// The root mean square of an update, before the learning rate.
const ROOT_MEAN_SQUARE: f64 = 0.2;

/// The numbers of one step of Muon.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MuonStep {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decay rate of the momentum.
    pub momentum: f32,
    /// Weight decay; each step multiplies it by the learning rate.
    pub weight_decay: f32,
    /// Factor on the gradient: less than 1 if the gradient is clipped, otherwise 1.
    pub gradient_scale: f32,
}

/// One step of Muon; returns the new weight.
///
/// # Shapes
/// `weight`, `gradient` and `momentum`: `[n]`, outside of any graph; `shape` is `[rows, columns]`, or
/// `[count, rows, columns]` for as many matrices.
///
/// # Panics
/// When `shape` is not that of `n` numbers in matrices.
pub fn muon(
    weight: Tensor<1>,
    gradient: Tensor<1>,
    momentum: &mut Tensor<1>,
    shape: &[usize],
    step: &MuonStep,
) -> Tensor<1> {
    let &[ref matrices @ .., rows, columns] = shape else {
        panic!("Muon of a tensor of shape {shape:?}, expected matrices")
    };
    let gradient = gradient * (step.gradient_scale * (1.0 - step.momentum));
    *momentum = take(momentum) * step.momentum + gradient.clone();
    let update = gradient + momentum.clone() * step.momentum;
    let update = update.reshape([matrices.iter().product(), rows, columns]);
    let update = orthogonalized(update).reshape(weight.dims());
    let scale = step.learning_rate * ROOT_MEAN_SQUARE * (rows.max(columns) as f64).sqrt();
    let keep = 1.0 - step.learning_rate * f64::from(step.weight_decay);
    weight * keep as f32 - update * scale as f32
}

/// Nearly the orthogonal factor of each matrix.
///
/// # Shapes
/// `[count, rows, columns]` -> the same.
fn orthogonalized(x: Tensor<3>) -> Tensor<3> {
    let [_, rows, columns] = x.dims();
    // The square matrix A has the side of the shorter dimension.
    if rows > columns {
        return orthogonalized(x.swap_dims(1, 2)).swap_dims(1, 2);
    }
    let norm = x.clone().square().sum_dim(2).sum_dim(1).sqrt();
    let mut x = x / norm.clamp_min(SMALLEST_NORM);
    let [a, b, c] = COEFFICIENTS;
    for _ in 0..STEPS {
        let gram = x.clone().matmul(x.clone().swap_dims(1, 2));
        let factor = gram.clone() * b + gram.clone().matmul(gram) * c;
        x = x.clone() * a + factor.matmul(x);
    }
    x
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::random;

    const STEP: MuonStep =
        MuonStep { learning_rate: 0.1, momentum: 0.95, weight_decay: 0.5, gradient_scale: 1.0 };

    fn tensor(values: &[f32]) -> Tensor<1> {
        Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), &Device::flex())
    }

    fn values(tensor: Tensor<1>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    /// Of a diagonal matrix each number is its own singular value, so that the steps can be followed
    /// on numbers.
    #[test]
    fn a_diagonal_matrix_follows_the_polynomial() {
        let diagonal = [3.0_f64, 0.1, -1.0];
        let norm = diagonal.map(|x| x * x).iter().sum::<f64>().sqrt();
        let mut gradient = vec![0.0; 12];
        for (at, x) in diagonal.into_iter().enumerate() {
            gradient[at * 4 + at] = x as f32;
        }
        let mut momentum = tensor(&[0.0; 12]);
        let step = MuonStep { weight_decay: 0.0, momentum: 0.0, ..STEP };
        let found =
            values(muon(tensor(&[0.0; 12]), tensor(&gradient), &mut momentum, &[3, 4], &step));
        for (at, x) in found.into_iter().enumerate() {
            let mut expected = 0.0;
            if at % 4 == at / 4 {
                expected = diagonal[at / 4] / norm;
                for _ in 0..5 {
                    let x = expected;
                    expected = 3.4445 * x - 4.7750 * x.powi(3) + 2.0315 * x.powi(5);
                }
                assert!((0.65..1.25).contains(&expected.abs()), "{expected}");
                expected *= -0.1 * 0.2 * 2.0;
            }
            assert!((f64::from(x) - expected).abs() < 1e-6, "{at}: {x}, expected {expected}");
        }
    }

    /// Momentum, decay, clipping and the scale of three steps; a gradient of rank 1 and of norm 1
    /// keeps its direction.
    #[test]
    fn three_steps_follow_the_formulas() {
        let (gradients, mut one) = ([2.0_f32, -1.0, 0.5], 0.7_f64);
        let (mut weight, mut momentum) = (tensor(&[0.7, 0.0]), tensor(&[0.0, 0.0]));
        let mut m = 0.0;
        let polynomial =
            |x: f64| (0..5).fold(x, |x, _| 3.4445 * x - 4.7750 * x.powi(3) + 2.0315 * x.powi(5));
        for gradient in gradients {
            let step = MuonStep { gradient_scale: 0.5, ..STEP };
            weight = muon(weight, tensor(&[gradient, 0.0]), &mut momentum, &[1, 2], &step);
            let g = 0.5 * f64::from(gradient);
            m = 0.95 * m + 0.05 * g;
            let ahead: f64 = 0.05 * g + 0.95 * m;
            let update = polynomial(1.0) * ahead.signum();
            one = one * (1.0 - 0.1 * 0.5) - 0.1 * 0.2 * 2.0_f64.sqrt() * update;
        }
        let found = values(weight);
        assert!((f64::from(found[0]) - one).abs() < 1e-6, "{found:?}, expected {one}");
        assert_eq!(found[1], 0.0);
        assert!((f64::from(values(momentum)[0]) - m).abs() < 1e-6);
    }

    #[test]
    fn matrices_of_one_tensor_do_not_see_each_other_and_may_be_transposed() {
        let draw = |name| random::normal(random::derive_named(5, name), 15, 1.0);
        let (a, b) = (draw("a"), draw("b"));
        let run = |gradient: &[f32], shape: &[usize]| {
            let zeros = vec![0.0; gradient.len()];
            values(muon(tensor(&zeros), tensor(gradient), &mut tensor(&zeros), shape, &STEP))
        };
        let both = run(&[a.clone(), b.clone()].concat(), &[2, 3, 5]);
        let apart = [run(&a, &[3, 5]), run(&b, &[3, 5])].concat();
        assert!(both.iter().zip(&apart).all(|(x, y)| (x - y).abs() < 1e-6));
        let transposed =
            |x: &[f32]| -> Vec<f32> { (0..15).map(|i| x[i % 3 * 5 + i / 3]).collect() };
        let turned = run(&transposed(&a), &[5, 3]);
        assert!(turned.iter().zip(transposed(&apart[..15])).all(|(x, y)| (x - y).abs() < 1e-6));
    }

    #[test]
    fn without_a_gradient_only_decay_changes_a_weight() {
        let zeros = [0.0; 6];
        let weight = muon(tensor(&[1.0; 6]), tensor(&zeros), &mut tensor(&zeros), &[2, 3], &STEP);
        assert_eq!(values(weight), [0.95; 6]);
    }
}
