//! The run file as a JSON Schema, which editors complete and check run files with.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use crate::RunFile;

/// The JSON Schema (draft 7, which editors for TOML know) of a run file. Keys, types and texts are
/// those of [`RunFile`]; ranges and relations of keys are checked when a run file is read.
pub fn run_file_schema() -> Value {
    let mut schema =
        SchemaSettings::draft07().into_generator().into_root_schema_for::<RunFile>().to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".to_owned(), "Run file of pocketgpt".into());
    }
    tidy(&mut schema);
    schema
}

/// Fits a schema made for JSON to TOML, all the way down.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(node) => {
            without_null(node);
            without_section_default(node);
            as_written(node);
            node.values_mut().for_each(tidy);
        }
        Value::Array(nodes) => nodes.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// TOML has no `null`: a key that may be left out has the type that it has when it is there.
fn without_null(node: &mut Map<String, Value>) {
    if node.get("default") == Some(&Value::Null) {
        node.remove("default");
    }
    if let Some(Value::Array(types)) = node.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            node.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(choices)) = node.get_mut("anyOf") {
        choices.retain(|choice| choice["type"] != "null");
        if choices.len() == 1
            && let Some(choices) = node.remove("anyOf")
        {
            node.insert("allOf".to_owned(), choices);
        }
    }
}

/// The default of a section is said key by key in the section.
fn without_section_default(node: &mut Map<String, Value>) {
    let is_section = node.contains_key("allOf") || node.contains_key("$ref");
    if is_section && node.get("default").is_some_and(Value::is_object) {
        node.remove("default");
    }
}

/// An `f32` is written as people do, `0.1`, where JSON's 64 bits would show what it was rounded to.
fn as_written(node: &mut Map<String, Value>) {
    if node.get("format").is_some_and(|format| format == "float")
        && let Some(number) = node.get("default").and_then(Value::as_f64)
        && let Ok(short) = (number as f32).to_string().parse::<f64>()
    {
        node.insert("default".to_owned(), short.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every property below `node` without a description, by its key.
    fn silent(node: &Value, found: &mut Vec<String>) {
        if let Some(properties) = node["properties"].as_object() {
            // The key that says which kind of `rope_scaling` it is has one value in each kind.
            let says = |key: &Value| key["description"].is_string() || key["const"].is_string();
            found.extend(properties.iter().filter(|(_, key)| !says(key)).map(|(k, _)| k.clone()));
        }
        match node {
            Value::Object(nodes) => nodes.values().for_each(|node| silent(node, found)),
            Value::Array(nodes) => nodes.iter().for_each(|node| silent(node, found)),
            _ => {}
        }
    }

    #[test]
    fn every_key_has_a_description() {
        let mut found = Vec::new();
        silent(&run_file_schema(), &mut found);
        assert!(found.is_empty(), "add a comment to {found:?}");
    }

    #[test]
    fn defaults_are_those_of_an_empty_run_file() {
        let schema = run_file_schema();
        let of = |section: &str, key: &str| {
            schema["definitions"][section]["properties"][key]["default"].clone()
        };
        assert_eq!(of("Model", "norm_epsilon"), 1e-5);
        assert_eq!(of("Optimizer", "weight_decay"), 0.1);
        assert_eq!(of("Train", "epochs"), 10);
        assert_eq!(of("Quantize", "recipes"), serde_json::json!(["Q8_0", "Q4_K_M"]));
        assert_eq!(of("Gates", "mean_kl")["Q2_K"], 1.0);
        assert!(!schema.to_string().contains("null"), "{schema}");
    }
}
