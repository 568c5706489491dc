//! `y = x W + b` with its gradients, in either math.
//!
//! ```text
//! y [N, Out] = x [N, In] W [In, Out] + b
//! dx = dy W^T        dW = x^T dy        db = sum over rows of dy
//! ```

use super::arithmetic::Arithmetic;
use super::elementwise::{add_bias, sum_of_rows};
use super::isa::Isa;
use super::matmul::pack::Matrix;

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
