//! What a tensor does in its model, by llama.cpp's tensor names.

use std::collections::HashMap;

use anyhow::ensure;
use gguf::{Metadata, TensorInfo, TensorType};

/// What matters about a tensor for the choice of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Vectors, norms, positions: as they are.
    Kept,
    /// Turns tokens into vectors, and nothing else.
    TokenEmbedding,
    /// Turns vectors into logits; the token embedding does, where the model has no other.
    Output,
    /// Values of the attention, also fused with queries and keys.
    AttentionValue,
    /// The second matrix of a feed-forward layer.
    FeedForwardDown,
    /// Any other matrix.
    Other,
}

/// A tensor as a recipe sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorContext {
    /// What it does.
    pub role: Role,
    /// How many of the same role come before it, in the order of the layers.
    pub place: usize,
    /// How many of the role there are; for [`Role::FeedForwardDown`], the layers of the model.
    pub of: usize,
    /// Weights in one row.
    pub row_len: u64,
    /// How it is stored now.
    pub stored: TensorType,
}

/// Names, or parts of them, of matrices that are small and sensitive.
///
/// Those of architectures that this project does not know are here too: a file of theirs is
/// quantized by its names alone.
const KEPT: [&str; 33] = [
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
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
    "a.rvq.codebook",
    "mm.a.code_embd",
];

/// Most layers that are believed: the limit on every model that is read.
const LAYERS: u64 = 1 << 12;

/// The context of every tensor, in the order of `tensors`.
///
/// # Errors
/// When `block_count` is beyond any model, or fewer than the layers that the tensors belong to.
pub fn contexts(metadata: &Metadata, tensors: &[TensorInfo]) -> anyhow::Result<Vec<TensorContext>> {
    let tied = !tensors.iter().any(|tensor| tensor.name == "output.weight");
    let roles: Vec<Role> = tensors.iter().map(|tensor| role(tensor, tied)).collect();
    let (places, totals) = places(tensors, &roles);
    let layers = layer_count(metadata, tensors)?;
    let total = |role| match (role, layers) {
        (Role::FeedForwardDown, Some(layers)) => layers,
        _ => totals[&role],
    };
    let context = |(i, tensor): (usize, &TensorInfo)| TensorContext {
        role: roles[i],
        place: places[i],
        of: total(roles[i]),
        row_len: tensor.row_len() as u64,
        stored: tensor.tensor_type,
    };
    Ok(tensors.iter().enumerate().map(context).collect())
}

fn role(tensor: &TensorInfo, tied: bool) -> Role {
    let name = tensor.name.as_str();
    let has = |part: &str| name.contains(part);
    if !is_matrix(&tensor.shape) || !name.ends_with("weight") || KEPT.iter().any(|part| has(part)) {
        return Role::Kept;
    }
    match name {
        "output.weight" => Role::Output,
        "token_embd.weight" | "per_layer_token_embd.weight" if tied => Role::Output,
        "token_embd.weight" | "per_layer_token_embd.weight" => Role::TokenEmbedding,
        _ if has("attn_qkv.weight") || has("attn_kv_b.weight") || has("attn_v.weight") => {
            Role::AttentionValue
        }
        _ if has("ffn_down") => Role::FeedForwardDown,
        _ => Role::Other,
    }
}

/// Dimensions of length 1 at the end do not count.
fn is_matrix(shape: &[u64]) -> bool {
    shape.iter().skip(1).any(|&length| length > 1)
}

/// How many tensors of the same role precede each, sorted by layer and then by name; and how many
/// there are of each role.
fn places(tensors: &[TensorInfo], roles: &[Role]) -> (Vec<usize>, HashMap<Role, usize>) {
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&i| (layer(&tensors[i].name), &tensors[i].name));
    let mut places = vec![0; tensors.len()];
    let mut totals = HashMap::new();
    for i in order {
        let before = totals.entry(roles[i]).or_insert(0);
        places[i] = *before;
        *before += 1;
    }
    (places, totals)
}

/// The number in `blk.7.attn_v.weight`; `None`, which sorts first, outside the layers.
fn layer(name: &str) -> Option<u32> {
    name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
}

/// `block_count` of the model's architecture, if it is stated.
fn layer_count(metadata: &Metadata, tensors: &[TensorInfo]) -> anyhow::Result<Option<usize>> {
    let Ok(architecture) = metadata.string("general.architecture") else { return Ok(None) };
    let key = format!("{architecture}.block_count");
    let Ok(layers) = metadata.unsigned(&key) else { return Ok(None) };
    let last = tensors.iter().filter_map(|tensor| layer(&tensor.name)).max();
    let least = last.map_or(0, |last| u64::from(last) + 1);
    ensure!(
        (least..=LAYERS).contains(&layers),
        "{key} = {layers}: expected {least} (the layers of its tensors) to {LAYERS}; export the \
         model again"
    );
    Ok(Some(layers as usize))
}

#[cfg(test)]
mod tests {
    use gguf::Value;

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
            assert_eq!(role(&tensor(name, shape), true), Role::Kept, "{name}");
        }
        assert_eq!(role(&tensor("blk.0.ffn_up.weight", &[768, 2]), true), Role::Other);
    }

    #[test]
    fn a_tied_embedding_is_the_output() {
        let embedding = tensor("token_embd.weight", &[768, 50]);
        assert_eq!(role(&embedding, true), Role::Output);
        assert_eq!(role(&embedding, false), Role::TokenEmbedding);
    }

    #[test]
    fn places_follow_the_layers_and_not_the_file() {
        let names = [10, 9, 2, 1].map(|layer| format!("blk.{layer}.attn_v.weight"));
        let tensors: Vec<_> = names.iter().map(|name| tensor(name, &[64, 64])).collect();
        let contexts = contexts(&Metadata::new(), &tensors).unwrap();
        assert_eq!(contexts.iter().map(|c| c.place).collect::<Vec<_>>(), [3, 2, 1, 0]);
        assert!(contexts.iter().all(|c| c.of == 4 && c.role == Role::AttentionValue));
    }

    #[test]
    fn a_block_count_that_cannot_be_is_refused() {
        let tensors = [tensor("blk.2.ffn_down.weight", &[64, 64])];
        let of = |layers: u64| {
            let mut metadata = Metadata::new();
            metadata.set("general.architecture", Value::String("gpt2".to_owned()));
            metadata.set("gpt2.block_count", Value::U64(layers));
            contexts(&metadata, &tensors).map(|contexts| contexts[0].of)
        };
        assert_eq!(of(3).unwrap(), 3);
        for layers in [0, 2, 4097, u64::MAX] {
            let error = of(layers).unwrap_err().to_string();
            assert!(error.contains("gpt2.block_count = "), "{error}");
        }
    }
}
