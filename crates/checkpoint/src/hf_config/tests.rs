use proptest::prelude::*;

use super::*;
use config::{Attention, Window};

/// The output of transformers, from `tests/golden/make_configs.py`.
const GOLDEN: &str = include_str!("../../tests/golden/configs.json");

/// The sizes of all models in that file.
fn small(architecture: Architecture) -> ModelConfig {
    ModelConfig {
        architecture,
        vocab_size: 99,
        context_length: 40,
        n_layer: 2,
        n_head: 9,
        n_kv_head: if architecture.is_gated() { 3 } else { 9 },
        n_embd: 72,
        n_inner: 100,
        norm_epsilon: 1e-5,
        rope_base: config::ROPE_BASE,
        qkv_bias: architecture.block().qkv_bias,
        tie_embeddings: architecture == Architecture::Gpt2,
        dropout: if architecture == Architecture::Gpt2 { 0.1 } else { 0.0 },
        attention: config::Attention::default(),
        experts: (architecture == Architecture::Qwen3Moe)
            .then_some(config::Experts { count: 3, used: 2 }),
    }
}

fn llama3() -> RopeScaling {
    RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 20,
    }
}

/// All layers have a window: there are fewer than six.
fn gemma3() -> ModelConfig {
    let attention = Attention {
        head_width: Some(16),
        window: Some(Window { size: 7, global_every: 0, rope_base: Some(1e4) }),
        ..Attention::PLAIN
    };
    ModelConfig { rope_base: 1e6, tie_embeddings: true, attention, ..small(Architecture::Gemma3) }
}

/// Half of heads of 8.
fn longrope() -> Attention {
    let rope_scaling = RopeScaling::LongRope {
        short: vec![1.0, 1.5],
        long: vec![2.0, 3.5],
        original_context: 10,
        magnitude: (1.0 + 4_f64.ln() / 10_f64.ln()).sqrt() as f32,
    };
    Attention { rotated_width: Some(4), rope_scaling, ..Attention::PLAIN }
}

fn linear() -> RopeScaling {
    RopeScaling::Linear { factor: 2.5 }
}

fn written(config: &ModelConfig) -> String {
    to_json(config, &json!({ "bos_token_id": 1, "eos_token_id": null }), Dtype::F32)
}

fn read(text: &str) -> Result<ModelConfig, String> {
    parse(Path::new("config.json"), text).map_err(|error| error.to_string())
}

/// Writes a configuration, replaces keys, and reads it again.
fn changed(architecture: Architecture, changes: &[(&str, Value)]) -> Result<ModelConfig, String> {
    let mut map: Map<String, Value> = serde_json::from_str(&written(&small(architecture))).unwrap();
    map.extend(changes.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    read(&Value::Object(map).to_string())
}

fn refusal(architecture: Architecture, key: &str, value: Value) -> String {
    changed(architecture, &[(key, value)]).unwrap_err()
}

#[test]
fn what_is_written_reads_as_the_same() {
    for architecture in Architecture::ALL {
        for (tie_embeddings, dropout) in [(true, 0.1), (false, 0.0)] {
            let config = ModelConfig {
                tie_embeddings,
                dropout,
                qkv_bias: tie_embeddings && architecture.block().qkv_bias,
                ..small(architecture)
            };
            assert_eq!(read(&written(&config)), Ok(config));
        }
    }
    for rope_scaling in [llama3(), linear()] {
        let attention = config::Attention { rope_scaling, ..config::Attention::PLAIN };
        let config = ModelConfig { attention, ..small(Architecture::Llama) };
        assert_eq!(read(&written(&config)), Ok(config));
    }
    let phi3 = ModelConfig { attention: longrope(), ..small(Architecture::Phi3) };
    let attention = Attention {
        window: Some(Window { size: 7, global_every: 3, rope_base: Some(2e4) }),
        rope_scaling: linear(),
        ..gemma3().attention
    };
    let grouped = ModelConfig { n_layer: 7, attention, ..gemma3() };
    for config in [gemma3(), grouped, phi3] {
        assert_eq!(read(&written(&config)), Ok(config));
    }
    // transformers' own default is a token that a small vocabulary does not have.
    assert!(written(&small(Architecture::SmolLm3)).contains("\"pad_token_id\": null"));
    let text = written(&small(Architecture::Gpt2));
    assert!(text.contains("\"attn_pdrop\": 0.1,"), "{text}");
    assert!(text.contains("\"layer_norm_epsilon\": 0.00001,") || text.contains("1e-5,"), "{text}");
}

#[test]
fn what_transformers_writes_is_read() {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let read = |name: &str| read(&golden["accepted"][name].to_string());
    assert_eq!(read("gpt2"), Ok(small(Architecture::Gpt2)));
    let neox = small(Architecture::GptNeox);
    assert_eq!(read("gptneox"), Ok(neox.clone()));
    assert_eq!(read("gptneox base"), Ok(ModelConfig { rope_base: 5000.0, ..neox }));
    let llama = small(Architecture::Llama);
    for name in ["llama", "mistral", "mistral wide window"] {
        assert_eq!(read(name), Ok(llama.clone()), "{name}");
    }
    assert_eq!(read("llama tied"), Ok(ModelConfig { tie_embeddings: true, ..llama.clone() }));
    let base = ModelConfig { rope_base: 500_000.0, ..llama.clone() };
    assert_eq!(read("llama base"), Ok(base));
    let attention = config::Attention { head_width: Some(16), ..config::Attention::PLAIN };
    assert_eq!(read("llama wide heads"), Ok(ModelConfig { attention, ..llama.clone() }));
    for (name, rope_scaling) in [("llama3", llama3()), ("llama linear", linear())] {
        let attention = config::Attention { rope_scaling, ..config::Attention::PLAIN };
        assert_eq!(read(name), Ok(ModelConfig { attention, ..llama.clone() }));
    }
    assert_eq!(read("olmo2"), Ok(small(Architecture::Olmo2)));
    assert_eq!(read("gemma3"), Ok(gemma3()));
    let attention = Attention {
        window: Some(Window { size: 7, global_every: 2, rope_base: Some(1e4) }),
        rope_scaling: RopeScaling::Linear { factor: 8.0 },
        ..gemma3().attention
    };
    let linear_gemma3 = ModelConfig { n_layer: 3, tie_embeddings: false, attention, ..gemma3() };
    assert_eq!(read("gemma3 linear"), Ok(linear_gemma3));
    let attention = Attention { window: None, ..gemma3().attention };
    assert_eq!(read("gemma3 without windows"), Ok(ModelConfig { attention, ..gemma3() }));
    let phi3 = small(Architecture::Phi3);
    assert_eq!(read("phi3"), Ok(phi3.clone()));
    let window = Some(Window { size: 5, global_every: 0, rope_base: None });
    let attention = Attention { window, ..Attention::PLAIN };
    assert_eq!(read("phi3 window"), Ok(ModelConfig { attention, ..phi3.clone() }));
    let attention = longrope();
    assert_eq!(read("phi3 longrope"), Ok(ModelConfig { attention, ..phi3 }));
    assert_eq!(read("qwen2"), Ok(small(Architecture::Qwen2)));
    assert_eq!(read("smollm3"), Ok(small(Architecture::SmolLm3)));
    let attention = config::Attention { head_width: Some(20), ..config::Attention::PLAIN };
    assert_eq!(read("qwen3"), Ok(ModelConfig { attention, ..small(Architecture::Qwen3) }));
}

#[test]
fn what_transformers_computes_otherwise_is_refused_by_its_key() {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let refused = golden["refused"].as_object().unwrap();
    assert_eq!(refused.len(), 10);
    for (key, config) in refused {
        let error = read(&config.to_string()).unwrap_err();
        assert!(error.starts_with(&format!("config.json: {key} = ")), "{error}");
    }
}

/// The file of openai-community/gpt2, with the keys that the reader uses.
#[test]
fn keys_that_are_left_out_have_the_defaults_of_transformers() {
    let text = r#"{"activation_function": "gelu_new", "attn_pdrop": 0.1, "bos_token_id": 50256,
        "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768,
        "n_head": 12, "n_inner": null, "n_layer": 12, "n_positions": 1024, "resid_pdrop": 0.1,
        "vocab_size": 50257}"#;
    assert_eq!(read(text), Ok(ModelConfig { dropout: 0.1, ..ModelConfig::gpt2_124m() }));
}

/// The file of TinyLlama/TinyLlama-1.1B-Chat-v1.0, by transformers 4.
#[test]
fn the_older_form_is_read() {
    let text = r#"{"architectures": ["LlamaForCausalLM"], "attention_bias": false,
        "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 2048,
        "initializer_range": 0.02, "intermediate_size": 5632, "max_position_embeddings": 2048,
        "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 22,
        "num_key_value_heads": 4, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
        "rope_scaling": null, "rope_theta": 10000.0, "tie_word_embeddings": false,
        "torch_dtype": "bfloat16", "transformers_version": "4.35.0", "use_cache": true,
        "vocab_size": 32000}"#;
    assert_eq!(read(text), Ok(ModelConfig::tinyllama_1_1b()));
    let old = r#"{"model_type": "gpt_neox", "hidden_act": "gelu_new", "rotary_pct": 1.0,
        "rotary_emb_base": 5000, "use_parallel_residual": false}"#;
    let neox = read(old).unwrap();
    assert_eq!((neox.n_embd, neox.n_layer, neox.rope_base), (6144, 44, 5000.0));
}

#[test]
fn sizes_that_are_left_out_are_those_of_the_class() {
    let llama = read(r#"{"model_type": "llama"}"#).unwrap();
    assert_eq!((llama.n_kv_head, llama.context_length, llama.n_inner), (32, 2048, 11008));
    let mistral = read(r#"{"model_type": "mistral", "sliding_window": null}"#).unwrap();
    assert_eq!((mistral.n_kv_head, mistral.context_length, mistral.n_inner), (8, 131_072, 14336));
    let qwen2 = read(r#"{"model_type": "qwen2", "num_key_value_heads": null}"#).unwrap();
    assert_eq!((qwen2.n_kv_head, qwen2.vocab_size, qwen2.norm_epsilon), (32, 151_936, 1e-6));
    let qwen3 = read(r#"{"model_type": "qwen3"}"#).unwrap();
    assert_eq!((qwen3.n_kv_head, qwen3.head_width(), qwen3.context_length), (32, 128, 32_768));
    let smollm3 = read(r#"{"model_type": "smollm3"}"#).unwrap();
    assert_eq!((smollm3.n_layer, smollm3.n_kv_head, smollm3.rope_base), (36, 4, 2e6));
    assert!(smollm3.tie_embeddings);
    let error = read(r#"{"model_type": "mistral"}"#).unwrap_err();
    assert!(error.contains("sliding_window = (nothing), expected null; left out it means 4096"));
    let error = read(r#"{"model_type": "gpt_neox"}"#).unwrap_err();
    assert!(error.contains("use_parallel_residual = (nothing)"), "{error}");
}

#[test]
fn other_architectures_and_heads_are_refused_by_name() {
    let error = refusal(Architecture::Gpt2, "model_type", json!("mamba"));
    assert_eq!(
        error,
        "config.json: architecture mamba is not supported, expected one of: gpt2, gpt_neox, \
         llama, mistral, qwen2, qwen3, mixtral, qwen3_moe, smollm3, olmo2, gemma3_text, phi3"
    );
    assert!(read("{}").unwrap_err().contains("model_type = (nothing)"));
    for class in ["LlamaForSequenceClassification", "Qwen2MoeForCausalLM", "LlamaForCausalLMX"] {
        let error = refusal(Architecture::Llama, "architectures", json!([class]));
        assert!(error.contains(&format!("architecture {class} is not supported")), "{error}");
    }
    assert!(changed(Architecture::Llama, &[("architectures", json!(["LlamaModel"]))]).is_ok());
}

/// The file of mistralai/Mixtral-8x7B-v0.1, with the keys that the reader uses, and the meaning of
/// missing ones.
#[test]
fn a_mixtral_is_a_llama_with_experts() {
    let text = r#"{"architectures": ["MixtralForCausalLM"], "attention_dropout": 0.0,
        "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096,
        "initializer_range": 0.02, "intermediate_size": 14336, "max_position_embeddings": 32768,
        "model_type": "mixtral", "num_attention_heads": 32, "num_experts_per_tok": 2,
        "num_hidden_layers": 32, "num_key_value_heads": 8, "num_local_experts": 8,
        "output_router_logits": false, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0,
        "router_aux_loss_coef": 0.02, "sliding_window": null, "tie_word_embeddings": false,
        "torch_dtype": "bfloat16", "transformers_version": "4.36.0.dev0", "use_cache": true,
        "vocab_size": 32000}"#;
    let expected = ModelConfig {
        context_length: 32768,
        n_layer: 32,
        n_kv_head: 8,
        n_embd: 4096,
        n_inner: 14336,
        rope_base: 1e6,
        experts: Some(config::Experts { count: 8, used: 2 }),
        ..ModelConfig::tinyllama_1_1b()
    };
    assert_eq!(read(text), Ok(expected.clone()));
    let short = r#"{"model_type": "mixtral"}"#;
    assert_eq!(read(short), Ok(ModelConfig { context_length: 131_072, ..expected.clone() }));
    let again = read(&written(&expected)).unwrap();
    assert_eq!(again, expected);
    let text = text.replace("\"sliding_window\": null", "\"sliding_window\": 4096");
    assert!(read(&text).unwrap_err().contains("sliding_window = 4096"));
}

/// The file of Qwen/Qwen3-30B-A3B; transformers 5 writes `num_local_experts`.
#[test]
fn the_experts_of_a_qwen3_have_a_width_of_their_own() {
    let text = r#"{"architectures": ["Qwen3MoeForCausalLM"], "attention_bias": false,
        "attention_dropout": 0.0, "bos_token_id": 151643, "decoder_sparse_step": 1,
        "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 2048,
        "initializer_range": 0.02, "intermediate_size": 6144, "max_position_embeddings": 40960,
        "max_window_layers": 48, "mlp_only_layers": [], "model_type": "qwen3_moe",
        "moe_intermediate_size": 768, "norm_topk_prob": true, "num_attention_heads": 32,
        "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 48,
        "num_key_value_heads": 4, "output_router_logits": false, "rms_norm_eps": 1e-06,
        "rope_scaling": null, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.001,
        "sliding_window": null, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
        "use_cache": true, "use_sliding_window": false, "vocab_size": 151936}"#;
    let config = read(text).unwrap();
    assert_eq!((config.architecture, config.n_inner), (Architecture::Qwen3Moe, 768));
    assert_eq!(config.head_width(), 128);
    assert_eq!(config.experts, Some(config::Experts { count: 128, used: 8 }));
    assert_eq!(config.parameter_count(), 30_532_122_624);
    let newer = text.replace("num_experts\"", "num_local_experts\"");
    assert_eq!(read(&newer), Ok(config.clone()));
    assert_eq!(read(&written(&config)), Ok(config));
}

#[test]
fn settings_that_change_the_mathematics_are_refused() {
    use Architecture::{Gpt2, GptNeox, Llama, Qwen2, Qwen3, Qwen3Moe, SmolLm3};
    for (architecture, key, value) in [
        (Qwen3Moe, "norm_topk_prob", json!(false)),
        (Qwen3Moe, "norm_topk_prob", Value::Null),
        (Qwen3Moe, "mlp_only_layers", json!([1])),
        (Qwen3Moe, "decoder_sparse_step", json!(2)),
        (Qwen3Moe, "shared_expert_intermediate_size", json!(8)),
        (Qwen3Moe, "n_shared_experts", json!(1)),
        (Qwen3Moe, "use_sliding_window", json!(true)),
        (Qwen3Moe, "num_experts", json!(513)),
        (Qwen3Moe, "num_experts_per_tok", json!(4)),
        (Gpt2, "activation_function", json!("relu")),
        (Gpt2, "scale_attn_weights", json!(false)),
        (Gpt2, "scale_attn_by_inverse_layer_idx", json!(true)),
        (Gpt2, "add_cross_attention", json!(true)),
        (GptNeox, "use_parallel_residual", json!(true)),
        (GptNeox, "hidden_act", json!("gelu")),
        (GptNeox, "hidden_act", Value::Null),
        (GptNeox, "attention_bias", json!(false)),
        (Llama, "hidden_act", json!("gelu")),
        (Llama, "attention_bias", json!(true)),
        (Llama, "mlp_bias", json!(true)),
        (Llama, "head_dim", json!(15)),
        (Qwen2, "head_dim", json!(16)),
        (Llama, "sliding_window", json!(8)),
        (Llama, "layer_types", json!(["chunked_attention"])),
        (Llama, "layer_types", json!("full_attention")),
        (Qwen2, "use_sliding_window", json!(true)),
        (Qwen3, "use_sliding_window", json!(true)),
        (Qwen3, "attention_bias", json!(true)),
        (SmolLm3, "no_rope_layers", json!([1, 0])),
        (SmolLm3, "no_rope_layers", json!([1])),
        (SmolLm3, "no_rope_layers", json!("1, 1")),
    ] {
        let error = refusal(architecture, key, value);
        assert!(error.starts_with(&format!("config.json: {key} = ")), "{error}");
    }
}

#[test]
fn scaled_and_partial_rotations_are_refused_in_both_forms() {
    for (key, value, named) in [
        ("rope_scaling", json!({ "type": "dynamic", "factor": 2.0 }), "rope_scaling.type"),
        ("rope_scaling", json!({ "factor": 2.0 }), "rope_scaling.factor"),
        ("rope_scaling", json!({ "type": "linear" }), "rope_scaling.factor"),
        ("rope_scaling", json!({ "type": "linear", "factor": -2.0 }), "rope_parameters.factor"),
        ("rope_scaling", json!({ "type": "linear", "factor": 2.0, "a": 1 }), "rope_scaling.a"),
        ("rope_scaling", json!(2.0), "rope_scaling"),
        ("rope_parameters", json!({ "rope_type": "yarn" }), "rope_parameters.rope_type"),
        (
            "rope_parameters",
            json!({ "full_attention": { "rope_theta": 1e4 } }),
            "rope_parameters.full_attention",
        ),
        (
            "rope_parameters",
            json!({ "partial_rotary_factor": 0.5 }),
            "rope_parameters.partial_rotary_factor",
        ),
        ("partial_rotary_factor", json!(0.5), "partial_rotary_factor"),
        ("rope_parameters", json!({ "rope_theta": "1e4" }), "rope_parameters.rope_theta"),
        ("rope_parameters", json!({ "rope_theta": 1.0 }), "rope_theta"),
    ] {
        let error = refusal(Architecture::Llama, key, value);
        assert!(error.starts_with(&format!("config.json: {named} = ")), "{error}");
    }
    // An empty form is ignored, so the other one counts.
    let changes =
        [("rope_scaling", json!({})), ("rope_parameters", json!({ "rope_type": "llama3" }))];
    let error = changed(Architecture::Llama, &changes).unwrap_err();
    assert!(error.contains("rope_parameters.factor = (nothing)"), "{error}");
    let text = r#"{"model_type": "gpt_neox", "hidden_act": "gelu_new",
        "use_parallel_residual": false}"#;
    let error = read(text).unwrap_err();
    assert!(error.contains("rotary_pct = (nothing), expected 1.0; left out it means 0.25"));
}

#[test]
fn layers_without_rotation_are_where_llama_cpp_has_them() {
    let read = |changes: &[(&str, Value)]| changed(Architecture::SmolLm3, changes);
    for (changes, expected) in [
        (vec![("no_rope_layers", json!([1, 1, 1, 0]))], None),
        (vec![("no_rope_layers", Value::Null)], None),
        (vec![("no_rope_layers", json!([1, 1, 1, 1])), ("num_hidden_layers", json!(3))], None),
        (
            vec![("no_rope_layers", json!([1, 1, 1, 1])), ("num_hidden_layers", json!(4))],
            Some("no_rope_layers = [1,1,1,1], expected 0 for every fourth layer"),
        ),
        (
            vec![("no_rope_layers", Value::Null), ("no_rope_layer_interval", json!(3))],
            Some("no_rope_layer_interval = 3, expected 4"),
        ),
    ] {
        let found = read(&changes).err();
        let fine = match (&found, expected) {
            (Some(error), Some(expected)) => error.contains(expected),
            (found, expected) => found.is_none() && expected.is_none(),
        };
        assert!(fine, "{changes:?}: {found:?}");
    }
}

#[test]
fn sizes_out_of_range_are_refused() {
    use Architecture::{Gpt2, GptNeox, Llama};
    for (architecture, key, value, expected) in [
        (Gpt2, "n_layer", json!(0), "expected 1 to 4096"),
        (Gpt2, "n_embd", json!(1_u64 << 40), "expected 1 to"),
        (Gpt2, "n_embd", json!(-1), "expected a positive integer"),
        (Gpt2, "n_embd", json!("768"), "n_embd = \"768\", expected a positive integer"),
        (Gpt2, "n_head", json!(7), "n_head = 7, expected a divisor of n_embd = 72"),
        (Gpt2, "layer_norm_epsilon", json!(0.0), "expected a positive number"),
        (Llama, "num_attention_heads", json!(0), "num_attention_heads = 0, expected 1 to"),
        (Llama, "num_key_value_heads", json!(0), "a divisor of num_attention_heads = 9"),
        (Llama, "num_key_value_heads", json!(2), "a divisor of num_attention_heads = 9"),
        (Llama, "num_key_value_heads", json!(18), "a divisor of num_attention_heads = 9"),
        (Llama, "rms_norm_eps", json!(-1.0), "expected a positive number"),
        (Llama, "attention_dropout", json!(1e60), "attention_dropout = inf, expected 0 to below"),
        (GptNeox, "hidden_size", json!(27), "heads of an even width, found 27 / 9 = 3"),
    ] {
        let error = refusal(architecture, key, value);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_llama_with_biases_is_called_a_qwen2() {
    let config = ModelConfig { qkv_bias: true, ..small(Architecture::Llama) };
    let error = check(Path::new("config.json"), &config).unwrap_err().to_string();
    assert!(error.contains("qkv_bias = true") && error.contains("is a qwen2"), "{error}");
}

#[test]
fn malformed_text_is_placed() {
    let error = read("{\"model_type\": \"gpt2\",\n  oops}").unwrap_err();
    assert!(error.starts_with("config.json: ") && error.contains("line 2"), "{error}");
}

/// Any JSON, small and not too deep.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..100_i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,9}".prop_map(Value::from),
        prop_oneof!["default", "linear", "silu", "gelu_new", "full_attention"]
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        let key = prop_oneof!["rope_theta", "rope_type", "type", "factor"];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map(key, inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// For any changed keys: the file is refused, or its content is written and read again unchanged.
#[test]
fn what_is_accepted_is_understood() {
    let keys: Vec<String> = Architecture::ALL
        .iter()
        .flat_map(|&architecture| {
            let map: Map<String, Value> =
                serde_json::from_str(&written(&small(architecture))).unwrap();
            map.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        })
        .chain(["rope_scaling", "sliding_window", "layer_types"].map(str::to_owned))
        .collect();
    let change = (proptest::sample::select(keys), any_value());
    let cases = ProptestConfig::with_cases(4000);
    proptest!(cases, |(
        architecture in proptest::sample::select(Architecture::ALL.to_vec()),
        changes in proptest::collection::vec(change, 1..3),
    )| {
        let changes: Vec<(&str, Value)> =
            changes.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        if let Ok(config) = changed(architecture, &changes) {
            prop_assert_eq!(read(&written(&config)), Ok(config));
        }
    });
}
