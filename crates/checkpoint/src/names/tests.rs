use std::collections::HashSet;

use super::*;

/// Every family, with and without biases and a separate head. All sizes are different.
fn configs() -> impl Iterator<Item = ModelConfig> {
    let families = Architecture::ALL.into_iter();
    families.flat_map(|architecture| {
        [(true, true), (true, false), (false, true), (false, false)].map(
            |(qkv_bias, tie_embeddings)| ModelConfig {
                architecture,
                vocab_size: 11,
                context_length: 7,
                n_layer: 3,
                n_head: 4,
                n_kv_head: if architecture.is_gated() { 2 } else { 4 },
                n_embd: 16,
                n_inner: 10,
                norm_epsilon: 1e-5,
                rope_base: config::ROPE_BASE,
                qkv_bias,
                tie_embeddings,
                dropout: 0.0,
                attention: config::Attention::default(),
                experts: (architecture == Architecture::Qwen3Moe)
                    .then_some(config::Experts { count: 3, used: 2 }),
            },
        )
    })
}

/// One block of a family with biases and a separate head.
fn config(architecture: Architecture) -> ModelConfig {
    let mut all = configs().filter(|config| {
        config.architecture == architecture && config.qkv_bias && !config.tie_embeddings
    });
    ModelConfig { n_layer: 1, ..all.next().unwrap() }
}

#[test]
fn every_parameter_is_counted_once() {
    for config in configs() {
        let table = tensors(&config);
        let parameters: usize =
            table.iter().filter(|t| t.in_model()).map(TensorName::elements).sum();
        assert_eq!(parameters, config.parameter_count(), "{config:?}");
    }
}

#[test]
fn no_name_is_used_twice() {
    for config in configs() {
        let table = tensors(&config);
        type Name = fn(&TensorName) -> &String;
        for name in [|t| &t.hugging_face, |t| &t.burn] as [Name; 2] {
            assert_eq!(table.iter().map(name).collect::<HashSet<_>>().len(), table.len());
        }
        let gguf: Vec<TensorName> = gguf_tensors(&config).collect();
        assert_eq!(gguf.iter().map(|t| &t.gguf).collect::<HashSet<_>>().len(), gguf.len());
    }
}

#[test]
fn gguf_has_exactly_what_llama_cpp_asks_for() {
    for architecture in Architecture::ALL {
        let found: HashSet<(String, Vec<u64>)> = tensors(&config(architecture))
            .into_iter()
            .map(|t| (t.gguf.clone(), t.gguf_shape()))
            .collect();
        let expected: HashSet<(String, Vec<u64>)> = asked_for(architecture)
            .into_iter()
            .map(|(name, shape)| (name.replace("blk.", "blk.0."), shape))
            .collect();
        assert_eq!(found, expected, "{architecture:?}");
    }
}

/// The tensors of `src/models/*.cpp` in llama.cpp, by the names of our families, with the shapes
/// required there: 16 channels, 10 in the feed-forward layer, 11 tokens, 7 positions, keys and
/// values of 2 heads of 4.
fn asked_for(architecture: Architecture) -> Vec<(&'static str, Vec<u64>)> {
    let common = vec![
        ("token_embd.weight", vec![16, 11]),
        ("output_norm.weight", vec![16]),
        ("output.weight", vec![16, 11]),
        ("blk.attn_output.weight", vec![16, 16]),
        ("blk.ffn_down.weight", vec![10, 16]),
    ];
    let norms_before = vec![("blk.attn_norm.weight", vec![16]), ("blk.ffn_norm.weight", vec![16])];
    let norms_after =
        vec![("blk.post_attention_norm.weight", vec![16]), ("blk.post_ffw_norm.weight", vec![16])];
    let up = vec![("blk.ffn_up.weight", vec![16, 10])];
    let layer_norms_and_biases = vec![
        ("output_norm.bias", vec![16]),
        ("blk.attn_norm.bias", vec![16]),
        ("blk.attn_qkv.weight", vec![16, 48]),
        ("blk.attn_qkv.bias", vec![48]),
        ("blk.attn_output.bias", vec![16]),
        ("blk.ffn_norm.bias", vec![16]),
        ("blk.ffn_up.bias", vec![10]),
        ("blk.ffn_down.bias", vec![16]),
    ];
    let gated = vec![
        ("blk.attn_q.weight", vec![16, 16]),
        ("blk.attn_k.weight", vec![16, 8]),
        ("blk.attn_v.weight", vec![16, 8]),
        ("blk.attn_q.bias", vec![16]),
        ("blk.attn_k.bias", vec![8]),
        ("blk.attn_v.bias", vec![8]),
        ("blk.ffn_gate.weight", vec![16, 10]),
    ];
    let head_norms = vec![("blk.attn_q_norm.weight", vec![4]), ("blk.attn_k_norm.weight", vec![4])];
    let width_norms =
        vec![("blk.attn_q_norm.weight", vec![16]), ("blk.attn_k_norm.weight", vec![8])];
    let joined = vec![
        ("blk.attn_qkv.weight", vec![16, 32]),
        ("blk.attn_qkv.bias", vec![32]),
        ("blk.ffn_up.weight", vec![16, 20]),
    ];
    let positions = vec![("position_embd.weight", vec![16, 7])];
    let own = match architecture {
        Architecture::Gpt2 => vec![norms_before, up, layer_norms_and_biases, positions],
        Architecture::GptNeox => vec![norms_before, up, layer_norms_and_biases],
        Architecture::Llama | Architecture::Qwen2 | Architecture::SmolLm3 => {
            vec![norms_before, up, gated]
        }
        Architecture::Qwen3 => vec![norms_before, up, gated, head_norms],
        Architecture::Qwen3Moe => {
            let experts = vec![
                ("blk.ffn_gate_inp.weight", vec![16, 3]),
                ("blk.ffn_gate_exps.weight", vec![16, 10, 3]),
                ("blk.ffn_up_exps.weight", vec![16, 10, 3]),
                ("blk.ffn_down_exps.weight", vec![10, 16, 3]),
            ];
            let all = [common, norms_before, gated, head_norms, experts].concat();
            let dense = ["blk.ffn_gate.weight", "blk.ffn_up.weight", "blk.ffn_down.weight"];
            return all.into_iter().filter(|(name, _)| !dense.contains(name)).collect();
        }
        Architecture::Olmo2 => vec![norms_after, up, gated, width_norms],
        Architecture::Gemma3 => vec![norms_before, norms_after, up, gated, head_norms],
        Architecture::Phi3 => vec![norms_before, joined],
    };
    [common, own.concat()].concat()
}

/// llama.cpp treats Mixtral as a `llama`; Hugging Face's files use other names for it.
#[test]
fn a_mixtral_has_its_own_names_and_stacked_experts() {
    let experts = Some(config::Experts { count: 5, used: 2 });
    let config = ModelConfig { experts, ..config(Architecture::Llama) };
    let table = tensors(&config);
    let parameters: usize = table.iter().map(TensorName::elements).sum();
    assert_eq!(parameters, config.parameter_count());
    let names: HashSet<&str> = table.iter().map(|row| row.hugging_face.as_str()).collect();
    for name in ["gate", "experts.0.w1", "experts.4.w2", "experts.3.w3"] {
        let name = format!("model.layers.0.block_sparse_moe.{name}.weight");
        assert!(names.contains(name.as_str()), "{name}");
    }
    let down: Vec<&TensorName> =
        table.iter().filter(|row| row.gguf == "blk.0.ffn_down_exps.weight").collect();
    let indices: Vec<usize> = down.iter().filter_map(|row| Some(row.expert?.index)).collect();
    assert_eq!(indices, [0, 1, 2, 3, 4]);
    assert!(down.iter().all(|row| row.shape == [16, 10] && row.gguf_shape() == [10, 16, 5]));
}

/// The names that transformers writes, as `model.state_dict()` lists them.
#[test]
fn hugging_face_has_the_names_of_transformers() {
    let names = |architecture| {
        let table = tensors(&config(architecture));
        table.into_iter().map(|row| row.hugging_face).collect::<HashSet<_>>()
    };
    for (architecture, some) in [
        (Architecture::Gpt2, "transformer.h.0.attn.c_attn.bias"),
        (Architecture::GptNeox, "gpt_neox.layers.0.attention.query_key_value.bias"),
        (Architecture::GptNeox, "gpt_neox.layers.0.mlp.dense_4h_to_h.weight"),
        (Architecture::GptNeox, "gpt_neox.final_layer_norm.bias"),
        (Architecture::GptNeox, "embed_out.weight"),
        (Architecture::Llama, "model.layers.0.self_attn.o_proj.weight"),
        (Architecture::Llama, "model.layers.0.post_attention_layernorm.weight"),
        (Architecture::Qwen2, "model.layers.0.self_attn.k_proj.bias"),
        (Architecture::Qwen2, "model.embed_tokens.weight"),
        (Architecture::Qwen2, "lm_head.weight"),
        (Architecture::Qwen3, "model.layers.0.self_attn.q_norm.weight"),
        (Architecture::Qwen3, "model.layers.0.self_attn.k_norm.weight"),
        (Architecture::Olmo2, "model.layers.0.post_attention_layernorm.weight"),
        (Architecture::Olmo2, "model.layers.0.post_feedforward_layernorm.weight"),
        (Architecture::Gemma3, "model.layers.0.input_layernorm.weight"),
        (Architecture::Gemma3, "model.layers.0.post_attention_layernorm.weight"),
        (Architecture::Gemma3, "model.layers.0.pre_feedforward_layernorm.weight"),
        (Architecture::Gemma3, "model.layers.0.post_feedforward_layernorm.weight"),
        (Architecture::Phi3, "model.layers.0.self_attn.qkv_proj.weight"),
        (Architecture::Phi3, "model.layers.0.mlp.gate_up_proj.weight"),
        (Architecture::Phi3, "model.layers.0.post_attention_layernorm.weight"),
        (Architecture::Qwen3Moe, "model.layers.0.mlp.gate.weight"),
        (Architecture::Qwen3Moe, "model.layers.0.mlp.experts.2.gate_proj.weight"),
        (Architecture::Qwen3Moe, "model.layers.0.mlp.experts.0.down_proj.weight"),
    ] {
        assert!(names(architecture).contains(some), "{some}");
    }
}

#[test]
fn rows_of_hugging_face_are_turned_for_burn_and_conv1d_is_not() {
    for config in configs() {
        for tensor in tensors(&config) {
            let transposed = tensor.orientation == Orientation::OutputFirst;
            let expected: Vec<usize> = match transposed {
                true => tensor.shape.iter().rev().copied().collect(),
                false => tensor.shape.clone(),
            };
            assert_eq!(tensor.burn_shape(), expected, "{}", tensor.burn);
            let conv1d = config.architecture == Architecture::Gpt2;
            let is_head = tensor.burn == "lm_head.weight";
            let is_embedding = tensor.burn.starts_with("w");
            let is_product = tensor.shape.len() == 2 && !is_embedding;
            assert_eq!(transposed, is_product && (is_head || !conv1d), "{}", tensor.burn);
        }
    }
}

#[test]
fn only_queries_keys_and_fused_projections_are_reordered() {
    for config in configs() {
        for row in tensors(&config) {
            let reordered = match config.architecture {
                Architecture::Llama | Architecture::SmolLm3 => [".attn.q.", ".attn.k."].as_slice(),
                Architecture::GptNeox => &[".attn.c_attn."],
                _ => &[],
            };
            let expected = reordered.iter().any(|part| row.burn.contains(part));
            assert_eq!(!row.rows.is_same(), expected, "{}", row.burn);
        }
    }
}

#[test]
fn values_come_back_from_burn_as_they_were() {
    for config in configs() {
        for row in tensors(&config) {
            let values: Vec<f32> = (0..row.elements()).map(|i| i as f32).collect();
            let there = row.to_burn(values.clone());
            assert_eq!(row.from_burn(there), values, "{}", row.burn);
        }
    }
}

/// One head of a LLaMA, 4 channels, 4 inputs: row 2 of the file, the partner of row 0, becomes
/// column 1 of Burn's matrix.
#[test]
fn a_query_matrix_is_reordered_and_turned() {
    let config = ModelConfig { n_embd: 4, n_head: 1, n_kv_head: 1, ..config(Architecture::Llama) };
    let row = tensors(&config).into_iter().find(|t| t.burn == "blocks.0.attn.q.weight").unwrap();
    let rows = [[0., 1., 2., 3.], [10., 11., 12., 13.], [20., 21., 22., 23.], [30., 31., 32., 33.]];
    let expected =
        [[0., 20., 10., 30.], [1., 21., 11., 31.], [2., 22., 12., 32.], [3., 23., 13., 33.]];
    assert_eq!(row.to_burn(rows.concat()), expected.concat());
}

#[test]
fn a_parameter_that_the_model_has_not_is_a_bias_or_a_repeated_head() {
    for config in configs() {
        let absent: Vec<TensorName> =
            tensors(&config).into_iter().filter(|row| !row.in_model()).collect();
        let (repeats, zeros): (Vec<_>, Vec<_>) =
            absent.iter().partition(|row| row.repeats().is_some());
        let repeated = match config.architecture {
            Architecture::GptNeox => Some("gpt_neox.embed_in.weight"),
            Architecture::Olmo2 => Some("model.embed_tokens.weight"),
            _ => None,
        };
        let found: Vec<_> = repeats.iter().map(|row| row.repeats()).collect();
        assert_eq!(found, Vec::from_iter(repeated.filter(|_| config.tie_embeddings).map(Some)));
        assert!(repeats.iter().all(|row| row.gguf == "output.weight"));
        let expected = match (config.qkv_bias, config.architecture) {
            (false, Architecture::Gpt2 | Architecture::GptNeox) => 3,
            (false, Architecture::Qwen2) => 9,
            _ => 0,
        };
        assert_eq!(zeros.len(), expected, "{config:?}");
        assert!(zeros.iter().all(|row| row.burn.contains(".attn.") && row.burn.ends_with(".bias")));
    }
}

#[test]
fn buffers_are_known_and_weights_are_not_mistaken_for_them() {
    for (architecture, buffer) in [
        (Architecture::Gpt2, "transformer.h.0.attn.bias"),
        (Architecture::Gpt2, "transformer.h.11.attn.masked_bias"),
        (Architecture::GptNeox, "gpt_neox.layers.0.attention.bias"),
        (Architecture::GptNeox, "gpt_neox.layers.0.attention.masked_bias"),
        (Architecture::GptNeox, "gpt_neox.layers.0.attention.rotary_emb.inv_freq"),
        (Architecture::GptNeox, "gpt_neox.rotary_emb.inv_freq"),
        (Architecture::Llama, "model.layers.0.self_attn.rotary_emb.inv_freq"),
        (Architecture::Llama, "model.rotary_emb.inv_freq"),
        (Architecture::Qwen2, "model.rotary_emb.inv_freq"),
    ] {
        assert!(is_ignored(&config(architecture), buffer), "{buffer}");
    }
    for config in configs() {
        assert!(tensors(&config).iter().all(|t| !is_ignored(&config, &t.hugging_face)));
        for other in ["", "m", "lm_head.weight", "é", "model.layers.0.mlp.up_proj.bias"] {
            assert!(!is_ignored(&config, other), "{other}");
        }
    }
}
