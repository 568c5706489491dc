//! Operations on a graphics processor: Burn's tensor operations, which its fusion compiles into few
//! kernels, with gradients written by hand.
//!
//! A chain of operations in Burn's graph keeps what each of them needs for its gradient, and reads
//! all of it again in the backward pass. The operations here keep only their inputs and compute the
//! rest a second time, in kernels that run anyway. With [`Precision::Bf16`] matrix products read
//! bf16 and return f32, the inputs of activations are kept in bf16 too, and everything else is f32.
//!
//! The functions take any backend, so that the tests can compare them on the CPU with plain
//! operations in Burn's own graph.

mod attention;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
mod embedding;
mod head;
mod linear;
mod norm;
mod product;
mod rng;

use burn::tensor::{FloatDType, Tensor};

use crate::graph::{KernelBackend, Operand, Raw};
use crate::pass::Precision;

pub(crate) use attention::{causal_attention, grouped_attention};
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub(crate) use cube::Products;
pub(crate) use embedding::embedding;
pub(crate) use head::{distilled_head_loss, head_loss, head_losses, weighted_head_loss};
pub(crate) use linear::{gelu_linear, linear, swiglu_linear};
pub(crate) use norm::{layer_norm, rms_norm};
pub(crate) use rng::dropout;

/// The backend of all graphics processors.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub(crate) type Gpu = burn::backend::Cube;
/// A placeholder: a build without graphics processors does not run these operations.
#[cfg(not(any(feature = "wgpu", feature = "cuda")))]
pub(crate) type Gpu = burn::backend::Flex;

/// Converts to the format of the operands of matrix products.
fn rounded<const RANK: usize>(x: Tensor<RANK>, precision: Precision) -> Tensor<RANK> {
    match precision {
        Precision::F32 => x,
        Precision::Bf16 => x.cast(FloatDType::BF16),
    }
}

/// Converts to f32, the format of everything else.
fn upcast<const RANK: usize>(x: Tensor<RANK>) -> Tensor<RANK> {
    x.cast(FloatDType::F32)
}

/// The same matrix, contiguous row by row.
fn contiguous(x: Tensor<2>) -> Tensor<2> {
    let shape = x.dims();
    x.reshape([shape[0] * shape[1]]).reshape(shape)
}

/// 1 where two integers are equal and 0 elsewhere, computed by operations that Burn fuses with
/// others; comparisons are not fused. f32 represents all integers up to the largest vocabulary
/// exactly (`config::limits`).
fn same<const RANK: usize>(a: Tensor<RANK>, b: Tensor<RANK>) -> Tensor<RANK> {
    -(a - b).abs().clamp_max(1.0) + 1.0
}

/// The sum of all numbers, `[1]`.
///
/// Burn computes each sum in one group of threads, which is slow for a long sum, or adds in an
/// order that changes from run to run. Here the sums of rows are computed first, in parallel.
pub(crate) fn sum(x: Tensor<1>) -> Tensor<1> {
    let [n] = x.dims();
    let width = (1..=LANES.min(n)).rev().find(|width| n % width == 0).unwrap_or(1);
    let rows = x.reshape([n / width, width]).sum_dim(1); // [n / width, 1]
    if n / width > LANES && width > 1 {
        return sum(rows.reshape([n / width]));
    }
    rows.reshape([1, n / width]).sum_dim(1).reshape([1])
}

/// `[N, C]` summed over its rows: `[C]`, in two steps for the same reason as [`sum`].
fn column_sum(x: Tensor<2>) -> Tensor<1> {
    let [n, c] = x.dims();
    let rows = (1..=64.min(n)).rev().find(|rows| n % rows == 0).unwrap_or(1);
    let parts = x.reshape([n / rows, rows, c]).sum_dim(1).reshape([n / rows, c]);
    parts.sum_dim(0).reshape([c])
}

/// Numbers in a row that one group of threads sums or compares.
const LANES: usize = 1024;

/// How many numbers of a matrix with a column for each token exist at once: a gigabyte of f32.
const PIECE: usize = 1 << 28;

/// How many of the `n` rows of such a matrix exist at once: `n` halved, rounded up, as often as
/// needed.
fn piece(n: usize, columns: usize) -> usize {
    let mut rows = n;
    while rows * columns > PIECE && rows > 1 {
        rows = rows.div_ceil(2);
    }
    rows
}

/// A gradient in the form that the graph takes.
fn raw<B: KernelBackend, const RANK: usize>(gradient: Tensor<RANK>) -> Raw<B> {
    Operand::<B>::new(gradient).raw
}

/// `[N]` as one row, `[1, N]`, that can be added to each row of a matrix.
fn row(x: Tensor<1>) -> Tensor<2> {
    x.unsqueeze::<2>() // [1, N]
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use burn::tensor::{Device, Int, TensorData, module};

    use super::*;
    use crate::Predictions;
    use crate::{Dropout, gelu, random, with_plain_operations};

    fn draw<const RANK: usize>(name: &str, shape: [usize; RANK]) -> Tensor<RANK> {
        let values = random::normal(random::derive_named(1, name), shape.iter().product(), 1.0);
        let device = Device::flex().autodiff();
        Tensor::from_data(TensorData::new(values, shape), &device).require_grad()
    }

    fn ids(values: &[i32]) -> Tensor<1, Int> {
        Tensor::from_ints(values, &Device::flex())
    }

    /// Compares output and gradients of both, for an output gradient whose elements all differ.
    fn assert_alike<const N: usize, const RANK: usize>(
        name: &str,
        inputs: [Tensor<2>; N],
        vectors: &[Tensor<1>],
        [ours, plain]: [&dyn Fn() -> Tensor<RANK>; 2],
        tolerance: f32,
    ) {
        let run = |forward: &dyn Fn() -> Tensor<RANK>| {
            with_plain_operations(|| {
                let y = forward();
                let dy = draw("dy", y.dims()).detach();
                let grads = (y.clone() * dy).sum().backward();
                let mut found = vec![y.inner().into_data()];
                found.extend(inputs.iter().map(|x| x.grad(&grads).unwrap().into_data()));
                found.extend(vectors.iter().map(|x| x.grad(&grads).unwrap().into_data()));
                found
            })
        };
        for (place, (found, expected)) in run(ours).iter().zip(&run(plain)).enumerate() {
            let found = found.as_slice::<f32>().unwrap();
            let expected = expected.as_slice::<f32>().unwrap();
            let scale = expected.iter().fold(1.0_f32, |most, x| most.max(x.abs()));
            for (found, expected) in found.iter().zip(expected) {
                let off = (found - expected).abs() / scale;
                assert!(off < tolerance, "{name}, {place}: {found}, plain {expected}");
            }
        }
    }

    /// Exact to rounding in f32, to 8 bits in bf16.
    const TOLERANCES: [(Precision, f32); 2] = [(Precision::F32, 1e-5), (Precision::Bf16, 3e-2)];

    #[test]
    fn linear_layers_have_the_gradients_of_plain_ones() {
        for (precision, tolerance) in TOLERANCES {
            for [n, i, o] in [[1, 1, 1], [3, 17, 5], [33, 9, 40]] {
                let (x, w, b) = (draw("x", [n, i]), draw("w", [i, o]), draw("b", [o]));
                let up = draw("up", [n, i]);
                let args = || (x.clone(), w.clone(), Some(b.clone()));
                let ours = || {
                    let (x, w, b) = args();
                    linear::<Flex>(x, w, b, precision)
                };
                let plain = || module::linear(x.clone(), w.clone(), Some(b.clone()));
                let vectors = [b.clone()];
                let inputs = [x.clone(), w.clone()];
                assert_alike("linear", inputs.clone(), &vectors, [&ours, &plain], tolerance);
                let ours = || {
                    let (x, w, b) = args();
                    gelu_linear::<Flex>(x, w, b, precision)
                };
                let plain = || module::linear(gelu(x.clone()), w.clone(), Some(b.clone()));
                assert_alike("gelu", inputs, &vectors, [&ours, &plain], tolerance);
                let ours =
                    || swiglu_linear::<Flex>(x.clone(), up.clone(), w.clone(), None, precision);
                let plain = || {
                    let x = crate::swiglu(x.clone(), up.clone());
                    module::linear(x, w.clone(), None)
                };
                let inputs = [x.clone(), up.clone(), w.clone()];
                assert_alike("swiglu", inputs, &[], [&ours, &plain], tolerance);
            }
        }
    }

    #[test]
    fn norms_have_the_gradients_of_plain_ones() {
        for [n, c] in [[1, 2], [3, 17], [40, 33]] {
            let (x, gamma, beta) = (draw("x", [n, c]), draw("gamma", [c]), draw("beta", [c]));
            let ours = || layer_norm::<Flex>(x.clone(), gamma.clone(), beta.clone(), 1e-5);
            let plain = || module::layer_norm(x.clone(), gamma.clone(), Some(beta.clone()), 1e-5);
            let vectors = [gamma.clone(), beta.clone()];
            assert_alike("layer", [x.clone()], &vectors, [&ours, &plain], 1e-4);
            let ours = || rms_norm::<Flex>(x.clone(), gamma.clone(), 1e-5);
            let plain = || crate::rms_norm(x.clone(), gamma.clone(), 1e-5);
            assert_alike("rms", [x.clone()], std::slice::from_ref(&gamma), [&ours, &plain], 1e-5);
        }
    }

    /// Texts shorter than a block of queries, of one block, and of several; one document or more.
    #[test]
    fn attention_has_the_gradients_of_plain_attention() {
        for (precision, tolerance) in TOLERANCES {
            for [b, t, h, d] in [[1, 1, 1, 1], [2, 3, 5, 7], [1, 33, 2, 17], [1, 600, 1, 4]] {
                // Without a window, and with one of several positions.
                // Documents of which each row has its own length.
                let starts = (0..b).flat_map(|row| {
                    let len = t / 2 + row + 1;
                    (0..t).map(move |position| (position / len * len) as u32)
                });
                let documents = crate::Documents::new(starts.collect::<Vec<_>>(), [b, t]);
                let drop = Dropout::new(0.2, 5);
                for (drop, window, documents) in [
                    (None, t, None),
                    (drop, t, None),
                    (drop, 7, None),
                    (None, t, Some(documents.clone())),
                    (drop, 7, Some(documents)),
                ] {
                    let mask = crate::CausalMask::with_window(t, window, &Device::flex());
                    let mask = mask.within(documents);
                    let pass = crate::Pass { dropout: drop, precision, ..crate::Pass::default() };
                    let qkv = draw("qkv", [b * t, 3 * h * d]);
                    let ours = || causal_attention::<Flex>(qkv.clone(), h, &mask, pass);
                    let plain = || crate::causal_attention(qkv.clone(), h, &mask, pass);
                    assert_alike("causal", [qkv.clone()], &[], [&ours, &plain], tolerance);
                    let (q, kv) = (draw("q", [b * t, 2 * h * d]), [b * t, h * d]);
                    let (k, v) = (draw("k", kv), draw("v", kv));
                    let args = || [q.clone(), k.clone(), v.clone()];
                    let ours = || grouped_attention::<Flex>(args(), [2 * h, h], &mask, pass);
                    let plain = || {
                        let [q, k, v] = args();
                        crate::grouped_attention(q, k, v, [2 * h, h], &mask, pass)
                    };
                    assert_alike("grouped", args(), &[], [&ours, &plain], tolerance);
                }
            }
        }
    }

    /// Vocabularies slightly below and above a whole row of lanes; all rows at once, and three rows
    /// at a time.
    #[test]
    fn heads_have_the_gradients_of_plain_ones() {
        let targets = [3, 0, 3, 8, 2, 2, 1];
        for (precision, tolerance) in TOLERANCES {
            for v in [9, LANES - 1, LANES, LANES + 1] {
                for (tied, rows) in [(false, 7), (true, 7), (true, 3)] {
                    let head = |name: &str| {
                        let [c, x] = [5, 1].map(|width| width + name.len());
                        let w = draw(name, if tied { [v, c] } else { [c, v] });
                        crate::OutputHead { x: draw(&format!("x{x}"), [7, c]), weight: w, tied }
                    };
                    let (student, teacher) = (head("w"), head("teacher"));
                    let inputs = || [student.x.clone(), student.weight.clone()];
                    let ours = || {
                        let head = student.clone();
                        head::in_pieces::<Flex>(head, None, ids(&targets), None, precision, rows).0
                            * 7.0
                    };
                    let plain = || {
                        let [x, w] = inputs();
                        crate::head_loss(x, w, tied, ids(&targets), Precision::F32) * 7.0
                    };
                    assert_alike("head", inputs(), &[], [&ours, &plain], tolerance);
                    let weights = [0.5, -1.0, 0.0, 2.0, 0.25, -0.5, 1.0];
                    let ours = || {
                        let (head, weights) = (student.clone(), Some(weights.as_slice()));
                        head::in_pieces::<Flex>(head, None, ids(&targets), weights, precision, rows)
                            .0
                    };
                    let plain = || {
                        let head = student.clone();
                        crate::weighted_head_loss(head, ids(&targets), &weights, Precision::F32)
                    };
                    assert_alike("weighted", inputs(), &[], [&ours, &plain], tolerance);
                    let teacher = teacher.inner();
                    for temperature in [1.0, 2.0] {
                        let log_p = teacher.clone().logits(Precision::F32) / temperature;
                        let log_p = burn::tensor::activation::log_softmax(log_p, 1);
                        let (log_probabilities, ids_of) = log_p.topk_with_indices(3, 1);
                        let settings = crate::Distillation { share: 0.3, temperature };
                        for teacher in [
                            Predictions::Head(teacher.clone()),
                            Predictions::Recorded { ids: ids_of, log_probabilities },
                        ] {
                            let ours = || {
                                let (head, teacher) =
                                    (student.clone(), (teacher.clone(), settings));
                                let targets = ids(&targets);
                                head::in_pieces::<Flex>(
                                    head,
                                    Some(teacher),
                                    targets,
                                    None,
                                    precision,
                                    rows,
                                )
                                .0 * 7.0
                            };
                            let plain = || {
                                let (head, teacher) = (student.clone(), teacher.clone());
                                let (targets, precision) = (ids(&targets), Precision::F32);
                                crate::distilled_head_loss(
                                    head, teacher, targets, settings, precision,
                                )
                                .loss
                                    * 7.0
                            };
                            assert_alike("distilled", inputs(), &[], [&ours, &plain], tolerance);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn an_embedding_has_the_gradient_of_a_plain_one() {
        let taken = [3, 0, 3, 8, 2, 2, 1];
        let w = draw("w", [9, 5]);
        let ours = || embedding::<Flex>(w.clone(), ids(&taken), Precision::F32);
        let plain = || crate::embedding(w.clone(), ids(&taken), Precision::F32);
        assert_alike("embedding", [w.clone()], &[], [&ours, &plain], 1e-6);
    }

    #[test]
    fn a_piece_is_an_even_part_that_fits() {
        assert_eq!(piece(100, 1024), 100);
        assert_eq!(piece(8192, 51_200), 4096);
        assert_eq!(piece(3, PIECE + 1), 1);
    }

    #[test]
    fn sums_in_steps_are_sums() {
        for n in [1, 7, 1024, 1031, 3 * 1024 * 1031] {
            let ones = Tensor::<1>::ones([n], &Device::flex());
            assert_eq!(sum(ones).into_scalar::<f32>(), n as f32, "{n}");
        }
        for [n, c] in [[1, 3], [67, 2], [640, 5]] {
            let ones = Tensor::<2>::ones([n, c], &Device::flex());
            column_sum(ones)
                .into_data()
                .assert_eq(&TensorData::from(vec![n as f32; c].as_slice()), true);
        }
    }

    #[test]
    fn what_is_dropped_is_what_the_cpu_drops() {
        let x = draw("x", [33, 17]);
        for seed in 0..5 {
            let drop = Dropout::new(0.3, random::derive(seed, 9));
            let ours = || rng::dropout::<Flex, 2>(x.clone(), 0.3, random::derive(seed, 9));
            let plain = || crate::dropout(x.clone(), drop);
            assert_alike("dropout", [x.clone()], &[], [&ours, &plain], 1e-6);
        }
    }
}
