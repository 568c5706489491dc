//! Connects our own operations to Burn's tensors: takes the backend's tensors out of Burn's, and
//! puts results into the graph.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, Flex};
use burn::tensor::{FloatDType, Tensor, TensorData};

mod accumulation;
mod checkpointing;

pub(crate) use accumulation::accumulate_gradient;
pub(crate) use checkpointing::checkpointed;

/// A backend's own tensor.
pub(crate) type Raw<B> = FloatTensor<B>;
/// The same in a graph.
pub(crate) type Tracked<B> = FloatTensor<Autodiff<B>>;

/// A backend whose tensors can be taken out of Burn's tensors and put back.
pub(crate) trait KernelBackend: Backend {
    /// The backend's tensor and, if it is in a graph, its node.
    fn take<const RANK: usize>(tensor: Tensor<RANK>) -> (Raw<Self>, Option<Tracked<Self>>);

    /// A tensor outside of any graph.
    fn tensor<const RANK: usize>(raw: Raw<Self>) -> Tensor<RANK>;

    /// A tensor in a graph.
    fn tracked<const RANK: usize>(tracked: Tracked<Self>) -> Tensor<RANK>;

    /// A product of matrices, or of batches of them, with sums and result in f32.
    fn product(a: Raw<Self>, b: Raw<Self>) -> Raw<Self>;
}

/// Implemented for each backend, because Burn has no conversion that is generic over backends.
macro_rules! kernel_backend {
    ($backend:ty, $product:expr) => {
        impl KernelBackend for $backend {
            fn take<const RANK: usize>(tensor: Tensor<RANK>) -> (Raw<Self>, Option<Tracked<Self>>) {
                match tensor.clone().try_into_primitive::<Autodiff<Self>>() {
                    Ok(tracked) => (tracked.primitive().clone(), Some(tracked)),
                    Err(_) => match tensor.try_into_primitive::<Self>() {
                        Ok(raw) => (raw, None),
                        Err(error) => unreachable!("a tensor of another backend: {error:?}"),
                    },
                }
            }

            fn tensor<const RANK: usize>(raw: Raw<Self>) -> Tensor<RANK> {
                Tensor::from_primitive::<Self>(raw)
            }

            fn tracked<const RANK: usize>(tracked: Tracked<Self>) -> Tensor<RANK> {
                Tensor::from_primitive::<Autodiff<Self>>(tracked)
            }

            fn product(a: Raw<Self>, b: Raw<Self>) -> Raw<Self> {
                $product(a, b)
            }
        }
    };
}

kernel_backend!(Flex, |a, b| {
    let [a, b] = [a, b].map(|x| Flex::float_cast(x, FloatDType::F32));
    Flex::float_matmul(a, b)
});
#[cfg(any(feature = "wgpu", feature = "cuda"))]
kernel_backend!(burn::backend::Cube, <burn::backend::Cube as crate::gpu::Products>::product);

/// The parts of a tensor.
#[derive(Debug, Clone)]
pub(crate) struct Operand<B: KernelBackend> {
    /// The numbers.
    pub raw: Raw<B>,
    /// Its node, if it is in a graph.
    pub tracked: Option<Tracked<B>>,
}

impl<B: KernelBackend> Operand<B> {
    /// Takes a tensor on `B`, with or without gradients.
    pub fn new<const RANK: usize>(tensor: Tensor<RANK>) -> Self {
        let (raw, tracked) = B::take(tensor);
        Operand { raw, tracked }
    }

    /// Whether the backward pass needs its gradient.
    pub fn wants_gradient(&self) -> bool {
        self.tracked.as_ref().is_some_and(|tracked| tracked.is_tracked())
    }

    /// The numbers as a tensor outside of any graph.
    pub fn tensor<const RANK: usize>(&self) -> Tensor<RANK> {
        B::tensor(self.raw.clone())
    }
}

impl Operand<Flex> {
    /// The numbers, contiguous row by row; copied only if they are not.
    pub fn numbers(&self) -> Cow<'_, [f32]> {
        numbers(&self.raw)
    }
}

/// The numbers of a tensor, contiguous row by row; copied only if they are not.
pub(crate) fn numbers(raw: &Raw<Flex>) -> Cow<'_, [f32]> {
    match raw.as_slice::<f32>() {
        Some(slice) => Cow::Borrowed(slice),
        None => Cow::Owned(into_numbers(raw.clone())),
    }
}

/// The numbers of a tensor, row by row; not copied if the tensor is their only owner.
pub(crate) fn into_numbers(raw: Raw<Flex>) -> Vec<f32> {
    match raw.into_data().try_into_vec::<f32>() {
        Ok(numbers) => numbers,
        Err(error) => unreachable!("a contiguous tensor of f32: {error:?}"),
    }
}

/// A tensor of Flex from its numbers.
pub(crate) fn raw(numbers: Vec<f32>, shape: impl Into<Vec<usize>>) -> Raw<Flex> {
    Raw::<Flex>::from_data(TensorData::new(numbers, shape.into()))
}

/// Puts an operation into the graph of its operands.
///
/// `run` computes the output and what the backward pass needs; its argument says whether there will
/// be a backward pass. If no operand is in a graph, the output is not in one either.
pub(crate) fn apply<B, Op, const N: usize, const RANK: usize>(
    op: Op,
    operands: [&Operand<B>; N],
    run: impl FnOnce(bool) -> (Raw<B>, Option<Op::State>),
) -> Tensor<RANK>
where
    B: KernelBackend,
    Op: Backward<B, N>,
{
    if operands.iter().all(|operand| operand.tracked.is_none()) {
        return B::tensor(run(false).0);
    }
    let nodes: [NodeGuard; N] = operands.map(|operand| match &operand.tracked {
        Some(tracked) => tracked.node(),
        None => <Autodiff<B> as AutodiffBackend>::from_inner(operand.raw.clone()).node(),
    });
    let output = match op.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => match run(true) {
            (output, Some(state)) => prep.finish(state, output),
            (_, None) => unreachable!("an operation that was asked for its state"),
        },
        OpsKind::UnTracked(prep) => prep.finish(run(false).0),
    };
    B::tracked(output)
}

/// Puts `y`, computed outside of any graph, into the graph of the operands it was computed from.
///
/// `backward` computes the operands' gradients from that of `y`; its argument says which of them
/// are needed, and others are dropped.
pub(crate) fn join<B, F, const N: usize, const RANK: usize>(
    operands: [&Operand<B>; N],
    y: Tensor<RANK>,
    backward: F,
) -> Tensor<RANK>
where
    B: KernelBackend,
    F: FnOnce(Tensor<RANK>, [bool; N]) -> [Option<Raw<B>>; N] + Clone + Send + 'static,
{
    let y = B::take(y).0;
    apply(BackwardNode::<F, RANK>(PhantomData), operands, |wants_state| {
        (y, wants_state.then_some(BackwardFn(backward)))
    })
}

/// A backward pass as a closure, with everything that it needs.
#[derive(Clone)]
struct BackwardFn<F>(F);

impl<F> fmt::Debug for BackwardFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BackwardFn")
    }
}

struct BackwardNode<F, const RANK: usize>(PhantomData<fn(F)>);

impl<F, const RANK: usize> fmt::Debug for BackwardNode<F, RANK> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BackwardNode")
    }
}

impl<B, F, const N: usize, const RANK: usize> Backward<B, N> for BackwardNode<F, RANK>
where
    B: KernelBackend,
    F: FnOnce(Tensor<RANK>, [bool; N]) -> [Option<Raw<B>>; N] + Clone + Send + 'static,
{
    type State = BackwardFn<F>;

    fn backward(self, ops: Ops<BackwardFn<F>, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = B::tensor(grads.consume::<B>(&ops.node));
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let BackwardFn(run) = ops.state;
        for (parent, gradient) in ops.parents.into_iter().zip(run(dy, wanted)) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}
