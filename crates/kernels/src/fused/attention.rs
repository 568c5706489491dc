//! [`crate::cpu::attention`] in the graph.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::Tensor;

use super::graph::{Operand, Raw, apply, numbers, raw};
use crate::cpu::arithmetic::{Bf16, F32};
use crate::cpu::attention::{self, Attention};
use crate::cpu::isa::Isa;
use crate::pass::Precision;

#[derive(Debug, Clone)]
struct State {
    shape: Attention,
    precision: Precision,
    qkv: Raw,
    y: Raw,
    logs: Vec<f32>,
}

#[derive(Debug)]
struct AttentionBackward;

impl Backward<Flex, 1> for AttentionBackward {
    type State = State;

    fn backward(self, ops: Ops<State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<Flex>(&ops.node);
        let State { shape, precision, qkv, y, logs } = &ops.state;
        let (qkv, y, dy) = (numbers(qkv), numbers(y), numbers(&dy));
        if let [Some(parent)] = ops.parents {
            let isa = Isa::best();
            let dqkv = match precision {
                Precision::F32 => {
                    attention::attention_backward(F32(isa), *shape, &qkv, &y, logs, &dy)
                }
                Precision::Bf16 => {
                    attention::attention_backward(Bf16(isa), *shape, &qkv, &y, logs, &dy)
                }
            };
            let columns = 3 * shape.heads * shape.width;
            grads.register::<Flex>(parent.id, raw(dqkv, [shape.batch * shape.time, columns]));
        }
    }
}

/// Shapes as in [`crate::causal_attention`].
pub(crate) fn causal_attention(
    qkv: Tensor<2>,
    shape: Attention,
    precision: Precision,
) -> Tensor<2> {
    let qkv = Operand::new(qkv);
    apply(AttentionBackward, [&qkv], |wants_state| {
        let (y, logs) = match precision {
            Precision::F32 => attention::attention(F32(Isa::best()), shape, &qkv.numbers()),
            Precision::Bf16 => attention::attention(Bf16(Isa::best()), shape, &qkv.numbers()),
        };
        let y = raw(y, [shape.batch * shape.time, shape.heads * shape.width]);
        let state = State { shape, precision, qkv: qkv.raw.clone(), y: y.clone(), logs };
        (y, Some(state).filter(|_| wants_state))
    })
}
