//! Small models with random weights, as GGUF files.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use config::{Architecture, Projections, QkNorm};
use gguf::{Array, Metadata, TensorType, Value, Writer, blocks};

/// Shape of a model.
#[derive(Debug, Clone, Copy)]
pub struct Model {
    /// Layers.
    pub layers: usize,
    /// Width `C`.
    pub width: u64,
    /// Width of the feed-forward layers, `F`.
    pub inner: u64,
    /// Whether the token embedding is also the output.
    pub tied: bool,
    /// The family: joined or split q, k, v; biases; gate; positions.
    pub architecture: Architecture,
    /// Heads of queries.
    pub heads: u64,
    /// Heads of keys and values.
    pub kv_heads: u64,
    /// The type of its matrices.
    pub matrices: TensorType,
    /// Experts of each feed-forward layer; 0 for a plain one.
    pub experts: u64,
    /// Rows of every matrix, if only the types matter; `None` for the number in the shape.
    pub rows: Option<u64>,
    /// Whether a text begins with the token 0.
    pub begins: bool,
    /// Whether each pair of channels has its own factor that slows its rotation, as in Llama 3.1.
    pub rope_factors: bool,
    /// An architecture that this project does not know, with the keys of `architecture`.
    pub foreign: Option<&'static str>,
}

const ROPE_FACTORS: &str = "rope_freqs.weight";

/// Ten layers, so that there is a first and a last eighth.
pub const GPT2: Model = Model {
    layers: 9,
    width: 256,
    inner: 256,
    tied: true,
    architecture: Architecture::Gpt2,
    heads: 4,
    kv_heads: 4,
    matrices: TensorType::F32,
    experts: 0,
    rows: None,
    begins: false,
    rope_factors: false,
    foreign: None,
};

/// Enough layers that thirds and eighths differ, with two heads of queries for each of keys.
#[allow(dead_code, reason = "not every test needs both")]
pub const LLAMA: Model =
    Model { layers: 12, architecture: Architecture::Llama, kv_heads: 2, tied: false, ..GPT2 };

const VOCABULARY: usize = 300;
const CONTEXT: u64 = 16;

impl Model {
    /// Writes the model to `path`; the same seed gives the same weights.
    pub fn write(&self, path: &Path, seed: u64) {
        self.write_with(path, seed, |_, _| {});
    }

    /// Writes the model with some weights changed by `alter(name, weights)`.
    pub fn write_with(&self, path: &Path, seed: u64, alter: impl Fn(&str, &mut [f32])) {
        let tensors = self.tensors();
        let out = BufWriter::new(File::create(path).unwrap());
        let mut writer = Writer::new(out, &self.metadata(), &tensors).unwrap();
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for (name, shape, tensor_type) in &tensors {
            let count = shape.iter().product::<u64>() as usize;
            let mut weights: Vec<f32> = match name.as_str() {
                ROPE_FACTORS => (0..count).map(|pair| 1.0 + pair as f32).collect(),
                _ => (0..count).map(|_| bell(&mut random) * 0.05).collect(),
            };
            alter(name, &mut weights);
            let mut bytes = vec![0; tensor_type.size_of(shape).unwrap() as usize];
            match tensor_type {
                TensorType::F32 => bytes.copy_from_slice(bytemuck::cast_slice(&weights)),
                _ => blocks::quantize(*tensor_type, &weights, shape[0] as usize, None, &mut bytes)
                    .unwrap(),
            }
            writer.write_tensor(name, &bytes).unwrap();
        }
        writer.finish().unwrap();
    }

    /// Name, shape and type of each tensor.
    pub fn tensors(&self) -> Vec<(String, Vec<u64>, TensorType)> {
        let (width, vocabulary) = (self.width, VOCABULARY as u64);
        let mut tensors = Vec::new();
        let mut add = |name: String, shape: &[u64]| {
            let vector = shape.len() == 1 || name.starts_with("position");
            let tensor_type = if vector { TensorType::F32 } else { self.matrices };
            let mut shape = shape.to_vec();
            if let (Some(rows), false) = (self.rows, vector) {
                shape[1] = rows;
            }
            tensors.push((name, shape, tensor_type));
        };
        add("token_embd.weight".to_owned(), &[width, vocabulary]);
        if self.architecture == Architecture::Gpt2 {
            add("position_embd.weight".to_owned(), &[width, CONTEXT]);
        }
        add("output_norm.weight".to_owned(), &[width]);
        if !self.architecture.is_gated() {
            add("output_norm.bias".to_owned(), &[width]);
        }
        if !self.tied {
            add("output.weight".to_owned(), &[width, vocabulary]);
        }
        if self.rope_factors {
            add(ROPE_FACTORS.to_owned(), &[width / self.heads / 2]);
        }
        for layer in 0..self.layers {
            for (name, shape, has_bias) in self.layer() {
                let name = format!("blk.{layer}.{name}");
                add(format!("{name}.weight"), &shape);
                if has_bias {
                    add(format!("{name}.bias"), &shape[shape.len() - 1..]);
                }
            }
        }
        tensors
    }

    /// Name, shape and whether there is a bias.
    fn layer(&self) -> Vec<(&'static str, Vec<u64>, bool)> {
        let (width, inner) = (self.width, self.inner);
        let kv_width = width / self.heads * self.kv_heads;
        let gated = self.architecture.is_gated();
        let design = self.architecture.block();
        let joined = gated && design.projections == Projections::Joined;
        let mut shared = vec![("attn_output", vec![width, width], !gated)];
        if design.norm_placement.is_before() {
            shared.extend(["attn_norm", "ffn_norm"].map(|name| (name, vec![width], !gated)));
        }
        if design.norm_placement.is_after() {
            let names = ["post_attention_norm", "post_ffw_norm"];
            shared.extend(names.map(|name| (name, vec![width], false)));
        }
        let feed_forward = match self.experts {
            0 if gated && !joined => vec![
                ("ffn_gate", vec![width, inner], false),
                ("ffn_up", vec![width, inner], false),
                ("ffn_down", vec![inner, width], false),
            ],
            0 => vec![
                ("ffn_up", vec![width, if joined { 2 * inner } else { inner }], !gated),
                ("ffn_down", vec![inner, width], !gated),
            ],
            experts => vec![
                ("ffn_gate_inp", vec![width, experts], false),
                ("ffn_gate_exps", vec![width, inner, experts], false),
                ("ffn_up_exps", vec![width, inner, experts], false),
                ("ffn_down_exps", vec![inner, width, experts], false),
            ],
        };
        let qkv_bias = design.qkv_bias;
        let own = if joined {
            vec![("attn_qkv", vec![width, width + 2 * kv_width], false)]
        } else if gated {
            vec![
                ("attn_q", vec![width, width], qkv_bias),
                ("attn_k", vec![width, kv_width], qkv_bias),
                ("attn_v", vec![width, kv_width], qkv_bias),
            ]
        } else {
            vec![("attn_qkv", vec![width, 3 * width], true)]
        };
        let norms = match design.qk_norm {
            QkNorm::Head => {
                let width = width / self.heads;
                vec![("attn_q_norm", vec![width], false), ("attn_k_norm", vec![width], false)]
            }
            QkNorm::Width => {
                vec![("attn_q_norm", vec![width], false), ("attn_k_norm", vec![kv_width], false)]
            }
            QkNorm::None => Vec::new(),
        };
        shared.into_iter().chain(feed_forward).chain(own).chain(norms).collect()
    }

    /// The keys.
    pub fn metadata(&self) -> Metadata {
        let name = self.foreign.unwrap_or(self.architecture.name());
        let text = |text: &str| Value::String(text.to_owned());
        let mut metadata = Metadata::new();
        metadata.set("general.architecture", text(name));
        metadata.set("general.name", text("tiny"));
        let mut of_model =
            |key: &str, n: u64| metadata.set(format!("{name}.{key}"), Value::U32(n as u32));
        of_model("context_length", CONTEXT);
        of_model("embedding_length", self.width);
        of_model("feed_forward_length", self.inner);
        of_model("block_count", self.layers as u64);
        of_model("attention.head_count", self.heads);
        if self.experts > 0 {
            of_model("expert_count", self.experts);
            of_model("expert_used_count", 2);
        }
        if self.architecture.rope_pairs().is_some() {
            of_model("rope.dimension_count", self.width / self.heads);
        }
        if self.architecture.is_gated() {
            of_model("attention.head_count_kv", self.kv_heads);
        } else {
            metadata.set(format!("{name}.use_parallel_residual"), Value::Bool(false));
        }
        let norm = if self.architecture.is_gated() {
            "layer_norm_rms_epsilon"
        } else {
            "layer_norm_epsilon"
        };
        metadata.set(format!("{name}.attention.{norm}"), Value::F32(1e-5));
        metadata.set("general.file_type", Value::U32(0));
        metadata.set("tokenizer.ggml.model", text("gpt2"));
        metadata.set("tokenizer.ggml.pre", text("gpt-2"));
        let merges = ["t h".to_owned(), "th e".to_owned()].to_vec();
        let made = merges.iter().map(|merge| merge.replace(' ', ""));
        let more = (258..VOCABULARY).map(|i| format!("t{i}"));
        let tokens = bytes().map(String::from).chain(made).chain(more).collect();
        metadata.set("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)));
        metadata.set("tokenizer.ggml.token_type", Value::Array(Array::I32(vec![1; VOCABULARY])));
        metadata.set("tokenizer.ggml.merges", Value::Array(Array::String(merges)));
        metadata.set("tokenizer.ggml.bos_token_id", Value::U32(0));
        metadata.set("tokenizer.ggml.eos_token_id", Value::U32(0));
        metadata.set("tokenizer.ggml.add_bos_token", Value::Bool(self.begins));
        metadata
    }
}

/// GPT-2's letters for the 256 bytes, printable ones first.
fn bytes() -> impl Iterator<Item = char> {
    let printable = |b: &u32| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let others = (0..256).filter(move |b| !printable(b)).zip(0x100..).map(|(_, letter)| letter);
    (0..256).filter(printable).chain(others).filter_map(char::from_u32)
}

/// Roughly normal: the sum of four uniform numbers, from a 64-bit xorshift generator.
fn bell(state: &mut u64) -> f32 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (0..4).map(|k| (*state >> (16 * k) & 0xffff) as f32 / 65536.0 - 0.5).sum()
}
