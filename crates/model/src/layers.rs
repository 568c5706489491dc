//! Parameters with their shapes: the layers that all architectures are built from.
//!
//! They only store weights; the computations are in [`kernels`]. A model is built by loading one
//! tensor after the other from a [`Loader`], so a new model and one from a checkpoint are built by
//! the same code, with different sources of values.

use burn::module::{LoraAdapter, Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use config::ModelConfig;
use kernels::{Dropout, Pass, Precision};

/// Returns the values of the parameter with a path and a shape, row-major.
pub type Read<'a, E> = dyn FnMut(&str, &[usize]) -> Result<Vec<f32>, E> + 'a;

/// The source of a model's values while it is built.
pub struct Loader<'a, E> {
    device: &'a Device,
    read: &'a mut Read<'a, E>,
}

impl<'a, E> Loader<'a, E> {
    /// A loader that puts the values which `read` returns for a path and a shape on `device`.
    pub fn new(device: &'a Device, read: &'a mut Read<'a, E>) -> Self {
        Loader { device, read }
    }

    /// The trainable parameter at `path`.
    fn parameter<const RANK: usize>(
        &mut self,
        path: &str,
        shape: [usize; RANK],
    ) -> Result<Param<Tensor<RANK>>, E> {
        let values = (self.read)(path, &shape)?;
        Ok(Param::from_data(TensorData::new(values, shape), self.device))
    }
}

/// A table with a row for each number.
#[derive(Module, Debug)]
pub struct Embedding {
    /// `[rows, C]`
    pub weight: Param<Tensor<2>>,
}

impl Embedding {
    /// `path.weight [rows, width]`.
    ///
    /// # Errors
    /// When the loader has no such tensor.
    pub fn load<E>(
        loader: &mut Loader<'_, E>,
        path: &str,
        [rows, width]: [usize; 2],
    ) -> Result<Self, E> {
        Ok(Embedding { weight: loader.parameter(&format!("{path}.weight"), [rows, width])? })
    }

    /// `ids [N]` -> `[N, C]`.
    pub fn forward(&self, ids: Tensor<1, Int>, precision: Precision) -> Tensor<2> {
        kernels::embedding(self.weight.val(), ids, precision)
    }
}

/// `x W + b`.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[In, Out]`
    pub weight: Param<Tensor<2>>,
    /// `[Out]`
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// `path.weight [In, Out]` and, if there is one, `path.bias [Out]`.
    ///
    /// # Errors
    /// When the loader has no such tensor.
    pub fn load<E>(
        loader: &mut Loader<'_, E>,
        path: &str,
        [input, output]: [usize; 2],
        has_bias: bool,
    ) -> Result<Self, E> {
        let weight = loader.parameter(&format!("{path}.weight"), [input, output])?;
        let bias =
            has_bias.then(|| loader.parameter(&format!("{path}.bias"), [output])).transpose()?;
        Ok(Linear { weight, bias })
    }

    /// `lm_head.weight [C, V]`, if the head is not tied to the embedding.
    ///
    /// # Errors
    /// When the loader has no such tensor.
    pub fn load_head<E>(
        config: &ModelConfig,
        loader: &mut Loader<'_, E>,
    ) -> Result<Option<Self>, E> {
        let shape = [config.n_embd, config.vocab_size];
        (!config.tie_embeddings).then(|| Self::load(loader, "lm_head", shape, false)).transpose()
    }

    /// `x [N, In]` -> `[N, Out]`.
    pub fn forward(&self, x: Tensor<2>, pass: Pass) -> Tensor<2> {
        match self.dropped_adapter(pass) {
            Some((adapter, dropout)) => self.beside(adapter, x, dropout, pass.precision),
            None => kernels::linear(x, self.weight.val(), self.bias(), pass.precision),
        }
    }

    /// [`Linear::forward`] of `gelu(x)`.
    pub fn forward_gelu(&self, x: Tensor<2>, pass: Pass) -> Tensor<2> {
        match self.dropped_adapter(pass) {
            Some(_) => self.forward(kernels::gelu(x), pass),
            None => kernels::gelu_linear(x, self.weight.val(), self.bias(), pass.precision),
        }
    }

    /// [`Linear::forward`] of `silu(gate) * up`.
    pub fn forward_swiglu(&self, gate: Tensor<2>, up: Tensor<2>, pass: Pass) -> Tensor<2> {
        match self.dropped_adapter(pass) {
            Some(_) => self.forward(kernels::swiglu(gate, up), pass),
            None => {
                kernels::swiglu_linear(gate, up, self.weight.val(), self.bias(), pass.precision)
            }
        }
    }

    /// The adapter, if its input is to be dropped: then it cannot be a part of the matrix.
    fn dropped_adapter(&self, pass: Pass) -> Option<(&LoraAdapter, Dropout)> {
        Some((self.weight.adapter()?, pass.adapter_dropout?))
    }

    /// `x W + b + scale dropout(x) A B` (peft, `lora.Linear.forward`).
    fn beside(
        &self,
        adapter: &LoraAdapter,
        x: Tensor<2>,
        dropout: Dropout,
        precision: Precision,
    ) -> Tensor<2> {
        let y = kernels::linear(x.clone(), self.weight.base(), self.bias(), precision);
        let x = kernels::dropout(x, Some(dropout));
        let narrow = kernels::linear(x, adapter.a.val(), None, precision); // [N, rank]
        y + kernels::linear(narrow, adapter.b.val(), None, precision) * adapter.scale
    }

    fn bias(&self) -> Option<Tensor<1>> {
        self.bias.as_ref().map(Param::val)
    }
}

/// Layer normalisation with scale and shift.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// `[C]`
    pub gamma: Param<Tensor<1>>,
    /// `[C]`
    pub beta: Param<Tensor<1>>,
    epsilon: f32,
}

impl LayerNorm {
    /// `path.gamma` and `path.beta`, both `[width]`.
    ///
    /// # Errors
    /// When the loader has no such tensor.
    pub fn load<E>(
        loader: &mut Loader<'_, E>,
        path: &str,
        width: usize,
        epsilon: f32,
    ) -> Result<Self, E> {
        Ok(LayerNorm {
            gamma: loader.parameter(&format!("{path}.gamma"), [width])?,
            beta: loader.parameter(&format!("{path}.beta"), [width])?,
            epsilon,
        })
    }

    /// `x [N, C]` -> `[N, C]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        kernels::layer_norm(x, self.gamma.val(), self.beta.val(), self.epsilon)
    }
}

/// Normalisation by the root of the mean square, with scale.
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// `[C]`
    pub gamma: Param<Tensor<1>>,
    epsilon: f32,
    /// The scale is `gamma` plus this. It is added in each pass, so that training changes the same
    /// number that a checkpoint stores, and a resumed run continues with the same bits.
    offset: f32,
}

impl RmsNorm {
    /// `path.gamma [width]`, with the settings of the model's norms.
    ///
    /// # Errors
    /// When the loader has no such tensor.
    pub fn load<E>(
        config: &ModelConfig,
        loader: &mut Loader<'_, E>,
        path: &str,
        width: usize,
    ) -> Result<Self, E> {
        Ok(RmsNorm {
            gamma: loader.parameter(&format!("{path}.gamma"), [width])?,
            epsilon: config.norm_epsilon,
            offset: config.architecture.block().norm_weight.offset(),
        })
    }

    /// `x [N, C]` -> `[N, C]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let scale = match self.offset {
            0.0 => self.gamma.val(),
            offset => self.gamma.val() + offset,
        };
        kernels::rms_norm(x, scale, self.epsilon)
    }
}
