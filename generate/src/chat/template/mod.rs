//! Chat templates: Jinja that writes a conversation in the form that a model was trained on.
//!
//! Templates are written for transformers' `apply_chat_template`, so this renders as it does:
//! the same whitespace rules, Python's methods on values, and its functions `raise_exception`,
//! `strftime_now` and `tojson`. They come from strangers: the time that one may take is bounded.

mod generation;
mod input;
mod python;

use anyhow::{Context, Result, anyhow, ensure};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, Error, ErrorKind};

use super::conversation::Message;
use input::nothing;

pub use input::TemplateInput;

/// Longest template, in bytes; those in use have up to 20 KB.
const LONGEST: usize = 1 << 20;
/// Steps of the template engine before it gives up: milliseconds for a real template.
const FUEL: u64 = 20_000_000;
const NAME: &str = "chat template";

/// A template that was understood.
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// What the template calls `bos_token` and `eos_token`, where the model has them.
    special: Vec<(&'static str, String)>,
}

impl ChatTemplate {
    /// `bos` and `eos` are what the template calls `bos_token` and `eos_token`; without a token
    /// the name is not defined.
    ///
    /// # Errors
    /// When the text is no template, with the line.
    pub fn new(source: &str, bos: Option<&str>, eos: Option<&str>) -> Result<Self> {
        ensure!(
            source.len() <= LONGEST,
            "the {NAME} has {} bytes; expected at most {LONGEST}",
            source.len()
        );
        let mut environment = Environment::new();
        // As transformers sets Jinja up.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.context(NAME)?);
        environment.set_fuel(Some(FUEL));
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        python::set_up(&mut environment);
        environment
            .add_template_owned(NAME, generation::as_with(source).into_owned())
            .map_err(|error| anyhow!("the {NAME} cannot be used: {error:#}"))?;
        let named = [("bos_token", bos), ("eos_token", eos)];
        let special = named.into_iter().filter_map(|(name, text)| Some((name, text?.to_owned())));
        Ok(ChatTemplate { environment, special: special.collect() })
    }

    /// The conversation as text, up to where the model's answer begins.
    ///
    /// # Errors
    /// What the template does not allow, in its own words.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        let messages = Value::from(Serde(messages));
        self.render_input(&TemplateInput {
            messages,
            tools: nothing(),
            add_generation_prompt: true,
        })
    }

    /// Any conversation as text.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn render_input(&self, input: &TemplateInput) -> Result<String> {
        let special = self.special.iter().map(|(name, text)| (*name, Value::from(text.as_str())));
        let context = Value::from_pairs(special.chain(input.variables()?));
        let template = self.environment.get_template(NAME).context(NAME)?;
        template.render(context).map_err(|error| refusal(&error))
    }

    /// Whether the template knows what a system prompt is: it mentions the role and takes it.
    pub fn takes_system(&self) -> bool {
        let [system, user] = [Message::system("s"), Message::user("u")];
        self.render(&[system, user.clone()])
            .is_ok_and(|with| self.render(&[user]).is_ok_and(|without| with != without))
    }
}

/// `raise_exception` is the template speaking; everything else is a fault in it.
fn refusal(error: &Error) -> anyhow::Error {
    match (error.kind(), error.detail()) {
        (ErrorKind::InvalidOperation, Some(detail)) if detail.starts_with(RAISED) => {
            let said = &detail[RAISED.len()..];
            anyhow!("the {NAME} refuses this conversation: {said}")
        }
        _ => anyhow!("the {NAME} fails: {error}"),
    }
}

/// Marks what a template says itself, in an error's text.
const RAISED: &str = "raised: ";

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
}

fn strftime_now(format: &str) -> Result<String, Error> {
    jiff::fmt::strtime::format(format, &jiff::Zoned::now())
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> Result<String, String> {
        let template =
            ChatTemplate::new(source, Some("<s>"), Some("</s>")).map_err(|e| e.to_string())?;
        template.render(&[Message::user("a <b> & 'c'")]).map_err(|error| error.to_string())
    }

    #[test]
    fn what_templates_expect_of_python() {
        for (source, expected) in [
            ("{{ bos_token }}{{ messages[0]['content'].strip().upper() }}", "<s>A <B> & 'C'"),
            ("{{ messages[0] | tojson }}", r#"{"role": "user", "content": "a <b> & 'c'"}"#),
            ("{{ [1, 2] | tojson(indent=2) }}", "[\n  1,\n  2\n]"),
            ("{% if tools is defined and tools is none %}none{% endif %}", "none"),
            ("{% generation %}\nx{%- endgeneration -%} \ny", "xy"),
            (
                "{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}",
                "1",
            ),
            ("{% set n = namespace(x=1) %}{% set n.x = n.x + 1 %}{{ n.x }}", "2"),
            ("{% if add_generation_prompt %}go{% endif %}", "go"),
            ("{{ messages[-1].role ~ messages[1:] | length }}", "user0"),
        ] {
            assert_eq!(render(source).as_deref(), Ok(expected), "{source}");
        }
        let year = render("{{ strftime_now('%Y') }}").unwrap();
        assert_eq!(year, jiff::Zoned::now().year().to_string());
    }

    #[test]
    fn faults_are_named() {
        for (source, expected) in [
            ("{{ raise_exception('no system') }}", "refuses this conversation: no system"),
            ("{% if %}", "cannot be used"),
            ("a\n{{ nothing.at.all }}", "the chat template fails"),
            (
                "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
                "fails",
            ),
        ] {
            let error = render(source).unwrap_err();
            assert!(error.contains(expected), "{source}: {error}");
        }
        assert!(render(&"x".repeat(LONGEST + 1)).unwrap_err().contains("expected at most"));
    }
}
