//! The loss of a model that is trained on the predictions of another one.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, activation};

use crate::cpu_autodiff;
use crate::dispatch::{Dispatch, dispatch};
use crate::gpu::{self, Gpu};
use crate::layers::linear;
use crate::loss::cross_entropy;
use crate::pass::Precision;

/// A head: its input, its weight and the layout of the weight.
#[derive(Debug, Clone)]
pub struct OutputHead {
    /// The residual stream after the last normalisation, `[N, C]`.
    pub x: Tensor<2>,
    /// `[C, V]`, or `[V, C]` if it is the tied embedding.
    pub weight: Tensor<2>,
    /// Whether it is the tied embedding.
    pub tied: bool,
}

impl OutputHead {
    /// The same numbers outside of any graph.
    #[must_use]
    pub fn inner(self) -> Self {
        OutputHead { x: self.x.inner(), weight: self.weight.inner(), tied: self.tied }
    }

    /// `[N, V]`
    pub fn logits(self, precision: Precision) -> Tensor<2> {
        let weight = if self.tied { self.weight.transpose() } else { self.weight };
        linear(self.x, weight, None, precision)
    }
}

/// Where the predictions come from that a model learns, outside of any graph.
#[derive(Debug, Clone)]
pub enum Predictions {
    /// The head of another model.
    Head(OutputHead),
    /// The likeliest tokens of each row, recorded at the temperature of the loss. All other tokens are
    /// one outcome.
    Recorded {
        /// `[N, k]`; those of a row differ.
        ids: Tensor<2, Int>,
        /// Logarithms of their probabilities `[N, k]`.
        log_probabilities: Tensor<2>,
    },
}

/// The settings of [`distilled_head_loss`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distillation {
    /// The weight of the divergence in the loss, `s`, from 0 to 1.
    pub share: f32,
    /// Both models' logits are divided by it, `T`, above 0; the divergence is multiplied by its square
    /// (Hinton et al., 2015).
    pub temperature: f32,
}

/// The result of [`distilled_head_loss`].
#[derive(Debug, Clone)]
pub struct DistilledLoss {
    /// `s divergence + (1 - s) entropy`, `[1]`, in the graph of the student.
    pub loss: Tensor<1>,
    /// Kullback-Leibler divergence of the student's predictions from the teacher's at the temperature,
    /// times its square, in nats.
    pub divergence: f64,
    /// Cross-entropy of the targets, in nats.
    pub entropy: f64,
}

/// The output head with the loss `s divergence + (1 - s) entropy`: the divergence from a teacher's
/// predictions and the cross-entropy of the targets, both averaged over all rows.
///
/// # Shapes
/// `student` and `teacher` may differ in `C`, but not in `N` and `V`; `targets [N]`. The teacher is
/// outside of any graph.
pub fn distilled_head_loss(
    student: OutputHead,
    teacher: Predictions,
    targets: Tensor<1, Int>,
    settings: Distillation,
    precision: Precision,
) -> DistilledLoss {
    match dispatch(&student.x.device()) {
        Dispatch::Cpu => {
            let targets: Vec<u32> = targets.into_data().iter::<u32>().collect();
            cpu_autodiff::distilled_head_loss(student, teacher, &targets, settings, precision)
        }
        Dispatch::Gpu => {
            gpu::distilled_head_loss::<Gpu>(student, teacher, targets, settings, precision)
        }
        Dispatch::Plain => with_tensors(student, teacher, targets, settings, precision),
    }
}

fn with_tensors(
    student: OutputHead,
    teacher: Predictions,
    targets: Tensor<1, Int>,
    settings: Distillation,
    precision: Precision,
) -> DistilledLoss {
    let Distillation { share, temperature } = settings;
    let logits = student.logits(precision);
    let log_q = activation::log_softmax(logits.clone() / temperature, 1); // [N, V]
    let divergence = match teacher {
        Predictions::Head(teacher) => {
            let log_p = activation::log_softmax(teacher.logits(precision) / temperature, 1);
            let log_p = in_graph_of(&log_q, log_p);
            (log_p.clone().exp() * (log_p - log_q)).sum_dim(1)
        }
        Predictions::Recorded { ids, log_probabilities } => {
            let log_p = in_graph_of(&log_q, log_probabilities); // [N, k]
            let p = log_p.clone().exp();
            let [n, v] = log_q.dims();
            let [_, k] = p.dims();
            let of_known = (p.clone() * (log_p - log_q.clone().gather(1, ids.clone()))).sum_dim(1);
            let known = log_q.zeros_like().scatter(1, ids, p.ones_like(), IndexingUpdateOp::Add);
            let rest_q = (log_q.exp() * (known.ones_like() - known)).sum_dim(1);
            let rest_p = (p.sum_dim(1).neg() + 1.0).clamp_min(0.0);
            match k < v {
                true => of_known + rest_p.clone() * (log_of(rest_p) - log_of(rest_q)),
                false => of_known,
            }
            .reshape([n, 1])
        }
    };
    let divergence = divergence.mean() * (temperature * temperature);
    let entropy = cross_entropy(logits, targets);
    let number = |loss: &Tensor<1>| f64::from(loss.clone().inner().into_scalar::<f32>());
    let (divergence_now, entropy_now) = (number(&divergence), number(&entropy));
    let loss = divergence * share + entropy * (1.0 - share);
    DistilledLoss { loss, divergence: divergence_now, entropy: entropy_now }
}

/// A logarithm that is finite at 0.
fn log_of(probability: Tensor<2>) -> Tensor<2> {
    probability.clamp_min(f32::MIN_POSITIVE).log()
}

/// A tensor outside of any graph for operations with `other`.
fn in_graph_of(other: &Tensor<2>, tensor: Tensor<2>) -> Tensor<2> {
    if other.is_autodiff() { tensor.autodiff() } else { tensor }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData, Tolerance};

    use super::*;
    use crate::random;

    #[test]
    fn the_fused_operation_is_what_plain_operations_give() {
        let device = Device::flex().autodiff();
        let draw = |name, shape: [usize; 2]| {
            let values = random::normal(random::derive_named(1, name), shape[0] * shape[1], 1.0);
            Tensor::<2>::from_data(TensorData::new(values, shape), &device)
        };
        let (n, c, d, v) = (19, 5, 3, 33);
        let targets: Tensor<1, Int> = Tensor::arange(0..n as i64, &Device::flex());
        let teacher = OutputHead {
            x: draw("y", [n, d]).inner(),
            weight: draw("u", [d, v]).inner(),
            tied: false,
        };
        for tied in [false, true] {
            let x = draw("x", [n, c]).require_grad();
            let weight = draw("w", if tied { [v, c] } else { [c, v] }).require_grad();
            let run = |loss: Tensor<1>| {
                let grads = (loss.clone() * 2.0).backward();
                let gradients = [&x, &weight].map(|t| t.grad(&grads).unwrap().into_data());
                (loss.inner().into_data(), gradients)
            };
            let student = || OutputHead { x: x.clone(), weight: weight.clone(), tied };
            for (share, temperature) in [(0.0, 1.0), (0.25, 1.0), (1.0, 1.0), (0.25, 2.0)] {
                let settings = Distillation { share, temperature };
                let log_p = teacher.clone().logits(Precision::F32) / temperature;
                let log_p = activation::log_softmax(log_p, 1);
                let (largest, ids) = log_p.topk_with_indices(4, 1);
                let recorded = Predictions::Recorded { ids, log_probabilities: largest };
                for teacher in [Predictions::Head(teacher.clone()), recorded] {
                    let found = |precision| {
                        let (teacher, targets) = (teacher.clone(), targets.clone());
                        distilled_head_loss(student(), teacher, targets, settings, precision)
                    };
                    let plain = with_tensors(
                        student(),
                        teacher.clone(),
                        targets.clone(),
                        settings,
                        Precision::F32,
                    );
                    let [divergence, entropy] = [plain.divergence, plain.entropy];
                    let plain = run(plain.loss);
                    for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 5e-2)]
                    {
                        let found = found(precision);
                        assert!((found.divergence - divergence).abs() < tolerance);
                        assert!((found.entropy - entropy).abs() < tolerance);
                        let ours = run(found.loss);
                        let tolerance = Tolerance::absolute(tolerance);
                        ours.0.assert_approx_eq::<f32>(&plain.0, tolerance);
                        for (ours, plain) in ours.1.iter().zip(&plain.1) {
                            ours.assert_approx_eq::<f32>(plain, tolerance);
                        }
                    }
                }
            }
        }
    }
}
