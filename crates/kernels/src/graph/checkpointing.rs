//! A block whose forward pass is run again in the backward pass.
//!
//! Burn's own checkpointing strategies recompute single operations that are declared memory-bound,
//! not whole blocks, and do not support custom operations. Here the block first runs outside of any
//! graph. The backward pass runs it again in a separate graph, whose leaves are the parameters;
//! their gradients are then passed to the parameters of the outer graph.

use std::fmt;
use std::marker::PhantomData;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

use super::{KernelBackend, Operand, Raw, apply};

#[derive(Clone)]
struct State<B: KernelBackend, M, F> {
    block: M,
    x: Raw<B>,
    forward: F,
}

impl<B: KernelBackend, M, F> fmt::Debug for State<B, M, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("x", &self.x).finish_non_exhaustive()
    }
}

struct CheckpointedBackward<M, F>(PhantomData<fn(M, F)>);

impl<M, F> fmt::Debug for CheckpointedBackward<M, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CheckpointedBackward")
    }
}

impl<B, M, F> Backward<B, 1> for CheckpointedBackward<M, F>
where
    B: KernelBackend,
    M: Module + 'static,
    F: Fn(&M, Tensor<2>) -> Tensor<2> + Clone + Send + 'static,
{
    type State = State<B, M, F>;

    fn backward(self, ops: Ops<State<B, M, F>, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = B::tensor::<2>(grads.consume::<B>(&ops.node));
        let State { block, x, forward } = ops.state;
        let x = B::tensor::<2>(x).autodiff().require_grad();
        let leaves = block.valid().train();
        let y = forward(&leaves, x.clone());
        let mut found = (y * dy.autodiff()).sum().backward();
        if let ([Some(parent)], Some(dx)) = (ops.parents, x.grad_remove(&mut found)) {
            grads.register::<B>(parent.id, Operand::<B>::new(dx).raw);
        }
        let mut taken = Taker::<B> { found, gradients: Vec::new() };
        leaves.visit(&mut taken);
        let mut giver = Giver::<B> { gradients: taken.gradients.into_iter(), grads };
        block.visit(&mut giver);
    }
}

/// Takes the gradient of each parameter, in the order in which the module visits them.
struct Taker<B: KernelBackend> {
    found: burn::tensor::Gradients,
    gradients: Vec<Option<Raw<B>>>,
}

impl<B: KernelBackend> ModuleVisitor for Taker<B> {
    fn visit_float<const RANK: usize>(&mut self, param: &Param<Tensor<RANK>>) {
        let gradient = param.base().grad_remove(&mut self.found);
        self.gradients.push(gradient.map(|gradient| Operand::<B>::new(gradient).raw));
    }
}

/// Registers these gradients for the parameters of another module, visited in the same order.
struct Giver<'a, B: KernelBackend> {
    gradients: std::vec::IntoIter<Option<Raw<B>>>,
    grads: &'a mut Gradients,
}

impl<B: KernelBackend> ModuleVisitor for Giver<'_, B> {
    fn visit_float<const RANK: usize>(&mut self, param: &Param<Tensor<RANK>>) {
        let tracked = Operand::<B>::new(param.base()).tracked;
        if let (Some(Some(gradient)), Some(tracked)) = (self.gradients.next(), tracked) {
            self.grads.register::<B>(tracked.id(), gradient);
        }
    }
}

/// Shapes as in [`crate::checkpointed`].
pub(crate) fn checkpointed<B, M, F>(block: &M, x: Tensor<2>, forward: F) -> Tensor<2>
where
    B: KernelBackend,
    M: Module + 'static,
    F: Fn(&M, Tensor<2>) -> Tensor<2> + Clone + Send + 'static,
{
    let mut x = Operand::<B>::new(x);
    // `x` must be tracked to be the node's parent, even if everything before it is frozen, as with
    // adapters.
    x.tracked = x.tracked.map(|x| if x.is_tracked() { x } else { x.require_grad() });
    apply(CheckpointedBackward(PhantomData), [&x], |wants_state| {
        let y = Operand::<B>::new(forward(&block.valid(), x.tensor())).raw;
        let state = || State { block: block.clone(), x: x.raw.clone(), forward: forward.clone() };
        (y, wants_state.then(state))
    })
}
