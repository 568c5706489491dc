//! Embedding, linear layer and normalisation.

use burn::tensor::{Int, Tensor, module};

use crate::cpu_autodiff;
use crate::dispatch::{Dispatch, dispatch};
use crate::gelu::gelu;
use crate::gpu::{self, Gpu};
use crate::pass::Precision;
use crate::swiglu::swiglu;

/// Rows of a table by number.
///
/// # Shapes
/// `weight [V, C]`, `ids [N]` -> `[N, C]`. Gradients of repeated ids are summed, on graphics
/// processors with a product of this precision.
pub fn embedding(weight: Tensor<2>, ids: Tensor<1, Int>, precision: Precision) -> Tensor<2> {
    match dispatch(&weight.device()) {
        Dispatch::Cpu => cpu_autodiff::embedding(weight, ids.into_data().iter::<u32>().collect()),
        Dispatch::Gpu => gpu::embedding::<Gpu>(weight, ids, precision),
        Dispatch::Plain => weight.select(0, ids),
    }
}

/// `x W + b`.
///
/// `x` has two dimensions on purpose: for `[B, T, C]`, Burn computes one weight gradient per batch
/// row and then sums them, which takes `B` times the memory of the weight.
///
/// # Shapes
/// `x [N, In]`, `weight [In, Out]`, `bias [Out]` -> `[N, Out]`.
pub fn linear(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    precision: Precision,
) -> Tensor<2> {
    match dispatch(&x.device()) {
        Dispatch::Cpu => cpu_autodiff::linear(x, weight, bias, precision),
        Dispatch::Gpu => gpu::linear::<Gpu>(x, weight, bias, precision),
        Dispatch::Plain => module::linear(x, weight, bias),
    }
}

/// `gelu(x) W + b`: [`gelu()`] and [`linear`], but only `x` is kept for the gradient.
///
/// # Shapes
/// As [`linear`].
pub fn gelu_linear(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    precision: Precision,
) -> Tensor<2> {
    match dispatch(&x.device()) {
        Dispatch::Cpu => cpu_autodiff::gelu_linear(x, weight, bias, precision),
        Dispatch::Gpu => gpu::gelu_linear::<Gpu>(x, weight, bias, precision),
        Dispatch::Plain => linear(gelu(x), weight, bias, precision),
    }
}

/// `(silu(gate) * up) W + b`: [`swiglu()`] and [`linear`], but only `gate` and `up` are kept for
/// the gradient.
///
/// # Shapes
/// `gate`, `up [N, In]`; otherwise as [`linear`].
pub fn swiglu_linear(
    gate: Tensor<2>,
    up: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    precision: Precision,
) -> Tensor<2> {
    match dispatch(&gate.device()) {
        Dispatch::Cpu => cpu_autodiff::swiglu_linear(gate, up, weight, bias, precision),
        Dispatch::Gpu => gpu::swiglu_linear::<Gpu>(gate, up, weight, bias, precision),
        Dispatch::Plain => linear(swiglu(gate, up), weight, bias, precision),
    }
}

/// Layer normalisation over the last dimension (Ba, Kiros and Hinton, 2016), with the biased
/// variance, as PyTorch's `LayerNorm` does.
///
/// # Shapes
/// `x [N, C]`, `gamma [C]`, `beta [C]` -> `[N, C]`.
pub fn layer_norm(x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, epsilon: f32) -> Tensor<2> {
    match dispatch(&x.device()) {
        Dispatch::Cpu => cpu_autodiff::layer_norm(x, gamma, beta, epsilon),
        Dispatch::Gpu => gpu::layer_norm::<Gpu>(x, gamma, beta, epsilon),
        Dispatch::Plain => module::layer_norm(x, gamma, Some(beta), f64::from(epsilon)),
    }
}

/// Normalisation of the last dimension by the root of its mean square (Zhang and Sennrich, 2019):
/// `x / sqrt(mean(x^2) + epsilon) * gamma`.
///
/// # Shapes
/// `x [N, C]`, `gamma [C]` -> `[N, C]`.
pub fn rms_norm(x: Tensor<2>, gamma: Tensor<1>, epsilon: f32) -> Tensor<2> {
    match dispatch(&x.device()) {
        Dispatch::Cpu => cpu_autodiff::rms_norm(x, gamma, epsilon),
        Dispatch::Gpu => gpu::rms_norm::<Gpu>(x, gamma, epsilon),
        Dispatch::Plain => rms_norm_with_tensors(x, gamma, epsilon),
    }
}

fn rms_norm_with_tensors(x: Tensor<2>, gamma: Tensor<1>, epsilon: f32) -> Tensor<2> {
    let rms = (x.clone().square().mean_dim(1) + f64::from(epsilon)).sqrt(); // [N, 1]
    x / rms * gamma.unsqueeze::<2>()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData, Tolerance};

    use super::*;
    use crate::random;

    #[test]
    fn an_embedding_adds_the_gradients_of_a_repeated_id() {
        let device = Device::flex().autodiff();
        let weight = Tensor::<2>::from_floats([[1., 2.], [3., 4.], [5., 6.]], &device);
        let weight = weight.require_grad();
        let rows = embedding(weight.clone(), Tensor::from_ints([2, 0, 2], &device), Precision::F32);
        let gradient = weight.grad(&rows.clone().sum().backward()).unwrap();
        let expected = [[5., 6.], [1., 2.], [5., 6.]].into();
        rows.inner().into_data().assert_eq(&expected, false);
        gradient.into_data().assert_eq(&[[1., 1.], [0., 0.], [2., 2.]].into(), false);
    }

    #[test]
    fn the_weight_of_a_linear_layer_is_in_by_out() {
        let device = Device::flex();
        let x = Tensor::from_floats([[1., 2.]], &device);
        let weight = Tensor::from_floats([[1., 0., 3.], [0., 1., 4.]], &device);
        let bias = Tensor::from_floats([10., 20., 30.], &device);
        let y = linear(x, weight, Some(bias), Precision::F32);
        y.into_data().assert_eq(&[[11., 22., 41.]].into(), false);
    }

    #[test]
    fn layer_norm_uses_the_biased_variance() {
        // mean 2, variance ((1)^2 + 0 + (1)^2) / 3 = 2/3; epsilon 1/3 makes the root exactly 1.
        let device = Device::flex();
        let x = Tensor::from_floats([[1., 2., 3.]], &device);
        let gamma = Tensor::from_floats([1., 1., 2.], &device);
        let beta = Tensor::from_floats([0., 5., 0.], &device);
        let y = layer_norm(x, gamma, beta, 1.0 / 3.0);
        y.into_data().assert_approx_eq::<f32>(&[[-1., 5., 2.]].into(), Tolerance::absolute(1e-6));
    }

    fn draw<const RANK: usize>(name: &str, shape: [usize; RANK]) -> Tensor<RANK> {
        let values = random::normal(random::derive_named(1, name), shape.iter().product(), 1.0);
        Tensor::from_data(TensorData::new(values, shape), &Device::flex().autodiff()).require_grad()
    }

    /// Compares values and gradients of both implementations of an operation, at odd shapes.
    #[test]
    fn both_bodies_of_a_linear_layer_agree() {
        for [n, input, output] in [[1, 1, 1], [3, 17, 33], [33, 5, 70]] {
            let (x, w, b) =
                (draw("x", [n, input]), draw("w", [input, output]), draw("b", [output]));
            let dy = draw("dy", [n, output]).detach();
            let run = |y: Tensor<2>| {
                let grads = (y.clone() * dy.clone()).sum().backward();
                let gradients = [
                    x.grad(&grads).unwrap().into_data(),
                    w.grad(&grads).unwrap().into_data(),
                    b.grad(&grads).unwrap().into_data(),
                ];
                (y.inner().into_data(), gradients)
            };
            let plain = run(module::linear(x.clone(), w.clone(), Some(b.clone())));
            for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 0.1)] {
                let ours = run(linear(x.clone(), w.clone(), Some(b.clone()), precision));
                let tolerance = Tolerance::absolute(tolerance);
                ours.0.assert_approx_eq::<f32>(&plain.0, tolerance);
                for (ours, plain) in ours.1.iter().zip(&plain.1) {
                    ours.assert_approx_eq::<f32>(plain, tolerance);
                }
            }
        }
    }

    #[test]
    fn both_bodies_of_layer_norm_agree() {
        for [n, c] in [[1, 2], [3, 17], [40, 33]] {
            let (x, gamma, beta) = (draw("x", [n, c]), draw("gamma", [c]), draw("beta", [c]));
            let dy = draw("dy", [n, c]).detach();
            let run = |y: Tensor<2>| {
                let grads = (y.clone() * dy.clone()).sum().backward();
                let dx = x.grad(&grads).unwrap().into_data();
                let dgamma = gamma.grad(&grads).unwrap().into_data();
                [y.inner().into_data(), dx, dgamma, beta.grad(&grads).unwrap().into_data()]
            };
            let ours = run(layer_norm(x.clone(), gamma.clone(), beta.clone(), 1e-5));
            let plain = run(module::layer_norm(x.clone(), gamma.clone(), Some(beta.clone()), 1e-5));
            for (ours, plain) in ours.iter().zip(&plain) {
                ours.assert_approx_eq::<f32>(plain, Tolerance::absolute(5e-4));
            }
        }
    }

    #[test]
    fn both_bodies_of_rms_norm_agree() {
        for [n, c] in [[1, 1], [3, 17], [40, 33]] {
            let (x, gamma) = (draw("x", [n, c]), draw("gamma", [c]));
            let dy = draw("dy", [n, c]).detach();
            let run = |y: Tensor<2>| {
                let grads = (y.clone() * dy.clone()).sum().backward();
                let dx = x.grad(&grads).unwrap().into_data();
                [y.inner().into_data(), dx, gamma.grad(&grads).unwrap().into_data()]
            };
            let ours = run(rms_norm(x.clone(), gamma.clone(), 1e-5));
            let plain = run(rms_norm_with_tensors(x.clone(), gamma.clone(), 1e-5));
            for (ours, plain) in ours.iter().zip(&plain) {
                ours.assert_approx_eq::<f32>(plain, Tolerance::absolute(1e-4));
            }
        }
    }

    /// With a tied head the gradient of the head is added to the same tensor first.
    #[test]
    fn an_embedding_adds_to_the_gradient_that_is_there() {
        let w = draw("w", [5, 3]);
        let ids = || Tensor::from_ints([4, 0, 4], &Device::flex());
        let run = |rows: Tensor<2>| {
            let y = rows.matmul(w.clone().transpose()).square().sum();
            w.grad(&y.backward()).unwrap().into_data()
        };
        let ours = run(embedding(w.clone(), ids(), Precision::F32));
        let ids = Tensor::from_ints([4, 0, 4], &w.device());
        ours.assert_approx_eq::<f32>(&run(w.clone().select(0, ids)), Tolerance::relative(1e-5));
    }

    /// The result does not depend on whether the activation is kept or computed again.
    #[test]
    fn an_activation_and_a_linear_layer_in_one_are_the_two() {
        let [n, f, c] = [7, 33, 5];
        let (gate, up) = (draw("gate", [n, f]), draw("up", [n, f]));
        let (w, b) = (draw("w", [f, c]), draw("b", [c]));
        let run = |y: Tensor<2>| {
            let grads = y.clone().square().sum().backward();
            let of = |x: &Tensor<2>| x.grad(&grads).map(Tensor::into_data);
            let db = b.grad(&grads).map(Tensor::into_data);
            (y.inner().into_data(), [of(&gate), of(&up), of(&w), db])
        };
        for precision in [Precision::F32, Precision::Bf16] {
            for bias in [None, Some(b.clone())] {
                let (w, x) = (|| w.clone(), || gate.clone());
                let one = run(gelu_linear(x(), w(), bias.clone(), precision));
                assert_eq!(one, run(linear(gelu(x()), w(), bias.clone(), precision)));
                let one = run(swiglu_linear(x(), up.clone(), w(), bias.clone(), precision));
                assert_eq!(one, run(linear(swiglu(x(), up.clone()), w(), bias, precision)));
            }
        }
    }
}
