//! `y = x W + b` with its gradients, in either arithmetic.
//!
//! ```text
//! y [N, Out] = x [N, In] W [In, Out] + b
//! dx = dy W^T        dW = x^T dy        db = sum over rows of dy
//! ```

use super::arithmetic::Arithmetic;
use super::elementwise::{add_bias, sum_of_rows};
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
    shape: Shape,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let Shape { rows, input, output } = shape;
    let x = A::left(Matrix::new(x, rows, input));
    let weight = A::right(Matrix::new(weight, input, output));
    let mut y = A::product(&x, &weight);
    if let Some(bias) = bias {
        add_bias(&mut y, bias);
    }
    y
}

/// `dx`, `[N, In]`.
pub fn input_gradient<A: Arithmetic>(shape: Shape, weight: &[f32], dy: &[f32]) -> Vec<f32> {
    let Shape { rows, input, output } = shape;
    let dy = A::left(Matrix::new(dy, rows, output));
    let weight = A::right(Matrix::new(weight, input, output).transpose());
    A::product(&dy, &weight)
}

/// `dW`, `[In, Out]`.
pub fn weight_gradient<A: Arithmetic>(shape: Shape, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let Shape { rows, input, output } = shape;
    let x = A::left(Matrix::new(x, rows, input).transpose());
    let dy = A::right(Matrix::new(dy, rows, output));
    A::product(&x, &dy)
}

/// `db`, `[Out]`.
pub fn bias_gradient(shape: Shape, dy: &[f32]) -> Vec<f32> {
    sum_of_rows(dy, shape.output)
}
