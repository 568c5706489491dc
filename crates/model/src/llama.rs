//! LLaMA (Touvron et al., 2023) and Qwen2 (Yang et al., 2024), in the order data meets it.
//!
//! ```text
//! tokens -> wte -> dropout -> [ x + attn(attn_norm(x)), x + mlp(ffn_norm(x)) ] * n_layer -> norm -> head
//! ```
//!
//! Qwen2 is a LLaMA with biases on query, key and value, whose rotation pairs the halves of a head
//! and not neighbours. The reference is `modeling_llama.py` of transformers; dropout is where GPT-2
//! has it. Names are llama.cpp's. As in [`crate::gpt2`], everything is kept as `[N, C]`.

use burn::module::Module;
use burn::tensor::{Int, Tensor};
use config::ModelConfig;
use kernels::{Pass, dropout, grouped_attention, swiglu};

use crate::family::{Family, Frame, through};
use crate::layers::{Embedding, Linear, Loader, RmsNorm};
use crate::trace::Trace;

/// The whole model.
#[derive(Module, Debug)]
pub struct Llama {
    /// Token embedding `[V, C]`.
    pub wte: Embedding,
    /// The transformer blocks, first to last.
    pub blocks: Vec<Block>,
    /// The last normalisation.
    pub norm: RmsNorm,
    /// The output head `[C, V]`, without bias; where there is none, `wte` turned.
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
        let ModelConfig { vocab_size, n_embd, n_layer, norm_epsilon, .. } = *config;
        Ok(Llama {
            wte: Embedding::load(loader, "wte", [vocab_size, n_embd])?,
            blocks: (0..n_layer)
                .map(|i| Block::load(config, loader, i))
                .collect::<Result<_, E>>()?,
            norm: RmsNorm::load(loader, "norm", n_embd, norm_epsilon)?,
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

    fn hidden(&self, tokens: Tensor<2, Int>, pass: Pass, trace: &mut Trace) -> Tensor<2> {
        let frame = Frame::new(&self.config, tokens.dims(), &self.wte);
        let x = self.wte.forward(tokens.flatten(0, 1), pass.precision); // [N, C]
        trace.keep(|| "wte".to_owned(), &x);
        let x = dropout(x, pass.at(0).dropout);
        let x = through(&self.blocks, x, Block::forward, &frame, pass, trace);
        let x = self.norm.forward(x);
        trace.keep(|| "norm".to_owned(), &x);
        x
    }
}

/// Attention and feed-forward, each behind a normalisation and beside a residual.
#[derive(Module, Debug)]
pub struct Block {
    /// Before attention.
    pub attn_norm: RmsNorm,
    /// Attention.
    pub attn: Attention,
    /// Before the feed-forward layer.
    pub ffn_norm: RmsNorm,
    /// Feed-forward.
    pub mlp: Mlp,
}

impl Block {
    fn load<E>(config: &ModelConfig, loader: &mut Loader<'_, E>, i: usize) -> Result<Self, E> {
        let (c, epsilon) = (config.n_embd, config.norm_epsilon);
        Ok(Block {
            attn_norm: RmsNorm::load(loader, &format!("blocks.{i}.attn_norm"), c, epsilon)?,
            attn: Attention::load(config, loader, &format!("blocks.{i}.attn"))?,
            ffn_norm: RmsNorm::load(loader, &format!("blocks.{i}.ffn_norm"), c, epsilon)?,
            mlp: Mlp::load(config, loader, &format!("blocks.{i}.mlp"))?,
        })
    }

    /// `x [N, C]` -> `[N, C]`; dropout sites 0 and 1 are in attention, 2 in the feed-forward.
    fn forward(
        &self,
        x: Tensor<2>,
        frame: &Frame,
        pass: Pass,
        i: usize,
        trace: &mut Trace,
    ) -> Tensor<2> {
        let normed = self.attn_norm.forward(x.clone());
        trace.keep(|| format!("h.{i}.attn_norm"), &normed);
        let x = x + self.attn.forward(normed, frame, pass, i, trace);
        trace.keep(|| format!("h.{i}.attn.residual"), &x);
        let normed = self.ffn_norm.forward(x.clone());
        trace.keep(|| format!("h.{i}.ffn_norm"), &normed);
        let x = x + self.mlp.forward(normed, pass.at(2), i, trace);
        trace.keep(|| format!("h.{i}"), &x);
        x
    }
}

/// Causal self-attention in which each head of keys and values serves `H / K` heads of queries
/// (Ainslie et al., 2023).
#[derive(Module, Debug)]
pub struct Attention {
    /// Queries `[C, C]`.
    pub q: Linear,
    /// Keys `[C, K D]`.
    pub k: Linear,
    /// Values `[C, K D]`.
    pub v: Linear,
    /// Back to the residual stream `[C, C]`.
    pub output: Linear,
    n_head: usize,
    n_kv_head: usize,
}

impl Attention {
    fn load<E>(config: &ModelConfig, loader: &mut Loader<'_, E>, path: &str) -> Result<Self, E> {
        let (c, kv, bias) = (config.n_embd, config.kv_width(), config.qkv_bias);
        Ok(Attention {
            q: Linear::load(loader, &format!("{path}.q"), [c, c], bias)?,
            k: Linear::load(loader, &format!("{path}.k"), [c, kv], bias)?,
            v: Linear::load(loader, &format!("{path}.v"), [c, kv], bias)?,
            output: Linear::load(loader, &format!("{path}.output"), [c, c], false)?,
            n_head: config.n_head,
            n_kv_head: config.n_kv_head,
        })
    }

    /// `x [N, C]` -> `[N, C]`.
    fn forward(
        &self,
        x: Tensor<2>,
        frame: &Frame,
        pass: Pass,
        i: usize,
        trace: &mut Trace,
    ) -> Tensor<2> {
        let q = frame.rotate(self.q.forward(x.clone(), pass.precision)); // [N, H D]
        let k = frame.rotate(self.k.forward(x.clone(), pass.precision)); // [N, K D]
        let v = self.v.forward(x, pass.precision); // [N, K D]
        for (name, tensor) in [("q", &q), ("k", &k), ("v", &v)] {
            trace.keep(|| format!("h.{i}.attn.{name}"), tensor);
        }
        let y = grouped_attention(q, k, v, [self.n_head, self.n_kv_head], frame.mask(), pass.at(0));
        trace.keep(|| format!("h.{i}.attn.heads"), &y); // [N, C]
        let y = self.output.forward(y, pass.precision);
        trace.keep(|| format!("h.{i}.attn.output"), &y);
        dropout(y, pass.at(1).dropout)
    }
}

/// The feed-forward layer: up to `F`, gated by SiLU (SwiGLU, Shazeer, 2020), down again.
#[derive(Module, Debug)]
pub struct Mlp {
    /// `[C, F]`
    pub gate: Linear,
    /// `[C, F]`
    pub up: Linear,
    /// `[F, C]`
    pub down: Linear,
}

impl Mlp {
    fn load<E>(config: &ModelConfig, loader: &mut Loader<'_, E>, path: &str) -> Result<Self, E> {
        let (c, f) = (config.n_embd, config.n_inner);
        Ok(Mlp {
            gate: Linear::load(loader, &format!("{path}.gate"), [c, f], false)?,
            up: Linear::load(loader, &format!("{path}.up"), [c, f], false)?,
            down: Linear::load(loader, &format!("{path}.down"), [f, c], false)?,
        })
    }

    /// `x [N, C]` -> `[N, C]`.
    fn forward(&self, x: Tensor<2>, pass: Pass, i: usize, trace: &mut Trace) -> Tensor<2> {
        let gate = self.gate.forward(x.clone(), pass.precision); // [N, F]
        let up = self.up.forward(x, pass.precision); // [N, F]
        if trace.is_on() {
            trace.keep(|| format!("h.{i}.mlp.swiglu"), &swiglu(gate.clone(), up.clone()));
        }
        let x = self.down.forward_swiglu(gate, up, pass.precision); // [N, C]
        trace.keep(|| format!("h.{i}.mlp.down"), &x);
        dropout(x, pass.dropout)
    }
}
