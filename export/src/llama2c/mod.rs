//! A model in the first file format of llama2.c, seen as a LLaMA in Hugging Face's form.
//!
//! ```text
//! i32 x 7   dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, seq_len
//!           (vocab_size < 0: the head has a matrix of its own)      all little-endian
//! f32       token embedding [V, C]
//!           attention norms [L, C]; wq [L, C, C]; wk, wv [L, K*D, C]; wo [L, C, C]
//!           feed-forward norms [L, C]; w1 (gate) [L, F, C]; w2 (down) [L, C, F]; w3 (up) [L, F, C]
//!           final norm [C]
//!           cosines and sines of the rotation, [T, D / 2] each: they follow from the header
//!           head [V, C], if it has its own
//! ```
//!
//! Source: `legacy_export` in `export.py` and `memory_map_weights` in `run.c` of llama2.c. The
//! rotation pairs neighbours there, Hugging Face pairs halves: the rows of wq and wk are
//! reordered.

mod tokenizer;

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use checkpoint::names::{self, TensorName};
use checkpoint::{CheckpointError, Tensors, Vocabulary, atomic};
use config::{Architecture, ModelConfig, ROPE_BASE, limits};

/// Bytes of the seven numbers at the head of the file.
const HEADER: u64 = 28;

/// `rmsnorm` of `run.c`.
const NORM_EPSILON: f32 = 1e-5;

/// A llama2.c model and its tokenizer. Weights are read when they are asked for.
pub(crate) struct Llama2c {
    path: PathBuf,
    tokenizer_path: PathBuf,
    config: ModelConfig,
    tokenizer_json: String,
    /// In the order of the table of names.
    tensors: Vec<TensorName>,
    /// Where each tensor starts, in bytes from the start of the file, by Hugging Face's name.
    places: HashMap<String, u64>,
}

impl Llama2c {
    /// Reads the header and the tokenizer, and holds the size of the file against both.
    pub fn open(path: &Path, tokenizer_path: &Path) -> Result<Self> {
        let mut file = plain_file::open(path).with_context(|| path.display().to_string())?;
        let size = file.metadata().with_context(|| path.display().to_string())?.len();
        let mut header = [0; HEADER as usize];
        file.read_exact(&mut header).ok().with_context(|| {
            format!("{}: {size} bytes, shorter than llama2.c's header of 28", path.display())
        })?;
        let config = parse_header(&header)
            .with_context(|| format!("{} is no llama2.c model", path.display()))?;
        let tensors = names::tensors(&config);
        let (places, expected) = places(&config, &tensors);
        ensure!(
            size == expected,
            "{}: {size} bytes, expected {expected} for the {} layers and {} tokens of its header; \
             copy it again",
            path.display(),
            config.n_layer,
            config.vocab_size
        );
        let vocabulary = Vocabulary::from_llama2c(tokenizer_path, config.vocab_size)?;
        let tokenizer_json = tokenizer::to_json(&vocabulary)
            .with_context(|| format!("{} cannot be converted", tokenizer_path.display()))?;
        let (path, tokenizer_path) = (path.to_owned(), tokenizer_path.to_owned());
        Ok(Llama2c { path, tokenizer_path, config, tokenizer_json, tensors, places })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The text of a `tokenizer.json` that splits text as llama2.c does.
    pub fn tokenizer_json(&self) -> &str {
        &self.tokenizer_json
    }

    /// The name of the file without its ending.
    pub fn name(&self) -> String {
        let stem = self.path.file_stem();
        stem.map_or_else(|| "model".to_owned(), |stem| stem.to_string_lossy().into_owned())
    }

    /// Whether `path` is one of the two files that were read.
    pub fn consists_of(&self, path: &Path) -> bool {
        [&self.path, &self.tokenizer_path].iter().any(|own| atomic::same_place(own, path))
    }

    fn row(&self, name: &str) -> Result<(&TensorName, u64), CheckpointError> {
        let row = self.tensors.iter().find(|row| row.hugging_face == name);
        row.zip(self.places.get(name).copied()).ok_or_else(|| CheckpointError::MissingTensor {
            path: self.path.clone(),
            name: name.to_owned(),
        })
    }
}

impl Tensors for Llama2c {
    fn list(&self) -> Vec<(String, Vec<usize>)> {
        self.tensors.iter().map(|row| (row.hugging_face.clone(), row.shape.clone())).collect()
    }

    fn data(&self, name: &str) -> Result<Cow<'_, [f32]>, CheckpointError> {
        let (row, start) = self.row(name)?;
        let mut values = vec![0.0; row.elements()];
        read_at(&self.path, start, bytemuck::cast_slice_mut(&mut values))
            .map_err(|source| CheckpointError::Io { path: self.path.clone(), source })?;
        if row.rows.is_same() {
            return Ok(Cow::Owned(values));
        }
        let [rows, width] = [row.shape[0], row.shape[1]];
        let ordered = (0..rows).flat_map(|i| &values[row.rows.ours(i) * width..][..width]);
        Ok(Cow::Owned(ordered.copied().collect()))
    }
}

fn read_at(path: &Path, start: u64, out: &mut [u8]) -> io::Result<()> {
    let mut file = plain_file::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(out)
}

/// The settings in the first 28 bytes. They are everything that tells this format from any other
/// file, so each is held against what a model can be.
fn parse_header(bytes: &[u8; HEADER as usize]) -> Result<ModelConfig> {
    let (numbers, _) = bytes.as_chunks::<4>();
    let number = |i: usize| i32::from_le_bytes(numbers[i]);
    let size = |i: usize, name: &str, most: usize| -> Result<usize> {
        match usize::try_from(number(i)) {
            Ok(value) if (1..=most).contains(&value) => Ok(value),
            _ => bail!("{name} = {}, expected 1 to {most}", number(i)),
        }
    };
    let vocab_size = number(5).unsigned_abs() as usize;
    ensure!(
        (1..=limits::VOCAB_SIZE).contains(&vocab_size),
        "vocab_size = {}, expected 1 to {} (or negative, for a head of its own)",
        number(5),
        limits::VOCAB_SIZE
    );
    let config = ModelConfig {
        architecture: Architecture::Llama,
        vocab_size,
        context_length: size(6, "seq_len", limits::CONTEXT_LENGTH)?,
        n_layer: size(2, "n_layers", limits::N_LAYER)?,
        n_head: size(3, "n_heads", limits::N_HEAD)?,
        n_kv_head: size(4, "n_kv_heads", limits::N_HEAD)?,
        n_embd: size(0, "dim", limits::N_EMBD)?,
        n_inner: size(1, "hidden_dim", limits::N_INNER)?,
        norm_epsilon: NORM_EPSILON,
        rope_base: ROPE_BASE,
        qkv_bias: false,
        tie_embeddings: number(5) > 0,
        dropout: 0.0,
        attention: config::Attention::default(),
        experts: None,
    };
    let (c, h, k) = (config.n_embd, config.n_head, config.n_kv_head);
    ensure!(h.is_multiple_of(k), "n_kv_heads = {k}, expected a divisor of n_heads = {h}");
    ensure!(
        c.is_multiple_of(h) && config.head_width().is_multiple_of(2),
        "n_heads = {h}, expected heads of an even width in dim = {c}"
    );
    Ok(config)
}

/// Where every tensor starts, by Hugging Face's name, and where the file ends.
///
/// The limits on each setting keep the sums far below 64 bits.
fn places(config: &ModelConfig, tensors: &[TensorName]) -> (HashMap<String, u64>, u64) {
    let mut places = HashMap::with_capacity(tensors.len());
    let mut at = HEADER;
    let mut place = |ending: &str| {
        for row in tensors.iter().filter(|row| row.gguf.ends_with(ending)) {
            places.insert(row.hugging_face.clone(), at);
            at += 4 * row.elements() as u64;
        }
    };
    // GGUF's names have one form for every layer; the table lists layers in order.
    place("token_embd.weight");
    for name in ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_output"] {
        place(&format!(".{name}.weight"));
    }
    for name in ["ffn_norm", "ffn_gate", "ffn_down", "ffn_up"] {
        place(&format!(".{name}.weight"));
    }
    place("output_norm.weight");
    at += 4 * (config.context_length * config.head_width()) as u64;
    let head = tensors.iter().find(|row| row.gguf == "output.weight");
    if let Some(head) = head {
        places.insert(head.hugging_face.clone(), at);
        at += 4 * head.elements() as u64;
    }
    (places, at)
}
