//! Normalisations that keep only their input and two numbers per row.

use burn::tensor::Tensor;

use super::{column_sum, raw, row};
use crate::graph::{KernelBackend, Operand, join};

/// Shapes as in [`crate::layer_norm`].
///
/// With `n = (x - mean) r`, `r = 1 / sqrt(var + epsilon)` and `g = dy gamma`:
/// `dx = r (g - mean(g) - n mean(g n))`, `dgamma = sum(dy n)`, `dbeta = sum(dy)`.
pub(crate) fn layer_norm<B: KernelBackend>(
    x: Tensor<2>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f32,
) -> Tensor<2> {
    let (x, gamma, beta) = (Operand::<B>::new(x), Operand::new(gamma), Operand::new(beta));
    let (input, scale) = (x.tensor::<2>(), row(gamma.tensor::<1>()));
    let mean = input.clone().mean_dim(1); // [N, 1]
    let centred = input.clone() - mean.clone();
    let variance = centred.clone().square().mean_dim(1); // [N, 1]
    let r = (variance + f64::from(epsilon)).sqrt().recip(); // [N, 1]
    let y = centred * r.clone() * scale.clone() + row(beta.tensor::<1>());
    join([&x, &gamma, &beta], y, move |dy, [wants_x, wants_gamma, wants_beta]| {
        let n = (input - mean) * r.clone();
        let dgamma = wants_gamma.then(|| raw::<B, 1>(column_sum(dy.clone() * n.clone())));
        let dbeta = wants_beta.then(|| raw::<B, 1>(column_sum(dy.clone())));
        let dx = wants_x.then(|| {
            let g = dy * scale;
            let along = (g.clone() * n.clone()).mean_dim(1); // [N, 1]
            raw::<B, 2>((g.clone() - g.mean_dim(1) - n * along) * r)
        });
        [dx, dgamma, dbeta]
    })
}

/// Shapes as in [`crate::rms_norm`].
///
/// As [`layer_norm`] without the means: `dx = r (g - n mean(g n))`.
pub(crate) fn rms_norm<B: KernelBackend>(
    x: Tensor<2>,
    gamma: Tensor<1>,
    epsilon: f32,
) -> Tensor<2> {
    let (x, gamma) = (Operand::<B>::new(x), Operand::new(gamma));
    let (input, scale) = (x.tensor::<2>(), row(gamma.tensor::<1>()));
    let square = input.clone().square().mean_dim(1); // [N, 1]
    let r = (square + f64::from(epsilon)).sqrt().recip(); // [N, 1]
    let y = input.clone() * r.clone() * scale.clone();
    join([&x, &gamma], y, move |dy, [wants_x, wants_gamma]| {
        let n = input * r.clone();
        let dgamma = wants_gamma.then(|| raw::<B, 1>(column_sum(dy.clone() * n.clone())));
        let dx = wants_x.then(|| {
            let g = dy * scale;
            let along = (g.clone() * n.clone()).mean_dim(1); // [N, 1]
            raw::<B, 2>((g - n * along) * r)
        });
        [dx, dgamma]
    })
}
