use super::*;

fn config() -> ModelConfig {
    ModelConfig { qkv_bias: false, tie_embeddings: false, dropout: 0.1, ..ModelConfig::gpt2_124m() }
}

fn written(config: &ModelConfig) -> String {
    to_json(config, &json!({ "bos_token_id": 1, "eos_token_id": null }), Dtype::F32)
}

fn read(text: &str) -> Result<ModelConfig, String> {
    parse(Path::new("config.json"), text).map_err(|error| error.to_string())
}

/// What is written, with one key replaced, read again: the error.
fn refusal(key: &str, value: Value) -> String {
    let mut map: Map<String, Value> = serde_json::from_str(&written(&config())).unwrap();
    map.insert(key.to_owned(), value);
    read(&Value::Object(map).to_string()).unwrap_err()
}

#[test]
fn what_is_written_reads_as_the_same() {
    assert_eq!(read(&written(&config())), Ok(config()));
    let text = written(&config());
    assert!(text.contains("\"attn_pdrop\": 0.1,"), "{text}");
    assert!(text.contains("\"layer_norm_epsilon\": 0.00001,") || text.contains("1e-5,"), "{text}");
}

/// The file that openai-community/gpt2 has, as far as the reader looks at it.
#[test]
fn keys_that_are_left_out_have_the_defaults_of_transformers() {
    let text = r#"{"activation_function": "gelu_new", "attn_pdrop": 0.1, "bos_token_id": 50256,
        "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768,
        "n_head": 12, "n_inner": null, "n_layer": 12, "n_positions": 1024, "resid_pdrop": 0.1,
        "vocab_size": 50257}"#;
    let expected = ModelConfig { qkv_bias: true, tie_embeddings: true, ..config() };
    assert_eq!(read(text), Ok(expected));
}

#[test]
fn other_architectures_are_refused_by_name() {
    let error = refusal("model_type", json!("mamba"));
    assert_eq!(
        error,
        "config.json: architecture mamba is not supported, expected one of: gpt2, gpt_neox, llama, mistral, qwen2"
    );
    assert!(read("{}").unwrap_err().contains("model_type = (nothing)"));
}

#[test]
fn settings_that_change_the_mathematics_are_refused() {
    for (key, value) in [
        ("activation_function", json!("relu")),
        ("scale_attn_weights", json!(false)),
        ("scale_attn_by_inverse_layer_idx", json!(true)),
        ("add_cross_attention", json!(true)),
    ] {
        let error = refusal(key, value);
        assert!(error.starts_with(&format!("config.json: {key} = ")), "{error}");
    }
}

#[test]
fn sizes_out_of_range_are_refused() {
    for (key, value, expected) in [
        ("n_layer", json!(0), "expected 1 to 4096"),
        ("n_embd", json!(1_u64 << 40), "expected 1 to"),
        ("n_embd", json!(-1), "expected a positive integer"),
        ("n_embd", json!("768"), "n_embd = \"768\", expected a positive integer"),
        ("n_head", json!(7), "n_head = 7, expected a divisor of n_embd = 768"),
        ("layer_norm_epsilon", json!(0.0), "expected a positive number"),
    ] {
        let error = refusal(key, value);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn malformed_text_is_placed() {
    let error = read("{\"model_type\": \"gpt2\",\n  oops}").unwrap_err();
    assert!(error.starts_with("config.json: ") && error.contains("line 2"), "{error}");
}
