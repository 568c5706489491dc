//! LLaMA (Touvron et al., 2023), top to bottom in the order data meets it; and Qwen2 (Yang et al.,
//! 2024), which pairs other channels in its rotation and has biases on queries, keys and values.
//!
//! After `modeling_llama.py` of transformers, Karpathy's llama2.c, and `src/models/llama.cpp` and
//! `src/models/qwen2.cpp` of llama.cpp, whose tensor names these are. The rows of `llama`'s query
//! and key matrices are in GGUF's order, where a rotation pairs neighbours.

use config::ModelConfig;
use gguf::TensorSource;

use crate::ReferenceError;
use crate::attention::{Sizes, attend};
use crate::cache::{Cache, LayerCache};
use crate::layers::{Embedding, Linear, RmsNorm};
use crate::model::Decoder;
use crate::ops;
use crate::rope::{Rope, Rotations};
use crate::trace::{BlockTrace, Trace};
use crate::weights::{Expected, check};

/// The weights, in f32.
pub(crate) struct Llama {
    config: ModelConfig,
    embedding: Embedding,
    rope: Rope,
    blocks: Vec<Block>,
    output_norm: RmsNorm,
}

/// The weights of one block.
pub(crate) struct Block {
    attention_norm: RmsNorm,
    /// `[C, C]`
    q: Linear,
    /// `[K * D, C]`
    k: Linear,
    /// `[K * D, C]`
    v: Linear,
    /// `[C, C]`
    attention_output: Linear,
    feed_forward_norm: RmsNorm,
    /// `[F, C]`
    gate: Linear,
    /// `[F, C]`
    up: Linear,
    /// `[C, F]`
    down: Linear,
}

impl Decoder for Llama {
    fn hidden(&self, tokens: &[u32], cache: &mut Cache, trace: &mut Trace<'_>) -> Vec<f32> {
        let mut x = self.embedding.look_up(tokens); // [T, C]
        trace.keep(|| "tok_emb".into(), &[tokens.len(), self.config.n_embd], &x);
        let rotations = self.rope.at(cache.len, tokens.len());
        let sizes = Sizes::new(&self.config, tokens.len(), cache);
        for (layer, (block, cache)) in self.blocks.iter().zip(&mut cache.layers).enumerate() {
            block.forward(&mut x, cache, &sizes, &rotations, trace.block(layer));
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

impl Block {
    /// `x += attention(norm(x)); x += feed_forward(norm(x))`, `[T, C]` in place.
    pub fn forward(
        &self,
        x: &mut [f32],
        cache: &mut LayerCache,
        sizes: &Sizes,
        rotations: &Rotations,
        mut trace: BlockTrace<'_, '_>,
    ) {
        let shape = [sizes.queries, sizes.width()];
        let normed = self.attention_norm.forward(x); // [T, C]
        trace.keep("attn_norm", &shape, &normed);
        ops::add(x, &self.attention(&normed, cache, sizes, rotations, &mut trace));
        trace.keep("attn_residual", &shape, x);

        let normed = self.feed_forward_norm.forward(x); // [T, C]
        trace.keep("ffn_norm", &shape, &normed);
        ops::add(x, &self.feed_forward(&normed, sizes.queries, &mut trace));
        trace.keep("output", &shape, x);
    }

    /// `[T, C] -> [T, C]`; new keys and values go into the cache.
    fn attention(
        &self,
        x: &[f32],
        cache: &mut LayerCache,
        sizes: &Sizes,
        rotations: &Rotations,
        trace: &mut BlockTrace<'_, '_>,
    ) -> Vec<f32> {
        let (t, c, kv) = (sizes.queries, sizes.width(), sizes.kv_width());
        trace.input(&[&self.q, &self.k, &self.v], x);
        let mut q = self.q.forward(x); // [T, C]
        let mut k = self.k.forward(x); // [T, K * D]
        let v = self.v.forward(x); // [T, K * D]
        trace.keep("attn.q", &[t, c], &q);
        trace.keep("attn.k", &[t, kv], &k);
        trace.keep("attn.v", &[t, kv], &v);
        rotations.turn_rows(&mut q);
        rotations.turn_rows(&mut k);
        trace.keep("attn.q_rope", &[t, c], &q);
        trace.keep("attn.k_rope", &[t, kv], &k);
        for (i, (k, v)) in k.chunks_exact(kv).zip(v.chunks_exact(kv)).enumerate() {
            cache.put(sizes.past + i, sizes.capacity, k, v);
        }
        let y = attend(&q, c, cache, sizes, trace); // [T, C]
        trace.input(&[&self.attention_output], &y);
        let y = self.attention_output.forward(&y); // [T, C]
        trace.keep("attn.output", &[t, c], &y);
        y
    }

    /// SwiGLU (Shazeer, 2020), `[T, C] -> [T, F] -> [T, C]`.
    fn feed_forward(&self, x: &[f32], t: usize, trace: &mut BlockTrace<'_, '_>) -> Vec<f32> {
        trace.input(&[&self.gate, &self.up], x);
        let mut wide = self.gate.forward(x); // [T, F]
        trace.keep("mlp.gate", &[t, wide.len() / t], &wide);
        let up = self.up.forward(x); // [T, F]
        trace.keep("mlp.up", &[t, up.len() / t], &up);
        ops::swiglu(&mut wide, &up);
        trace.keep("mlp.swiglu", &[t, wide.len() / t], &wide);
        trace.input(&[&self.down], &wide);
        let y = self.down.forward(&wide); // [T, C]
        trace.keep("mlp.down", &[t, y.len() / t], &y);
        y
    }
}

impl Llama {
    /// Checks every name and shape, then dequantizes the weights; `rope` is the model's rotation.
    pub fn load(
        config: &ModelConfig,
        rope: Rope,
        source: &dyn TensorSource,
    ) -> Result<Self, ReferenceError> {
        check(source, &expected(config), config.architecture.name())?;
        let block = |layer| Block::load(config, source, layer);
        Ok(Llama {
            embedding: Embedding::load(source, config)?,
            rope,
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
        let name = |part| format!("blk.{layer}.{part}");
        let norm = |part| RmsNorm::load(source, &name(part), config.norm_epsilon);
        let linear = |part, width, bias| Linear::load(source, &name(part), width, bias);
        Ok(Block {
            attention_norm: norm("attn_norm")?,
            q: linear("attn_q", c, bias)?,
            k: linear("attn_k", c, bias)?,
            v: linear("attn_v", c, bias)?,
            attention_output: linear("attn_output", c, false)?,
            feed_forward_norm: norm("ffn_norm")?,
            gate: linear("ffn_gate", c, false)?,
            up: linear("ffn_up", c, false)?,
            down: linear("ffn_down", f, false)?,
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
    let (c, f, v, kv) = (config.n_embd, config.n_inner, config.vocab_size, config.kv_width());
    let mut all = Vec::new();
    let mut add = |name: String, shape: &[usize]| {
        all.push(Expected { name, shape: shape.to_vec() });
    };
    add("token_embd.weight".into(), &[v, c]);
    for layer in 0..config.n_layer {
        for norm in ["attn_norm", "ffn_norm"] {
            add(format!("blk.{layer}.{norm}.weight"), &[c]);
        }
        for (matrix, rows) in [("attn_q", c), ("attn_k", kv), ("attn_v", kv)] {
            add(format!("blk.{layer}.{matrix}.weight"), &[rows, c]);
            if config.qkv_bias {
                add(format!("blk.{layer}.{matrix}.bias"), &[rows]);
            }
        }
        for (matrix, rows, columns) in
            [("attn_output", c, c), ("ffn_gate", f, c), ("ffn_up", f, c), ("ffn_down", c, f)]
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
