//! GPT-2 (Radford et al., 2019), top to bottom in the order data meets it.
//!
//! After OpenAI's `gpt-2/src/model.py` and Karpathy's nanoGPT; tensor names are llama.cpp's
//! (`LLM_ARCH_GPT2` in `llama-arch.cpp`), stage names minGPT's.

use config::ModelConfig;
use gguf::TensorSource;

use crate::ReferenceError;
use crate::attention::{Attended, Sizes, attend};
use crate::cache::{Cache, LayerCache};
use crate::matmul::{Rows, linear};
use crate::model::Decoder;
use crate::ops;
use crate::trace::Trace;
use crate::weights::{Expected, Linear, check, read};

/// The weights, in f32.
pub(crate) struct Gpt2 {
    n_head: usize,
    n_embd: usize,
    /// `wte`, `[V, C]`
    token_embedding: Vec<f32>,
    /// `wpe`, `[context_length, C]`
    position_embedding: Vec<f32>,
    blocks: Vec<Block>,
    /// `ln_f`
    output_norm: LayerNorm,
    /// `lm_head`, `[V, C]`; none where the head shares the token embedding.
    output: Option<Vec<f32>>,
}

struct Block {
    /// `ln_1`
    attention_norm: LayerNorm,
    /// `attn.c_attn`, rows: all Q, all K, all V
    qkv: Linear,
    /// `attn.c_proj`
    attention_output: Linear,
    /// `ln_2`
    feed_forward_norm: LayerNorm,
    /// `mlp.c_fc`
    up: Linear,
    /// `mlp.c_proj`
    down: Linear,
}

struct LayerNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    epsilon: f32,
}

impl Decoder for Gpt2 {
    fn hidden(&self, tokens: &[u32], cache: &mut Cache, trace: &mut Trace) -> Vec<f32> {
        let (t, c) = (tokens.len(), self.n_embd);
        let mut x = self.embed(tokens, cache.len, trace); // [T, C]
        let (past, capacity) = (cache.len, cache.capacity);
        let sizes =
            Sizes { queries: t, past, heads: self.n_head, head_width: c / self.n_head, capacity };
        for (layer, (block, cache)) in self.blocks.iter().zip(&mut cache.layers).enumerate() {
            block.forward(&mut x, cache, &sizes, &mut |step, shape, data| {
                trace.keep(|| format!("h.{layer}.{step}"), shape, data);
                trace.is_on()
            });
        }
        cache.len += t;
        x
    }

    fn logits(&self, hidden: &[f32], trace: &mut Trace) -> Vec<f32> {
        let (t, c) = (hidden.len() / self.n_embd, self.n_embd);
        let x = self.output_norm.forward(hidden); // [T, C]
        trace.keep(|| "ln_f".into(), &[t, c], &x);
        let head = Rows::new(self.output.as_ref().unwrap_or(&self.token_embedding), c);
        let logits = linear(Rows::new(&x, c), head, None); // [T, V]
        trace.keep(|| "lm_head".into(), &[t, logits.len() / t], &logits);
        logits
    }
}

impl Gpt2 {
    /// The sum of what a token is and where it stands, `[T] -> [T, C]`.
    fn embed(&self, tokens: &[u32], past: usize, trace: &mut Trace) -> Vec<f32> {
        let (t, c) = (tokens.len(), self.n_embd);
        let mut x = Vec::with_capacity(t * c);
        for &token in tokens {
            let row = token as usize * c;
            x.extend_from_slice(&self.token_embedding[row..row + c]);
        }
        let positions = &self.position_embedding[past * c..(past + t) * c];
        trace.keep(|| "tok_emb".into(), &[t, c], &x);
        trace.keep(|| "pos_emb".into(), &[t, c], positions);
        ops::add(&mut x, positions);
        trace.keep(|| "x".into(), &[t, c], &x);
        x
    }
}

/// Takes a step's name, shape and data; says whether anybody looks.
type Look<'a> = &'a mut dyn FnMut(&str, &[usize], &[f32]) -> bool;

impl Block {
    /// `x += attention(norm(x)); x += feed_forward(norm(x))`, `[T, C]` in place.
    fn forward(&self, x: &mut [f32], cache: &mut LayerCache, sizes: &Sizes, look: Look<'_>) {
        let (t, c) = (sizes.queries, sizes.heads * sizes.head_width);

        let normed = self.attention_norm.forward(x); // [T, C]
        look("ln_1", &[t, c], &normed);
        ops::add(x, &self.attention(&normed, cache, sizes, look));
        look("attn_residual", &[t, c], x);

        let normed = self.feed_forward_norm.forward(x); // [T, C]
        look("ln_2", &[t, c], &normed);
        ops::add(x, &self.feed_forward(&normed, t, look));
        look("output", &[t, c], x);
    }

    /// `[T, C] -> [T, C]`; new keys and values go into the cache.
    fn attention(
        &self,
        x: &[f32],
        cache: &mut LayerCache,
        sizes: &Sizes,
        look: Look<'_>,
    ) -> Vec<f32> {
        let (t, c) = (sizes.queries, sizes.heads * sizes.head_width);
        let qkv = self.qkv.forward(x); // [T, 3C]
        let keep_steps = look("attn.qkv", &[t, 3 * c], &qkv);
        for (i, row) in qkv.chunks_exact(3 * c).enumerate() {
            cache.put(sizes.past + i, sizes.capacity, &row[c..2 * c], &row[2 * c..]);
        }
        let Attended { y, scores, weights } = attend(&qkv, 3 * c, cache, sizes, keep_steps);
        if keep_steps {
            let shape = [sizes.heads, t, sizes.past + t];
            look("attn.scores", &shape, &scores);
            look("attn.weights", &shape, &weights);
        }
        look("attn.y", &[t, c], &y);
        let y = self.attention_output.forward(&y); // [T, C]
        look("attn.c_proj", &[t, c], &y);
        y
    }

    /// `[T, C] -> [T, F] -> [T, C]`
    fn feed_forward(&self, x: &[f32], t: usize, look: Look<'_>) -> Vec<f32> {
        let mut wide = self.up.forward(x); // [T, F]
        look("mlp.c_fc", &[t, wide.len() / t], &wide);
        ops::gelu(&mut wide);
        look("mlp.gelu", &[t, wide.len() / t], &wide);
        let y = self.down.forward(&wide); // [T, C]
        look("mlp.c_proj", &[t, y.len() / t], &y);
        y
    }
}

impl LayerNorm {
    fn forward(&self, x: &[f32]) -> Vec<f32> {
        ops::layer_norm(x, &self.weight, &self.bias, self.epsilon)
    }

    fn load(source: &dyn TensorSource, name: &str, epsilon: f32) -> Result<Self, ReferenceError> {
        Ok(LayerNorm {
            weight: read(source, &format!("{name}.weight"))?,
            bias: read(source, &format!("{name}.bias"))?,
            epsilon,
        })
    }
}

impl Gpt2 {
    /// Checks every name and shape, then dequantizes the weights.
    pub fn load(config: &ModelConfig, source: &dyn TensorSource) -> Result<Self, ReferenceError> {
        check(source, &expected(config), config.architecture.name())?;
        let epsilon = config.norm_epsilon;
        let block = |layer: usize| -> Result<Block, ReferenceError> {
            let norm = |part| LayerNorm::load(source, &format!("blk.{layer}.{part}"), epsilon);
            let linear = |part| Linear::load(source, &format!("blk.{layer}.{part}"));
            Ok(Block {
                attention_norm: norm("attn_norm")?,
                qkv: linear("attn_qkv")?,
                attention_output: linear("attn_output")?,
                feed_forward_norm: norm("ffn_norm")?,
                up: linear("ffn_up")?,
                down: linear("ffn_down")?,
            })
        };
        let untied = !config.tie_embeddings;
        Ok(Gpt2 {
            n_head: config.n_head,
            n_embd: config.n_embd,
            token_embedding: read(source, "token_embd.weight")?,
            position_embedding: read(source, "position_embd.weight")?,
            blocks: (0..config.n_layer).map(block).collect::<Result<_, _>>()?,
            output_norm: LayerNorm::load(source, "output_norm", epsilon)?,
            output: untied.then(|| read(source, "output.weight")).transpose()?,
        })
    }
}

/// Every tensor that a model of these settings has.
fn expected(config: &ModelConfig) -> Vec<Expected> {
    let (c, f, v) = (config.n_embd, config.n_inner, config.vocab_size);
    let mut all = Vec::new();
    let mut add = |name: String, shape: &[usize]| {
        all.push(Expected { name, shape: shape.to_vec() });
    };
    add("token_embd.weight".into(), &[v, c]);
    add("position_embd.weight".into(), &[config.context_length, c]);
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
