//! LLaMA (Touvron et al., 2023) and the families derived from it, in the order of computation.
//!
//! ```text
//! tokens -> wte -> dropout -> [ x + attn(attn_norm(x)), x + mlp(ffn_norm(x)) ] * n_layer -> norm -> head
//! ```
//!
//! The differences between the other families and LLaMA are in [`config::BlockDesign`]. The
//! reference is `modeling_llama.py` of transformers; dropout is at the same places as in GPT-2.
//! Names are llama.cpp's. As in [`crate::gpt2`], everything is stored as `[N, C]`.

use burn::module::Module;
use burn::tensor::{Int, Tensor};
use config::BlockStage::{
    Activated, AttentionHeads, AttentionNorm, AttentionOutput, AttentionPostNorm,
    AttentionResidual, AttentionWeights, Down, FeedForwardNorm, FeedForwardPostNorm, Gate, K,
    KNorm, KRope, Output, Q, QNorm, QRope, Up, V,
};
use config::{
    BlockStage, EmbeddingScale, FeedForward, ForwardStage, ModelConfig, Projections, QkNorm,
};
use kernels::{Documents, Pass, attention_probabilities, dropout, gelu, grouped_attention, swiglu};

use crate::family::{Family, Frame, through};
use crate::layers::{Embedding, Linear, Loader, RmsNorm};
use crate::lora::ADAPTERS;
use crate::trace::{BlockTrace, Trace};

/// The whole model.
#[derive(Module, Debug)]
pub struct Llama {
    /// Token embedding `[V, C]`.
    pub wte: Embedding,
    /// The transformer blocks, first to last.
    pub blocks: Vec<Block>,
    /// The last normalisation.
    pub norm: RmsNorm,
    /// The output head `[C, V]`, without bias; `None` if the head is `wte` transposed.
    pub lm_head: Option<Linear>,
    #[module(skip)]
    config: ModelConfig,
}

impl Llama {
    /// Builds the model from the tensors of `loader`.
    ///
    /// # Errors
    /// When the loader lacks a tensor.
    pub fn load<E>(config: &ModelConfig, loader: &mut Loader<'_, E>) -> Result<Self, E> {
        let ModelConfig { vocab_size, n_embd, n_layer, .. } = *config;
        Ok(Llama {
            wte: Embedding::load(loader, "wte", [vocab_size, n_embd])?,
            blocks: (0..n_layer)
                .map(|i| Block::load(config, loader, i))
                .collect::<Result<_, E>>()?,
            norm: RmsNorm::load(config, loader, "norm", n_embd)?,
            lm_head: Linear::load_head(config, loader)?,
            config: config.clone(),
        })
    }
}

impl Family for Llama {
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
        let frames = Frame::of_layers(&self.config, tokens.dims(), documents.as_ref(), &self.wte);
        let x = self.wte.forward(tokens.flatten(0, 1), pass.precision); // [N, C]
        let x = match self.config.architecture.block().embedding_scale {
            EmbeddingScale::One => x,
            EmbeddingScale::SqrtWidth => x * (self.config.n_embd as f64).sqrt(),
        };
        trace.keep(ForwardStage::TokenEmbedding, &x);
        let x = dropout(x, pass.at(0).dropout);
        let x = through(&self.blocks, x, Block::forward, &frames, pass, trace);
        let x = self.norm.forward(x);
        trace.keep(ForwardStage::OutputNorm, &x);
        x
    }
}

/// Attention and feed-forward, each between normalisations and with a residual connection.
#[derive(Module, Debug)]
pub struct Block {
    /// Before attention.
    pub attn_norm: Option<RmsNorm>,
    /// Attention.
    pub attn: Attention,
    /// After attention.
    pub attn_post_norm: Option<RmsNorm>,
    /// Before the feed-forward layer.
    pub ffn_norm: Option<RmsNorm>,
    /// Feed-forward.
    pub mlp: Mlp,
    /// After the feed-forward layer.
    pub ffn_post_norm: Option<RmsNorm>,
}

impl Block {
    fn load<E>(config: &ModelConfig, loader: &mut Loader<'_, E>, i: usize) -> Result<Self, E> {
        let placement = config.architecture.block().norm_placement;
        let mut norm = |name: &str, is_there: bool| {
            let path = format!("blocks.{i}.{name}");
            is_there.then(|| RmsNorm::load(config, loader, &path, config.n_embd)).transpose()
        };
        Ok(Block {
            attn_norm: norm("attn_norm", placement.is_before())?,
            attn_post_norm: norm("attn_post_norm", placement.is_after())?,
            ffn_norm: norm("ffn_norm", placement.is_before())?,
            ffn_post_norm: norm("ffn_post_norm", placement.is_after())?,
            attn: Attention::load(config, loader, &format!("blocks.{i}.attn"))?,
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
        let trace = &mut trace;
        let y = normed(&self.attn_norm, x.clone(), AttentionNorm, trace);
        let y = self.attn.forward(y, frame, pass, trace);
        let y = normed(&self.attn_post_norm, y, AttentionPostNorm, trace);
        let x = x + y;
        trace.keep(AttentionResidual, &x);

        let y = normed(&self.ffn_norm, x.clone(), FeedForwardNorm, trace);
        let y = self.mlp.forward(y, pass.at(2), trace);
        let y = normed(&self.ffn_post_norm, y, FeedForwardPostNorm, trace);
        let x = x + y;
        trace.keep(Output, &x);
        x
    }
}

/// Normalises `x [N, C]`, if there is a normalisation.
fn normed(
    norm: &Option<RmsNorm>,
    x: Tensor<2>,
    stage: BlockStage,
    trace: &mut BlockTrace<'_>,
) -> Tensor<2> {
    let Some(norm) = norm else { return x };
    let y = norm.forward(x);
    trace.keep(stage, &y);
    y
}

/// Causal self-attention in which each head of keys and values serves `H / K` heads of queries
/// (Ainslie et al., 2023).
#[derive(Module, Debug)]
pub struct Attention {
    /// Queries `[C, H D]`, if the projections are separate.
    pub q: Option<Linear>,
    /// Keys `[C, K D]`.
    pub k: Option<Linear>,
    /// Values `[C, K D]`.
    pub v: Option<Linear>,
    /// All three side by side `[C, (H + 2 K) D]`, if they are joined.
    pub qkv: Option<Linear>,
    /// Normalises queries before they are rotated.
    pub q_norm: Option<RmsNorm>,
    /// Normalises keys before they are rotated.
    pub k_norm: Option<RmsNorm>,
    /// Back to the residual stream `[H D, C]`.
    pub output: Linear,
    n_head: usize,
    n_kv_head: usize,
    head_width: usize,
    /// Factor on the queries, if the scale is not `1 / sqrt(D)`.
    q_scale: Option<f32>,
}

impl Attention {
    fn load<E>(config: &ModelConfig, loader: &mut Loader<'_, E>, path: &str) -> Result<Self, E> {
        let (c, q, kv, bias) =
            (config.n_embd, config.q_width(), config.kv_width(), config.qkv_bias);
        let mut norm = |name: &str, all_heads: usize| {
            let width = match config.architecture.block().qk_norm {
                QkNorm::None => return Ok(None),
                QkNorm::Head => config.head_width(),
                QkNorm::Width => all_heads,
            };
            RmsNorm::load(config, loader, &format!("{path}.{name}"), width).map(Some)
        };
        let (q_norm, k_norm) = (norm("q_norm", q)?, norm("k_norm", kv)?);
        let q_scale = config.attention_scale() * (config.head_width() as f32).sqrt();
        let joins = config.architecture.block().projections == Projections::Joined;
        let mut matrix = |name: &str, outputs: usize, is_there: bool| {
            let path = format!("{path}.{name}");
            is_there.then(|| Linear::load(loader, &path, [c, outputs], bias)).transpose()
        };
        Ok(Attention {
            q: matrix("q", q, !joins)?,
            k: matrix("k", kv, !joins)?,
            v: matrix("v", kv, !joins)?,
            qkv: matrix("qkv", q + 2 * kv, joins)?,
            q_norm,
            k_norm,
            output: Linear::load(loader, &format!("{path}.output"), [q, c], false)?,
            n_head: config.n_head,
            n_kv_head: config.n_kv_head,
            head_width: config.head_width(),
            q_scale: ((q_scale - 1.0).abs() > 1e-6).then_some(q_scale),
        })
    }

    /// Queries `[N, H D]`, keys and values `[N, K D]` of `x [N, C]`.
    fn project(&self, x: Tensor<2>, pass: Pass) -> [Tensor<2>; 3] {
        if let Some(qkv) = &self.qkv {
            let (q, kv) = (self.n_head * self.head_width, self.n_kv_head * self.head_width);
            return columns(qkv.forward(x, pass.at(ADAPTERS)), [q, kv, kv]);
        }
        let [Some(q), Some(k), Some(v)] = [&self.q, &self.k, &self.v] else {
            unreachable!("attention without projections")
        };
        [(q, 0), (k, 1), (v, 2)]
            .map(|(matrix, site)| matrix.forward(x.clone(), pass.at(ADAPTERS + site)))
    }

    /// `x [N, C]` -> `[N, C]`.
    fn forward(
        &self,
        x: Tensor<2>,
        frame: &Frame,
        pass: Pass,
        trace: &mut BlockTrace<'_>,
    ) -> Tensor<2> {
        let [q, k, v] = self.project(x, pass); // [N, H D], [N, K D] twice
        trace.keep(Q, &q);
        trace.keep(K, &k);
        trace.keep(V, &v);
        let q = normed_heads(&self.q_norm, q, QNorm, trace);
        let k = normed_heads(&self.k_norm, k, KNorm, trace);
        let (q, k) = (frame.rotate(q), frame.rotate(k));
        if frame.rotates() {
            trace.keep(QRope, &q);
            trace.keep(KRope, &k);
        }
        let q = match self.q_scale {
            Some(scale) => q * scale,
            None => q,
        };
        let counts = [self.n_head, self.n_kv_head];
        trace.keep_inner(AttentionWeights, || {
            attention_probabilities(q.clone(), k.clone(), counts, frame.mask())
        });
        let heads = grouped_attention(q, k, v, counts, frame.mask(), pass.at(0)); // [N, H D]
        trace.keep(AttentionHeads, &heads);
        let y = self.output.forward(heads, pass.at(ADAPTERS + 3)); // [N, C]
        trace.keep(AttentionOutput, &y);
        dropout(y, pass.at(1).dropout)
    }
}

/// Splits the columns of `x [N, columns]` into parts of the given `widths`.
fn columns<const PARTS: usize>(x: Tensor<2>, widths: [usize; PARTS]) -> [Tensor<2>; PARTS] {
    let mut start = 0;
    widths.map(|width| {
        start += width;
        x.clone().narrow(1, start - width, width)
    })
}

/// Normalises `x [N, heads D]`: each head separately if `norm` is as wide as a head.
fn normed_heads(
    norm: &Option<RmsNorm>,
    x: Tensor<2>,
    stage: BlockStage,
    trace: &mut BlockTrace<'_>,
) -> Tensor<2> {
    let Some(norm) = norm else { return x };
    let ([n, columns], [width]) = (x.dims(), norm.gamma.dims());
    let y = norm.forward(x.reshape([n * columns / width, width])).reshape([n, columns]);
    trace.keep(stage, &y);
    y
}

/// The gated feed-forward layer (Shazeer, 2020): projections up to `F`, and one down to `C`.
#[derive(Module, Debug)]
pub struct Mlp {
    /// `[C, F]`, if gate and up are separate.
    pub gate: Option<Linear>,
    /// `[C, F]`
    pub up: Option<Linear>,
    /// Both side by side `[C, 2 F]`, if they are joined.
    pub gate_up: Option<Linear>,
    /// `[F, C]`
    pub down: Linear,
    #[module(skip)]
    kind: FeedForward,
}

impl Mlp {
    fn load<E>(config: &ModelConfig, loader: &mut Loader<'_, E>, path: &str) -> Result<Self, E> {
        let (c, f) = (config.n_embd, config.n_inner);
        let joins = config.architecture.block().projections == Projections::Joined;
        let mut matrix = |name: &str, outputs: usize, is_there: bool| {
            let path = format!("{path}.{name}");
            is_there.then(|| Linear::load(loader, &path, [c, outputs], false)).transpose()
        };
        Ok(Mlp {
            gate: matrix("gate", f, !joins)?,
            up: matrix("up", f, !joins)?,
            gate_up: matrix("gate_up", 2 * f, joins)?,
            down: Linear::load(loader, &format!("{path}.down"), [f, c], false)?,
            kind: config.architecture.block().feed_forward,
        })
    }

    /// Gate and up `[N, F]` of `x [N, C]`.
    fn project(&self, x: Tensor<2>, pass: Pass) -> [Tensor<2>; 2] {
        if let Some(gate_up) = &self.gate_up {
            let y = gate_up.forward(x, pass.at(ADAPTERS)); // [N, 2 F]
            let [_, both] = y.dims();
            return columns(y, [both / 2, both / 2]);
        }
        let [Some(gate), Some(up)] = [&self.gate, &self.up] else {
            unreachable!("a feed-forward layer without projections")
        };
        [(gate, 0), (up, 1)]
            .map(|(matrix, site)| matrix.forward(x.clone(), pass.at(ADAPTERS + site)))
    }

    /// `x [N, C]` -> `[N, C]`.
    fn forward(&self, x: Tensor<2>, pass: Pass, trace: &mut BlockTrace<'_>) -> Tensor<2> {
        let [gate, up] = self.project(x, pass); // [N, F] both
        trace.keep(Gate, &gate);
        trace.keep(Up, &up);
        let y = match self.kind {
            FeedForward::GeGlu => {
                let activated = gelu(gate) * up;
                trace.keep(Activated, &activated);
                self.down.forward(activated, pass.at(ADAPTERS + 2)) // [N, C]
            }
            FeedForward::Gelu | FeedForward::SwiGlu => {
                trace.keep_inner(Activated, || swiglu(gate.clone(), up.clone()));
                self.down.forward_swiglu(gate, up, pass.at(ADAPTERS + 2)) // [N, C]
            }
        };
        trace.keep(Down, &y);
        dropout(y, pass.dropout)
    }
}
