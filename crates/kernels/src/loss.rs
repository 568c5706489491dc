//! The loss of a language model.
//!
//! With a vocabulary of 50,257, logits are the largest thing a forward pass makes, and plain
//! operations walk over them a dozen times in forward and backward together. On Flex this module
//! goes over them once, with all threads, and has loss and gradient at the end of it.

use burn::tensor::{Device, Int, Tensor};
use rayon::prelude::*;

/// Mean negative log-likelihood of the targets, in nats.
///
/// As log-sum-exp minus the target's logit, shifted by the row's maximum so that nothing
/// overflows. The probabilities themselves are never stored.
///
/// # Shapes
/// `logits [N, V]`, `targets [N]`, each below `V` -> `[1]`.
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    if logits.device() == Device::flex() {
        in_one_pass(logits, targets)
    } else {
        with_tensors(logits, targets)
    }
}

fn with_tensors(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let maximum = logits.clone().detach().max_dim(1); // [N, 1]
    let shifted = logits - maximum; // [N, V]
    let target = shifted.clone().gather(1, targets.unsqueeze_dim(1)); // [N, 1]
    let log_sum = shifted.exp().sum_dim(1).log(); // [N, 1]
    (log_sum - target).mean()
}

/// The loss by a pass of our own, and its gradient `(softmax(x) - onehot(target)) / N` handed to
/// Burn as the slope of a linear function: `sum(logits * gradient)` has that gradient, and with
/// its own value taken off and the loss put on, it has the right value as well.
fn in_one_pass(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let [n, v] = logits.dims();
    let device = logits.device().inner();
    let mut data = logits.clone().inner().into_data();
    let ids: Vec<usize> = targets.clone().into_data().iter::<i64>().map(|id| id as usize).collect();
    let Ok(rows) = data.as_mut_slice::<f32>() else {
        return with_tensors(logits, targets); // another number format
    };
    let rows = rows.par_chunks_mut(v.max(1)).zip(&ids);
    let losses: Vec<f64> = rows.map(|(row, &target)| to_gradient(row, target, n)).collect();
    let loss = (losses.iter().sum::<f64>() / n as f64) as f32;
    if !logits.is_tracked() {
        return Tensor::from_floats([loss], &device);
    }
    let gradient = Tensor::<2>::from_data(data, &device).autodiff();
    let linear = (logits * gradient).sum();
    linear.clone() - linear.detach() + loss
}

/// Replaces a row of logits by the gradient of the mean over `n` rows; gives the row's loss.
fn to_gradient(row: &mut [f32], target: usize, n: usize) -> f64 {
    let maximum = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let wanted = row[target] - maximum;
    let mut sum = 0.0;
    for x in row.iter_mut() {
        *x = (*x - maximum).exp();
        sum += f64::from(*x);
    }
    let scale = (1.0 / (sum * n as f64)) as f32;
    row.iter_mut().for_each(|x| *x *= scale);
    row[target] -= 1.0 / n as f32;
    sum.ln() - f64::from(wanted)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{TensorData, Tolerance};

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

    #[test]
    fn the_two_bodies_agree_in_value_and_gradient() {
        let device = Device::flex().autodiff();
        for [n, v] in [[1, 1], [3, 17], [33, 1001]] {
            let values = crate::random::normal(n as u64, n * v, 3.0);
            let ids: Vec<i32> = (0..n).map(|i| (i * 7 % v) as i32).collect();
            let run = |body: fn(Tensor<2>, Tensor<1, Int>) -> Tensor<1>| {
                let logits = TensorData::new(values.clone(), [n, v]);
                let logits = Tensor::<2>::from_data(logits, &device).require_grad();
                let targets = Tensor::from_data(TensorData::new(ids.clone(), [n]), &device);
                // A factor behind the loss, as gradient accumulation has one.
                let loss = body(logits.clone(), targets) * 0.5;
                let gradient = logits.grad(&loss.backward()).unwrap();
                (loss.inner().into_data(), gradient.into_data())
            };
            let (one, other) = (run(in_one_pass), run(with_tensors));
            one.0.assert_approx_eq::<f32>(&other.0, Tolerance::relative(1e-5).set_absolute(1e-6));
            one.1.assert_approx_eq::<f32>(&other.1, Tolerance::absolute(1e-6));
        }
    }

    #[test]
    fn no_number_in_is_no_number_out() {
        let device = Device::flex().autodiff();
        for bad in [f32::NAN, f32::INFINITY] {
            let logits = Tensor::<2>::from_floats([[0.0, bad, 1.0]], &device).require_grad();
            let loss = cross_entropy(logits, Tensor::from_ints([0], &device));
            assert!(loss.inner().into_scalar::<f32>().is_nan());
        }
    }
}
