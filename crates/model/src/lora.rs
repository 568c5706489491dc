//! Low-rank adapters (LoRA, Hu et al., 2021): Burn's own, on the matrices that a run file names.
//!
//! An adapted matrix `W [In, Out]` is used as `W + alpha / rank * A B`, with `A [In, rank]` and
//! `B [rank, Out]`; only these two are trained. `A` is initially random and `B` is 0, so that
//! training starts from the unchanged model.

use burn::module::{LoraAdapter, Module, Param, Reparameterizer};
use burn::tensor::{Device, Tensor, TensorData};
use config::{Lora, LoraTarget};
use kernels::random;

use crate::Model;
use crate::layers::Read;

/// The names of an adapter's two matrices, appended to the path of the adapted matrix.
const FACTORS: [&str; 2] = ["lora.a", "lora.b"];

/// The first of the sites of a layer, behind those of the model's own dropout, at which the inputs of
/// adapters are dropped: one for each matrix.
pub(crate) const ADAPTERS: u64 = 16;

/// The path of the matrix that the adapter at `path` adapts.
pub fn adapted(path: &str) -> Option<&str> {
    FACTORS.iter().find_map(|factor| path.strip_suffix(factor)?.strip_suffix('.'))
}

/// Whether one of `targets` is the matrix at a Burn path.
///
/// A joined projection is one matrix and gets one adapter, whichever of its parts is named.
pub fn is_target(path: &str, targets: &[LoraTarget]) -> bool {
    use LoraTarget::{Down, Gate, Key, Output, Query, Up, Value};
    let matrices: [(&str, &[LoraTarget]); 13] = [
        ("attn.c_attn", &[Query, Key, Value]),
        ("attn.qkv", &[Query, Key, Value]),
        ("attn.q", &[Query]),
        ("attn.k", &[Key]),
        ("attn.v", &[Value]),
        ("attn.c_proj", &[Output]),
        ("attn.output", &[Output]),
        ("mlp.gate_up", &[Gate, Up]),
        ("mlp.gate", &[Gate]),
        ("mlp.c_fc", &[Up]),
        ("mlp.up", &[Up]),
        ("mlp.c_proj", &[Down]),
        ("mlp.down", &[Down]),
    ];
    let Some(matrix) = path.strip_suffix(".weight") else { return false };
    let found = matrices.iter().find(|(name, _)| matrix.ends_with(name));
    found.is_some_and(|(_, names)| names.iter().any(|name| targets.contains(name)))
}

/// Initial values of a factor: `A` is normal with standard deviation `1 / rank`, `B` is zero.
pub fn initial_values(seed: u64, path: &str, shape: &[usize]) -> Vec<f32> {
    let len = shape.iter().product();
    match (path.ends_with(FACTORS[0]), shape) {
        (true, [_, rank]) => {
            random::normal(random::derive_named(seed, path), len, 1.0 / *rank as f32)
        }
        _ => vec![0.0; len],
    }
}

impl Model {
    /// Freezes every parameter and adds adapters to the targets of `lora`; `read` returns the
    /// values of a factor by path and shape.
    ///
    /// # Errors
    /// The first error of `read`.
    pub fn with_adapters<E>(
        self,
        lora: &Lora,
        mut read: impl FnMut(&str, &[usize]) -> Result<Vec<f32>, E>,
    ) -> Result<Self, E> {
        let mut failure = None;
        let model =
            self.apply_reparameterization(Attach { lora, read: &mut read, failure: &mut failure });
        failure.map_or(Ok(model), Err)
    }

    /// The same model with its adapters merged into its matrices; unchanged if it has none.
    #[must_use]
    pub fn merged(&self) -> Self {
        self.clone().materialize()
    }
}

struct Attach<'a, E> {
    lora: &'a Lora,
    read: &'a mut Read<'a, E>,
    failure: &'a mut Option<E>,
}

impl<E> Attach<'_, E> {
    fn factor(
        &mut self,
        path: &str,
        shape: [usize; 2],
        device: &Device,
    ) -> Result<Param<Tensor<2>>, E> {
        let values = (self.read)(path, &shape)?;
        Ok(Param::from_data(TensorData::new(values, shape), device))
    }

    fn adapter(
        &mut self,
        path: &str,
        [input, output]: [usize; 2],
        device: &Device,
    ) -> Result<LoraAdapter, E> {
        let rank = self.lora.rank;
        let [a, b] = FACTORS.map(|factor| format!("{path}.{factor}"));
        Ok(LoraAdapter {
            a: self.factor(&a, [input, rank], device)?,
            b: self.factor(&b, [rank, output], device)?,
            scale: self.lora.scale(),
        })
    }
}

impl<E> Reparameterizer for Attach<'_, E> {
    type Reparam = LoraAdapter;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<LoraAdapter>) {
        // Burn's path begins with the family, which our paths do not contain.
        let path = path.split_once('.').map_or(path, |(_, path)| path);
        let frozen = param.set_require_grad(false);
        if !is_target(path, &self.lora.targets) || self.failure.is_some() {
            return (frozen, None);
        }
        let shape: [usize; D] = frozen.dims();
        match self.adapter(path, [shape[0], shape[D - 1]], &frozen.device()) {
            Ok(adapter) => (frozen, Some(adapter)),
            Err(error) => {
                *self.failure = Some(error);
                (frozen, None)
            }
        }
    }
}
