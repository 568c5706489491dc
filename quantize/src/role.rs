//! The role of a tensor in its model, by llama.cpp's tensor names, and the facts about the model
//! that the rules use.

use anyhow::{bail, ensure};
use gguf::{Array, Metadata, TensorInfo, Value};

/// The role of a tensor, as far as the choice of its type depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum TensorRole {
    /// Vectors, norms, positions: they are not quantized.
    Kept,
    /// Converts tokens into vectors, and is not used for anything else.
    TokenEmbedding,
    /// Converts vectors into logits; if the model has no separate head, this is the token
    /// embedding.
    Output,
    /// Values of the attention, also joined with queries and keys.
    AttentionValue,
    /// Keys of the attention.
    AttentionKey,
    /// The output projection of the attention.
    AttentionOutput,
    /// The second matrix of a feed-forward layer.
    FeedForwardDown,
    /// Any other matrix.
    Other,
}

/// The facts about a model that the rules use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Model {
    /// Falcon has its own rules.
    pub is_falcon: bool,
    /// LLaMA 2 70B and similar models, whose values are few enough to be stored with more bits.
    pub is_70b: bool,
    /// Query heads for each value head, in the first layer; 0 if that is not known.
    pub sharing: u64,
    /// Experts in a feed-forward layer; 0 if there are none.
    pub experts: u64,
    /// Layers; 0 if that is not known.
    pub layers: usize,
}

/// Names, or parts of them, of matrices that are small and sensitive.
///
/// The list includes architectures that this project does not know: their files are quantized by
/// the tensor names alone.
const KEPT: [&str; 36] = [
    "_norm.weight",
    "position_embd",
    "token_types.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    "attn_rel_b.weight",
    "time_mix_first.weight",
    "time_mix_w0.weight",
    "time_mix_w1.weight",
    "time_mix_w2.weight",
    "time_mix_v0.weight",
    "time_mix_v1.weight",
    "time_mix_v2.weight",
    "time_mix_a0.weight",
    "time_mix_a1.weight",
    "time_mix_a2.weight",
    "time_mix_g1.weight",
    "time_mix_g2.weight",
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    "sam.pos_embd",
    "sam.neck.",
    "sam.net_",
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
    "a.rvq.codebook",
    "mm.a.code_embd",
];

/// Most layers that are accepted: the limit for every model that is read.
const LAYERS: u64 = 1 << 12;

impl Model {
    /// Reads the facts about a model from its metadata and tensors.
    ///
    /// # Errors
    /// When `block_count` exceeds the limit, or is smaller than the number of layers that the
    /// tensors belong to; for an architecture whose rules are not built in.
    pub fn new(metadata: &Metadata, tensors: &[TensorInfo]) -> anyhow::Result<Self> {
        let architecture = metadata.string("general.architecture").unwrap_or_default();
        if architecture == "glm5-next" {
            bail!("{architecture} keeps other tensors than all the rest, which is not built in");
        }
        let number = |key: &str| first_number(metadata, &format!("{architecture}.{key}"));
        let layers = layer_count(metadata, architecture, tensors)?;
        let experts = number("expert_count").unwrap_or(0);
        let heads = number("attention.head_count").unwrap_or(0);
        let value_heads = number("attention.head_count_kv").unwrap_or(heads);
        let is_70b = match architecture {
            "llama" => layers == 80 && heads != value_heads && experts != 8,
            "qwen2" | "deci" | "olmo" => layers == 80,
            "jais2" => layers == 68,
            _ => false,
        };
        Ok(Model {
            is_falcon: architecture == "falcon",
            is_70b,
            sharing: heads.checked_div(value_heads).unwrap_or(0),
            experts,
            layers,
        })
    }
}

/// The integer under `key`, or the first one of an array with one for each layer.
fn first_number(metadata: &Metadata, key: &str) -> Option<u64> {
    match metadata.get(key)? {
        Value::Array(Array::U32(all)) => all.first().map(|&n| u64::from(n)),
        Value::Array(Array::I32(all)) => all.first().and_then(|&n| u64::try_from(n).ok()),
        _ => metadata.unsigned(key).ok(),
    }
}

/// The role of a tensor in a model whose head is tied or not.
pub(crate) fn role(tensor: &TensorInfo, tied: bool) -> TensorRole {
    let name = tensor.name.as_str();
    let has = |part: &str| name.contains(part);
    if !is_matrix(&tensor.shape) || !name.ends_with("weight") || KEPT.iter().any(|part| has(part)) {
        return TensorRole::Kept;
    }
    match name {
        "output.weight" => TensorRole::Output,
        "token_embd.weight" | "per_layer_token_embd.weight" if tied => TensorRole::Output,
        "token_embd.weight" | "per_layer_token_embd.weight" => TensorRole::TokenEmbedding,
        _ if is_value(name) => TensorRole::AttentionValue,
        _ if has("attn_k.weight") => TensorRole::AttentionKey,
        _ if has("attn_q.weight") => TensorRole::Other,
        _ if has("attn_output.weight") => TensorRole::AttentionOutput,
        _ if has("ffn_up") || has("ffn_gate") => TensorRole::Other,
        _ if has("ffn_down") => TensorRole::FeedForwardDown,
        _ => TensorRole::Other,
    }
}

/// Whether a name belongs to attention values, joined ones included.
pub(crate) fn is_value(name: &str) -> bool {
    ["attn_qkv.weight", "attn_kv_b.weight", "attn_v.weight"].iter().any(|part| name.contains(part))
}

/// Trailing dimensions of length 1 are not counted.
fn is_matrix(shape: &[u64]) -> bool {
    shape.iter().skip(1).any(|&length| length > 1)
}

/// The number in `blk.7.attn_v.weight`; `None`, which sorts first, for tensors outside of the
/// layers.
pub(crate) fn layer(name: &str) -> Option<u32> {
    name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
}

/// `block_count` of the model's architecture; 0 if it is not stated.
fn layer_count(
    metadata: &Metadata,
    architecture: &str,
    tensors: &[TensorInfo],
) -> anyhow::Result<usize> {
    let key = format!("{architecture}.block_count");
    let Ok(layers) = metadata.unsigned(&key) else { return Ok(0) };
    let last = tensors.iter().filter_map(|tensor| layer(&tensor.name)).max();
    let least = last.map_or(0, |last| u64::from(last) + 1);
    ensure!(
        (least..=LAYERS).contains(&layers),
        "{key} = {layers}: expected {least} (the layers of its tensors) to {LAYERS}; export the \
         model again"
    );
    Ok(layers as usize)
}

#[cfg(test)]
mod tests {
    use gguf::TensorType;

    use super::*;

    fn tensor(name: &str, shape: &[u64]) -> TensorInfo {
        TensorInfo {
            name: name.to_owned(),
            shape: shape.to_vec(),
            tensor_type: TensorType::F32,
            offset: 0,
            size: 0,
        }
    }

    #[test]
    fn vectors_norms_and_positions_are_kept() {
        for (name, shape) in [
            ("blk.0.attn_qkv.bias", &[768][..]),
            ("blk.0.attn_norm.weight", &[768]),
            ("blk.0.some_norm.weight", &[768, 2]),
            ("position_embd.weight", &[768, 1024]),
            ("blk.0.ffn_gate_inp.weight", &[768, 8]),
            ("blk.0.ffn_up.weight", &[768, 1, 1]),
            ("blk.0.ffn_up.bias", &[768, 2]),
        ] {
            assert_eq!(role(&tensor(name, shape), true), TensorRole::Kept, "{name}");
        }
        assert_eq!(role(&tensor("blk.0.ffn_up.weight", &[768, 2]), true), TensorRole::Other);
    }

    #[test]
    fn a_tied_embedding_is_the_output() {
        let embedding = tensor("token_embd.weight", &[768, 50]);
        assert_eq!(role(&embedding, true), TensorRole::Output);
        assert_eq!(role(&embedding, false), TensorRole::TokenEmbedding);
    }

    #[test]
    fn a_block_count_that_cannot_be_is_refused() {
        let tensors = [tensor("blk.2.ffn_down.weight", &[64, 64])];
        let of = |layers: u64| {
            let mut metadata = Metadata::new();
            metadata.set("general.architecture", Value::String("gpt2".to_owned()));
            metadata.set("gpt2.block_count", Value::U64(layers));
            Model::new(&metadata, &tensors).map(|model| model.layers)
        };
        assert_eq!(of(3).unwrap(), 3);
        for layers in [0, 2, 4097, u64::MAX] {
            let error = of(layers).unwrap_err().to_string();
            assert!(error.contains("gpt2.block_count = "), "{error}");
        }
    }
}
