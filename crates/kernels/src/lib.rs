//! The operations that the models consist of, one function each.
//!
//! Models compute with these functions, and use Burn's own only to slice and permute tensors. On
//! the CPU most have their own implementation ([`cpu`], put into Burn's graph by `cpu_autodiff`):
//! one pass over memory on all threads, and a gradient written by hand. On graphics processors they
//! are Burn's operations with gradients written by hand (`gpu`). On every other device, and
//! everywhere inside [`with_plain_operations`], they are plain Burn operations in Burn's graph; the
//! tests compare the other implementations with these.
//!
//! | function | formula |
//! |---|---|
//! | [`embedding`] | `y[i] = W[ids[i]]` |
//! | [`linear`] | `y = x W + b` |
//! | [`gelu_linear`], [`swiglu_linear`] | `y = gelu(x) W + b`, `y = swiglu(gate, up) W + b` |
//! | [`layer_norm`] | `y = (x - mean) / sqrt(var + eps) * gamma + beta` |
//! | [`rms_norm`] | `y = x / sqrt(mean(x^2) + eps) * gamma` |
//! | [`gelu()`] | `y = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))` |
//! | [`causal_attention`] | `y = dropout(softmax(q k^T / sqrt(D) + mask)) v` |
//! | [`grouped_attention`] | the same with `K` heads of `k` and `v` |
//! | [`rope()`] | `y[2 i], y[2 i + 1] = x[2 i], x[2 i + 1]` rotated by `t base^(-2 i / D)` |
//! | [`swiglu()`] | `y = gate / (1 + e^-gate) up` |
//! | [`cross_entropy`] | `mean_i(log sum_j exp(x[i, j]) - x[i, target[i]])` |
//! | [`head_loss`] | `cross_entropy(x W, target)` |
//! | [`head_losses`], [`weighted_head_loss`] | the loss of each row, and their sum with weights |
//! | [`distilled_head_loss`] | the same, and the divergence from another model's predictions |
//! | [`dropout()`] | `y = x * Bernoulli(1 - p) / (1 - p)` |
//! | [`adamw`] | one optimizer step, in place on the CPU |
//! | [`muon()`] | one optimizer step with an orthogonalized update |
//!
//! Two functions change what a backward pass stores: [`checkpointed`] keeps only a block's input,
//! and [`accumulate_gradient`] adds to the gradients of an earlier pass. [`rewrite()`] computes one
//! tensor's numbers from another's with code that works on slices.
//!
//! Letters in shapes: `B` batch, `T` time, `N = B * T`, `C` channels, `H` heads, `K` heads of
//! keys and values, `D = C / H`,
//! `V` vocabulary, `F` feed-forward.
//!
//! Random numbers come from [`random`], which has no state: each is a function of a key and a
//! position. So a resumed run gets the same random numbers as an uninterrupted run, on any device
//! and with any number of threads.

mod accumulation;
mod attention;
mod checkpointing;
pub mod cpu;
mod cpu_autodiff;
mod dispatch;
mod distillation;
mod documents;
mod dropout;
mod gelu;
mod gpu;
mod graph;
mod layers;
mod loss;
mod muon;
mod optimizer;
mod pass;
pub mod random;
mod rewrite;
mod rope;
mod swiglu;

use burn::tensor::{Device, FloatDType};

pub use accumulation::accumulate_gradient;
pub use attention::{CausalMask, attention_probabilities, causal_attention, grouped_attention};
pub use checkpointing::checkpointed;
pub use dispatch::with_plain_operations;
pub use distillation::{Distillation, DistilledLoss, OutputHead, Predictions, distilled_head_loss};
pub use documents::Documents;
pub use dropout::{Dropout, dropout};
pub use gelu::gelu;
pub use layers::{embedding, gelu_linear, layer_norm, linear, rms_norm, swiglu_linear};
pub use loss::{cross_entropy, head_loss, head_losses, weighted_head_loss};
pub use muon::{MuonStep, muon};
pub use optimizer::{AdamWStep, Moments, adamw, squared_norms};
pub use pass::{Pass, Precision};
pub use rewrite::rewrite;
pub use rope::{Rope, rope, rope_first};
pub use swiglu::swiglu;

/// Whether a device computes products of bf16 numbers. If not, [`Precision::Bf16`] gives the same
/// results slowly on the CPU, and is not possible elsewhere.
pub fn multiplies_bf16(device: &Device) -> bool {
    match dispatch::dispatch(device) {
        dispatch::Dispatch::Cpu => isa::Isa::best().has_bf16(),
        dispatch::Dispatch::Gpu => device.supports_dtype(FloatDType::BF16),
        dispatch::Dispatch::Plain => false,
    }
}
