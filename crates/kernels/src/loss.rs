//! The loss of a language model.

use burn::tensor::{Int, Tensor};

/// Mean negative log-likelihood of the targets, in nats.
///
/// As log-sum-exp minus the target's logit, shifted by the row's maximum so that nothing
/// overflows. The probabilities themselves are never stored.
///
/// # Shapes
/// `logits [N, V]`, `targets [N]` -> `[1]`.
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let maximum = logits.clone().detach().max_dim(1); // [N, 1]
    let shifted = logits - maximum; // [N, V]
    let target = shifted.clone().gather(1, targets.unsqueeze_dim(1)); // [N, 1]
    let log_sum = shifted.exp().sum_dim(1).log(); // [N, 1]
    (log_sum - target).mean()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData, Tolerance};

    use super::*;

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
}
