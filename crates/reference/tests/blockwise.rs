//! Tests what a pass reports, and that a pass with one block in memory at a time gives the same
//! bits.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::random_weights;
use std::borrow::Cow;
use std::collections::HashMap;

use crate::random_weights::{families, source};
use config::{BlockStage, ForwardStage, ModelConfig};
use gguf::{GgufError, Metadata, TensorInfo, TensorSource, TensorType, blocks};
use reference::{Blockwise, MemorySource, Model, ReferenceError};

fn tokens(n: u32) -> Vec<u32> {
    (0..n).map(|i| (i * 37 + i * i * 11) % 101).collect()
}

/// The input of every tensor.
type Inputs = HashMap<String, Vec<f32>>;

fn take(inputs: &mut Inputs) -> impl FnMut(&[&str], &[f32]) {
    |tensors, x| {
        for tensor in tensors {
            assert!(inputs.insert((*tensor).to_owned(), x.to_vec()).is_none(), "{tensor} twice");
        }
    }
}

fn observed(model: &Model, tokens: &[u32]) -> Inputs {
    let mut inputs = Inputs::new();
    model.observe(tokens, &mut take(&mut inputs)).unwrap();
    inputs
}

/// The stage that is the input of `tensor`.
fn stage_of(tensor: &str, config: &ModelConfig) -> ForwardStage {
    if tensor == "output.weight" || tensor == "token_embd.weight" {
        return ForwardStage::OutputNorm;
    }
    let (layer, matrix) = tensor.strip_prefix("blk.").unwrap().split_once('.').unwrap();
    let layer = layer.parse::<usize>().unwrap();
    let is_before = config.architecture.block().norm_placement.is_before();
    let stage = match (matrix.strip_suffix(".weight").unwrap(), is_before) {
        // The output of the block before.
        ("attn_q" | "attn_k" | "attn_v", false) => {
            return match layer {
                0 => ForwardStage::TokenEmbedding,
                layer => ForwardStage::Block(layer - 1, BlockStage::Output),
            };
        }
        ("attn_q" | "attn_k" | "attn_v" | "attn_qkv", true) => BlockStage::AttentionNorm,
        ("attn_output", _) => BlockStage::AttentionHeads,
        ("ffn_gate" | "ffn_up", false) => BlockStage::AttentionResidual,
        ("ffn_gate" | "ffn_up", true) => BlockStage::FeedForwardNorm,
        ("ffn_down", _) => BlockStage::Activated,
        other => panic!("{other:?}"),
    };
    ForwardStage::Block(layer, stage)
}

#[test]
fn every_matrix_is_observed_once_with_its_stage() {
    for (name, config) in families() {
        let weights = source(&config, |_| ());
        let model = Model::from_parts(config.clone(), &weights).unwrap();
        let tokens = tokens(40);
        let inputs = observed(&model, &tokens);
        let stages: HashMap<ForwardStage, Vec<f32>> =
            model.stages(&tokens).unwrap().into_iter().map(|s| (s.stage, s.values)).collect();

        let head = if config.tie_embeddings { "token_embd.weight" } else { "output.weight" };
        let is_matrix = |tensor: &&TensorInfo| {
            tensor.name == head || (tensor.shape.len() == 2 && tensor.name.starts_with("blk."))
        };
        let matrices: Vec<_> = weights.tensors().iter().filter(is_matrix).collect();
        assert_eq!(inputs.len(), matrices.len(), "{name}");
        for matrix in matrices {
            let input = &inputs[&matrix.name];
            assert_eq!(input.len(), 40 * matrix.row_len(), "{name} {}", matrix.name);
            let stage = stage_of(&matrix.name, &config);
            assert!(*input == stages[&stage], "{name} {} {stage}", matrix.name);
        }
    }
}

#[test]
fn what_shares_an_input_is_named_together() {
    let (_, llama) = families().into_iter().find(|(name, _)| *name == "llama").unwrap();
    let model = Model::from_parts(llama.clone(), &source(&llama, |_| ())).unwrap();
    let mut calls = Vec::new();
    model.observe(&[1, 2], &mut |tensors, _| calls.push(tensors.join(" "))).unwrap();
    assert_eq!(
        calls[..4],
        [
            "blk.0.attn_q.weight blk.0.attn_k.weight blk.0.attn_v.weight",
            "blk.0.attn_output.weight",
            "blk.0.ffn_gate.weight blk.0.ffn_up.weight",
            "blk.0.ffn_down.weight",
        ]
    );
}

#[test]
fn what_cannot_be_read_is_not_observed() {
    let config = random_weights::config();
    let model = Model::from_parts(config.clone(), &source(&config, |_| ())).unwrap();
    let refused = model.observe(&[101], &mut |_, _| panic!("observed"));
    assert!(matches!(refused, Err(ReferenceError::TokenOutOfRange { token: 101, .. })));
}

/// Logits of `source`, with one block in memory at a time, and every input.
fn blockwise(
    config: &ModelConfig,
    source: &dyn TensorSource,
    tokens: &[u32],
) -> (Vec<f32>, Inputs) {
    let model = Blockwise::from_parts(config.clone(), source).unwrap();
    let mut inputs = Inputs::new();
    let mut x = model.embedding().unwrap().embed(tokens).unwrap();
    for layer in 0..config.n_layer {
        let block = model.block(layer).unwrap();
        let mut other = x.clone();
        block.forward(&mut other).unwrap();
        block.observe(&mut x, &mut take(&mut inputs)).unwrap();
        assert_eq!(x, other);
    }
    let normed = model.last_norm().unwrap().forward(&x);
    let logits = model.head().unwrap().forward(&normed);
    inputs.insert(model.head_tensor().to_owned(), normed);
    (logits, inputs)
}

#[test]
fn block_by_block_gives_the_bits_of_the_whole() {
    for (name, config) in families() {
        let weights = source(&config, |_| ());
        let model = Model::from_parts(config.clone(), &weights).unwrap();
        for tokens in [tokens(1), tokens(130)] {
            let (logits, inputs) = blockwise(&config, &weights, &tokens);
            assert!(logits == model.logits(&tokens).unwrap(), "{name}");
            assert!(inputs == observed(&model, &tokens), "{name}");
        }
    }
}

/// Another source's matrices in 16 bits.
struct Halved {
    of: MemorySource,
    tensors: Vec<TensorInfo>,
}

impl TensorSource for Halved {
    fn metadata(&self) -> &Metadata {
        self.of.metadata()
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn read(&self, tensor: &TensorInfo) -> Result<Cow<'_, [u8]>, GgufError> {
        let weights = gguf::read_f32(&self.of, self.of.tensor(&tensor.name)?)?;
        let mut bytes = vec![0; tensor.size as usize];
        for (half, weight) in bytes.chunks_exact_mut(2).zip(weights) {
            blocks::quantize(TensorType::BF16, &[weight], 1, None, half)?;
        }
        Ok(Cow::Owned(bytes))
    }
}

#[test]
fn weights_of_any_type_are_read() {
    for (name, config) in families() {
        let of = source(&config, |_| ());
        let halved = |tensor: &TensorInfo| TensorInfo {
            tensor_type: TensorType::BF16,
            size: tensor.size / 2,
            ..tensor.clone()
        };
        let source = Halved { tensors: of.tensors().iter().map(halved).collect(), of };
        let model = Model::from_parts(config.clone(), &source).unwrap();
        let (logits, _) = blockwise(&config, &source, &tokens(20));
        assert!(logits == model.logits(&tokens(20)).unwrap(), "{name}");
    }
}

#[test]
fn weights_that_were_changed_are_used() {
    for (name, config) in families() {
        let weights = source(&config, |_| ());
        let model = Blockwise::from_parts(config.clone(), &weights).unwrap();
        let block = model.block(1).unwrap();
        let matrices: Vec<String> = block.matrices().into_iter().map(str::to_owned).collect();
        let start = model.embedding().unwrap().embed(&tokens(9)).unwrap();
        let weights_of = &weights;
        for matrix in &matrices {
            // The same change to the file.
            let mut changed = MemorySource::default();
            for tensor in weights.tensors() {
                let mut data = gguf::read_f32(&weights, tensor).unwrap();
                if tensor.name == *matrix {
                    data[7] += 1.0;
                }
                let shape: Vec<usize> = tensor.shape.iter().rev().map(|&n| n as usize).collect();
                changed.add(&tensor.name, &shape, data);
            }
            let other = Blockwise::from_parts(config.clone(), &changed).unwrap();
            let (mut expected, mut found, mut unchanged) =
                (start.clone(), start.clone(), start.clone());
            other.block(1).unwrap().forward(&mut expected).unwrap();
            let block = model.block(1).unwrap();
            block.forward(&mut unchanged).unwrap();
            // During a pass, as soon as the input of the matrix is known.
            block
                .observe(&mut found, &mut |names, _| {
                    if names.contains(&matrix.as_str()) {
                        let mut weights = block.matrix(matrix).unwrap().to_vec();
                        weights[7] += 1.0;
                        let bias = matrix.replace(".weight", ".bias");
                        let bias = weights_of.tensor(&bias).ok().cloned();
                        let bias = bias.map(|bias| gguf::read_f32(weights_of, &bias).unwrap());
                        assert!(block.replace(matrix, weights.clone(), bias.clone()));
                        assert!(!block.replace(matrix, weights, bias), "a second time");
                    }
                })
                .unwrap();
            assert!(found == expected && found != unchanged, "{name} {matrix}");
        }
        assert!(block.matrix("blk.0.ffn_down.weight").is_none());
        assert!(!block.replace("blk.0.ffn_down.weight", Vec::new(), None));
    }
}

#[test]
fn a_head_that_was_changed_is_used() {
    let config = random_weights::config();
    let source = source(&config, |_| ());
    let model = Blockwise::from_parts(config, &source).unwrap();
    let mut head = model.head().unwrap();
    let x = vec![1.0; 51];
    let before = head.forward(&x);
    head.matrix_mut()[51] += 0.5; // row 1, column 0
    let after = head.forward(&x);
    assert_eq!(head.matrix().len(), 101 * 51);
    assert!((after[1] - before[1] - 0.5).abs() < 1e-5);
    assert!(after[0] == before[0] && after[2..] == before[2..]);
}

#[test]
fn what_is_no_model_is_refused_before_anything_is_read() {
    let config = random_weights::config();
    let source = source(&config, |tensors| {
        tensors.pop();
    });
    let refused = Blockwise::from_parts(config, &source).err().unwrap().to_string();
    assert!(refused.ends_with("is missing"), "{refused}");
}

#[test]
fn tokens_and_blocks_that_are_not_there_are_refused() {
    let config = random_weights::config();
    let source = source(&config, |_| ());
    let model = Blockwise::from_parts(config, &source).unwrap();
    let embedding = model.embedding().unwrap();
    assert!(matches!(embedding.embed(&[]), Err(ReferenceError::NoTokens)));
    assert!(matches!(embedding.embed(&[101]), Err(ReferenceError::TokenOutOfRange { .. })));
    assert!(matches!(embedding.embed(&[0; 131]), Err(ReferenceError::ContextOverflow { .. })));
    assert_eq!(
        model.block(2).err().unwrap().to_string(),
        "tensor blk.2.attn_norm.weight is missing"
    );
}
