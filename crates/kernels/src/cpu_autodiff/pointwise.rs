//! GELU, SwiGLU and dropout in the graph.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::Tensor;

use super::{Operand, Raw};
use crate::cpu::{elementwise, swiglu};
use crate::graph::{apply, into_numbers, numbers, raw};
use crate::random;
use isa::Isa;

#[derive(Debug)]
struct GeluBackward;

impl Backward<Flex, 1> for GeluBackward {
    type State = Raw;

    fn backward(self, ops: Ops<Raw, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<Flex>(&ops.node);
        let shape = ops.state.layout().shape().to_vec();
        if let [Some(parent)] = ops.parents {
            let mut dx = into_numbers(dy);
            elementwise::gelu_backward(Isa::best(), &numbers(&ops.state), &mut dx);
            grads.register::<Flex>(parent.id, raw(dx, shape));
        }
    }
}

/// Shapes as in [`crate::gelu()`].
pub(crate) fn gelu<const RANK: usize>(x: Tensor<RANK>) -> Tensor<RANK> {
    let shape = x.dims();
    let x = Operand::new(x);
    apply(GeluBackward, [&x], |wants_state| {
        let mut y = vec![0.0; shape.iter().product()];
        elementwise::gelu(Isa::best(), &x.numbers(), &mut y);
        (raw(y, shape), Some(x.raw.clone()).filter(|_| wants_state))
    })
}

#[derive(Debug)]
struct SwigluBackward;

/// The parents are `gate` and `up`.
impl Backward<Flex, 2> for SwigluBackward {
    type State = [Raw; 2];

    fn backward(self, ops: Ops<[Raw; 2], 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let mut dup = into_numbers(grads.consume::<Flex>(&ops.node));
        let [gate, up] = &ops.state;
        let dgate = swiglu::swiglu_backward(Isa::best(), &numbers(gate), &numbers(up), &mut dup);
        let shape = gate.layout().shape().to_vec();
        for (parent, gradient) in ops.parents.into_iter().zip([dgate, dup]) {
            if let Some(parent) = parent {
                grads.register::<Flex>(parent.id, raw(gradient, shape.clone()));
            }
        }
    }
}

/// Shapes as in [`crate::swiglu()`].
pub(crate) fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    let shape = gate.dims();
    let (gate, up) = (Operand::new(gate), Operand::new(up));
    apply(SwigluBackward, [&gate, &up], |wants_state| {
        let mut y = vec![0.0; shape[0] * shape[1]];
        swiglu::swiglu(Isa::best(), &gate.numbers(), &up.numbers(), &mut y);
        let state = wants_state.then(|| [gate.raw.clone(), up.raw.clone()]);
        (raw(y, shape), state)
    })
}

/// The parameters from which the mask is drawn again.
#[derive(Debug, Clone)]
struct Mask {
    key: u64,
    probability: f32,
    shape: Vec<usize>,
}

#[derive(Debug)]
struct DropoutBackward;

impl Backward<Flex, 1> for DropoutBackward {
    type State = Mask;

    fn backward(self, ops: Ops<Mask, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<Flex>(&ops.node);
        if let [Some(parent)] = ops.parents {
            let Mask { key, probability, shape } = ops.state;
            let mut dx = into_numbers(dy);
            random::apply_keep_factors(Isa::best(), key, probability, &mut dx);
            grads.register::<Flex>(parent.id, raw(dx, shape));
        }
    }
}

/// Shapes as in [`crate::dropout()`].
pub(crate) fn dropout<const RANK: usize>(
    x: Tensor<RANK>,
    probability: f32,
    key: u64,
) -> Tensor<RANK> {
    let shape = x.dims();
    let x = Operand::new(x);
    apply(DropoutBackward, [&x], |wants_state| {
        let mut y = x.numbers().into_owned();
        random::apply_keep_factors(Isa::best(), key, probability, &mut y);
        let mask = Mask { key, probability, shape: shape.to_vec() };
        (raw(y, shape), Some(mask).filter(|_| wants_state))
    })
}
