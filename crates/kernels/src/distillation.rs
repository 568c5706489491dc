//! The loss of a model that is trained on the predictions of another one.

use burn::tensor::{Int, Tensor, activation};

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
    pub(crate) fn logits(self, precision: Precision) -> Tensor<2> {
        let weight = if self.tied { self.weight.transpose() } else { self.weight };
        linear(self.x, weight, None, precision)
    }
}

/// The result of [`distilled_head_loss`].
#[derive(Debug, Clone)]
pub struct DistilledLoss {
    /// `s divergence + (1 - s) entropy`, `[1]`, in the graph of the student.
    pub loss: Tensor<1>,
    /// Kullback-Leibler divergence of the student's predictions from the teacher's, in nats.
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
    teacher: OutputHead,
    targets: Tensor<1, Int>,
    share: f32,
    precision: Precision,
) -> DistilledLoss {
    match dispatch(&student.x.device()) {
        Dispatch::Cpu => {
            let targets: Vec<u32> = targets.into_data().iter::<u32>().collect();
            cpu_autodiff::distilled_head_loss(student, teacher, &targets, share, precision)
        }
        Dispatch::Gpu => {
            gpu::distilled_head_loss::<Gpu>(student, teacher, targets, share, precision)
        }
        Dispatch::Plain => with_tensors(student, teacher, targets, share, precision),
    }
}

fn with_tensors(
    student: OutputHead,
    teacher: OutputHead,
    targets: Tensor<1, Int>,
    share: f32,
    precision: Precision,
) -> DistilledLoss {
    let expected = activation::log_softmax(teacher.logits(precision).autodiff(), 1); // [N, V]
    let logits = student.logits(precision);
    let found = activation::log_softmax(logits.clone(), 1);
    let divergence = (expected.clone().exp() * (expected - found)).sum_dim(1).mean();
    let entropy = cross_entropy(logits, targets);
    let number = |loss: &Tensor<1>| f64::from(loss.clone().inner().into_scalar::<f32>());
    let (divergence_now, entropy_now) = (number(&divergence), number(&entropy));
    let loss = divergence * share + entropy * (1.0 - share);
    DistilledLoss { loss, divergence: divergence_now, entropy: entropy_now }
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
            for share in [0.0, 0.25, 1.0] {
                let q = activation::log_softmax(student().logits(Precision::F32), 1);
                let p = activation::log_softmax(teacher.clone().logits(Precision::F32), 1);
                let p = p.autodiff();
                let divergence: Tensor<1> = (p.clone().exp() * (p - q)).sum_dim(1).mean();
                let entropy = cross_entropy(student().logits(Precision::F32), targets.clone());
                let plain = run(divergence.clone() * share + entropy.clone() * (1.0 - share));
                for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 2e-2)] {
                    let found = distilled_head_loss(
                        student(),
                        teacher.clone(),
                        targets.clone(),
                        share,
                        precision,
                    );
                    let apart = |a: f64, b: &Tensor<1>| {
                        (a - f64::from(b.clone().inner().into_scalar::<f32>())).abs()
                    };
                    assert!(apart(found.divergence, &divergence) < tolerance);
                    assert!(apart(found.entropy, &entropy) < tolerance);
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
