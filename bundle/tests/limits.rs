//! The limits of `bundle.json`, which the web chat has, too: `app/tests/bundle.test.ts` reads the
//! same cases.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use bundle::manifest;
use serde_json::{Value, json};

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/limits.json")).unwrap()
}

#[test]
fn the_limits_are_those_of_the_web_chat() {
    let limits = json!({
        "jsonBytes": manifest::MAX_BYTES,
        "variants": manifest::MAX_VARIANTS,
        "selfTestTokens": manifest::MAX_SELF_TEST_TOKENS,
        "entries": fragment::manifest::MAX_ENTRIES,
        "fragmentBytes": fragment::manifest::MAX_FRAGMENT_BYTES,
        "specialTokens": manifest::MAX_SPECIAL_TOKENS,
        "lineCharacters": manifest::MAX_LINE,
        "promptCharacters": manifest::MAX_PROMPT,
        "answerCharacters": manifest::MAX_ANSWER,
        "count": manifest::MAX_COUNT,
    });
    assert_eq!(limits, golden()["limits"]);
    assert_eq!(fragment::manifest::MAX_MANIFEST_BYTES, manifest::MAX_BYTES);
}

/// A value as it stands, a text repeated, or a list of one value again and again.
fn value(of: &Value) -> Value {
    let times = of["times"].as_u64().unwrap_or_default() as usize;
    if let Some(text) = of["text"].as_str() {
        return json!(text.repeat(times));
    }
    match of.get("list") {
        Some(one) => Value::Array(vec![one.clone(); times]),
        None => of["value"].clone(),
    }
}

#[test]
fn what_is_refused_is_what_the_web_chat_refuses() {
    let sample: Value = serde_json::from_str(include_str!("golden/bundle.json")).unwrap();
    for case in golden()["cases"].as_array().unwrap() {
        let mut json = sample.clone();
        for (pointer, spoiled) in case["set"].as_object().unwrap() {
            *json.pointer_mut(pointer).unwrap() = value(spoiled);
        }
        let parsed = bundle::BundleManifest::parse(json.to_string().as_bytes());
        let accepted = case["accepted"].as_bool().unwrap();
        assert_eq!(parsed.is_ok(), accepted, "{}: {:?}", case["what"], parsed.err());
    }
}
