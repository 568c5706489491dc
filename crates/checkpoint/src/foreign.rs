//! Renames the weights of other writers to the names of our own table.
//!
//! Files of a class without a head (`GPT2Model`, as OpenAI's GPT-2, or `LlamaModel`) lack the
//! prefix that the class with a head adds to every name. Other writers store a tied head a second
//! time, or the experts of a layer in one tensor. A model that was saved from inside a wrapper of
//! PyTorch has the wrapper's name before its own.

use config::{Architecture, ModelConfig};

use crate::{CheckpointError, Weights, stacked_experts};

/// Number of weights that are compared at a time.
const PIECE: usize = 4 << 20;

/// The names of a family's tensors that differ between files.
struct Names {
    prefix: &'static str,
    embedding: &'static str,
    head: &'static str,
}

impl Names {
    fn of(architecture: Architecture) -> Self {
        match architecture {
            Architecture::Gpt2 => Names {
                prefix: "transformer.",
                embedding: "transformer.wte.weight",
                head: "lm_head.weight",
            },
            Architecture::GptNeox => Names {
                prefix: "gpt_neox.",
                embedding: "gpt_neox.embed_in.weight",
                head: "embed_out.weight",
            },
            _ => Names {
                prefix: "model.",
                embedding: "model.embed_tokens.weight",
                head: "lm_head.weight",
            },
        }
    }
}

/// Parts of a name that wrappers add at any position: `torch.compile`
/// (`torch/_dynamo/eval_frame.py`), fully sharded training
/// (`torch/distributed/fsdp/_common_utils.py`) and activation checkpointing
/// (`torch/distributed/algorithms/_checkpoint/checkpoint_wrapper.py`).
const WRAPPERS: [&str; 3] = ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];

/// The prefix that `DistributedDataParallel` and `DataParallel` add (`torch/nn/parallel`).
const PARALLEL: &str = "module.";

/// A name without the parts that wrappers add.
pub(crate) fn without_wrappers(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').filter(|part| !WRAPPERS.contains(part)).collect();
    let name = parts.join(".");
    name.strip_prefix(PARALLEL).map_or_else(|| name.clone(), str::to_owned)
}

/// Renames tensors to the names of our table and drops those that repeat another.
///
/// A file in which only some names have the prefix is not changed, so that the check against the
/// table names one of them.
pub(crate) fn adapt(weights: &mut Weights, config: &ModelConfig) -> Result<(), CheckpointError> {
    let Names { prefix, embedding, head } = Names::of(config.architecture);
    weights.rename(without_wrappers)?;
    if !weights.names().any(|name| name.starts_with(prefix)) {
        weights.rename(|name| match name == head {
            true => name.to_owned(),
            false => format!("{prefix}{name}"),
        })?;
    }
    if !config.tie_embeddings && !weights.contains(head) && weights.contains(embedding) {
        return Err(CheckpointError::Content {
            path: weights.path().to_owned(),
            reason: format!(
                "tensor {head} is missing; set \"tie_word_embeddings\": true in config.json if the \
                 head is the embedding, otherwise fetch the file again"
            ),
        });
    }
    if let Some(experts) = config.experts {
        stacked_experts::divide(weights, config, experts.count)?;
    }
    if config.tie_embeddings && weights.contains(head) && weights.contains(embedding) {
        check_same(weights, head, embedding)?;
        weights.remove(head);
    }
    Ok(())
}

/// A tied model has one matrix; a head that differs from it belongs to another model.
fn check_same(weights: &Weights, head: &str, embedding: &str) -> Result<(), CheckpointError> {
    let refuse = |what: String| CheckpointError::Content {
        path: weights.path().to_owned(),
        reason: format!(
            "{what}, but config.json ties the two; set \"tie_word_embeddings\": false if the \
             model has a head of its own"
        ),
    };
    let shapes = [weights.shape(head)?, weights.shape(embedding)?];
    if shapes[0] != shapes[1] {
        let [of_head, of_embedding] = shapes;
        return Err(refuse(format!(
            "{head} has shape {of_head:?} and {embedding} {of_embedding:?}"
        )));
    }
    let elements: usize = shapes[0].iter().product();
    let mut pieces = [vec![0.0; PIECE.min(elements)], vec![0.0; PIECE.min(elements)]];
    for first in (0..elements).step_by(PIECE) {
        let length = PIECE.min(elements - first);
        let [a, b] = pieces.each_mut().map(|piece| &mut piece[..length]);
        weights.read_f32_at(head, first, a)?;
        weights.read_f32_at(embedding, first, b)?;
        if let Some(at) = (0..length).find(|&i| a[i] != b[i]) {
            return Err(refuse(format!(
                "{head} and {embedding} differ at position {}",
                first + at
            )));
        }
    }
    Ok(())
}
