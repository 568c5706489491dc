//! Chat templates compared with the output of transformers' `apply_chat_template` for the same
//! conversations (`golden/make_templates.py`).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use chat_template::{ChatTemplate, Message, TemplateInput};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    template: String,
    bos_token: Option<String>,
    eos_token: Option<String>,
    messages: Vec<Message>,
    rendered: Option<String>,
    error: Option<String>,
}

impl Case {
    fn template(&self) -> ChatTemplate {
        let (bos, eos) = (self.bos_token.as_deref(), self.eos_token.as_deref());
        ChatTemplate::new(&self.template, bos, eos).unwrap()
    }
}

#[test]
fn rendered_as_transformers_renders() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("golden/templates.json")).unwrap();
    assert_eq!(cases.len(), 15);
    for case in cases {
        let template = case.template();
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
        let template = case.template();
        assert_eq!(template.takes_system(), case.name != "mistral", "{}", case.name);
    }
}

/// Operations of templates on values: one conversation with tools, many small templates.
#[derive(Deserialize)]
struct Expressions {
    input: TemplateInput,
    templates: Vec<Expression>,
}

#[derive(Deserialize)]
struct Expression {
    template: String,
    /// `None` if transformers refuses.
    text: Option<String>,
}

#[test]
fn expressions_give_what_they_give_in_python() {
    let Expressions { input, templates } =
        serde_json::from_str(include_str!("golden/expressions.json")).unwrap();
    assert!(templates.len() > 60);
    for Expression { template, text } in templates {
        let found = ChatTemplate::new(&template, Some("<s>"), Some("</s>"))
            .and_then(|ready| ready.render_input(&input));
        assert_eq!(found.as_ref().ok(), text.as_ref(), "{template}: {found:?}");
    }
}
