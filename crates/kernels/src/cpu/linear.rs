//! `y = x W + b` with its gradients, in either number format.
//!
//! ```text
//! y [N, Out] = x [N, In] W [In, Out] + b
//! dx = dy W^T        dW = x^T dy        db = sum over rows of dy
//! ```

use super::arithmetic::Arithmetic;
use super::elementwise::{add_bias, sum_of_rows};
use super::matmul::pack::Matrix;
use isa::Isa;

/// The shape of a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows `N`.
    pub rows: usize,
    /// Columns of `x`.
    pub input: usize,
    /// Columns of `y`.
    pub output: usize,
}

/// `y`, `[N, Out]`.
pub fn linear<A: Arithmetic>(
    math: A,
    shape: Shape,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let Shape { rows, input, output } = shape;
    let (x, weight) = (Matrix::new(x, rows, input), Matrix::new(weight, input, output));
    let mut y = math.product_once(x, weight);
    if let Some(bias) = bias {
        add_bias(math.isa(), &mut y, bias);
    }
    y
}

/// `dx`, `[N, In]`.
pub fn input_gradient<A: Arithmetic>(
    math: A,
    shape: Shape,
    weight: &[f32],
    dy: &[f32],
) -> Vec<f32> {
    let Shape { rows, input, output } = shape;
    let (dy, weight) = (Matrix::new(dy, rows, output), Matrix::new(weight, input, output));
    math.product_once(dy, weight.transpose())
}

/// `dW`, `[In, Out]`.
pub fn weight_gradient<A: Arithmetic>(math: A, shape: Shape, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let Shape { rows, input, output } = shape;
    let (x, dy) = (Matrix::new(x, rows, input), Matrix::new(dy, rows, output));
    math.product_once(x.transpose(), dy)
}

/// `db`, `[Out]`.
pub fn bias_gradient(isa: Isa, shape: Shape, dy: &[f32]) -> Vec<f32> {
    sum_of_rows(isa, dy, shape.output)
}

#[cfg(test)]
mod tests {
    use super::super::arithmetic::{Bf16, F32};
    use super::super::testing::{assert_close, gradient, noise};
    use super::*;

    fn by_definition(shape: Shape, x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
        let Shape { rows, input, output } = shape;
        let at = |n: usize, o: usize| {
            let products = (0..input).map(|i| x[n * input + i] * weight[i * output + o]);
            products.sum::<f64>() + bias[o]
        };
        (0..rows * output).map(|i| at(i / output, i % output)).collect()
    }

    fn check<A: Arithmetic>(math: A, shape: Shape, tolerance: f64) {
        let Shape { rows, input, output } = shape;
        let (x, weight) = (noise(rows * input, 1), noise(input * output, 2));
        let (bias, dy) = (noise(output, 3), noise(rows * output, 4));
        let [x64, w64, b64] =
            [&x, &weight, &bias].map(|v| v.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
        let f = |x: &[f64], w: &[f64], b: &[f64]| by_definition(shape, x, w, b);
        let y = linear(math, shape, &x, &weight, Some(&bias));
        assert_close(&y, &f(&x64, &w64, &b64), tolerance);
        let dx = input_gradient(math, shape, &weight, &dy);
        assert_close(&dx, &gradient(&x64, &dy, |x| f(x, &w64, &b64)), tolerance);
        let dw = weight_gradient(math, shape, &x, &dy);
        assert_close(&dw, &gradient(&w64, &dy, |w| f(&x64, w, &b64)), tolerance);
        let db = bias_gradient(math.isa(), shape, &dy);
        assert_close(&db, &gradient(&b64, &dy, |b| f(&x64, &w64, b)), 1e-5);
    }

    #[test]
    fn values_and_gradients_on_odd_shapes() {
        for (rows, input, output) in [(1, 1, 1), (3, 17, 33), (33, 3, 17), (17, 33, 3)] {
            let shape = Shape { rows, input, output };
            for &isa in Isa::available() {
                check(F32(isa), shape, 1e-5);
                check(Bf16(isa), shape, 1e-2);
            }
        }
    }
}
