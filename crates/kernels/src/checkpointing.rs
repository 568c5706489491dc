//! Activation checkpointing (Chen et al., "Training deep nets with sublinear memory cost", 2016).

use burn::backend::Flex;
use burn::module::Module;
use burn::tensor::Tensor;

use crate::dispatch::{Dispatch, dispatch};
use crate::gpu::Gpu;
use crate::graph;

/// `forward(block, x)` that keeps only `x`: the backward pass computes the block again.
///
/// `forward` must give the same result each time; random numbers from [`crate::random`] do. Plain
/// operations decide themselves what they keep, so with them this is just `forward`.
///
/// # Shapes
/// `x [N, In]` -> `[N, Out]`.
pub fn checkpointed<M, F>(block: &M, x: Tensor<2>, forward: F) -> Tensor<2>
where
    M: Module + 'static,
    F: Fn(&M, Tensor<2>) -> Tensor<2> + Clone + Send + 'static,
{
    match dispatch(&x.device()) {
        Dispatch::Cpu if x.is_autodiff() => graph::checkpointed::<Flex, M, F>(block, x, forward),
        Dispatch::Gpu if x.is_autodiff() => graph::checkpointed::<Gpu, M, F>(block, x, forward),
        _ => forward(block, x),
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Param;
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::pass::Precision;
    use crate::{Dropout, dropout, gelu, linear, random};

    #[derive(Module, Debug)]
    struct Block {
        up: Param<Tensor<2>>,
        bias: Param<Tensor<1>>,
        down: Param<Tensor<2>>,
    }

    fn data<const RANK: usize>(name: &str, shape: [usize; RANK]) -> TensorData {
        let len = shape.iter().product();
        TensorData::new(random::normal(random::derive_named(1, name), len, 1.0), shape)
    }

    fn forward(block: &Block, x: Tensor<2>) -> Tensor<2> {
        let up = linear(x.clone(), block.up.val(), Some(block.bias.val()), Precision::F32);
        let down = linear(gelu(up), block.down.val(), None, Precision::F32);
        x + dropout(down, Dropout::new(0.3, 5))
    }

    /// Two blocks in sequence. The weights of one of them may be frozen, and the input may have no
    /// gradient, as where adapters are trained in the blocks of a frozen model.
    #[test]
    fn values_and_gradients_are_the_same_to_the_bit() {
        let device = Device::flex().autodiff();
        let block = |name: &str| Block {
            up: Param::from_data(data(&format!("{name}.up"), [5, 9]), &device),
            bias: Param::from_data(data(&format!("{name}.bias"), [9]), &device),
            down: Param::from_data(data(&format!("{name}.down"), [9, 5]), &device),
        };
        let input = || Tensor::<2>::from_data(data("x", [7, 5]), &device);
        let all = (input().require_grad(), [block("a"), block("b")], 8);
        let second_frozen = (input().require_grad(), [block("a"), block("b").freeze()], 5);
        let first_frozen = (input(), [block("a").freeze(), block("b")], 4);
        for (x, blocks, count) in [all, second_frozen, first_frozen] {
            let run = |y: Tensor<2>| {
                let mut grads = (y.clone() * y.clone()).sum().backward();
                let mut found = vec![y.inner().into_data()];
                found.extend(x.grad(&grads).map(Tensor::into_data));
                for block in &blocks {
                    found.extend(block.bias.val().grad_remove(&mut grads).map(Tensor::into_data));
                    for weight in [&block.up, &block.down] {
                        found.extend(weight.val().grad_remove(&mut grads).map(Tensor::into_data));
                    }
                }
                found
            };
            let kept = run(blocks.iter().fold(x.clone(), |x, block| forward(block, x)));
            let again = blocks.iter().fold(x.clone(), |x, block| checkpointed(block, x, forward));
            assert_eq!(run(again), kept);
            assert_eq!(kept.len(), count);
        }
    }

    #[test]
    fn outside_of_a_graph_it_is_the_block() {
        let x = Tensor::<2>::from_data(data("x", [7, 5]), &Device::flex());
        let device = Device::flex();
        let block = Block {
            up: Param::from_data(data("up", [5, 9]), &device),
            bias: Param::from_data(data("bias", [9]), &device),
            down: Param::from_data(data("down", [9, 5]), &device),
        };
        let y = checkpointed(&block, x.clone(), forward);
        assert_eq!(y.into_data(), forward(&block, x).into_data());
    }
}
