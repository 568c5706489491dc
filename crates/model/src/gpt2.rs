//! GPT-2 (Radford et al., 2019) and GPT-NeoX with sequential residuals, in the order of
//! computation.
//!
//! ```text
//! tokens -> wte + wpe -> dropout -> [ x + attn(ln_1(x)), x + mlp(ln_2(x)) ] * n_layer -> ln_f -> head
//! ```
//!
//! GPT-NeoX (Black et al., 2022) is a GPT-2 that rotates queries and keys by their position (RoPE,
//! Su et al., 2021) instead of adding a learned position: it has no `wpe`, and all else is the
//! same.
//!
//! Names are OpenAI's own. The reference is `model.py` of nanoGPT, and `modeling_gpt2.py` of
//! transformers for what nanoGPT leaves out. Everything outside of attention's inner products is
//! stored as `[N, C]` with `N = B * T`, because for a product with a third dimension Burn computes
//! one weight gradient for each batch row.

use burn::module::Module;
use burn::tensor::{Int, Tensor, TensorData};
use config::BlockStage::{
    Activated, AttentionHeads, AttentionNorm, AttentionOutput, AttentionResidual, AttentionWeights,
    Down, FeedForwardNorm, K, KRope, Output, Q, QRope, Up, V,
};
use config::{ForwardStage, ModelConfig};
use kernels::{
    Documents, Pass, Precision, attention_probabilities, causal_attention, dropout, gelu,
};

use crate::family::{Family, Frame, through};
use crate::layers::{Embedding, LayerNorm, Linear, Loader};
use crate::lora::ADAPTERS;
use crate::trace::{BlockTrace, Trace};

/// The whole model.
#[derive(Module, Debug)]
pub struct Gpt2 {
    /// Token embedding `[V, C]`.
    pub wte: Embedding,
    /// Position embedding `[context_length, C]`; `None` if positions are rotations.
    pub wpe: Option<Embedding>,
    /// The transformer blocks, first to last.
    pub blocks: Vec<Block>,
    /// The last normalisation.
    pub ln_f: LayerNorm,
    /// The output head `[C, V]`, without bias; `None` if the head is `wte` transposed.
    pub lm_head: Option<Linear>,
    #[module(skip)]
    config: ModelConfig,
}

impl Gpt2 {
    /// Builds the model from the tensors of `loader`.
    ///
    /// # Errors
    /// When the loader lacks a tensor.
    pub fn load<E>(config: &ModelConfig, loader: &mut Loader<'_, E>) -> Result<Self, E> {
        let ModelConfig { vocab_size, context_length, n_embd, n_layer, .. } = *config;
        let learns_positions = config.architecture.rope_pairs().is_none();
        Ok(Gpt2 {
            wte: Embedding::load(loader, "wte", [vocab_size, n_embd])?,
            wpe: learns_positions
                .then(|| Embedding::load(loader, "wpe", [context_length, n_embd]))
                .transpose()?,
            blocks: (0..n_layer)
                .map(|i| Block::load(config, loader, i))
                .collect::<Result<_, E>>()?,
            ln_f: LayerNorm::load(loader, "ln_f", n_embd, config.norm_epsilon)?,
            lm_head: Linear::load_head(config, loader)?,
            config: config.clone(),
        })
    }
}

impl Family for Gpt2 {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn wte(&self) -> &Embedding {
        &self.wte
    }

    fn lm_head(&self) -> Option<&Linear> {
        self.lm_head.as_ref()
    }

    fn hidden(
        &self,
        tokens: Tensor<2, Int>,
        documents: Option<Documents>,
        pass: Pass,
        trace: &mut Trace,
    ) -> Tensor<2> {
        let documents = documents.as_ref();
        let frames = Frame::of_layers(&self.config, tokens.dims(), documents, &self.wte);
        let x = self.embed(tokens, documents, pass.precision, trace); // [N, C]
        let x = dropout(x, pass.at(0).dropout);
        let x = through(&self.blocks, x, Block::forward, &frames, pass, trace);
        let x = self.ln_f.forward(x);
        trace.keep(ForwardStage::OutputNorm, &x);
        x
    }
}

impl Gpt2 {
    /// `tokens [B, T]` -> `[N, C]`; positions count from 0 in each document.
    fn embed(
        &self,
        tokens: Tensor<2, Int>,
        documents: Option<&Documents>,
        precision: Precision,
        trace: &mut Trace,
    ) -> Tensor<2> {
        let ([b, t], device) = (tokens.dims(), tokens.device());
        let c = self.config.n_embd;
        let tok_emb = self.wte.forward(tokens.flatten(0, 1), precision); // [N, C]
        trace.keep(ForwardStage::TokenEmbedding, &tok_emb);
        let Some(wpe) = &self.wpe else { return tok_emb };
        if let Some(documents) = documents {
            // A position is below the context length, which is far below 2^31.
            let positions: Vec<i32> = documents.positions().map(|p| p as i32).collect();
            let positions = Tensor::from_data(TensorData::new(positions, [b * t]), &device);
            return tok_emb + wpe.forward(positions, precision);
        }
        let pos_emb = wpe.weight.val().slice([0..t, 0..c]); // [T, C]
        trace.keep(ForwardStage::PositionEmbedding, &pos_emb);
        let x = tok_emb.reshape([b, t, c]) + pos_emb.unsqueeze::<3>(); // [B, T, C]
        let x = x.reshape([b * t, c]);
        trace.keep(ForwardStage::Embedding, &x);
        x
    }
}

/// Attention and feed-forward, each after a normalisation and with a residual connection.
#[derive(Module, Debug)]
pub struct Block {
    /// Before attention.
    pub ln_1: LayerNorm,
    /// Attention.
    pub attn: Attention,
    /// Before the feed-forward layer.
    pub ln_2: LayerNorm,
    /// Feed-forward.
    pub mlp: Mlp,
}

impl Block {
    fn load<E>(config: &ModelConfig, loader: &mut Loader<'_, E>, i: usize) -> Result<Self, E> {
        let (c, epsilon) = (config.n_embd, config.norm_epsilon);
        Ok(Block {
            ln_1: LayerNorm::load(loader, &format!("blocks.{i}.ln_1"), c, epsilon)?,
            attn: Attention::load(config, loader, &format!("blocks.{i}.attn"))?,
            ln_2: LayerNorm::load(loader, &format!("blocks.{i}.ln_2"), c, epsilon)?,
            mlp: Mlp::load(config, loader, &format!("blocks.{i}.mlp"))?,
        })
    }

    /// `x [N, C]` -> `[N, C]`; dropout sites 0 and 1 are in attention, 2 in the feed-forward.
    fn forward(
        &self,
        x: Tensor<2>,
        frame: &Frame,
        pass: Pass,
        mut trace: BlockTrace<'_>,
    ) -> Tensor<2> {
        let normed = self.ln_1.forward(x.clone());
        trace.keep(AttentionNorm, &normed);
        let x = x + self.attn.forward(normed, frame, pass, &mut trace);
        trace.keep(AttentionResidual, &x);

        let normed = self.ln_2.forward(x.clone());
        trace.keep(FeedForwardNorm, &normed);
        let x = x + self.mlp.forward(normed, pass.at(2), &mut trace);
        trace.keep(Output, &x);
        x
    }
}

/// Causal self-attention with all heads in one projection.
#[derive(Module, Debug)]
pub struct Attention {
    /// Query, key and value `[C, 3 C]`.
    pub c_attn: Linear,
    /// Back to the residual stream `[C, C]`.
    pub c_proj: Linear,
    n_head: usize,
}

impl Attention {
    fn load<E>(config: &ModelConfig, loader: &mut Loader<'_, E>, path: &str) -> Result<Self, E> {
        let c = config.n_embd;
        Ok(Attention {
            c_attn: Linear::load(loader, &format!("{path}.c_attn"), [c, 3 * c], config.qkv_bias)?,
            c_proj: Linear::load(loader, &format!("{path}.c_proj"), [c, c], true)?,
            n_head: config.n_head,
        })
    }

    /// `x [N, C]` -> `[N, C]`.
    fn forward(
        &self,
        x: Tensor<2>,
        frame: &Frame,
        pass: Pass,
        trace: &mut BlockTrace<'_>,
    ) -> Tensor<2> {
        let h = self.n_head;
        let qkv = self.c_attn.forward(x, pass.at(ADAPTERS)); // [N, 3 C]
        let [_, all] = qkv.dims();
        let part = |qkv: &Tensor<2>, part| qkv.clone().narrow(1, part * all / 3, all / 3); // [N, C]
        trace.keep_inner(Q, || part(&qkv, 0));
        trace.keep_inner(K, || part(&qkv, 1));
        trace.keep_inner(V, || part(&qkv, 2));
        let qkv = frame.rotate_first(qkv, all / 3 * 2); // queries and keys
        if frame.rotates() {
            trace.keep_inner(QRope, || part(&qkv, 0));
            trace.keep_inner(KRope, || part(&qkv, 1));
        }
        trace.keep_inner(AttentionWeights, || {
            attention_probabilities(part(&qkv, 0), part(&qkv, 1), [h, h], frame.mask())
        });
        let heads = causal_attention(qkv, h, frame.mask(), pass.at(0)); // [N, C]
        trace.keep(AttentionHeads, &heads);
        let y = self.c_proj.forward(heads, pass.at(ADAPTERS + 3)); // [N, C]
        trace.keep(AttentionOutput, &y);
        dropout(y, pass.at(1).dropout)
    }
}

/// The feed-forward layer: a projection up to `F`, GELU, and a projection down to `C`.
#[derive(Module, Debug)]
pub struct Mlp {
    /// `[C, F]`
    pub c_fc: Linear,
    /// `[F, C]`
    pub c_proj: Linear,
}

impl Mlp {
    fn load<E>(config: &ModelConfig, loader: &mut Loader<'_, E>, path: &str) -> Result<Self, E> {
        let (c, f) = (config.n_embd, config.n_inner);
        Ok(Mlp {
            c_fc: Linear::load(loader, &format!("{path}.c_fc"), [c, f], true)?,
            c_proj: Linear::load(loader, &format!("{path}.c_proj"), [f, c], true)?,
        })
    }

    /// `x [N, C]` -> `[N, C]`.
    fn forward(&self, x: Tensor<2>, pass: Pass, trace: &mut BlockTrace<'_>) -> Tensor<2> {
        let up = self.c_fc.forward(x, pass.at(ADAPTERS + 1)); // [N, F]
        trace.keep(Up, &up);
        trace.keep_inner(Activated, || gelu(up.clone()));
        let y = self.c_proj.forward_gelu(up, pass.at(ADAPTERS + 2)); // [N, C]
        trace.keep(Down, &y);
        dropout(y, pass.dropout)
    }
}
