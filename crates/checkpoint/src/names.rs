//! The three names of every tensor: Hugging Face's, Burn's and GGUF's, and how it lies in each.
//!
//! One table per architecture. Everything that moves weights from one form to another walks the
//! table, so a tensor cannot be forgotten in one place and renamed in another.
//!
//! Sources: `modeling_gpt2.py` of transformers; `gguf-py/gguf/tensor_mapping.py` and
//! `src/models/gpt2.cpp` of llama.cpp.

use config::{Architecture, ModelConfig};

/// How the two dimensions of a matrix lie in the three forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Orientation {
    /// A vector, or an embedding whose rows are tokens or positions: the same everywhere.
    Same,
    /// `[in, out]` in Hugging Face (Conv1D) and Burn (Linear); rows `[out, in]` in GGUF.
    InputFirst,
    /// Rows `[out, in]` in Hugging Face (Linear) and GGUF; `[in, out]` in Burn.
    OutputFirst,
}

/// What a tensor is for, which decides how exactly it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A matrix of a product, or the token embedding: any tensor type.
    Matrix,
    /// Position embedding: F32 in every GGUF.
    Position,
    /// Weight or bias of a normalisation, or the bias of a matrix: F32 in every GGUF.
    Vector,
}

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorName {
    /// In `model.safetensors`, for example `transformer.h.0.attn.c_attn.weight`.
    pub hugging_face: String,
    /// Path of the parameter in the Burn module, for example `blocks.0.attn.c_attn.weight`.
    pub burn: String,
    /// For example `blk.0.attn_qkv.weight`.
    pub gguf: String,
    /// Shape in `model.safetensors`, slowest dimension first.
    pub shape: Vec<usize>,
    /// How it lies in each form.
    pub orientation: Orientation,
    /// What it is for.
    pub role: Role,
    /// Whether the model has this parameter. Where it has not, files hold zeros in its place,
    /// because readers of the file format count on the tensor.
    pub in_model: bool,
}

impl TensorName {
    /// Number of weights.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Shape in the Burn module, slowest dimension first.
    pub fn burn_shape(&self) -> Vec<usize> {
        match self.orientation {
            Orientation::OutputFirst => self.shape.iter().rev().copied().collect(),
            Orientation::Same | Orientation::InputFirst => self.shape.clone(),
        }
    }

    /// Shape in a GGUF, fastest dimension first.
    pub fn gguf_shape(&self) -> Vec<u64> {
        let shape = self.shape.iter().map(|&n| n as u64);
        match self.orientation {
            Orientation::InputFirst => shape.collect(),
            Orientation::Same | Orientation::OutputFirst => shape.rev().collect(),
        }
    }
}

/// Every tensor of a model, in the order of our GGUF files.
pub fn tensors(config: &ModelConfig) -> Vec<TensorName> {
    match config.architecture {
        Architecture::Gpt2 => gpt2(config),
        _ => unimplemented!("tables of this family"),
    }
}

/// Buffers that old Hugging Face files hold beside the weights: causal masks, which follow from
/// the context length.
pub fn is_ignored(config: &ModelConfig, hugging_face: &str) -> bool {
    match config.architecture {
        Architecture::Gpt2 => {
            let buffer = [".attn.bias", ".attn.masked_bias"];
            hugging_face.starts_with("transformer.h.")
                && buffer.iter().any(|end| hugging_face.ends_with(end))
        }
        _ => false,
    }
}

fn gpt2(config: &ModelConfig) -> Vec<TensorName> {
    let (c, v, t) = (config.n_embd, config.vocab_size, config.context_length);
    let embedding = |name: &str, gguf: &str, rows: usize, role: Role| TensorName {
        hugging_face: format!("transformer.{name}.weight"),
        burn: format!("{name}.weight"),
        gguf: format!("{gguf}.weight"),
        shape: vec![rows, c],
        orientation: Orientation::Same,
        role,
        in_model: true,
    };
    let mut table = vec![
        embedding("wte", "token_embd", v, Role::Matrix),
        embedding("wpe", "position_embd", t, Role::Position),
    ];
    for i in 0..config.n_layer {
        gpt2_block(config, i, &mut table);
    }
    norm("ln_f", "ln_f", "output_norm", c, &mut table);
    if !config.tie_embeddings {
        table.push(TensorName {
            hugging_face: "lm_head.weight".to_owned(),
            burn: "lm_head.weight".to_owned(),
            gguf: "output.weight".to_owned(),
            shape: vec![v, c],
            orientation: Orientation::OutputFirst,
            role: Role::Matrix,
            in_model: true,
        });
    }
    table
}

fn gpt2_block(config: &ModelConfig, i: usize, table: &mut Vec<TensorName>) {
    let (c, f) = (config.n_embd, config.n_inner);
    let linear = |name: &str, gguf: &str, shape: [usize; 2], has_bias: bool| {
        let row = |kind: &str, shape: &[usize], in_model: bool| TensorName {
            hugging_face: format!("transformer.h.{i}.{name}.{kind}"),
            burn: format!("blocks.{i}.{name}.{kind}"),
            gguf: format!("blk.{i}.{gguf}.{kind}"),
            shape: shape.to_vec(),
            orientation: match shape.len() {
                2 => Orientation::InputFirst,
                _ => Orientation::Same,
            },
            role: if shape.len() == 2 { Role::Matrix } else { Role::Vector },
            in_model,
        };
        [row("weight", &shape, true), row("bias", &shape[1..], has_bias)]
    };
    let qkv = linear("attn.c_attn", "attn_qkv", [c, 3 * c], config.qkv_bias);
    let attention_output = linear("attn.c_proj", "attn_output", [c, c], true);
    let up = linear("mlp.c_fc", "ffn_up", [c, f], true);
    let down = linear("mlp.c_proj", "ffn_down", [f, c], true);

    let block_norm = |name: &str, gguf: &str, table: &mut Vec<TensorName>| {
        norm(
            &format!("h.{i}.{name}"),
            &format!("blocks.{i}.{name}"),
            &format!("blk.{i}.{gguf}"),
            c,
            table,
        );
    };
    block_norm("ln_1", "attn_norm", table);
    table.extend(qkv);
    table.extend(attention_output);
    block_norm("ln_2", "ffn_norm", table);
    table.extend(up);
    table.extend(down);
}

/// A LayerNorm: Burn calls its parameters `gamma` and `beta`.
fn norm(hugging_face: &str, burn: &str, gguf: &str, width: usize, table: &mut Vec<TensorName>) {
    for (kind, burn_kind) in [("weight", "gamma"), ("bias", "beta")] {
        table.push(TensorName {
            hugging_face: format!("transformer.{hugging_face}.{kind}"),
            burn: format!("{burn}.{burn_kind}"),
            gguf: format!("{gguf}.{kind}"),
            shape: vec![width],
            orientation: Orientation::Same,
            role: Role::Vector,
            in_model: true,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn configs() -> impl Iterator<Item = ModelConfig> {
        [(true, true), (true, false), (false, true), (false, false)].into_iter().map(
            |(qkv_bias, tie_embeddings)| ModelConfig {
                architecture: Architecture::Gpt2,
                vocab_size: 11,
                context_length: 7,
                n_layer: 3,
                n_head: 2,
                n_kv_head: 2,
                n_embd: 6,
                n_inner: 10,
                norm_epsilon: 1e-5,
                rope_base: config::ROPE_BASE,
                qkv_bias,
                tie_embeddings,
                dropout: 0.0,
            },
        )
    }

    #[test]
    fn every_parameter_is_counted_once() {
        for config in configs() {
            let table = tensors(&config);
            let parameters: usize =
                table.iter().filter(|t| t.in_model).map(TensorName::elements).sum();
            assert_eq!(parameters, config.parameter_count());
        }
    }

    #[test]
    fn no_name_is_used_twice() {
        for config in configs() {
            let table = tensors(&config);
            type Name = fn(&TensorName) -> &String;
            for name in [|t| &t.hugging_face, |t| &t.burn, |t| &t.gguf] as [Name; 3] {
                assert_eq!(table.iter().map(name).collect::<HashSet<_>>().len(), table.len());
            }
        }
    }

    /// The tensors of `src/models/gpt2.cpp` in llama.cpp, with the shapes asked for there.
    #[test]
    fn gguf_has_exactly_what_llama_cpp_asks_for() {
        let config = ModelConfig { n_layer: 1, ..configs().last().unwrap() };
        let found: HashSet<(String, Vec<u64>)> =
            tensors(&config).into_iter().map(|t| (t.gguf.clone(), t.gguf_shape())).collect();
        let expected: HashSet<(String, Vec<u64>)> = [
            ("token_embd.weight", vec![6, 11]),
            ("position_embd.weight", vec![6, 7]),
            ("output_norm.weight", vec![6]),
            ("output_norm.bias", vec![6]),
            ("output.weight", vec![6, 11]),
            ("blk.0.attn_norm.weight", vec![6]),
            ("blk.0.attn_norm.bias", vec![6]),
            ("blk.0.attn_qkv.weight", vec![6, 18]),
            ("blk.0.attn_qkv.bias", vec![18]),
            ("blk.0.attn_output.weight", vec![6, 6]),
            ("blk.0.attn_output.bias", vec![6]),
            ("blk.0.ffn_norm.weight", vec![6]),
            ("blk.0.ffn_norm.bias", vec![6]),
            ("blk.0.ffn_down.weight", vec![10, 6]),
            ("blk.0.ffn_down.bias", vec![6]),
            ("blk.0.ffn_up.weight", vec![6, 10]),
            ("blk.0.ffn_up.bias", vec![10]),
        ]
        .into_iter()
        .map(|(name, shape)| (name.to_owned(), shape))
        .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn only_the_untied_head_is_turned_for_burn() {
        let config = configs().last().unwrap();
        let head = tensors(&config).pop().unwrap();
        assert_eq!((head.shape.clone(), head.burn_shape()), (vec![11, 6], vec![6, 11]));
        for tensor in tensors(&config).iter().filter(|t| t.burn != "lm_head.weight") {
            assert_eq!(tensor.burn_shape(), tensor.shape);
        }
    }

    #[test]
    fn the_only_parameter_that_may_be_absent_is_the_qkv_bias() {
        for config in configs() {
            let absent = tensors(&config).into_iter().filter(|t| !t.in_model);
            let absent: Vec<String> = absent.map(|t| t.burn).collect();
            let expected: Vec<String> = match config.qkv_bias {
                true => vec![],
                false => (0..3).map(|i| format!("blocks.{i}.attn.c_attn.bias")).collect(),
            };
            assert_eq!(absent, expected);
        }
    }

    #[test]
    fn mask_buffers_are_known_and_biases_are_not_mistaken_for_them() {
        let config = configs().next().unwrap();
        assert!(is_ignored(&config, "transformer.h.0.attn.bias"));
        assert!(is_ignored(&config, "transformer.h.11.attn.masked_bias"));
        assert!(tensors(&config).iter().all(|t| !is_ignored(&config, &t.hugging_face)));
    }
}
