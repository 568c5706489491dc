//! Experts in memory and in the source give the same bits, and each gets the tokens that use it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use crate::random_weights::{source, with_experts};
use config::ModelConfig;
use gguf::TensorSource;
use reference::{Blockwise, Model};

fn tokens(n: u32) -> Vec<u32> {
    (0..n).map(|i| (i * 37 + i * i * 11) % 101).collect()
}

/// Rows that each matrix was multiplied with, by tensor and expert.
type Rows = BTreeMap<(String, Option<usize>), usize>;

/// Logits with one expert in memory at a time, and how many rows each matrix was multiplied with.
fn blockwise(config: &ModelConfig, weights: &dyn TensorSource, tokens: &[u32]) -> (Vec<f32>, Rows) {
    let model = Blockwise::from_parts(config.clone(), weights).unwrap();
    let mut x = model.embedding().unwrap().embed(tokens).unwrap();
    let mut rows = Rows::new();
    for layer in 0..config.n_layer {
        let block = model.block(layer).unwrap();
        let (mut plain, mut seen) = (x.clone(), 0);
        block.forward(&mut plain).unwrap();
        let mut dense = x.clone();
        block.observe(&mut dense, &mut |tensors, _| seen += tensors.len()).unwrap();
        assert_eq!(seen, block.matrices().len(), "what every token meets");
        block
            .observe_with_experts(&mut x, &mut |input| {
                assert_eq!(input.rows.len() % input.width, 0);
                for tensor in input.tensors {
                    let info = weights.tensor(tensor).unwrap();
                    assert_eq!((info.matrices(), info.row_len()), (input.matrices, input.width));
                    let key = ((*tensor).to_owned(), input.expert);
                    let before = rows.insert(key, input.rows.len() / input.width);
                    assert_eq!(before, None, "{tensor}");
                }
            })
            .unwrap();
        assert!(x == plain && x == dense);
    }
    let normed = model.last_norm().unwrap().forward(&x);
    (model.head().unwrap().forward(&normed), rows)
}

#[test]
fn one_expert_at_a_time_gives_the_bits_of_the_whole() {
    for (name, config) in with_experts() {
        let weights = source(&config, |_| ());
        let model = Model::from_parts(config.clone(), &weights).unwrap();
        for tokens in [tokens(1), tokens(130)] {
            let (logits, rows) = blockwise(&config, &weights, &tokens);
            assert!(logits == model.logits(&tokens).unwrap(), "{name}");
            let used = config.experts.unwrap().used;
            for layer in 0..config.n_layer {
                for (part, each) in [("gate", used), ("up", used), ("down", used)] {
                    let tensor = format!("blk.{layer}.ffn_{part}_exps.weight");
                    let of_tensor = rows.iter().filter(|((name, _), _)| *name == tensor);
                    let sum: usize = of_tensor.map(|(_, rows)| rows).sum();
                    assert_eq!(sum, each * tokens.len(), "{name} {tensor}");
                }
                let router = (format!("blk.{layer}.ffn_gate_inp.weight"), None);
                assert_eq!(rows[&router], tokens.len());
            }
        }
    }
}

#[test]
fn a_token_is_answered_the_same_whatever_is_read_with_it() {
    for (name, config) in with_experts() {
        let model = Model::from_parts(config.clone(), &source(&config, |_| ())).unwrap();
        let tokens = tokens(40);
        let whole = model.logits(&tokens).unwrap();
        let mut session = model.session();
        for (token, expected) in tokens.iter().zip(whole.chunks_exact(config.vocab_size)) {
            assert!(session.push(&[*token]).unwrap() == expected, "{name}");
        }
    }
}

#[test]
fn a_source_that_lacks_an_expert_is_refused() {
    for (_, config) in with_experts() {
        let few = source(&config, |tensors| {
            let experts =
                tensors.iter_mut().find(|(name, _)| name.contains("ffn_up_exps")).unwrap();
            experts.1[0] -= 1;
        });
        let error = Blockwise::from_parts(config, &few).err().unwrap().to_string();
        assert!(error.contains("blk.0.ffn_up_exps.weight"), "{error}");
    }
}
