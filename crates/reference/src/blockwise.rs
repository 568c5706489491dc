//! The same forward pass with the weights of only one block in memory: for models that do not fit
//! in memory, and for code that changes the weights of one block after the other.
//!
//! ```no_run
//! # fn demo(source: &dyn gguf::TensorSource, windows: &[Vec<u32>])
//! #     -> Result<(), reference::ReferenceError> {
//! let model = reference::Blockwise::new(source)?;
//! let embedding = model.embedding()?;
//! let mut hidden: Vec<Vec<f32>> =
//!     windows.iter().map(|window| embedding.embed(window)).collect::<Result<_, _>>()?;
//! for layer in 0..model.config().n_layer {
//!     let block = model.block(layer)?;
//!     hidden.iter_mut().try_for_each(|x| block.forward(x))?; // [T, C] each
//! }
//! let (norm, head) = (model.last_norm()?, model.head()?);
//! let logits: Vec<Vec<f32>> = hidden.iter().map(|x| head.forward(&norm.forward(x))).collect();
//! # Ok(()) }
//! ```

use std::borrow::Cow;

use config::ModelConfig;
use gguf::{TensorInfo, TensorSource, blocks};

use crate::attention::Sizes;
use crate::cache::LayerCache;
use crate::layers::{LayerNorm, Linear, OutputHead, RmsNorm, TOKENS, head_tensor};
use crate::model::{check_config, check_tokens};
use crate::rope::Rope;
use crate::trace::{MatrixInput, Trace};
use crate::weights::{check, read};
use crate::{ReferenceError, gpt2, llama, ops};

/// A model whose weights stay in the source until a part of the model is loaded.
///
/// Its parts, run one after the other, give the same bits as
/// [`Model::logits`](crate::Model::logits).
pub struct Blockwise<'a> {
    config: ModelConfig,
    source: &'a dyn TensorSource,
}

impl<'a> Blockwise<'a> {
    /// Reads the settings, but not the weights.
    ///
    /// # Errors
    /// An unknown architecture, a missing or unexpected tensor, or a wrong shape.
    pub fn new(source: &'a dyn TensorSource) -> Result<Self, ReferenceError> {
        let config = checkpoint::gguf_config(source)?;
        Self::from_parts(config, source)
    }

    /// Like [`Blockwise::new`], with settings that do not come from the source's metadata.
    ///
    /// # Errors
    /// As [`Blockwise::new`].
    pub fn from_parts(
        config: ModelConfig,
        source: &'a dyn TensorSource,
    ) -> Result<Self, ReferenceError> {
        check_config(&config)?;
        let gated = config.architecture.is_gated();
        let expected = if gated { llama::expected(&config) } else { gpt2::expected(&config) };
        check(source, &expected, config.architecture.name())?;
        Ok(Blockwise { config, source })
    }

    /// The settings.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The tensor of the head: `output.weight`, or `token_embd.weight` if the head is tied.
    pub fn head_tensor(&self) -> &'static str {
        head_tensor(&self.config)
    }

    /// The embedding, which converts tokens to vectors.
    ///
    /// # Errors
    /// When the source cannot be read.
    pub fn embedding(&self) -> Result<LoadedEmbedding<'_>, ReferenceError> {
        let tensor = self.source.tensor(TOKENS)?;
        let bytes = self.source.read(tensor)?;
        let positions = match self.config.architecture.rope_pairs() {
            Some(_) => None,
            None => Some(read(self.source, "position_embd.weight")?),
        };
        Ok(LoadedEmbedding { config: &self.config, tensor, bytes, positions })
    }

    /// One block, with its weights in f32. Weights of experts stay in the source: each pass through
    /// the block reads them, one expert at a time.
    ///
    /// # Errors
    /// When the source cannot be read, or there is no such block.
    pub fn block(&self, layer: usize) -> Result<LoadedBlock<'_>, ReferenceError> {
        let config = &self.config;
        let weights = match config.architecture.is_gated() {
            true => {
                let block = llama::Block::without_experts(config, self.source, layer)?;
                Weights::Llama(Box::new(block))
            }
            false => Weights::Gpt2(Box::new(gpt2::Block::load(config, self.source, layer)?)),
        };
        let prefix = format!("blk.{layer}.");
        let of_block = self.source.tensors().iter().filter(|t| t.name.starts_with(&prefix));
        of_block.for_each(|tensor| self.source.release(tensor));
        Ok(LoadedBlock { layer, config: config.clone(), weights })
    }

    /// The norm between the last block and the head.
    ///
    /// # Errors
    /// When the source cannot be read.
    pub fn last_norm(&self) -> Result<LoadedNorm, ReferenceError> {
        let (source, name, epsilon) = (self.source, "output_norm", self.config.norm_epsilon);
        Ok(LoadedNorm(match self.config.architecture.is_gated() {
            true => Norm::Rms(RmsNorm::load(source, name, epsilon)?),
            false => Norm::Layer(LayerNorm::load(source, name, epsilon)?),
        }))
    }

    /// The head, with its weights in f32.
    ///
    /// # Errors
    /// When the source cannot be read.
    pub fn head(&self) -> Result<LoadedHead, ReferenceError> {
        Ok(LoadedHead(OutputHead::load(self.source, &self.config)?))
    }
}

/// The token embedding as it is stored, and the position embedding if positions are learned.
pub struct LoadedEmbedding<'a> {
    config: &'a ModelConfig,
    tensor: &'a TensorInfo,
    bytes: Cow<'a, [u8]>,
    /// `[context_length, C]`
    positions: Option<Vec<f32>>,
}

impl LoadedEmbedding<'_> {
    /// The residual stream before the first block, `[T] -> [T, C]`.
    ///
    /// # Errors
    /// No tokens, more than the context holds, or an id beyond the vocabulary.
    pub fn embed(&self, tokens: &[u32]) -> Result<Vec<f32>, ReferenceError> {
        check_tokens(self.config, tokens, 0)?;
        let (c, tensor_type) = (self.config.n_embd, self.tensor.tensor_type);
        let row_bytes = c / tensor_type.block_len() * tensor_type.block_bytes();
        let mut x = vec![0.0; tokens.len() * c];
        for (row, &token) in x.chunks_exact_mut(c).zip(tokens) {
            let bytes = &self.bytes[token as usize * row_bytes..][..row_bytes];
            blocks::dequantize(tensor_type, bytes, row)?;
        }
        llama::scale_embedding(self.config, &mut x);
        if let Some(positions) = &self.positions {
            let length = x.len();
            ops::add(&mut x, &positions[..length]);
        }
        Ok(x)
    }
}

/// One block, loaded.
pub struct LoadedBlock<'a> {
    layer: usize,
    config: ModelConfig,
    weights: Weights<'a>,
}

/// The weights of either kind of block.
enum Weights<'a> {
    Gpt2(Box<gpt2::Block>),
    Llama(Box<llama::Block<'a>>),
}

impl LoadedBlock<'_> {
    /// Computes the block for one window from its first position on, `[T, C]` in place.
    ///
    /// # Errors
    /// When there are experts and they cannot be read.
    ///
    /// # Panics
    /// When `x` is not a whole number of rows.
    pub fn forward(&self, x: &mut [f32]) -> Result<(), ReferenceError> {
        self.run(x, &mut Trace::Off)
    }

    /// As [`LoadedBlock::forward`], and passes the inputs of the block's matrices to `inputs`, as
    /// [`Model::observe`](crate::Model::observe) does.
    ///
    /// # Errors
    /// As [`LoadedBlock::forward`].
    ///
    /// # Panics
    /// When `x` is not a whole number of rows.
    pub fn observe(
        &self,
        x: &mut [f32],
        inputs: &mut dyn FnMut(&[&str], &[f32]),
    ) -> Result<(), ReferenceError> {
        self.observe_with_experts(x, &mut |input| input.hand_to(inputs))
    }

    /// As [`LoadedBlock::observe`], but also passes the inputs of each expert's matrices: the rows
    /// of those tokens that use the expert.
    ///
    /// # Errors
    /// As [`LoadedBlock::forward`].
    ///
    /// # Panics
    /// When `x` is not a whole number of rows.
    pub fn observe_with_experts(
        &self,
        x: &mut [f32],
        inputs: &mut dyn FnMut(MatrixInput<'_>),
    ) -> Result<(), ReferenceError> {
        self.run(x, &mut Trace::Inputs(inputs))
    }

    fn run(&self, x: &mut [f32], trace: &mut Trace<'_>) -> Result<(), ReferenceError> {
        assert!(x.len().is_multiple_of(self.config.n_embd), "ragged window");
        let t = x.len() / self.config.n_embd;
        let attention = self.config.layer_attention(self.layer);
        let sizes = Sizes::alone(&self.config, t).in_layer(attention);
        let mut cache = LayerCache::new(self.config.kv_width(), t);
        let trace = trace.block(self.layer);
        let rope = attention.rotation.and_then(|rotation| Rope::new(&self.config, rotation, t));
        let rotations = rope.map(|rope| rope.at(0, t));
        match &self.weights {
            Weights::Gpt2(block) => {
                block.forward(x, &mut cache, &sizes, rotations.as_ref(), trace);
                Ok(())
            }
            Weights::Llama(block) => {
                block.forward(x, &mut cache, &sizes, rotations.as_ref(), trace)
            }
        }
    }

    /// The tensors of the block's matrices except those of experts, in the order of computation.
    pub fn matrices(&self) -> Vec<&str> {
        self.linears().into_iter().map(Linear::tensor).collect()
    }

    /// The weights of one of the block's matrices, `[out, in]`.
    pub fn matrix(&self, tensor: &str) -> Option<&[f32]> {
        self.linears().into_iter().find(|linear| linear.tensor() == tensor).map(Linear::weight)
    }

    /// Replaces the weights `[out, in]` of one of the block's matrices, and its bias, for all later
    /// computations. In [`LoadedBlock::observe`], `inputs` may replace the matrices whose input it
    /// was just given. [`LoadedBlock::matrix`] still returns the weights that were loaded. Returns
    /// false if there is no such matrix or it was replaced before.
    ///
    /// # Panics
    /// When there are more or fewer weights than the matrix has.
    pub fn replace(&self, tensor: &str, weight: Vec<f32>, bias: Option<Vec<f32>>) -> bool {
        let mut linears = self.linears().into_iter();
        linears.find(|linear| linear.tensor() == tensor).is_some_and(|l| l.replace(weight, bias))
    }

    fn linears(&self) -> Vec<&Linear> {
        match &self.weights {
            Weights::Gpt2(block) => block.matrices(),
            Weights::Llama(block) => block.matrices(),
        }
    }
}

/// The norm between the last block and the head, loaded.
pub struct LoadedNorm(Norm);

enum Norm {
    Layer(LayerNorm),
    Rms(RmsNorm),
}

impl LoadedNorm {
    /// Normalises the last block's result for the head, `[T, C] -> [T, C]`.
    pub fn forward(&self, x: &[f32]) -> Vec<f32> {
        match &self.0 {
            Norm::Layer(norm) => norm.forward(x),
            Norm::Rms(norm) => norm.forward(x),
        }
    }
}

/// The head, loaded.
pub struct LoadedHead(OutputHead);

impl LoadedHead {
    /// The logits, `[T, C] -> [T, V]`.
    ///
    /// # Panics
    /// When `x` is not a whole number of rows.
    pub fn forward(&self, x: &[f32]) -> Vec<f32> {
        self.0.forward(x)
    }

    /// The weights, `[V, C]`.
    pub fn matrix(&self) -> &[f32] {
        self.0.weight()
    }

    /// As [`LoadedHead::matrix`], but mutable; later computations use the new weights. A tied
    /// embedding is not changed.
    pub fn matrix_mut(&mut self) -> &mut [f32] {
        self.0.weight_mut()
    }
}
