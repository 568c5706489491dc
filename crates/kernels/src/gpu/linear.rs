//! `x W + b`, of `x` itself and of the output of an activation.

use burn::tensor::{Tensor, activation};

use super::product::{product, product_of_transposed};
use super::{column_sum, contiguous, raw, rounded, row, upcast};
use crate::graph::{KernelBackend, Operand, Raw, join};
use crate::pass::Precision;

/// `2 sqrt(2 / pi)`, and the same times 0.044715: `gelu(x) = x sigmoid(x (A + B x^2))`.
const A: f64 = 2.0 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
const B: f64 = A * 0.044715;

/// Shapes as in [`crate::linear`].
pub(crate) fn linear<H: KernelBackend>(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    precision: Precision,
) -> Tensor<2> {
    let (x, weight) = (Operand::<H>::new(x), Operand::new(weight));
    let input = rounded(x.tensor::<2>(), precision);
    let product = Product::new(&weight, precision);
    let y = product.forward::<H>(input.clone());
    let y = join([&x, &weight], y, move |dy, [wants_x, wants_w]| {
        let dy = rounded(dy, precision);
        let dw = wants_w.then(|| weight_gradient::<H>(input, dy.clone()));
        [wants_x.then(|| raw::<H, 2>(product.backward::<H>(dy))), dw]
    });
    plus::<H>(y, bias)
}

/// Shapes as in [`crate::gelu_linear`].
pub(crate) fn gelu_linear<H: KernelBackend>(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    precision: Precision,
) -> Tensor<2> {
    let (x, weight) = (Operand::<H>::new(x), Operand::new(weight));
    let input = rounded(x.tensor::<2>(), precision);
    let product = Product::new(&weight, precision);
    let y = product.forward::<H>(rounded(gelu(upcast(input.clone())), precision));
    let y = join([&x, &weight], y, move |dy, [wants_x, wants_w]| {
        let (dy, x) = (rounded(dy, precision), upcast(input));
        let activated = || rounded(gelu(x.clone()), precision);
        let dw = wants_w.then(|| weight_gradient::<H>(activated(), dy.clone()));
        let dx = wants_x.then(|| raw::<H, 2>(product.backward::<H>(dy) * gelu_slope(x.clone())));
        [dx, dw]
    });
    plus::<H>(y, bias)
}

/// Shapes as in [`crate::swiglu_linear`].
pub(crate) fn swiglu_linear<H: KernelBackend>(
    gate: Tensor<2>,
    up: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    precision: Precision,
) -> Tensor<2> {
    let (gate, up) = (Operand::<H>::new(gate), Operand::<H>::new(up));
    let weight = Operand::new(weight);
    let inputs = [&gate, &up].map(|input| rounded(input.tensor::<2>(), precision));
    let product = Product::new(&weight, precision);
    let [x, factor] = inputs.clone().map(upcast);
    let y = product.forward::<H>(rounded(activation::silu(x) * factor, precision));
    let y = join([&gate, &up, &weight], y, move |dy, wanted| {
        let [wants_gate, wants_up, wants_w] = wanted;
        let (dy, [gate, up]) = (rounded(dy, precision), inputs.map(upcast));
        let share = activation::sigmoid(gate.clone());
        let silu = gate.clone() * share.clone();
        let activated = || rounded(silu.clone() * up.clone(), precision);
        let dw = wants_w.then(|| weight_gradient::<H>(activated(), dy.clone()));
        if !wants_gate && !wants_up {
            return [None, None, dw];
        }
        let d = product.backward::<H>(dy); // of the product of both
        let dup = raw::<H, 2>(d.clone() * silu);
        // silu' = s + x s (1 - s)
        let slope = share.clone() + gate * share.clone() * (-share + 1.0);
        [Some(raw::<H, 2>(d * up * slope)), Some(dup), dw]
    });
    plus::<H>(y, bias)
}

/// A product with one weight, and its backward pass.
#[derive(Clone)]
struct Product {
    /// As the product reads it: `[In, Out]`.
    weight: Tensor<2>,
}

impl Product {
    fn new<H: KernelBackend>(weight: &Operand<H>, precision: Precision) -> Self {
        Product { weight: rounded(weight.tensor(), precision) }
    }

    /// `x [N, In]`, rounded, to `[N, Out]`.
    fn forward<H: KernelBackend>(&self, x: Tensor<2>) -> Tensor<2> {
        product::<H, 2>(x, self.weight.clone())
    }

    /// `dy [N, Out]`, rounded, to `dx [N, In]`.
    fn backward<H: KernelBackend>(self, dy: Tensor<2>) -> Tensor<2> {
        product::<H, 2>(dy, contiguous(self.weight.transpose()))
    }
}

/// `x^T dy`, from `x [N, In]` and `dy [N, Out]`, both rounded.
fn weight_gradient<H: KernelBackend>(x: Tensor<2>, dy: Tensor<2>) -> Raw<H> {
    raw::<H, 2>(product_of_transposed::<H>(x, dy))
}

/// With the bias added to each row.
fn plus<H: KernelBackend>(y: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let Some(bias) = bias else { return y };
    let (y, bias) = (Operand::<H>::new(y), Operand::new(bias));
    let sum = y.tensor::<2>() + row(bias.tensor());
    join([&y, &bias], sum, |dy: Tensor<2>, [_, wants_bias]| {
        let db = wants_bias.then(|| raw::<H, 1>(column_sum(dy.clone())));
        [Some(raw::<H, 2>(dy)), db]
    })
}

fn gelu(x: Tensor<2>) -> Tensor<2> {
    let argument = (x.clone().square() * B + A) * x.clone();
    x * activation::sigmoid(argument)
}

/// `gelu' = s + x s (1 - s) (A + 3 B x^2)`.
fn gelu_slope(x: Tensor<2>) -> Tensor<2> {
    let square = x.clone().square();
    let share = activation::sigmoid((square.clone() * B + A) * x.clone());
    let inner = square * (3.0 * B) + A;
    share.clone() + x * share.clone() * (-share + 1.0) * inner
}
