//! Matrix products whose operands are in bf16 and whose sums are in f32.
//!
//! Burn's own product returns bf16 and chooses a kernel in one of two ways. It tries all kernels
//! for each new shape, which takes minutes for a model, and on NVIDIA's newest GPUs selects one
//! that does not run; or it takes the kernel that runs everywhere, at a third of the speed. Here
//! the kernel is chosen in the code. Its operands are contiguous, row by row, as they were in the
//! measurements; no kernel accepted operands that are permuted further, as heads are in
//! `[B, T, H, D]`.

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
