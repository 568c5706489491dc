//! Chat templates against what transformers' `apply_chat_template` made of the same conversations
//! (`golden/make_templates.py`).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use generate::chat::{ChatTemplate, Message};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    template: String,
    bos_token: String,
    eos_token: String,
    messages: Vec<Message>,
    rendered: Option<String>,
    error: Option<String>,
}

#[test]
fn rendered_as_transformers_renders() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("golden/templates.json")).unwrap();
    assert_eq!(cases.len(), 15);
    for case in cases {
        let template = ChatTemplate::new(&case.template, &case.bos_token, &case.eos_token).unwrap();
        match (template.render(&case.messages), case.rendered, case.error) {
            (Ok(text), Some(expected), _) => assert_eq!(text, expected, "{}", case.name),
            (Err(error), _, Some(expected)) => {
                assert!(error.to_string().contains(&expected), "{}: {error}", case.name);
            }
            (found, expected, error) => {
                panic!("{}: {found:?}, expected {expected:?} or {error:?}", case.name)
            }
        }
    }
}

#[test]
fn whether_a_system_prompt_is_taken() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("golden/templates.json")).unwrap();
    for case in cases {
        let template = ChatTemplate::new(&case.template, &case.bos_token, &case.eos_token).unwrap();
        assert_eq!(template.takes_system(), case.name != "mistral", "{}", case.name);
    }
}
