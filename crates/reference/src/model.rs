//! A loaded model of any architecture, and a session that reads tokens step by step.

use std::sync::Arc;

use config::{ForwardStage, ModelConfig, StageValues};
use gguf::TensorSource;

use crate::ReferenceError;
use crate::cache::Cache;
use crate::gpt2::Gpt2;
use crate::layers::head_tensor;
use crate::llama::Llama;
use crate::trace::{MatrixInput, Trace};

/// What each architecture implements; everything else here is the same for all.
pub(crate) trait Decoder: Send + Sync {
    /// The residual stream after the last block, `[T] -> [T, C]`. Appends to the cache, whose
    /// capacity must suffice; token ids must be in range. Fails if weights have to be read during
    /// the pass and cannot be read.
    fn hidden(
        &self,
        tokens: &[u32],
        cache: &mut Cache,
        trace: &mut Trace<'_>,
    ) -> Result<Vec<f32>, ReferenceError>;

    /// The last norm, `[T, C] -> [T, C]`.
    fn normed(&self, hidden: &[f32], trace: &mut Trace<'_>) -> Vec<f32>;

    /// The head, `[T, C] -> [T, V]`.
    fn logits(&self, normed: &[f32]) -> Vec<f32>;
}

/// A model with its weights in f32. Clones share the weights.
#[derive(Clone)]
pub struct Model {
    config: Arc<ModelConfig>,
    decoder: Arc<dyn Decoder>,
}

impl Model {
    /// Reads settings and weights, and dequantizes everything to f32: 4 bytes per parameter.
    ///
    /// # Errors
    /// An unknown architecture, a missing or unexpected tensor, a wrong shape (all found before
    /// any weight is read), or bytes that cannot be read.
    pub fn load(source: &dyn TensorSource) -> Result<Self, ReferenceError> {
        let config = checkpoint::gguf_config(source)?;
        Self::from_parts(config, source)
    }

    /// Like [`Model::load`], with settings that do not come from the source's metadata.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn from_parts(
        config: ModelConfig,
        source: &dyn TensorSource,
    ) -> Result<Self, ReferenceError> {
        check_config(&config)?;
        let decoder: Arc<dyn Decoder> = match config.architecture.is_gated() {
            true => Arc::new(Llama::load(&config, source)?),
            false => Arc::new(Gpt2::load(&config, source)?),
        };
        Ok(Model { config: Arc::new(config), decoder })
    }

    /// The settings.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// One causal pass: token ids `[T]` to logits `[T, V]`, row-major.
    ///
    /// # Errors
    /// No tokens, more than the context holds, or an id beyond the vocabulary.
    pub fn logits(&self, tokens: &[u32]) -> Result<Vec<f32>, ReferenceError> {
        self.check_tokens(tokens, 0)?;
        let mut cache = self.cache(tokens.len());
        let hidden = self.decoder.hidden(tokens, &mut cache, &mut Trace::Off)?;
        Ok(self.decoder.logits(&self.decoder.normed(&hidden, &mut Trace::Off)))
    }

    /// Passes the inputs of all matrices in one causal pass to `inputs`, one after the other.
    ///
    /// `inputs` gets the names of the tensors that share an input (`blk.3.attn_qkv.weight` alone;
    /// `blk.3.ffn_gate.weight` and `blk.3.ffn_up.weight`) and that input, `[T, in]`, row-major. The
    /// last one is the head's, under `output.weight` or, if the head is tied, `token_embd.weight`.
    /// They are the stages `attn_norm`, `attn_heads`, `ffn_norm` and `ffn_activated` of each block in
    /// [`Model::stages`], and `output_norm`, but nothing is kept, and no logits are computed. Matrices of experts, which only some tokens use, are left out.
    ///
    /// # Errors
    /// As [`Model::logits`]; `inputs` was not called then.
    pub fn observe(
        &self,
        tokens: &[u32],
        inputs: &mut dyn FnMut(&[&str], &[f32]),
    ) -> Result<(), ReferenceError> {
        self.check_tokens(tokens, 0)?;
        let mut all_see = |input: MatrixInput<'_>| input.hand_to(inputs);
        let mut trace = Trace::Inputs(&mut all_see);
        let mut cache = self.cache(tokens.len());
        let hidden = self.decoder.hidden(tokens, &mut cache, &mut trace)?;
        let normed = self.decoder.normed(&hidden, &mut trace);
        trace.input(head_tensor(&self.config), self.config.n_embd, &normed);
        Ok(())
    }

    /// Every intermediate result of [`Model::logits`], in the order they are computed.
    ///
    /// Their names are the same for all families: [`config::ForwardStage`].
    ///
    /// # Errors
    /// As [`Model::logits`].
    pub fn stages(&self, tokens: &[u32]) -> Result<Vec<StageValues>, ReferenceError> {
        self.check_tokens(tokens, 0)?;
        let mut trace = Trace::Stages(Vec::new());
        let mut cache = self.cache(tokens.len());
        let hidden = self.decoder.hidden(tokens, &mut cache, &mut trace)?;
        let normed = self.decoder.normed(&hidden, &mut trace);
        let logits = self.decoder.logits(&normed);
        trace.keep(ForwardStage::Logits, tokens.len(), &logits);
        Ok(trace.into_stages())
    }

    /// A session that starts at the first position. Its cache is enlarged as tokens are read, so
    /// that a large context length in a file alone does not take memory.
    pub fn session(&self) -> Session {
        const FIRST: usize = 128;
        Session {
            cache: self.cache(self.config.context_length.min(FIRST)),
            model: self.clone(),
            tokens: Vec::new(),
        }
    }

    fn cache(&self, capacity: usize) -> Cache {
        Cache::new(self.config.n_layer, self.config.kv_width(), capacity)
    }

    fn check_tokens(&self, tokens: &[u32], past: usize) -> Result<(), ReferenceError> {
        check_tokens(&self.config, tokens, past)
    }
}

/// Refuses tokens that the model cannot read after `past` others.
pub(crate) fn check_tokens(
    config: &ModelConfig,
    tokens: &[u32],
    past: usize,
) -> Result<(), ReferenceError> {
    let (limit, vocab_size) = (config.context_length, config.vocab_size);
    if tokens.is_empty() {
        return Err(ReferenceError::NoTokens);
    }
    let wanted = past + tokens.len();
    if wanted > limit {
        return Err(ReferenceError::ContextOverflow { wanted, limit });
    }
    match tokens.iter().position(|&token| token as usize >= vocab_size) {
        Some(position) => {
            let token = tokens[position];
            Err(ReferenceError::TokenOutOfRange { token, position, vocab_size })
        }
        None => Ok(()),
    }
}

/// Reads a text step by step; keys and values of the tokens read so far are cached.
pub struct Session {
    model: Model,
    cache: Cache,
    /// The tokens read so far, for models whose rotation depends on their number.
    tokens: Vec<u32>,
}

impl Session {
    /// Reads more tokens and returns the logits `[V]` for the token after the last one. These have
    /// the same bits however the tokens are split over calls. If a longer text is rotated by other
    /// angles (LongRoPE), the call that reaches this length reads the whole text again.
    ///
    /// # Errors
    /// As [`Model::logits`]; nothing was read then.
    pub fn push(&mut self, tokens: &[u32]) -> Result<Vec<f32>, ReferenceError> {
        self.logits_from(tokens, tokens.len().saturating_sub(1))
    }

    /// Reads more tokens and returns the logits after those from place `first` of them on,
    /// `[T] -> [T - first, V]`; otherwise as [`Session::push`].
    ///
    /// # Errors
    /// As [`Model::logits`]; nothing was read then.
    pub fn logits_from(
        &mut self,
        tokens: &[u32],
        first: usize,
    ) -> Result<Vec<f32>, ReferenceError> {
        let before = self.tokens.len();
        self.model.check_tokens(tokens, before)?;
        let after = before + tokens.len();
        self.cache.reserve(after);
        self.tokens.extend_from_slice(tokens);
        if self.model.config.rotation_changes(before, after) {
            self.cache.len = 0;
        }
        let unread = &self.tokens[self.cache.len..];
        let decoder = &self.model.decoder;
        let hidden = decoder.hidden(unread, &mut self.cache, &mut Trace::Off)?;
        let wanted = tokens.len().saturating_sub(first) * self.model.config.n_embd;
        if wanted == 0 {
            return Ok(Vec::new());
        }
        let last = &hidden[hidden.len() - wanted..];
        Ok(decoder.logits(&decoder.normed(last, &mut Trace::Off)))
    }

    /// Forgets all tokens but the first `tokens`. If a shorter text is rotated by other angles
    /// (LongRoPE), the next call reads them again.
    pub fn truncate(&mut self, tokens: usize) {
        let before = self.tokens.len();
        if tokens >= before {
            return;
        }
        self.tokens.truncate(tokens);
        let rotates = tokens > 0 && self.model.config.rotation_changes(tokens, before);
        self.cache.len = if rotates { 0 } else { self.cache.len.min(tokens) };
    }

    /// Tokens read so far.
    pub fn position(&self) -> usize {
        self.tokens.len()
    }

    /// The model that reads.
    pub fn model(&self) -> &Model {
        &self.model
    }
}

/// Refuses settings with which a pass is not possible.
pub(crate) fn check_config(config: &ModelConfig) -> Result<(), ReferenceError> {
    let sizes = [
        ("vocab_size", config.vocab_size),
        ("context_length", config.context_length),
        ("n_layer", config.n_layer),
        ("n_head", config.n_head),
        ("n_kv_head", config.n_kv_head),
        ("n_embd", config.n_embd),
        ("n_inner", config.n_inner),
    ];
    if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
        return Err(ReferenceError::Config { reason: format!("{name} = 0: expected at least 1") });
    }
    let divides = |name: &str, n: usize, of: &str, total: usize| match total % n {
        0 => Ok(()),
        _ => {
            let reason = format!("{name} = {n}: expected a divisor of {of} = {total}");
            Err(ReferenceError::Config { reason })
        }
    };
    if config.attention.head_width.is_none() {
        divides("n_head", config.n_head, "n_embd", config.n_embd)?;
    }
    divides("n_kv_head", config.n_kv_head, "n_head", config.n_head)?;
    let rotates = config.architecture.rope_pairs().is_some();
    if rotates && !config.head_width().is_multiple_of(2) {
        let reason = format!(
            "heads of width {}: expected an even width, since positions rotate pairs of channels",
            config.head_width()
        );
        return Err(ReferenceError::Config { reason });
    }
    if !config.architecture.is_gated() && config.n_kv_head != config.n_head {
        let reason = format!(
            "n_kv_head = {}: expected n_head = {}, since {} has one head of keys for each of \
             queries",
            config.n_kv_head,
            config.n_head,
            config.architecture.name()
        );
        return Err(ReferenceError::Config { reason });
    }
    Ok(())
}
