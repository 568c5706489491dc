//! The product of [`super::product`] as an operation of Burn's backend for graphics processors.
//!
//! Burn's fusion queues it among other operations unchanged: it does not fuse it with others, and
//! does not wait for it.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata, backend_extension};
use burn::tensor::{DType, FloatDType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems};
use cubek::matmul::launch::launch_ref;
use cubek::matmul::multi_level::Strategy;
use cubek::std::InputBinding;

/// The product as an operation of Burn's backend for graphics processors.
#[backend_extension(Cube, Fusion)]
pub(crate) trait Products: Backend {
    /// `[.., M, K]` and `[.., K, N]`, both of one format, to `[.., M, N]` in f32.
    #[fusion(dtype = DType::F32, shape = product_shape(a, b))]
    fn product(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self>;
}

fn product_shape(a: &Shape, b: &Shape) -> Shape {
    let mut shape = a.clone();
    let last = shape.num_dims() - 1;
    shape[last] = b[last];
    shape
}

/// The smallest side of the matrices for which the kernel with the copy engine (TMA) of Hopper GPUs
/// is used. For narrow matrices that kernel was seen to choose tiles that the copy engine refuses.
const COPIED: usize = 512;

impl Products for CubeBackend {
    fn product(a: CubeTensor, b: CubeTensor) -> CubeTensor {
        let (left, right) = (a.shape(), b.shape());
        let last = left.num_dims() - 1;
        let smallest = left[last - 1].min(left[last]).min(right[last]);
        let kernels = [
            (smallest >= COPIED).then(|| Strategy::SpecializedTmaMma(Default::default())),
            Some(Strategy::SimpleCyclicMma(Default::default())),
        ];
        if a.dtype == DType::BF16 {
            let shape = product_shape(&left, &right);
            let out = Self::float_empty(shape, &a.device, FloatDType::F32);
            // A kernel that this device or these shapes do not allow is refused before it starts.
            if kernels.into_iter().flatten().any(|kernel| launch(kernel, &a, &b, &out)) {
                return out;
            }
        }
        let [a, b] = [a, b].map(|x| Self::float_cast(x, FloatDType::F32));
        Self::float_matmul(a, b)
    }
}

/// Whether the kernel was started.
fn launch(kernel: Strategy, a: &CubeTensor, b: &CubeTensor, out: &CubeTensor) -> bool {
    let [lhs, rhs, sum] = [a, b, out].map(|tensor| dtype_to_storage_type(tensor.dtype));
    let mut formats = MatmulElems::from_globals(&MatmulGlobalElems { lhs, rhs, out: sum });
    let binding = |tensor: &CubeTensor, format| InputBinding::new(tensor.clone().binding(), format);
    launch_ref(
        &kernel.into(),
        &out.client,
        binding(a, lhs),
        binding(b, rhs),
        out.clone().binding(),
        &mut formats,
    )
    .is_ok()
}
