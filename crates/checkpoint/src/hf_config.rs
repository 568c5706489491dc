//! `config.json` as `transformers` writes and reads it, with one key of our own: `qkv_bias`.
//!
//! Source: `configuration_gpt2.py` of transformers, for the names, the defaults of keys that are
//! left out, and the switches that change the mathematics.

use std::path::Path;

use config::{Architecture, ModelConfig};
use serde_json::{Map, Value, json};

use crate::CheckpointError;
use crate::limits::{self, SizeKeys};

const KEYS: SizeKeys = SizeKeys {
    vocab_size: "vocab_size",
    context_length: "n_positions",
    n_layer: "n_layer",
    n_head: "n_head",
    n_embd: "n_embd",
    n_inner: "n_inner",
    norm_epsilon: "layer_norm_epsilon",
};

/// Reads the text of a `config.json`; `path` names it in errors.
pub(crate) fn parse(path: &Path, text: &str) -> Result<ModelConfig, CheckpointError> {
    let map: Map<String, Value> = serde_json::from_str(text)
        .map_err(|source| CheckpointError::Json { path: path.to_owned(), source })?;
    let reader = Reader { path, map: &map };
    let name = reader.require("model_type", "the family's name, for example \"gpt2\"")?;
    let name = name.as_str().map_or_else(|| name.to_string(), str::to_owned);
    match Architecture::from_name(&name) {
        Some(Architecture::Gpt2) => gpt2(&reader),
        _ => Err(CheckpointError::Architecture { place: path.to_owned(), name }),
    }
}

fn gpt2(reader: &Reader) -> Result<ModelConfig, CheckpointError> {
    // `gelu_pytorch_tanh` is the same function under another name.
    reader.expect_text("activation_function", &["gelu_new", "gelu_pytorch_tanh"])?;
    reader.expect_switch("scale_attn_weights", true)?;
    reader.expect_switch("scale_attn_by_inverse_layer_idx", false)?;
    reader.expect_switch("add_cross_attention", false)?;
    let n_embd = reader.size("n_embd")?;
    let config = ModelConfig {
        architecture: Architecture::Gpt2,
        vocab_size: reader.size("vocab_size")?,
        context_length: reader.size("n_positions")?,
        n_layer: reader.size("n_layer")?,
        n_head: reader.size("n_head")?,
        n_kv_head: reader.size("n_head")?,
        n_embd,
        n_inner: match reader.get("n_inner") {
            Some(_) => reader.size("n_inner")?,
            None => n_embd.saturating_mul(4),
        },
        norm_epsilon: reader.float("layer_norm_epsilon", 1e-5)?,
        rope_base: config::ROPE_BASE,
        qkv_bias: reader.switch("qkv_bias", true)?,
        tie_embeddings: reader.switch("tie_word_embeddings", true)?,
        dropout: reader.float("resid_pdrop", 0.1)?,
    };
    limits::check(&config, reader.path, &KEYS)?;
    Ok(config)
}

/// The text of `config.json`; `end_of_text` is the token that begins and ends a text.
pub(crate) fn to_json(config: &ModelConfig, end_of_text: Option<u32>) -> String {
    let dropout = short(config.dropout);
    let value = match config.architecture {
        Architecture::Gpt2 => json!({
            "architectures": ["GPT2LMHeadModel"],
            "model_type": config.architecture.name(),
            "activation_function": "gelu_new",
            "attn_pdrop": dropout,
            "bos_token_id": end_of_text,
            "embd_pdrop": dropout,
            "eos_token_id": end_of_text,
            "layer_norm_epsilon": short(config.norm_epsilon),
            "n_ctx": config.context_length,
            "n_embd": config.n_embd,
            "n_head": config.n_head,
            "n_inner": config.n_inner,
            "n_layer": config.n_layer,
            "n_positions": config.context_length,
            "qkv_bias": config.qkv_bias,
            "resid_pdrop": dropout,
            "tie_word_embeddings": config.tie_embeddings,
            "torch_dtype": "float32",
            "vocab_size": config.vocab_size,
        }),
        _ => unimplemented!("tables of this family"),
    };
    format!("{value:#}\n")
}

/// Refuses a model that no checkpoint could hold.
pub(crate) fn check(path: &Path, config: &ModelConfig) -> Result<(), CheckpointError> {
    limits::check(config, path, &KEYS)
}

/// `0.1_f32` as `0.1`, not as the `0.10000000149` that it is.
fn short(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}

/// Keys of a JSON object, with errors that say what a key should have held.
struct Reader<'a> {
    path: &'a Path,
    map: &'a Map<String, Value>,
}

impl Reader<'_> {
    /// The value of a key; `null` counts as left out.
    fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn require(&self, key: &str, expected: &str) -> Result<&Value, CheckpointError> {
        self.get(key).ok_or_else(|| self.refuse(key, expected))
    }

    fn size(&self, key: &str) -> Result<usize, CheckpointError> {
        let expected = "a positive integer";
        let number = self.require(key, expected)?.as_u64();
        number.and_then(|n| usize::try_from(n).ok()).ok_or_else(|| self.refuse(key, expected))
    }

    fn float(&self, key: &str, default: f32) -> Result<f32, CheckpointError> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => {
                value.as_f64().map(|x| x as f32).ok_or_else(|| self.refuse(key, "a number"))
            }
        }
    }

    fn switch(&self, key: &str, default: bool) -> Result<bool, CheckpointError> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.refuse(key, "true or false")),
        }
    }

    fn expect_switch(&self, key: &str, expected: bool) -> Result<(), CheckpointError> {
        match self.switch(key, expected)? {
            found if found == expected => Ok(()),
            _ => Err(self.refuse(key, if expected { "true" } else { "false" })),
        }
    }

    /// A text that decides what the model computes; the first choice is the default.
    fn expect_text(&self, key: &str, choices: &[&str]) -> Result<(), CheckpointError> {
        match self.get(key) {
            Some(value) if !value.as_str().is_some_and(|text| choices.contains(&text)) => {
                Err(self.refuse(key, choices[0]))
            }
            _ => Ok(()),
        }
    }

    fn refuse(&self, key: &str, expected: &str) -> CheckpointError {
        CheckpointError::Setting {
            place: self.path.to_owned(),
            key: key.to_owned(),
            value: self.map.get(key).map_or("(nothing)".to_owned(), Value::to_string),
            expected: expected.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ModelConfig {
        ModelConfig {
            qkv_bias: false,
            tie_embeddings: false,
            dropout: 0.1,
            ..ModelConfig::gpt2_124m()
        }
    }

    fn read(text: &str) -> Result<ModelConfig, String> {
        parse(Path::new("config.json"), text).map_err(|error| error.to_string())
    }

    /// What is written, with one key replaced, read again: the error.
    fn refusal(key: &str, value: Value) -> String {
        let mut map: Map<String, Value> =
            serde_json::from_str(&to_json(&config(), Some(0))).unwrap();
        map.insert(key.to_owned(), value);
        read(&Value::Object(map).to_string()).unwrap_err()
    }

    #[test]
    fn what_is_written_reads_as_the_same() {
        assert_eq!(read(&to_json(&config(), Some(50256))), Ok(config()));
        let text = to_json(&config(), None);
        assert!(text.contains("\"attn_pdrop\": 0.1,"), "{text}");
        assert!(
            text.contains("\"layer_norm_epsilon\": 0.00001,") || text.contains("1e-5,"),
            "{text}"
        );
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
        let error = refusal("model_type", json!("llama"));
        assert_eq!(
            error,
            "config.json: architecture llama is not supported, expected one of: gpt2"
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
}
