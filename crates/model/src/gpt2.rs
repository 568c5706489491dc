//! GPT-2 (Radford et al., 2019), in the order data meets it.
//!
//! ```text
//! tokens -> wte + wpe -> dropout -> [ x + attn(ln_1(x)), x + mlp(ln_2(x)) ] * n_layer -> ln_f -> head
//! ```
//!
//! Names are OpenAI's own. The reference is `model.py` of nanoGPT, and `modeling_gpt2.py` of
//! transformers for what nanoGPT leaves out. Everything between attention's inner products is
//! kept as `[N, C]` with `N = B * T`, because a product with a third dimension costs Burn one
//! weight gradient for each batch row.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use config::{Initialization, ModelConfig};
use kernels::{
    CausalMask, Pass, Precision, attention_probabilities, causal_attention, dropout, gelu, random,
    split_heads,
};

use crate::layers::{Embedding, LayerNorm, Linear, Loader};
use crate::trace::Trace;

/// The whole model.
#[derive(Module, Debug)]
pub struct Gpt2 {
    /// Token embedding `[V, C]`.
    pub wte: Embedding,
    /// Position embedding `[context_length, C]`.
    pub wpe: Embedding,
    /// The transformer blocks, first to last.
    pub blocks: Vec<Block>,
    /// The last normalisation.
    pub ln_f: LayerNorm,
    /// The output head `[C, V]`, without bias; where there is none, `wte` turned.
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
        Ok(Gpt2 {
            wte: Embedding::load(loader, "wte", [vocab_size, n_embd])?,
            wpe: Embedding::load(loader, "wpe", [context_length, n_embd])?,
            blocks: (0..n_layer)
                .map(|i| Block::load(config, loader, i))
                .collect::<Result<_, E>>()?,
            ln_f: LayerNorm::load(loader, "ln_f", n_embd, config.norm_epsilon)?,
            lm_head: (!config.tie_embeddings)
                .then(|| Linear::load(loader, "lm_head", [n_embd, vocab_size], false))
                .transpose()?,
            config: config.clone(),
        })
    }

    /// What the shapes follow from.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The residual stream after the last normalisation, which the head turns into logits.
    ///
    /// # Shapes
    /// `tokens [B, T]` -> `[N, C]`.
    pub fn hidden(&self, tokens: Tensor<2, Int>, pass: Pass, trace: &mut Trace) -> Tensor<2> {
        let [b, t] = tokens.dims();
        let mask = CausalMask::new(t, &self.device());
        let mut x = dropout(self.embed(tokens, trace), pass.at(0).dropout); // [N, C]
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(x, [b, t], &mask, pass.at(i as u64 + 1), i, trace);
        }
        let x = self.ln_f.forward(x);
        trace.keep(|| "ln_f".to_owned(), &x);
        x
    }

    /// `tokens [B, T]` -> `[N, C]`.
    fn embed(&self, tokens: Tensor<2, Int>, trace: &mut Trace) -> Tensor<2> {
        let [b, t] = tokens.dims();
        let c = self.config.n_embd;
        let tok_emb = self.wte.forward(tokens.flatten(0, 1)); // [N, C]
        let pos_emb = self.wpe.weight.val().slice([0..t, 0..c]); // [T, C]
        trace.keep(|| "wte".to_owned(), &tok_emb);
        trace.keep(|| "wpe".to_owned(), &pos_emb);
        let x = tok_emb.reshape([b, t, c]) + pos_emb.unsqueeze::<3>(); // [B, T, C]
        let x = x.reshape([b * t, c]);
        trace.keep(|| "embedding".to_owned(), &x);
        x
    }

    /// Logits for the token after each position.
    ///
    /// # Shapes
    /// `x [N, C]` -> `[N, V]`.
    pub fn head(&self, x: Tensor<2>, precision: Precision) -> Tensor<2> {
        match &self.lm_head {
            Some(head) => head.forward(x, precision),
            None => kernels::linear(x, self.wte.weight.val().transpose(), None, precision),
        }
    }

    /// Mean cross-entropy of the targets in nats, without all logits at once.
    ///
    /// # Shapes
    /// `x [N, C]`, `targets [N]` -> `[1]`.
    pub fn head_loss(
        &self,
        x: Tensor<2>,
        targets: Tensor<1, Int>,
        precision: Precision,
    ) -> Tensor<1> {
        let (weight, tied) = match &self.lm_head {
            Some(head) => (head.weight.val(), false),
            None => (self.wte.weight.val(), true),
        };
        kernels::head_loss(x, weight, tied, targets, precision)
    }

    /// The device that holds the weights, without autodiff: for tensors that want no gradient.
    fn device(&self) -> Device {
        self.wte.weight.device().inner()
    }
}

/// Attention and feed-forward, each behind a normalisation and beside a residual.
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
        batch_time: [usize; 2],
        mask: &CausalMask,
        pass: Pass,
        i: usize,
        trace: &mut Trace,
    ) -> Tensor<2> {
        let normed = self.ln_1.forward(x.clone());
        trace.keep(|| format!("h.{i}.ln_1"), &normed);
        let x = x + self.attn.forward(normed, batch_time, mask, pass, i, trace);
        trace.keep(|| format!("h.{i}.attn.residual"), &x);
        let normed = self.ln_2.forward(x.clone());
        trace.keep(|| format!("h.{i}.ln_2"), &normed);
        let x = x + self.mlp.forward(normed, pass.at(2), i, trace);
        trace.keep(|| format!("h.{i}"), &x);
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
        [b, t]: [usize; 2],
        mask: &CausalMask,
        pass: Pass,
        i: usize,
        trace: &mut Trace,
    ) -> Tensor<2> {
        let h = self.n_head;
        let qkv = self.c_attn.forward(x, pass.precision); // [N, 3 C]
        trace.keep(|| format!("h.{i}.attn.c_attn"), &qkv);
        if trace.is_on() {
            let [_, columns] = qkv.dims();
            let [q, k, v] = split_heads(qkv.clone(), [b, t, h, columns / 3 / h]); // [B, H, T, D]
            let weights = attention_probabilities(q.clone(), k.clone(), mask);
            for (name, tensor) in [("q", &q), ("k", &k), ("v", &v), ("weights", &weights)] {
                trace.keep(|| format!("h.{i}.attn.{name}"), tensor);
            }
        }
        let y = causal_attention(qkv, h, mask, pass.at(0)); // [N, C]
        trace.keep(|| format!("h.{i}.attn.heads"), &y);
        let y = self.c_proj.forward(y, pass.precision);
        trace.keep(|| format!("h.{i}.attn.c_proj"), &y);
        dropout(y, pass.at(1).dropout)
    }
}

/// The feed-forward layer: up to `F`, GELU, down again.
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
    fn forward(&self, x: Tensor<2>, pass: Pass, i: usize, trace: &mut Trace) -> Tensor<2> {
        let x = self.c_fc.forward(x, pass.precision); // [N, F]
        trace.keep(|| format!("h.{i}.mlp.c_fc"), &x);
        let x = gelu(x);
        trace.keep(|| format!("h.{i}.mlp.gelu"), &x);
        let x = self.c_proj.forward(x, pass.precision); // [N, C]
        trace.keep(|| format!("h.{i}.mlp.c_proj"), &x);
        dropout(x, pass.dropout)
    }
}

/// A weight before training. Scales start at 1 and shifts at 0; for the rest see
/// [`Initialization`].
///
/// [`Initialization::Gpt2`]: the projections into the residual stream are narrower by
/// `sqrt(2 n_layer)`, so that the stream's variance does not grow with the depth; biases are 0
/// (Radford et al., 2019, 2.3; nanoGPT's `model.py`).
pub fn initial_values(
    config: &ModelConfig,
    initialization: Initialization,
    seed: u64,
    path: &str,
    shape: &[usize],
) -> Vec<f32> {
    const DEVIATION: f32 = 0.02;
    let len = shape.iter().product();
    let key = random::derive_named(seed, path);
    let name = path.rsplit('.').next();
    match (name, initialization) {
        (Some("gamma"), _) => vec![1.0; len],
        (Some("beta"), _) | (Some("bias"), Initialization::Gpt2) => vec![0.0; len],
        (_, Initialization::Gpt2) if path.ends_with("c_proj.weight") => {
            random::normal(key, len, DEVIATION / (2.0 * config.n_layer as f32).sqrt())
        }
        (_, Initialization::Gpt2) => random::normal(key, len, DEVIATION),
        _ if path.starts_with("wte.") || path.starts_with("wpe.") => random::normal(key, len, 1.0),
        _ => {
            let inputs = if path.contains("mlp.c_proj") { config.n_inner } else { config.n_embd };
            random::uniform_within(key, len, 1.0 / (inputs as f32).sqrt())
        }
    }
}
