//! Matrix products whose operands are in bf16 and whose sums are in f32.
//!
//! Burn's own product gives bf16 back, and picks a kernel in one of two ways: by trying all it has for
//! each new shape, which takes minutes for a model and on NVIDIA's newest cards ends in one that does
//! not run, or the one that runs everywhere, at a third of the speed. Here the kernel is named. It is
//! given operands that lie row by row: so it was measured, and what is permuted further, as heads
//! are in `[B, T, H, D]`, no kernel took.

use burn::tensor::Tensor;

use super::contiguous;
use crate::graph::{KernelBackend, Operand};

/// `a b` in f32, from `a [M, K]` and `b [K, N]`, or from many of both: `[B, M, K]` and `[B, K, N]`.
pub(super) fn product<H: KernelBackend, const RANK: usize>(
    a: Tensor<RANK>,
    b: Tensor<RANK>,
) -> Tensor<RANK> {
    H::tensor(H::product(Operand::<H>::new(a).raw, Operand::<H>::new(b).raw))
}

/// `a^T b` in f32, from `a [K, M]` and `b [K, N]`.
pub(super) fn product_of_transposed<H: KernelBackend>(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    product::<H, 2>(contiguous(a.transpose()), b)
}
