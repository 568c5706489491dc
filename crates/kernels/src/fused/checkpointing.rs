//! A block whose forward pass is run again in the backward pass.
//!
//! Burn's own checkpointing strategies recompute single operations that declare themselves
//! memory-bound, not blocks, and custom operations have no part in them. Here the block runs
//! outside of any graph first, and in the backward pass in a graph of its own, on parameters that
//! are leaves of that graph; their gradients are handed to the parameters outside.

use std::fmt;
use std::marker::PhantomData;

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

use super::graph::{Operand, Raw, apply};

#[derive(Clone)]
struct State<M, F> {
    block: M,
    x: Raw,
    forward: F,
}

impl<M, F> fmt::Debug for State<M, F> {
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

impl<M, F> Backward<Flex, 1> for CheckpointedBackward<M, F>
where
    M: Module + 'static,
    F: Fn(&M, Tensor<2>) -> Tensor<2> + Clone + Send + 'static,
{
    type State = State<M, F>;

    fn backward(self, ops: Ops<State<M, F>, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = Tensor::<2>::from_primitive::<Flex>(grads.consume::<Flex>(&ops.node));
        let State { block, x, forward } = ops.state;
        let x = Tensor::<2>::from_primitive::<Flex>(x).autodiff().require_grad();
        let leaves = block.valid().train();
        let y = forward(&leaves, x.clone());
        let mut found = (y * dy.autodiff()).sum().backward();
        if let ([Some(parent)], Some(dx)) = (ops.parents, x.grad_remove(&mut found)) {
            grads.register::<Flex>(parent.id, Operand::new(dx).raw);
        }
        let mut taken = Taker { found, gradients: Vec::new() };
        leaves.visit(&mut taken);
        let mut giver = Giver { gradients: taken.gradients.into_iter(), grads };
        block.visit(&mut giver);
    }
}

/// Takes the gradient of each parameter, in the order of a visit.
struct Taker {
    found: burn::tensor::Gradients,
    gradients: Vec<Option<Raw>>,
}

impl ModuleVisitor for Taker {
    fn visit_float<const RANK: usize>(&mut self, param: &Param<Tensor<RANK>>) {
        let gradient = param.base().grad_remove(&mut self.found);
        self.gradients.push(gradient.map(|gradient| Operand::new(gradient).raw));
    }
}

/// Registers these gradients for the parameters of another visit in the same order.
struct Giver<'a> {
    gradients: std::vec::IntoIter<Option<Raw>>,
    grads: &'a mut Gradients,
}

impl ModuleVisitor for Giver<'_> {
    fn visit_float<const RANK: usize>(&mut self, param: &Param<Tensor<RANK>>) {
        let tracked = Operand::new(param.base()).tracked;
        if let (Some(Some(gradient)), Some(tracked)) = (self.gradients.next(), tracked) {
            self.grads.register::<Flex>(tracked.id(), gradient);
        }
    }
}

/// Shapes as in [`crate::checkpointed`].
pub(crate) fn checkpointed<M, F>(block: &M, x: Tensor<2>, forward: F) -> Tensor<2>
where
    M: Module + 'static,
    F: Fn(&M, Tensor<2>) -> Tensor<2> + Clone + Send + 'static,
{
    let x = Operand::new(x);
    apply(CheckpointedBackward(PhantomData), [&x], |wants_state| {
        let input = Tensor::from_primitive::<Flex>(x.raw.clone());
        let y = Operand::new(forward(&block.valid(), input)).raw;
        let state = || State { block: block.clone(), x: x.raw.clone(), forward: forward.clone() };
        (y, wants_state.then(state))
    })
}
