//! LLaMA (Touvron et al., 2023) and the families that came of it, top to bottom in the order data
//! meets it. What the others have beyond a LLaMA, or in another place, is in
//! [`config::BlockDesign`].
//!
//! After `modeling_llama.py` of transformers and its like, Karpathy's llama2.c, and
//! `src/models/*.cpp` of llama.cpp, whose tensor names these are. Where a rotation pairs
//! neighbours, the rows of query and key matrices are in GGUF's order.

use config::{BlockDesign, EmbeddingScale, FeedForward, ModelConfig, QkNorm};
use gguf::TensorSource;

use crate::ReferenceError;
use crate::attention::{Sizes, attend};
use crate::cache::{Cache, LayerCache};
use crate::layers::{Embedding, Linear, RmsNorm};
use crate::model::Decoder;
use crate::ops;
use crate::rope::{Ropes, Rotations};
use crate::trace::{BlockTrace, Trace};
use crate::weights::{Expected, check};

/// The weights, in f32.
pub(crate) struct Llama {
    config: ModelConfig,
    embedding: Embedding,
    ropes: Ropes,
    blocks: Vec<Block>,
    output_norm: RmsNorm,
}

/// The weights of one block.
pub(crate) struct Block {
    attention_norm: Option<RmsNorm>,
    /// `[H * D, C]`
    q: Linear,
    /// `[K * D, C]`
    k: Linear,
    /// `[K * D, C]`
    v: Linear,
    q_norm: Option<RmsNorm>,
    k_norm: Option<RmsNorm>,
    /// `[C, H * D]`
    attention_output: Linear,
    attention_post_norm: Option<RmsNorm>,
    feed_forward_norm: Option<RmsNorm>,
    /// `[F, C]`
    gate: Linear,
    /// `[F, C]`
    up: Linear,
    /// `[C, F]`
    down: Linear,
    feed_forward_post_norm: Option<RmsNorm>,
    /// How the gate acts.
    kind: FeedForward,
}

impl Decoder for Llama {
    fn hidden(&self, tokens: &[u32], cache: &mut Cache, trace: &mut Trace<'_>) -> Vec<f32> {
        let mut x = self.embedding.look_up(tokens); // [T, C]
        scale_embedding(&self.config, &mut x);
        trace.keep(|| "tok_emb".into(), &[tokens.len(), self.config.n_embd], &x);
        let rotations = self.ropes.at(cache.len, tokens.len());
        let sizes = Sizes::new(&self.config, tokens.len(), cache);
        for (layer, (block, cache)) in self.blocks.iter().zip(&mut cache.layers).enumerate() {
            let attention = self.config.layer_attention(layer);
            let (sizes, rotations) = (sizes.in_layer(attention), rotations.of(attention.rotation));
            block.forward(&mut x, cache, &sizes, rotations, trace.block(layer));
        }
        cache.len += tokens.len();
        x
    }

    fn normed(&self, hidden: &[f32], trace: &mut Trace<'_>) -> Vec<f32> {
        let x = self.output_norm.forward(hidden); // [T, C]
        trace.keep(|| "norm".into(), &[x.len() / self.config.n_embd, self.config.n_embd], &x);
        x
    }

    fn logits(&self, normed: &[f32]) -> Vec<f32> {
        self.embedding.logits(normed)
    }
}

/// The token embedding as the first block gets it, `[T, C]` in place.
pub(crate) fn scale_embedding(config: &ModelConfig, x: &mut [f32]) {
    match config.architecture.block().embedding_scale {
        EmbeddingScale::One => {}
        EmbeddingScale::SqrtWidth => {
            let root = (config.n_embd as f32).sqrt();
            x.iter_mut().for_each(|x| *x *= root);
        }
    }
}

impl Block {
    /// `x += attention(norm(x)); x += feed_forward(norm(x))`, `[T, C]` in place, with the norms
    /// where the family has them.
    pub fn forward(
        &self,
        x: &mut [f32],
        cache: &mut LayerCache,
        sizes: &Sizes,
        rotations: Option<&Rotations>,
        mut trace: BlockTrace<'_, '_>,
    ) {
        let shape = [sizes.queries, sizes.embedding];
        let trace = &mut trace;
        let y = normed(&self.attention_norm, x, "attn_norm", shape, trace); // [T, C]
        let y = self.attention(&y, cache, sizes, rotations, trace);
        let y = normed(&self.attention_post_norm, &y, "attn_post_norm", shape, trace);
        ops::add(x, &y);
        trace.keep("attn_residual", &shape, x);

        let y = normed(&self.feed_forward_norm, x, "ffn_norm", shape, trace); // [T, C]
        let y = self.feed_forward(&y, sizes.queries, trace);
        let y = normed(&self.feed_forward_post_norm, &y, "ffn_post_norm", shape, trace);
        ops::add(x, &y);
        trace.keep("output", &shape, x);
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
        let (t, width, kv) = (sizes.queries, sizes.width(), sizes.kv_width());
        trace.input(&[&self.q, &self.k, &self.v], x);
        let mut q = self.q.forward(x); // [T, H * D]
        let mut k = self.k.forward(x); // [T, K * D]
        let v = self.v.forward(x); // [T, K * D]
        trace.keep("attn.q", &[t, width], &q);
        trace.keep("attn.k", &[t, kv], &k);
        trace.keep("attn.v", &[t, kv], &v);
        if let (Some(q_norm), Some(k_norm)) = (&self.q_norm, &self.k_norm) {
            // Each head by itself, or all of a position, as wide as the weight is.
            (q, k) = (q_norm.forward(&q), k_norm.forward(&k));
            trace.keep("attn.q_norm", &[t, width], &q);
            trace.keep("attn.k_norm", &[t, kv], &k);
        }
        if let Some(rotations) = rotations {
            rotations.turn_rows(&mut q);
            rotations.turn_rows(&mut k);
            trace.keep("attn.q_rope", &[t, width], &q);
            trace.keep("attn.k_rope", &[t, kv], &k);
        }
        for (i, (k, v)) in k.chunks_exact(kv).zip(v.chunks_exact(kv)).enumerate() {
            cache.put(sizes.past + i, sizes.capacity, k, v);
        }
        let y = attend(&q, width, cache, sizes, trace); // [T, H * D]
        trace.input(&[&self.attention_output], &y);
        let y = self.attention_output.forward(&y); // [T, C]
        trace.keep("attn.output", &[t, sizes.embedding], &y);
        y
    }

    /// SwiGLU or GeGLU (Shazeer, 2020), `[T, C] -> [T, F] -> [T, C]`.
    fn feed_forward(&self, x: &[f32], t: usize, trace: &mut BlockTrace<'_, '_>) -> Vec<f32> {
        trace.input(&[&self.gate, &self.up], x);
        let mut wide = self.gate.forward(x); // [T, F]
        trace.keep("mlp.gate", &[t, wide.len() / t], &wide);
        let up = self.up.forward(x); // [T, F]
        trace.keep("mlp.up", &[t, up.len() / t], &up);
        let stage = match self.kind {
            FeedForward::GeGlu => {
                ops::geglu(&mut wide, &up);
                "mlp.geglu"
            }
            FeedForward::Gelu | FeedForward::SwiGlu => {
                ops::swiglu(&mut wide, &up);
                "mlp.swiglu"
            }
        };
        trace.keep(stage, &[t, wide.len() / t], &wide);
        trace.input(&[&self.down], &wide);
        let y = self.down.forward(&wide); // [T, C]
        trace.keep("mlp.down", &[t, y.len() / t], &y);
        y
    }
}

/// `x [T, C]` through a norm, or a copy of it where there is none.
fn normed(
    norm: &Option<RmsNorm>,
    x: &[f32],
    stage: &str,
    shape: [usize; 2],
    trace: &mut BlockTrace<'_, '_>,
) -> Vec<f32> {
    let Some(norm) = norm else { return x.to_vec() };
    let y = norm.forward(x);
    trace.keep(stage, &shape, &y);
    y
}

impl Llama {
    /// Checks every name and shape, then dequantizes the weights.
    pub fn load(config: &ModelConfig, source: &dyn TensorSource) -> Result<Self, ReferenceError> {
        check(source, &expected(config), config.architecture.name())?;
        let block = |layer| Block::load(config, source, layer);
        Ok(Llama {
            embedding: Embedding::load(source, config)?,
            ropes: Ropes::new(config),
            blocks: (0..config.n_layer).map(block).collect::<Result<_, _>>()?,
            output_norm: RmsNorm::load(source, "output_norm", config.norm_epsilon)?,
            config: config.clone(),
        })
    }
}

impl Block {
    /// Dequantizes the weights of the block `layer`.
    pub fn load(
        config: &ModelConfig,
        source: &dyn TensorSource,
        layer: usize,
    ) -> Result<Self, ReferenceError> {
        let (c, f, bias) = (config.n_embd, config.n_inner, config.qkv_bias);
        let BlockDesign { norm_placement, qk_norm, feed_forward, .. } = config.architecture.block();
        let (before, after) = (norm_placement.is_before(), norm_placement.is_after());
        let has_qk_norm = qk_norm != QkNorm::None;
        let name = |part| format!("blk.{layer}.{part}");
        let norm = |part, is_there: bool| {
            let load = || RmsNorm::load(source, &name(part), config.norm_epsilon);
            is_there.then(load).transpose()
        };
        let linear = |part, width, bias| Linear::load(source, &name(part), width, bias);
        Ok(Block {
            attention_norm: norm("attn_norm", before)?,
            q: linear("attn_q", c, bias)?,
            k: linear("attn_k", c, bias)?,
            v: linear("attn_v", c, bias)?,
            q_norm: norm("attn_q_norm", has_qk_norm)?,
            k_norm: norm("attn_k_norm", has_qk_norm)?,
            attention_output: linear("attn_output", config.q_width(), false)?,
            attention_post_norm: norm("post_attention_norm", after)?,
            feed_forward_norm: norm("ffn_norm", before)?,
            gate: linear("ffn_gate", c, false)?,
            up: linear("ffn_up", c, false)?,
            down: linear("ffn_down", f, false)?,
            feed_forward_post_norm: norm("post_ffw_norm", after)?,
            kind: feed_forward,
        })
    }

    /// Every matrix, in the order in which data meets them.
    pub fn matrices(&self) -> Vec<&Linear> {
        let Block { q, k, v, attention_output, gate, up, down, .. } = self;
        vec![q, k, v, attention_output, gate, up, down]
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
    if config.attention.rope_scaling.is_a_tensor() {
        add("rope_freqs.weight".into(), &[config.rotated_width() / 2]);
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
        for (matrix, rows) in [("attn_q", q), ("attn_k", kv), ("attn_v", kv)] {
            add(format!("blk.{layer}.{matrix}.weight"), &[rows, c]);
            if config.qkv_bias {
                add(format!("blk.{layer}.{matrix}.bias"), &[rows]);
            }
        }
        for (matrix, rows, columns) in
            [("attn_output", c, q), ("ffn_gate", f, c), ("ffn_up", f, c), ("ffn_down", c, f)]
        {
            add(format!("blk.{layer}.{matrix}.weight"), &[rows, columns]);
        }
    }
    add("output_norm.weight".into(), &[c]);
    if !config.tie_embeddings {
        add("output.weight".into(), &[v, c]);
    }
    all
}
