//! Conversations compared with transformers' `apply_chat_template` and its mask of the assistant's
//! tokens (`golden/make_chats.py`).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use chat_template::{ChatTemplate, MARKS, TemplateInput};
use data::Tokenizer;
use data::chat::{
    CHATML, ChatTokens, PreferencePair, PreferenceTokens, TrainingTemplate, chat_tokens,
    preference_pair, preference_tokens,
};
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

fn pair(chosen: &str, rejected: &str) -> PreferencePair {
    let record = serde_json::json!({
        "prompt": [
            { "role": "user", "content": "Hello." },
            { "role": "assistant", "content": "Hello, too." },
            { "role": "user", "content": "What color is the sky?" },
        ],
        "chosen": chosen,
        "rejected": rejected,
    });
    preference_pair(record.as_object().unwrap()).unwrap()
}

/// Only the answers behind the prompt train, as in the completion mask of TRL's DPOTrainer.
#[test]
fn of_a_pair_the_answers_behind_the_prompt_train() {
    let (_, tokenizer) = cases().remove(0);
    let source = TrainingTemplate::source(&tokenizer, Some(Path::new(CHATML))).unwrap();
    let template = TrainingTemplate::new(&tokenizer, source).unwrap();
    let pairs = [pair("It is blue.", "It is green."), pair("Blue.", "Blue.")];
    let trained = |tokens: &ChatTokens| {
        let chosen = tokens.ids.iter().zip(&tokens.trains).filter(|(_, trains)| **trains);
        let bytes: Vec<u8> =
            chosen.flat_map(|(&id, _)| tokenizer.token_bytes(id).unwrap().to_vec()).collect();
        // A token of this tokenizer is its name, in GPT-2's letters for bytes.
        String::from_utf8(bytes).unwrap().replace('Ġ', " ").trim_end().to_owned()
    };
    let found: Vec<PreferenceTokens> = preference_tokens(&pairs, &template, &tokenizer)
        .into_iter()
        .collect::<Result<_, _>>()
        .unwrap();
    let sides: Vec<[String; 2]> = found
        .iter()
        .map(|PreferenceTokens { chosen, rejected }| [trained(chosen), trained(rejected)])
        .collect();
    assert_eq!(
        sides,
        [
            ["It is blue.<|im_end|>", "It is green.<|im_end|>"],
            ["Blue.<|im_end|>", "Blue.<|im_end|>"]
        ]
    );
    let prompt = found[0].chosen.trains.iter().position(|&trains| trains).unwrap();
    assert_eq!(found[0].chosen.ids[..prompt], found[0].rejected.ids[..prompt]);
}

#[test]
fn a_side_without_a_token_is_refused_by_name_and_the_next_pair_is_not() {
    let (_, tokenizer) = cases().remove(0);
    let source = "{% for message in messages %}{{ message['content'] }}{% endfor %}".to_owned();
    let template = TrainingTemplate::new(&tokenizer, source).unwrap();
    let pairs = [pair("Blue.", ""), pair("", "Blue."), pair("Blue.", "Green.")];
    let found = preference_tokens(&pairs, &template, &tokenizer);
    let error = |at: usize| format!("{:#}", found[at].as_ref().unwrap_err());
    assert!(error(0).starts_with("`rejected`: "), "{}", error(0));
    assert!(error(1).starts_with("`chosen`: "), "{}", error(1));
    assert!(found[2].is_ok());
}
