//! A gradient from an earlier pass that the next backward pass starts with.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::Tensor;

use super::{KernelBackend, Operand, Raw, apply};

#[derive(Debug)]
struct AccumulateBackward;

/// The parents are the loss and the parameter.
impl<B: KernelBackend> Backward<B, 2> for AccumulateBackward {
    type State = Raw<B>;

    fn backward(self, ops: Ops<Raw<B>, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dloss = grads.consume::<B>(&ops.node);
        for (parent, gradient) in ops.parents.into_iter().zip([dloss, ops.state]) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

/// Shapes as in [`crate::accumulate_gradient`].
pub(crate) fn accumulate_gradient<B: KernelBackend, const RANK: usize>(
    loss: Tensor<1>,
    parameter: Tensor<RANK>,
    gradient: Tensor<RANK>,
) -> Tensor<1> {
    let (loss, parameter) = (Operand::<B>::new(loss), Operand::new(parameter));
    let gradient = Operand::<B>::new(gradient).raw;
    apply(AccumulateBackward, [&loss, &parameter], |wants_state| {
        (loss.raw.clone(), wants_state.then_some(gradient))
    })
}
