//! The activation of GPT-2's feed-forward layer.

use burn::tensor::{Tensor, activation};

use crate::cpu_autodiff;
use crate::dispatch::runs_on_cpu;

/// GELU in the tanh form that GPT-2 was trained with (Hendrycks and Gimpel, 2016; `gelu_new`
/// of Hugging Face, `NewGELU` of minGPT).
///
/// `0.5 (1 + tanh(u)) = sigmoid(2u)`, so `y = x * sigmoid(x * (a + b x^2))`, which needs fewer
/// passes over memory than the formula as it is usually written.
///
/// # Shapes
/// `x` and the result: any.
pub fn gelu<const RANK: usize>(x: Tensor<RANK>) -> Tensor<RANK> {
    if runs_on_cpu(&x.device()) { cpu_autodiff::gelu(x) } else { with_tensors(x) }
}

fn with_tensors<const RANK: usize>(x: Tensor<RANK>) -> Tensor<RANK> {
    // 2 sqrt(2 / pi), and the same times 0.044715.
    const A: f64 = 2.0 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
    const B: f64 = A * 0.044715;
    let argument = (x.clone().square() * B + A) * x.clone();
    x * activation::sigmoid(argument)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn by_definition(x: f64) -> f64 {
        let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
        0.5 * x * (1.0 + u.tanh())
    }

    #[test]
    fn values_and_slopes_follow_the_definition() {
        let device = Device::flex().autodiff();
        let points: Vec<f32> = (-200..=200).map(|i| i as f32 * 0.05).collect();
        let x = Tensor::<1>::from_floats(points.as_slice(), &device).require_grad();
        let y = gelu(x.clone());
        let slopes = x.grad(&y.clone().sum().backward()).unwrap();
        let y = y.inner().try_into_vec_as::<f32>().unwrap();
        let slopes = slopes.try_into_vec_as::<f32>().unwrap();
        for ((&x, y), slope) in points.iter().zip(y).zip(slopes) {
            let x = f64::from(x);
            let h = 1e-5;
            let expected_slope = (by_definition(x + h) - by_definition(x - h)) / (2.0 * h);
            assert!((f64::from(y) - by_definition(x)).abs() < 2e-6, "gelu({x}) = {y}");
            assert!((f64::from(slope) - expected_slope).abs() < 1e-5, "gelu'({x}) = {slope}");
        }
    }
}
