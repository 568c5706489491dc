//! The activation of LLaMA's feed-forward layer.

use burn::tensor::{Tensor, activation};

use crate::cpu_autodiff;
use crate::dispatch::runs_on_cpu;

/// `silu(gate) * up` (SwiGLU, Shazeer, 2020), with `silu(x) = x / (1 + e^-x)`.
///
/// # Shapes
/// `gate`, `up` and the result: `[N, F]`.
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    if runs_on_cpu(&gate.device()) {
        cpu_autodiff::swiglu(gate, up)
    } else {
        activation::silu(gate) * up
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData, Tolerance};

    use super::*;
    use crate::random;

    #[test]
    fn both_bodies_give_the_same_values_and_gradients() {
        let device = Device::flex().autodiff();
        for shape in [[1, 1], [3, 17], [40, 33]] {
            let [gate, up, dy] = ["gate", "up", "dy"].map(|name| {
                let key = random::derive_named(1, name);
                let values = random::normal(key, shape[0] * shape[1], 2.0);
                Tensor::<2>::from_data(TensorData::new(values, shape), &device).require_grad()
            });
            let run = |y: Tensor<2>| {
                let grads = (y.clone() * dy.clone().detach()).sum().backward();
                let [dgate, dup] = [&gate, &up].map(|x| x.grad(&grads).unwrap().into_data());
                [y.inner().into_data(), dgate, dup]
            };
            let ours = run(swiglu(gate.clone(), up.clone()));
            let plain = run(activation::silu(gate.clone()) * up.clone());
            for (ours, plain) in ours.iter().zip(&plain) {
                ours.assert_approx_eq::<f32>(plain, Tolerance::absolute(2e-5));
            }
        }
    }
}
