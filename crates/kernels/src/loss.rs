//! The loss of a language model.

use burn::tensor::{Int, Tensor};

use crate::cpu::head::RowWeights;
use crate::cpu_autodiff;
use crate::dispatch::{Dispatch, dispatch};
use crate::distillation::OutputHead;
use crate::gpu::{self, Gpu};
use crate::pass::Precision;

/// The output head with its loss: [`cross_entropy`] of the head's logits, of which only some rows
/// exist at a time.
///
/// # Shapes
/// `x [N, C]`, `weight [C, V]`, or `[V, C]` if it is the tied embedding, `targets [N]` -> `[1]`.
pub fn head_loss(
    x: Tensor<2>,
    weight: Tensor<2>,
    tied: bool,
    targets: Tensor<1, Int>,
    precision: Precision,
) -> Tensor<1> {
    let head = OutputHead { x, weight, tied };
    match dispatch(&head.x.device()) {
        Dispatch::Cpu => {
            let targets: Vec<u32> = targets.into_data().iter::<u32>().collect();
            cpu_autodiff::head_loss(head, &targets, RowWeights::Mean, precision)
        }
        Dispatch::Gpu => gpu::head_loss::<Gpu>(head, targets, precision),
        Dispatch::Plain => cross_entropy(head.logits(precision), targets),
    }
}

/// [`head_loss`] with a weight for each row in place of `1 / N`: the sum of the rows' losses, each
/// times its weight. A weight may be negative.
///
/// # Shapes
/// `targets [N]`, `weights [N]` -> `[1]`.
pub fn weighted_head_loss(
    head: OutputHead,
    targets: Tensor<1, Int>,
    weights: &[f32],
    precision: Precision,
) -> Tensor<1> {
    match dispatch(&head.x.device()) {
        Dispatch::Cpu => {
            let targets: Vec<u32> = targets.into_data().iter::<u32>().collect();
            cpu_autodiff::head_loss(head, &targets, RowWeights::Each(weights), precision)
        }
        Dispatch::Gpu => gpu::weighted_head_loss::<Gpu>(head, targets, weights, precision),
        Dispatch::Plain => {
            let weights = Tensor::<1>::from_floats(weights, &head.x.device());
            (target_losses(head.logits(precision), targets) * weights).sum()
        }
    }
}

/// The loss of each row, in nats, for a head outside of any graph.
///
/// # Shapes
/// `targets [N]` -> `[N]`.
///
/// # Panics
/// When the head is in a graph: there is no backward pass.
pub fn head_losses(head: OutputHead, targets: Tensor<1, Int>, precision: Precision) -> Tensor<1> {
    let device = head.x.device();
    assert!(!head.x.is_autodiff() && !head.weight.is_autodiff(), "a head outside of any graph");
    match dispatch(&device) {
        Dispatch::Cpu => {
            let targets: Vec<u32> = targets.into_data().iter::<u32>().collect();
            cpu_autodiff::head_losses(head, &targets, precision)
        }
        Dispatch::Gpu => gpu::head_losses::<Gpu>(head, targets, precision),
        Dispatch::Plain => target_losses(head.logits(precision), targets),
    }
}

/// Mean negative log-likelihood of the targets, in nats.
///
/// Computed as log-sum-exp minus the target's logit, after the row's maximum is subtracted so that
/// nothing overflows. The probabilities themselves are never stored.
///
/// # Shapes
/// `logits [N, V]`, `targets [N]` -> `[1]`.
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    target_losses(logits, targets).mean()
}

/// Negative log-likelihood of each row's target, in nats: `logits [N, V]`, `targets [N]` -> `[N]`.
fn target_losses(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let maximum = logits.clone().detach().max_dim(1); // [N, 1]
    let shifted = logits - maximum; // [N, V]
    let target = shifted.clone().gather(1, targets.unsqueeze_dim(1)); // [N, 1]
    let log_sum = shifted.exp().sum_dim(1).log(); // [N, 1]
    (log_sum - target).squeeze_dim(1)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData, Tolerance};

    use super::*;
    use crate::random;

    #[test]
    fn equal_logits_cost_the_logarithm_of_the_vocabulary() {
        let device = Device::flex();
        let loss = cross_entropy(Tensor::full([3, 50], 7.0, &device), Tensor::zeros([3], &device));
        assert!((loss.into_scalar::<f32>() - 50_f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn huge_logits_do_not_overflow() {
        let device = Device::flex();
        let logits = Tensor::from_floats([[1e4, 0.0], [-1e4, 0.0]], &device);
        let loss = cross_entropy(logits, Tensor::from_ints([0, 0], &device));
        assert!((loss.into_scalar::<f32>() - 5e3).abs() < 1e-2);
    }

    #[test]
    fn the_gradient_is_the_probability_less_the_target_over_n() {
        let device = Device::flex().autodiff();
        let rows = [[0.5_f32, -1.0, 2.0], [0.0, 3.0, 1.0]];
        let logits = Tensor::<2>::from_floats(rows, &device).require_grad();
        let targets = [2_usize, 0];
        let loss = cross_entropy(logits.clone(), Tensor::from_ints([2, 0], &device));
        let mut expected = Vec::new();
        for (row, target) in rows.iter().zip(targets) {
            let total: f32 = row.iter().map(|x| x.exp()).sum();
            for (j, x) in row.iter().enumerate() {
                expected.push((x.exp() / total - f32::from(j == target)) / 2.0);
            }
        }
        let gradient = logits.grad(&loss.backward()).unwrap();
        gradient
            .into_data()
            .assert_approx_eq::<f32>(&TensorData::new(expected, [2, 3]), Tolerance::absolute(1e-6));
    }

    #[test]
    fn the_head_in_one_operation_is_the_head_and_then_the_loss() {
        let device = Device::flex().autodiff();
        let draw = |name, shape: [usize; 2]| {
            let values = random::normal(random::derive_named(1, name), shape[0] * shape[1], 1.0);
            Tensor::<2>::from_data(TensorData::new(values, shape), &device).require_grad()
        };
        let (n, c, v) = (19, 5, 33);
        let targets: Tensor<1, Int> = Tensor::arange(0..n as i64, &Device::flex());
        for tied in [false, true] {
            let x = draw("x", [n, c]);
            let weight = draw("w", if tied { [v, c] } else { [c, v] });
            let run = |loss: Tensor<1>| {
                // Twice the loss: the gradient must include the factor of the operation after it.
                let grads = (loss.clone() * 2.0).backward();
                let gradients = [&x, &weight].map(|t| t.grad(&grads).unwrap().into_data());
                (loss.inner().into_data(), gradients)
            };
            let as_matrix = if tied { weight.clone().transpose() } else { weight.clone() };
            let plain = run(cross_entropy(x.clone().matmul(as_matrix), targets.clone()));
            for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 2e-2)] {
                let loss = head_loss(x.clone(), weight.clone(), tied, targets.clone(), precision);
                let ours = run(loss);
                ours.0.assert_approx_eq::<f32>(&plain.0, Tolerance::absolute(tolerance));
                for (ours, plain) in ours.1.iter().zip(&plain.1) {
                    ours.assert_approx_eq::<f32>(plain, Tolerance::absolute(tolerance));
                }
            }
        }
    }

    /// The losses of single rows, and their sum with weights of either sign, are those of plain
    /// operations; so are the gradients.
    #[test]
    fn rows_have_losses_and_weights_of_their_own() {
        let device = Device::flex().autodiff();
        let draw = |name, shape: [usize; 2]| {
            let values = random::normal(random::derive_named(1, name), shape[0] * shape[1], 1.0);
            Tensor::<2>::from_data(TensorData::new(values, shape), &device).require_grad()
        };
        // More rows than there are in one part.
        let (n, c, v) = (519, 5, 33);
        let targets: Vec<i32> = (0..n as i32).map(|row| row * 7 % v as i32).collect();
        let targets: Tensor<1, Int> = Tensor::from_data(TensorData::new(targets, [n]), &device);
        let weights: Vec<f32> = (0..n).map(|row| (row % 5) as f32 * 0.3 - 0.5).collect();
        for tied in [false, true] {
            let x = draw("x", [n, c]);
            let weight = draw("w", if tied { [v, c] } else { [c, v] });
            let head = || OutputHead { x: x.clone(), weight: weight.clone(), tied };
            let run = |loss: Tensor<1>| {
                let grads = (loss.clone() * 2.0).backward();
                let gradients = [&x, &weight].map(|t| t.grad(&grads).unwrap().into_data());
                (loss.inner().into_data(), gradients)
            };
            let each = target_losses(head().logits(Precision::F32), targets.clone());
            let plain = (each.clone() * Tensor::from_floats(weights.as_slice(), &device)).sum();
            let plain = run(plain);
            let each = each.inner().into_data();
            let outside = OutputHead { x: x.clone().inner(), weight: weight.clone().inner(), tied };
            for (precision, tolerance) in [(Precision::F32, 1e-4), (Precision::Bf16, 0.5)] {
                let tolerance = Tolerance::absolute(tolerance);
                let found = head_losses(outside.clone(), targets.clone().inner(), precision);
                found.into_data().assert_approx_eq::<f32>(&each, tolerance);
                let ours = run(weighted_head_loss(head(), targets.clone(), &weights, precision));
                ours.0.assert_approx_eq::<f32>(&plain.0, tolerance);
                for (ours, plain) in ours.1.iter().zip(&plain.1) {
                    ours.assert_approx_eq::<f32>(plain, tolerance);
                }
            }
        }
    }

    #[test]
    fn no_number_in_is_no_number_out() {
        let device = Device::flex();
        for bad in [f32::NAN, f32::INFINITY] {
            let x = Tensor::<2>::from_floats([[bad, 1.0]], &device);
            let weight = Tensor::<2>::from_floats([[1.0, 2.0, -1.0], [0.5, 0.0, 1.0]], &device);
            for precision in [Precision::F32, Precision::Bf16] {
                let targets = Tensor::from_ints([0], &device);
                let loss = head_loss(x.clone(), weight.clone(), false, targets, precision);
                assert!(loss.into_scalar::<f32>().is_nan());
            }
        }
    }
}
