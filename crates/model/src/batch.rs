//! The input of a forward pass.

use burn::tensor::{Int, Tensor};
use kernels::Documents;

/// The input of one forward pass, and what it is to predict.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Token ids `[B, T]`.
    pub tokens: Tensor<2, Int>,
    /// Where documents begin within the rows; `None`: each row is one document.
    pub documents: Option<Documents>,
    /// Positions `[M]` among the `N = B * T` whose predictions train; `None`: all, and `M = N`.
    pub trained: Option<Tensor<1, Int>>,
    /// The token that follows at each of them `[M]`.
    pub targets: Tensor<1, Int>,
}

impl Batch {
    /// Rows of one document each, all of whose positions train.
    ///
    /// # Shapes
    /// `tokens`, `targets [B, T]`.
    pub fn new(tokens: Tensor<2, Int>, targets: Tensor<2, Int>) -> Self {
        Batch { tokens, documents: None, trained: None, targets: targets.flatten(0, 1) }
    }

    /// The same batch outside of any graph, for a model outside of any graph.
    #[must_use]
    pub fn inner(self) -> Self {
        Batch {
            tokens: self.tokens.inner(),
            documents: self.documents,
            trained: self.trained.map(Tensor::inner),
            targets: self.targets.inner(),
        }
    }
}
