//! Typed special tokens, compared with transformers with and without `sanitize_control_tokens`
//! (`golden/make_typed.py`).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use chat_template::{ChatTemplate, Message};
use data::Tokenizer;
use data::encode_conversation;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    tokenizer: String,
    bos_token: String,
    eos_token: String,
    template: String,
    messages: Vec<Message>,
    as_text: Vec<u32>,
    parsed: Vec<u32>,
}

#[test]
fn typed_special_tokens_are_text_or_tokens_as_in_transformers() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("golden/typed.json")).unwrap();
    assert_eq!(cases.len(), 12);
    let mut differ = 0;
    for case in cases {
        let text = match case.tokenizer.as_str() {
            "sentencepiece" => include_str!("golden/sentencepiece.json"),
            text => text,
        };
        let tokenizer = Tokenizer::from_tokenizer_json(text).unwrap();
        let template =
            ChatTemplate::new(&case.template, Some(&case.bos_token), Some(&case.eos_token))
                .unwrap();
        let encode = |parse_special| {
            let render = |messages: &[Message]| template.render(messages);
            encode_conversation(&tokenizer, &case.messages, parse_special, render).unwrap()
        };
        let content = &case.messages[0].content;
        assert_eq!(encode(false), case.as_text, "{content:?} as text");
        assert_eq!(encode(true), case.parsed, "{content:?} with its tokens");
        differ += usize::from(case.as_text != case.parsed);
    }
    assert_eq!(differ, 5, "cases that say something");
}
