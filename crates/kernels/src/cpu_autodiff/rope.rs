//! [`crate::cpu::rope`] in the graph.

use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::Tensor;

use super::{Operand, Raw};
use crate::cpu::rope::{Angles, Turn, turn};
use crate::graph::{apply, into_numbers, raw};
use isa::Isa;

#[derive(Debug, Clone)]
struct State {
    angles: Arc<Angles>,
    shape: [usize; 2],
    rotated: usize,
}

impl State {
    fn turn(&self, x: Raw, way: Turn) -> Raw {
        let mut x = into_numbers(x);
        turn(Isa::best(), &self.angles, &mut x, self.shape[1], self.rotated, way);
        raw(x, self.shape)
    }
}

#[derive(Debug)]
struct RopeBackward;

impl Backward<Flex, 1> for RopeBackward {
    type State = State;

    fn backward(self, ops: Ops<State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<Flex>(&ops.node);
        if let [Some(parent)] = ops.parents {
            grads.register::<Flex>(parent.id, ops.state.turn(dy, Turn::Back));
        }
    }
}

/// Rotates the first `rotated` columns; shapes as in [`crate::rope()`].
pub(crate) fn rope(x: Tensor<2>, rotated: usize, angles: &Arc<Angles>) -> Tensor<2> {
    let state = State { angles: angles.clone(), shape: x.dims(), rotated };
    let x = Operand::new(x);
    apply(RopeBackward, [&x], |wants_state| {
        let y = state.turn(x.raw.clone(), Turn::Forth);
        (y, Some(state).filter(|_| wants_state))
    })
}
