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
        let parameters: usize = table.iter().filter(|t| t.in_model).map(TensorName::elements).sum();
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
