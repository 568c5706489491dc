//! Between Burn's tensors and slices: taking tensors apart, and putting results into the graph.

use std::borrow::Cow;

use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::ops::{Backward, NodeGuard, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex};
use burn::tensor::{Tensor, TensorData};

/// Flex's own tensor.
pub(super) type Raw = FloatTensor<Flex>;
/// Flex's tensor in a graph.
pub(super) type Tracked = FloatTensor<Autodiff<Flex>>;

/// A tensor on Flex, taken apart.
#[derive(Debug, Clone)]
pub(super) struct Operand {
    /// The numbers.
    pub raw: Raw,
    /// Its node, where it is in a graph.
    pub tracked: Option<Tracked>,
}

impl Operand {
    /// Takes a tensor on Flex, with or without gradients.
    pub fn new<const RANK: usize>(tensor: Tensor<RANK>) -> Self {
        match tensor.clone().try_into_primitive::<Autodiff<Flex>>() {
            Ok(tracked) => Operand { raw: tracked.primitive().clone(), tracked: Some(tracked) },
            Err(_) => match tensor.try_into_primitive::<Flex>() {
                Ok(raw) => Operand { raw, tracked: None },
                Err(error) => unreachable!("a tensor on Flex: {error:?}"),
            },
        }
    }

    /// The numbers row by row, copied only where they lie otherwise.
    pub fn numbers(&self) -> Cow<'_, [f32]> {
        numbers(&self.raw)
    }
}

/// The numbers of a tensor row by row, copied only where they lie otherwise.
pub(super) fn numbers(raw: &Raw) -> Cow<'_, [f32]> {
    match raw.as_slice::<f32>() {
        Some(slice) => Cow::Borrowed(slice),
        None => Cow::Owned(into_numbers(raw.clone())),
    }
}

/// The numbers of a tensor row by row; where nobody else holds them, they are not copied.
pub(super) fn into_numbers(raw: Raw) -> Vec<f32> {
    match raw.into_data().try_into_vec::<f32>() {
        Ok(numbers) => numbers,
        Err(error) => unreachable!("a contiguous tensor of f32: {error:?}"),
    }
}

/// A tensor of Flex from its numbers.
pub(super) fn raw(numbers: Vec<f32>, shape: impl Into<Vec<usize>>) -> Raw {
    Raw::from_data(TensorData::new(numbers, shape.into()))
}

/// Puts an operation into the graph of its operands.
///
/// `run` computes the output and what the backward pass needs; it is told whether there will be
/// one. Where no operand is in a graph, neither is the output.
pub(super) fn apply<Op, const N: usize, const RANK: usize>(
    op: Op,
    operands: [&Operand; N],
    run: impl FnOnce(bool) -> (Raw, Option<Op::State>),
) -> Tensor<RANK>
where
    Op: Backward<Flex, N>,
{
    if operands.iter().all(|operand| operand.tracked.is_none()) {
        return Tensor::from_primitive::<Flex>(run(false).0);
    }
    let nodes: [NodeGuard; N] = operands.map(|operand| match &operand.tracked {
        Some(tracked) => tracked.node(),
        None => <Autodiff<Flex> as burn::backend::AutodiffBackend>::from_inner(operand.raw.clone())
            .node(),
    });
    let output = match op.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => match run(true) {
            (output, Some(state)) => prep.finish(state, output),
            (_, None) => unreachable!("an operation that was asked for its state"),
        },
        OpsKind::UnTracked(prep) => prep.finish(run(false).0),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(output)
}
