//! GPT-2 (Radford et al., 2019), in the order of computation; and GPT-NeoX (Black et al., 2022) in
//! the variant that is a GPT-2 with rotary positions, with attention and feed-forward one after the
//! other.
//!
//! Follows OpenAI's `gpt-2/src/model.py`, Karpathy's nanoGPT, and `src/models/gpt2.cpp` and
//! `src/models/gptneox.cpp` of llama.cpp (`use_parallel_residual = false`); tensor names are
//! llama.cpp's, and so are those of stages ([`config::ForwardStage`]).

use config::BlockStage::{
    Activated, AttentionNorm, AttentionOutput, AttentionResidual, Down, FeedForwardNorm, K, KRope,
    Output, Q, QRope, Up, V,
};
use config::{ForwardStage, ModelConfig, Rotation};
use gguf::TensorSource;

use crate::ReferenceError;
use crate::attention::{Sizes, attend};
use crate::cache::{Cache, LayerCache};
use crate::layers::{Embedding, LayerNorm, Linear, Projection};
use crate::model::Decoder;
use crate::ops;
use crate::rope::{Rope, Rotations};
use crate::trace::{BlockTrace, Trace};
use crate::weights::{Expected, check, read};

/// The weights, in f32.
pub(crate) struct Gpt2 {
    config: ModelConfig,
    /// `wte` and `lm_head`
    embedding: Embedding,
    positions: Positions,
    blocks: Vec<Block>,
    /// `ln_f`
    output_norm: LayerNorm,
}

/// How the model encodes the positions of tokens.
enum Positions {
    /// `wpe`, `[context_length, C]`: added to the tokens.
    Learned(Vec<f32>),
    /// Queries and keys are rotated.
    Rotary(Rope),
}

/// The weights of one block.
pub(crate) struct Block {
    /// `ln_1`
    attention_norm: LayerNorm,
    /// `attn.c_attn`, rows: all Q, all K, all V
    qkv: Projection<3>,
    /// `attn.c_proj`
    attention_output: Linear,
    /// `ln_2`
    feed_forward_norm: LayerNorm,
    /// `mlp.c_fc`
    up: Linear,
    /// `mlp.c_proj`
    down: Linear,
}

impl Decoder for Gpt2 {
    fn hidden(
        &self,
        tokens: &[u32],
        cache: &mut Cache,
        trace: &mut Trace<'_>,
    ) -> Result<Vec<f32>, ReferenceError> {
        let (mut x, rotations) = self.embed(tokens, cache.len, trace); // [T, C]
        let sizes = Sizes::new(&self.config, tokens.len(), cache);
        for (layer, (block, cache)) in self.blocks.iter().zip(&mut cache.layers).enumerate() {
            block.forward(&mut x, cache, &sizes, rotations.as_ref(), trace.block(layer));
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

impl Gpt2 {
    /// The token embedding, `[T] -> [T, C]`, plus the position embedding if positions are learned;
    /// otherwise also the rotations of these positions.
    fn embed(
        &self,
        tokens: &[u32],
        past: usize,
        trace: &mut Trace<'_>,
    ) -> (Vec<f32>, Option<Rotations>) {
        let (t, c) = (tokens.len(), self.config.n_embd);
        let mut x = self.embedding.look_up(tokens);
        trace.keep(ForwardStage::TokenEmbedding, t, &x);
        match &self.positions {
            Positions::Learned(table) => {
                let positions = &table[past * c..(past + t) * c];
                trace.keep(ForwardStage::PositionEmbedding, t, positions);
                ops::add(&mut x, positions);
                trace.keep(ForwardStage::Embedding, t, &x);
                (x, None)
            }
            Positions::Rotary(rope) => (x, Some(rope.at(past, t))),
        }
    }
}

impl Block {
    /// `x += attention(norm(x)); x += feed_forward(norm(x))`, `[T, C]` in place.
    pub fn forward(
        &self,
        x: &mut [f32],
        cache: &mut LayerCache,
        sizes: &Sizes,
        rotations: Option<&Rotations>,
        mut trace: BlockTrace<'_, '_>,
    ) {
        let t = sizes.queries;
        let normed = self.attention_norm.forward(x); // [T, C]
        trace.keep(AttentionNorm, t, &normed);
        ops::add(x, &self.attention(&normed, cache, sizes, rotations, &mut trace));
        trace.keep(AttentionResidual, t, x);

        let normed = self.feed_forward_norm.forward(x); // [T, C]
        trace.keep(FeedForwardNorm, t, &normed);
        ops::add(x, &self.feed_forward(&normed, t, &mut trace));
        trace.keep(Output, t, x);
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
        let [mut q, mut k, v] = self.qkv.forward(x); // [T, C] each
        trace.keep(Q, t, &q);
        trace.keep(K, t, &k);
        trace.keep(V, t, &v);
        if let Some(rotations) = rotations {
            rotations.turn_rows(&mut q);
            rotations.turn_rows(&mut k);
            trace.keep(QRope, t, &q);
            trace.keep(KRope, t, &k);
        }
        cache.put_rows(sizes.past, sizes.capacity, sizes.kv_width(), &k, &v);
        let heads = attend(&q, cache, sizes, trace); // [T, C]
        trace.input([&self.attention_output], &heads);
        let y = self.attention_output.forward(&heads); // [T, C]
        trace.keep(AttentionOutput, t, &y);
        y
    }

    /// `[T, C] -> [T, F] -> [T, C]`
    fn feed_forward(&self, x: &[f32], t: usize, trace: &mut BlockTrace<'_, '_>) -> Vec<f32> {
        trace.input([&self.up], x);
        let up = self.up.forward(x); // [T, F]
        trace.keep(Up, t, &up);
        let mut activated = up;
        ops::gelu(&mut activated);
        trace.keep(Activated, t, &activated);
        trace.input([&self.down], &activated);
        let y = self.down.forward(&activated); // [T, C]
        trace.keep(Down, t, &y);
        y
    }
}

impl Gpt2 {
    /// Checks every name and shape, then dequantizes the weights.
    pub fn load(config: &ModelConfig, source: &dyn TensorSource) -> Result<Self, ReferenceError> {
        check(source, &expected(config), config.architecture.name())?;
        let positions = match Rope::new(config, Rotation::Global, config.context_length) {
            Some(rope) => Positions::Rotary(rope),
            None => Positions::Learned(read(source, "position_embd.weight")?),
        };
        let block = |layer| Block::load(config, source, layer);
        Ok(Gpt2 {
            embedding: Embedding::load(source, config)?,
            positions,
            blocks: (0..config.n_layer).map(block).collect::<Result<_, _>>()?,
            output_norm: LayerNorm::load(source, "output_norm", config.norm_epsilon)?,
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
        let (c, f) = (config.n_embd, config.n_inner);
        let name = |part| format!("blk.{layer}.{part}");
        let norm = |part| LayerNorm::load(source, &name(part), config.norm_epsilon);
        let linear = |part, width| Linear::load(source, &name(part), width, true);
        Ok(Block {
            attention_norm: norm("attn_norm")?,
            qkv: Projection::new(vec![linear("attn_qkv", c)?], [c, c, c]),
            attention_output: linear("attn_output", c)?,
            feed_forward_norm: norm("ffn_norm")?,
            up: linear("ffn_up", c)?,
            down: linear("ffn_down", f)?,
        })
    }

    /// Every matrix, in the order of computation.
    pub fn matrices(&self) -> Vec<&Linear> {
        let Block { qkv, attention_output, up, down, .. } = self;
        qkv.linears().iter().chain([attention_output, up, down]).collect()
    }
}

/// Every tensor that a model of these settings has.
pub(crate) fn expected(config: &ModelConfig) -> Vec<Expected> {
    let (c, f, v) = (config.n_embd, config.n_inner, config.vocab_size);
    let mut all = Vec::new();
    let mut add = |name: String, shape: &[usize]| {
        all.push(Expected { name, shape: shape.to_vec() });
    };
    add("token_embd.weight".into(), &[v, c]);
    if config.architecture.rope_pairs().is_none() {
        add("position_embd.weight".into(), &[config.context_length, c]);
    }
    for layer in 0..config.n_layer {
        for norm in ["attn_norm", "ffn_norm"] {
            add(format!("blk.{layer}.{norm}.weight"), &[c]);
            add(format!("blk.{layer}.{norm}.bias"), &[c]);
        }
        for (matrix, rows, columns) in
            [("attn_qkv", 3 * c, c), ("attn_output", c, c), ("ffn_up", f, c), ("ffn_down", c, f)]
        {
            add(format!("blk.{layer}.{matrix}.weight"), &[rows, columns]);
            add(format!("blk.{layer}.{matrix}.bias"), &[rows]);
        }
    }
    add("output_norm.weight".into(), &[c]);
    add("output_norm.bias".into(), &[c]);
    if !config.tie_embeddings {
        add("output.weight".into(), &[v, c]);
    }
    all
}
