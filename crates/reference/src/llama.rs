//! LLaMA (Touvron et al., 2023) and the families derived from it, in the order of computation. The
//! differences between the other families and LLaMA are in [`config::BlockDesign`].
//!
//! Follows `modeling_llama.py` of transformers and the files of the other families, Karpathy's
//! llama2.c, and `src/models/*.cpp` of llama.cpp; tensor names are llama.cpp's, and so are those of
//! stages ([`config::ForwardStage`]). If a rotation pairs neighbouring channels, the rows of query
//! and key matrices are in GGUF's order.

use config::BlockStage::{
    Activated, AttentionNorm, AttentionOutput, AttentionPostNorm, AttentionResidual, Down,
    FeedForwardNorm, FeedForwardPostNorm, Gate, K, KNorm, KRope, Output, Q, QNorm, QRope, Up, V,
};
use config::{
    BlockDesign, BlockStage, EmbeddingScale, FeedForward, ForwardStage, ModelConfig, Projections,
    QkNorm,
};
use gguf::TensorSource;

use crate::ReferenceError;
use crate::attention::{Sizes, attend};
use crate::cache::{Cache, LayerCache};
use crate::experts::Experts;
use crate::layers::{Embedding, Linear, Projection, RmsNorm};
use crate::model::Decoder;
use crate::ops;
use crate::rope::{AllRotations, Rotations};
use crate::trace::{BlockTrace, Trace};
use crate::weights::{Expected, check};

/// The weights, in f32.
pub(crate) struct Llama {
    config: ModelConfig,
    embedding: Embedding,
    blocks: Vec<Block<'static>>,
    output_norm: RmsNorm,
}

/// The weights of one block; those of experts may be in the source until they are used.
pub(crate) struct Block<'a> {
    attention_norm: Option<RmsNorm>,
    /// Queries `[H * D, C]`, keys and values `[K * D, C]`.
    qkv: Projection<3>,
    q_norm: Option<RmsNorm>,
    k_norm: Option<RmsNorm>,
    /// `[C, H * D]`
    attention_output: Linear,
    attention_post_norm: Option<RmsNorm>,
    feed_forward_norm: Option<RmsNorm>,
    mlp: Mlp<'a>,
    feed_forward_post_norm: Option<RmsNorm>,
}

/// The weights of a feed-forward layer.
enum Mlp<'a> {
    Dense(Box<Dense>),
    Experts(Box<Experts<'a>>),
}

/// A feed-forward layer without experts.
struct Dense {
    /// Both `[F, C]`.
    gate_up: Projection<2>,
    /// `[C, F]`
    down: Linear,
    /// The activation of the gate.
    kind: FeedForward,
}

impl Decoder for Llama {
    fn hidden(
        &self,
        tokens: &[u32],
        cache: &mut Cache,
        trace: &mut Trace<'_>,
    ) -> Result<Vec<f32>, ReferenceError> {
        let mut x = self.embedding.look_up(tokens); // [T, C]
        scale_embedding(&self.config, &mut x);
        trace.keep(ForwardStage::TokenEmbedding, tokens.len(), &x);
        let rotations = AllRotations::new(&self.config, cache.len, tokens.len());
        let sizes = Sizes::new(&self.config, tokens.len(), cache);
        for (layer, (block, cache)) in self.blocks.iter().zip(&mut cache.layers).enumerate() {
            let attention = self.config.layer_attention(layer);
            let (sizes, rotations) = (sizes.in_layer(attention), rotations.of(attention.rotation));
            block.forward(&mut x, cache, &sizes, rotations, trace.block(layer))?;
        }
        cache.len += tokens.len();
        Ok(x)
    }

    fn normed(&self, hidden: &[f32], trace: &mut Trace<'_>) -> Vec<f32> {
        let x = self.output_norm.forward(hidden); // [T, C]
        trace.keep(ForwardStage::OutputNorm, x.len() / self.config.n_embd, &x);
        x
    }

    fn logits(&self, normed: &[f32]) -> Vec<f32> {
        self.embedding.logits(normed)
    }
}

/// Scales the token embedding as the family requires, `[T, C]` in place.
pub(crate) fn scale_embedding(config: &ModelConfig, x: &mut [f32]) {
    match config.architecture.block().embedding_scale {
        EmbeddingScale::One => {}
        EmbeddingScale::SqrtWidth => {
            let root = (config.n_embd as f32).sqrt();
            x.iter_mut().for_each(|x| *x *= root);
        }
    }
}

impl Block<'_> {
    /// `x += attention(norm(x)); x += feed_forward(norm(x))`, `[T, C]` in place, with the norms
    /// where the family has them.
    ///
    /// # Errors
    /// When experts are in the source and it cannot be read.
    pub fn forward(
        &self,
        x: &mut [f32],
        cache: &mut LayerCache,
        sizes: &Sizes,
        rotations: Option<&Rotations>,
        mut trace: BlockTrace<'_, '_>,
    ) -> Result<(), ReferenceError> {
        let (t, trace) = (sizes.queries, &mut trace);
        let y = normed(&self.attention_norm, x, AttentionNorm, t, trace); // [T, C]
        let y = self.attention(&y, cache, sizes, rotations, trace);
        let y = normed(&self.attention_post_norm, &y, AttentionPostNorm, t, trace);
        ops::add(x, &y);
        trace.keep(AttentionResidual, t, x);

        let y = normed(&self.feed_forward_norm, x, FeedForwardNorm, t, trace); // [T, C]
        let y = match &self.mlp {
            Mlp::Dense(dense) => dense.forward(&y, t, trace),
            Mlp::Experts(experts) => experts.forward(&y, trace)?,
        };
        let y = normed(&self.feed_forward_post_norm, &y, FeedForwardPostNorm, t, trace);
        ops::add(x, &y);
        trace.keep(Output, t, x);
        Ok(())
    }

    /// `[T, C] -> [T, C]`; new keys and values go into the cache.
    fn attention(
        &self,
        x: &[f32],
        cache: &mut LayerCache,
        sizes: &Sizes,
        rotations: Option<&Rotations>,
        trace: &mut BlockTrace<'_, '_>,
    ) -> Vec<f32> {
        let t = sizes.queries;
        trace.input(self.qkv.linears(), x);
        let [mut q, mut k, v] = self.qkv.forward(x); // [T, H * D], [T, K * D] twice
        trace.keep(Q, t, &q);
        trace.keep(K, t, &k);
        trace.keep(V, t, &v);
        if let (Some(q_norm), Some(k_norm)) = (&self.q_norm, &self.k_norm) {
            // Each head separately, or all heads of a position together, as wide as the weight is.
            (q, k) = (q_norm.forward(&q), k_norm.forward(&k));
            trace.keep(QNorm, t, &q);
            trace.keep(KNorm, t, &k);
        }
        if let Some(rotations) = rotations {
            rotations.turn_rows(&mut q);
            rotations.turn_rows(&mut k);
            trace.keep(QRope, t, &q);
            trace.keep(KRope, t, &k);
        }
        cache.put_rows(sizes.past, sizes.capacity, sizes.kv_width(), &k, &v);
        let heads = attend(&q, cache, sizes, trace); // [T, H * D]
        trace.input([&self.attention_output], &heads);
        let y = self.attention_output.forward(&heads); // [T, C]
        trace.keep(AttentionOutput, t, &y);
        y
    }
}

impl Dense {
    /// SwiGLU or GeGLU (Shazeer, 2020), `[T, C] -> [T, F] -> [T, C]`.
    fn forward(&self, x: &[f32], t: usize, trace: &mut BlockTrace<'_, '_>) -> Vec<f32> {
        trace.input(self.gate_up.linears(), x);
        let [gate, up] = self.gate_up.forward(x); // [T, F] both
        trace.keep(Gate, t, &gate);
        trace.keep(Up, t, &up);
        let mut activated = gate;
        match self.kind {
            FeedForward::GeGlu => ops::geglu(&mut activated, &up),
            FeedForward::Gelu | FeedForward::SwiGlu => ops::swiglu(&mut activated, &up),
        }
        trace.keep(Activated, t, &activated);
        trace.input([&self.down], &activated);
        let y = self.down.forward(&activated); // [T, C]
        trace.keep(Down, t, &y);
        y
    }
}

/// Normalises `x [T, C]`, or copies it if there is no norm.
fn normed(
    norm: &Option<RmsNorm>,
    x: &[f32],
    stage: BlockStage,
    t: usize,
    trace: &mut BlockTrace<'_, '_>,
) -> Vec<f32> {
    let Some(norm) = norm else { return x.to_vec() };
    let y = norm.forward(x);
    trace.keep(stage, t, &y);
    y
}

impl Llama {
    /// Checks every name and shape, then dequantizes the weights.
    pub fn load(config: &ModelConfig, source: &dyn TensorSource) -> Result<Self, ReferenceError> {
        check(source, &expected(config), config.architecture.name())?;
        let block = |layer| {
            let block = format!("blk.{layer}");
            let experts = |used| Experts::load(source, &block, widths(config), used);
            Block::load(config, source, layer, &experts)
        };
        Ok(Llama {
            embedding: Embedding::load(source, config)?,
            blocks: (0..config.n_layer).map(block).collect::<Result<_, _>>()?,
            output_norm: RmsNorm::load(source, "output_norm", config.norm_epsilon)?,
            config: config.clone(),
        })
    }
}

/// `C` and `F`.
fn widths(config: &ModelConfig) -> [usize; 2] {
    [config.n_embd, config.n_inner]
}

impl<'a> Block<'a> {
    /// Dequantizes the weights of the block `layer`, except those of experts.
    pub fn without_experts(
        config: &ModelConfig,
        source: &'a dyn TensorSource,
        layer: usize,
    ) -> Result<Self, ReferenceError> {
        let block = format!("blk.{layer}");
        let experts = |used| Experts::stored(source, &block, widths(config), used);
        Self::load(config, source, layer, &experts)
    }

    /// Dequantizes the weights of the block `layer`; `experts` loads a layer with experts, given
    /// how many of them each token uses.
    fn load(
        config: &ModelConfig,
        source: &dyn TensorSource,
        layer: usize,
        experts: &dyn Fn(usize) -> Result<Experts<'a>, ReferenceError>,
    ) -> Result<Self, ReferenceError> {
        let ([c, f], bias) = (widths(config), config.qkv_bias);
        let BlockDesign { norm_placement, qk_norm, feed_forward, projections, .. } =
            config.architecture.block();
        let (before, after) = (norm_placement.is_before(), norm_placement.is_after());
        let has_qk_norm = qk_norm != QkNorm::None;
        let name = |part: &str| format!("blk.{layer}.{part}");
        let norm = |part: &str, is_there: bool| {
            let load = || RmsNorm::load(source, &name(part), config.norm_epsilon);
            is_there.then(load).transpose()
        };
        let linear = |part: &str, width, bias| Linear::load(source, &name(part), width, bias);
        let of_input = |parts: &[&str], bias| {
            parts.iter().map(|part| linear(part, c, bias)).collect::<Result<Vec<_>, _>>()
        };
        let [qkv, gate_up] = matrices_of_input(projections);
        let (q, kv) = (config.q_width(), config.kv_width());
        let mlp = match config.experts {
            Some(layer) => Mlp::Experts(Box::new(experts(layer.used)?)),
            None => Mlp::Dense(Box::new(Dense {
                gate_up: Projection::new(of_input(gate_up, false)?, [f, f]),
                down: linear("ffn_down", f, false)?,
                kind: feed_forward,
            })),
        };
        Ok(Block {
            attention_norm: norm("attn_norm", before)?,
            qkv: Projection::new(of_input(qkv, bias)?, [q, kv, kv]),
            q_norm: norm("attn_q_norm", has_qk_norm)?,
            k_norm: norm("attn_k_norm", has_qk_norm)?,
            attention_output: linear("attn_output", config.q_width(), false)?,
            attention_post_norm: norm("post_attention_norm", after)?,
            feed_forward_norm: norm("ffn_norm", before)?,
            mlp,
            feed_forward_post_norm: norm("post_ffw_norm", after)?,
        })
    }

    /// Every matrix except those of experts, in the order of computation.
    pub fn matrices(&self) -> Vec<&Linear> {
        let Block { qkv, attention_output, mlp, .. } = self;
        let mut all: Vec<&Linear> = qkv.linears().iter().chain([attention_output]).collect();
        match mlp {
            Mlp::Dense(dense) => {
                all.extend(dense.gate_up.linears());
                all.push(&dense.down);
            }
            Mlp::Experts(experts) => all.push(experts.router()),
        }
        all
    }
}

/// The matrices that compute query, key and value, and those that compute gate and up.
fn matrices_of_input(projections: Projections) -> [&'static [&'static str]; 2] {
    match projections {
        Projections::Separate => [&["attn_q", "attn_k", "attn_v"], &["ffn_gate", "ffn_up"]],
        Projections::Joined => [&["attn_qkv"], &["ffn_up"]],
    }
}

/// Every tensor that a model of these settings has.
pub(crate) fn expected(config: &ModelConfig) -> Vec<Expected> {
    let (c, f, v) = (config.n_embd, config.n_inner, config.vocab_size);
    let (q, kv) = (config.q_width(), config.kv_width());
    let design = config.architecture.block();
    let mut all = Vec::new();
    let mut add = |name: String, shape: &[usize]| {
        all.push(Expected { name, shape: shape.to_vec() });
    };
    for (name, factors) in config.rope_tensors() {
        add(format!("{name}.weight"), &[factors.len()]);
    }
    add("token_embd.weight".into(), &[v, c]);
    for layer in 0..config.n_layer {
        for (norm, is_there) in [
            ("attn_norm", design.norm_placement.is_before()),
            ("post_attention_norm", design.norm_placement.is_after()),
            ("ffn_norm", design.norm_placement.is_before()),
            ("post_ffw_norm", design.norm_placement.is_after()),
        ] {
            if is_there {
                add(format!("blk.{layer}.{norm}.weight"), &[c]);
            }
        }
        for (norm, all_heads) in [("attn_q_norm", q), ("attn_k_norm", kv)] {
            let width = match design.qk_norm {
                QkNorm::None => continue,
                QkNorm::Head => config.head_width(),
                QkNorm::Width => all_heads,
            };
            add(format!("blk.{layer}.{norm}.weight"), &[width]);
        }
        let [qkv, gate_up] = matrices_of_input(design.projections);
        for (matrix, rows) in with_rows(qkv, &[q, kv, kv]) {
            add(format!("blk.{layer}.{matrix}.weight"), &[rows, c]);
            if config.qkv_bias {
                add(format!("blk.{layer}.{matrix}.bias"), &[rows]);
            }
        }
        add(format!("blk.{layer}.attn_output.weight"), &[c, q]);
        match config.experts {
            Some(experts) => {
                add(format!("blk.{layer}.ffn_gate_inp.weight"), &[experts.count, c]);
                for (matrix, rows, columns) in [("gate", f, c), ("up", f, c), ("down", c, f)] {
                    let name = format!("blk.{layer}.ffn_{matrix}_exps.weight");
                    add(name, &[experts.count, rows, columns]);
                }
            }
            None => {
                for (matrix, rows) in with_rows(gate_up, &[f, f]) {
                    add(format!("blk.{layer}.{matrix}.weight"), &[rows, c]);
                }
                add(format!("blk.{layer}.ffn_down.weight"), &[c, f]);
            }
        }
    }
    add("output_norm.weight".into(), &[c]);
    if !config.tie_embeddings {
        add("output.weight".into(), &[v, c]);
    }
    all
}

/// The matrices, each with its number of rows; a single matrix has all rows.
fn with_rows(matrices: &[&'static str], rows: &[usize]) -> Vec<(&'static str, usize)> {
    match matrices {
        &[joined] => vec![(joined, rows.iter().sum())],
        _ => matrices.iter().copied().zip(rows.iter().copied()).collect(),
    }
}
