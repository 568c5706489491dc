//! Conversations compared with transformers' `apply_chat_template` and its mask of the assistant's
//! tokens (`golden/make_chats.py`).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use chat_template::{ChatTemplate, MARKS, TemplateInput};
use data::Tokenizer;
use data::chat::{ChatTokens, chat_tokens};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Case {
    name: String,
    tokenizer: String,
    bos_token: String,
    eos_token: String,
    template: String,
    plain: String,
    messages: Value,
    ids: Vec<u32>,
    trains: Vec<bool>,
}

fn cases() -> Vec<(Case, Tokenizer)> {
    let cases: Vec<Case> = serde_json::from_str(include_str!("golden/chats.json")).unwrap();
    let with_tokenizer = |case: Case| {
        let text = match case.tokenizer.as_str() {
            "sentencepiece" => include_str!("golden/sentencepiece.json"),
            text => text,
        };
        let tokenizer = Tokenizer::from_tokenizer_json(text).unwrap();
        (case, tokenizer)
    };
    cases.into_iter().map(with_tokenizer).collect()
}

fn tokens(case: &Case, tokenizer: &Tokenizer, template: &str) -> ChatTokens {
    let template =
        ChatTemplate::new(template, Some(&case.bos_token), Some(&case.eos_token)).unwrap();
    let input = TemplateInput::from_json(&case.messages, &Value::Null);
    let answered = template.render_answered(&[(input, 0)]).remove(0).unwrap();
    assert!(!answered.text.contains(MARKS), "{}", case.name);
    chat_tokens(tokenizer, &answered).unwrap()
}

#[test]
fn marked_answers_train_as_in_transformers() {
    let cases = cases();
    assert_eq!(cases.len(), 20);
    for (case, tokenizer) in cases {
        let found = tokens(&case, &tokenizer, &case.template);
        assert_eq!(found.ids, case.ids, "{}: {}", case.name, case.messages);
        assert_eq!(found.trains, case.trains, "{}: {}", case.name, case.messages);
    }
}

/// A template without marks gives the same answers, up to a line break that ends a turn.
#[test]
fn answers_found_turn_by_turn_are_the_marked_ones() {
    for (case, tokenizer) in cases() {
        let found = tokens(&case, &tokenizer, &case.plain);
        assert_eq!(found.ids, case.ids, "{}: {}", case.name, case.messages);
        for (at, (&found, &marked)) in found.trains.iter().zip(&case.trains).enumerate() {
            let is_break = tokenizer.token_bytes(case.ids[at]).unwrap().trim_ascii().is_empty();
            assert!(found == marked || found && is_break, "{}: token {at}", case.name);
        }
    }
}

#[test]
fn an_installed_template_brings_its_tokens() {
    let gpt2 = Tokenizer::gpt2().unwrap();
    let (installed, folder) =
        data::chat::TrainingTemplate::install(&gpt2, None, Path::new("chatml")).unwrap();
    assert_eq!(installed.vocab_size(), 50_259);
    assert_eq!(installed.special("<|im_end|>"), Some(50_258));
    assert_eq!(installed.encode("Hello world").unwrap(), [15496, 995]);
    assert!(folder.path().join("chat_template.jinja").exists());
    let error = data::chat::TrainingTemplate::install(&gpt2, None, Path::new("no/such"));
    let error = format!("{:#}", error.unwrap_err());
    assert!(error.contains("no/such") && error.contains("chatml"), "{error}");
}
