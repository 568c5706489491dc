//! [`crate::cpu::head`] in the graph.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::Tensor;

use super::{Operand, Raw};
use crate::cpu::distillation::{Distilled, Teacher, distill};
use crate::cpu::head::{self, HeadWeight, RowWeights};
use crate::distillation::{Distillation, DistilledLoss, OutputHead, Predictions};
use crate::graph::{apply, numbers, raw};
use crate::pass::Precision;

/// The gradients of `x` and the weight for a loss whose own gradient is 1; the forward pass has
/// already computed them.
#[derive(Debug, Clone)]
struct State {
    gradients: [Raw; 2],
}

#[derive(Debug)]
struct HeadBackward;

impl Backward<Flex, 2> for HeadBackward {
    type State = State;

    fn backward(self, ops: Ops<State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let scale = grads.consume::<Flex>(&ops.node);
        let scale = numbers(&scale)[0];
        for (parent, gradient) in ops.parents.into_iter().zip(ops.state.gradients) {
            if let Some(parent) = parent {
                grads.register::<Flex>(parent.id, scaled(gradient, scale));
            }
        }
    }
}

fn scaled(gradient: Raw, scale: f32) -> Raw {
    if scale == 1.0 {
        return gradient;
    }
    let shape = gradient.layout().shape().to_vec();
    raw(numbers(&gradient).iter().map(|g| g * scale).collect(), shape)
}

/// Shapes as in [`crate::head_loss`] and [`crate::weighted_head_loss`].
pub(crate) fn head_loss(
    head: OutputHead,
    targets: &[u32],
    row_weights: RowWeights<'_>,
    precision: Precision,
) -> Tensor<1> {
    let ([rows, channels], weight_shape) = (head.x.dims(), head.weight.dims());
    let (x, weight, tied) = (Operand::new(head.x), Operand::new(head.weight), head.tied);
    apply(HeadBackward, [&x, &weight], |wants_state| {
        let (x, numbers) = (x.numbers(), weight.numbers());
        let weight = lying(&numbers, tied);
        if let (false, RowWeights::Mean) = (wants_state, row_weights) {
            let loss =
                with_math!(precision, |math| head::loss(math, &x, channels, weight, targets));
            return (raw(vec![loss], [1]), None);
        }
        let found = with_math!(precision, |math| {
            head::loss_and_gradients(math, &x, channels, weight, targets, row_weights)
        });
        let gradients = [raw(found.dx, [rows, channels]), raw(found.dw, weight_shape)];
        (raw(vec![found.loss], [1]), wants_state.then_some(State { gradients }))
    })
}

/// Shapes as in [`crate::head_losses`].
pub(crate) fn head_losses(head: OutputHead, targets: &[u32], precision: Precision) -> Tensor<1> {
    let [_, channels] = head.x.dims();
    let (x, weight) = (Operand::new(head.x), Operand::new(head.weight));
    apply(HeadBackward, [&x, &weight], |_| {
        let (x, numbers) = (x.numbers(), weight.numbers());
        let weight = lying(&numbers, head.tied);
        let losses =
            with_math!(precision, |math| head::losses(math, &x, channels, weight, targets));
        (raw(losses, [targets.len()]), None)
    })
}

/// Shapes as in [`crate::distilled_head_loss`].
pub(crate) fn distilled_head_loss(
    student: OutputHead,
    teacher: Predictions,
    targets: &[u32],
    settings: Distillation,
    precision: Precision,
) -> DistilledLoss {
    match teacher {
        Predictions::Head(teacher) => {
            let (y, weight) = (Operand::new(teacher.x), Operand::new(teacher.weight));
            let (y, numbers) = (y.numbers(), weight.numbers());
            let teacher = Teacher::Head { y: &y, weight: lying(&numbers, teacher.tied) };
            distilled(student, teacher, targets, settings, precision)
        }
        Predictions::Recorded { ids, log_probabilities } => {
            let ids: Vec<u32> = ids.into_data().iter::<u32>().collect();
            let log_probabilities = Operand::new(log_probabilities);
            let log_probabilities = log_probabilities.numbers();
            let teacher = Teacher::Recorded { ids: &ids, log_probabilities: &log_probabilities };
            distilled(student, teacher, targets, settings, precision)
        }
    }
}

fn distilled(
    student: OutputHead,
    teacher: Teacher<'_>,
    targets: &[u32],
    settings: Distillation,
    precision: Precision,
) -> DistilledLoss {
    let (x_shape, weight_shape) = (student.x.dims(), student.weight.dims());
    let (x, weight) = (Operand::new(student.x), Operand::new(student.weight));
    let mut losses = [0.0; 2];
    let loss = apply(HeadBackward, [&x, &weight], |wants_state| {
        let (x, numbers) = (x.numbers(), weight.numbers());
        let weight = lying(&numbers, student.tied);
        let Distilled { divergence, entropy, dx, dw } =
            with_math!(precision, |math| distill(math, &x, weight, targets, teacher, settings));
        losses = [divergence, entropy].map(f64::from);
        let gradients = [raw(dx, x_shape), raw(dw, weight_shape)];
        let loss = settings.share * divergence + (1.0 - settings.share) * entropy;
        (raw(vec![loss], [1]), wants_state.then_some(State { gradients }))
    });
    let [divergence, entropy] = losses;
    DistilledLoss { loss, divergence, entropy }
}

fn lying(weight: &[f32], tied: bool) -> HeadWeight<'_> {
    if tied { HeadWeight::Tied(weight) } else { HeadWeight::Untied(weight) }
}
