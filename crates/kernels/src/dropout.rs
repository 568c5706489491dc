//! Dropout whose mask is computed from a key, not from a generator's state.

use burn::tensor::{Tensor, TensorData};

use crate::dispatch::{Dispatch, dispatch};
use crate::gpu::{self, Gpu};
use crate::{cpu_autodiff, random};

/// How much is dropped, and the key from which the masks of one forward pass are computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    probability: f32,
    key: u64,
}

impl Dropout {
    /// Dropout for one forward pass; `None` if nothing would be dropped.
    pub fn new(probability: f32, key: u64) -> Option<Self> {
        (probability > 0.0).then_some(Dropout { probability, key })
    }

    /// Probability of a zero, and the key of the mask.
    pub(crate) fn parts(self) -> (f32, u64) {
        (self.probability, self.key)
    }

    /// The same probability with the key of one site, that is, of a layer or a place in a layer.
    #[must_use]
    pub fn at(self, site: u64) -> Self {
        Dropout { key: random::derive(self.key, site), ..self }
    }
}

/// Zeroes each element with the probability of `dropout` and scales the rest so that the
/// expectation does not change (Srivastava et al., 2014). `None`, as in evaluation, changes
/// nothing.
///
/// # Shapes
/// `x` and the result: any.
pub fn dropout<const RANK: usize>(x: Tensor<RANK>, dropout: Option<Dropout>) -> Tensor<RANK> {
    let Some(Dropout { probability, key }) = dropout else { return x };
    match dispatch(&x.device()) {
        Dispatch::Cpu => return cpu_autodiff::dropout(x, probability, key),
        Dispatch::Gpu => return gpu::dropout::<Gpu, RANK>(x, probability, key),
        Dispatch::Plain => {}
    }
    let shape = x.dims();
    let factors = random::keep_factors(key, shape.iter().product(), probability);
    let factors = Tensor::from_data(TensorData::new(factors, shape), &x.device().inner());
    x * factors.autodiff()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn no_dropout_changes_nothing() {
        assert_eq!(Dropout::new(0.0, 1), None);
        let x = Tensor::<1>::from_floats([1.0, 2.0], &Device::flex());
        dropout(x.clone(), None).into_data().assert_eq(&x.into_data(), true);
    }

    #[test]
    fn the_gradient_passes_where_the_value_passes() {
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::ones([33, 17], &device).require_grad();
        let y = dropout(x.clone(), Dropout::new(0.5, 9));
        let gradient = x.grad(&y.clone().sum().backward()).unwrap();
        gradient.into_data().assert_eq(&y.inner().into_data(), true);
    }

    #[test]
    fn sites_draw_differently_and_the_same_site_the_same() {
        let x = Tensor::<1>::ones([100], &Device::flex());
        let pass = Dropout::new(0.5, 9).unwrap();
        let draw = |site| dropout(x.clone(), Some(pass.at(site))).into_data();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
