//! [`crate::cpu::embedding`] in the graph.

use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::Tensor;

use super::{Operand, Tracked};
use crate::cpu::embedding;
use crate::graph::{apply, into_numbers, numbers, raw};
use isa::Isa;

#[derive(Debug, Clone)]
struct State {
    table: Tracked,
    shape: [usize; 2],
    ids: Arc<[u32]>,
}

#[derive(Debug)]
struct EmbeddingBackward;

/// The gradient is added in place to the existing one: that of the head, if the head is tied.
impl Backward<Flex, 1> for EmbeddingBackward {
    type State = State;

    fn backward(self, ops: Ops<State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<Flex>(&ops.node);
        let State { table, shape, ids } = ops.state;
        let [Some(parent)] = ops.parents else { return };
        let mut gradient = match grads.remove::<Flex>(&table) {
            Some(before) => into_numbers(before),
            None => vec![0.0; shape[0] * shape[1]],
        };
        embedding::add_rows(Isa::best(), &mut gradient, shape[1], &ids, &numbers(&dy));
        grads.register::<Flex>(parent.id, raw(gradient, shape));
    }
}

/// Shapes as in [`crate::embedding`].
pub(crate) fn embedding(table: Tensor<2>, ids: Vec<u32>) -> Tensor<2> {
    let shape = table.dims();
    let table = Operand::new(table);
    apply(EmbeddingBackward, [&table], |_| {
        let y = embedding::rows(&table.numbers(), shape[1], &ids);
        let y = raw(y, [ids.len(), shape[1]]);
        let state = |table| State { table, shape, ids: ids.into() };
        (y, table.tracked.clone().map(state))
    })
}
