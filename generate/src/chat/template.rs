//! Chat templates: Jinja that writes a conversation in the form that a model was trained on.
//!
//! Templates are written for transformers' `apply_chat_template`, so this renders as it does:
//! the same whitespace rules, Python's methods on values, and its functions `raise_exception`,
//! `strftime_now` and `tojson`. They come from strangers: the time that one may take is bounded.

use anyhow::{Context, Result, anyhow, ensure};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, Error, ErrorKind, context};
use serde::Serialize;

use super::conversation::Message;

/// Longest template, in bytes; those in use have up to 20 KB.
const LONGEST: usize = 1 << 20;
/// Steps of the template engine before it gives up: milliseconds for a real template.
const FUEL: u64 = 20_000_000;
const NAME: &str = "chat template";

/// A template that was understood.
pub struct ChatTemplate {
    environment: Environment<'static>,
    begin_of_text: String,
    end_of_text: String,
}

impl ChatTemplate {
    /// `begin_of_text` and `end_of_text` are what the template calls `bos_token` and `eos_token`.
    ///
    /// # Errors
    /// When the text is no template, with the line.
    pub fn new(source: &str, begin_of_text: &str, end_of_text: &str) -> Result<Self> {
        ensure!(
            source.len() <= LONGEST,
            "the {NAME} has {} bytes; expected at most {LONGEST}",
            source.len()
        );
        let mut environment = Environment::new();
        // As transformers sets Jinja up.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.context(NAME)?);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_fuel(Some(FUEL));
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", to_json);
        environment
            .add_template_owned(NAME, without_generation_tags(source))
            .map_err(|error| anyhow!("the {NAME} cannot be used: {error:#}"))?;
        Ok(ChatTemplate {
            environment,
            begin_of_text: begin_of_text.to_owned(),
            end_of_text: end_of_text.to_owned(),
        })
    }

    /// The conversation as text, up to where the model's answer begins.
    ///
    /// # Errors
    /// What the template does not allow, in its own words.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        let template = self.environment.get_template(NAME).context(NAME)?;
        template
            .render(context! {
                messages => Value::from(Serde(messages)),
                add_generation_prompt => true,
                bos_token => self.begin_of_text.as_str(),
                eos_token => self.end_of_text.as_str(),
                tools => Value::from(()),
                documents => Value::from(()),
            })
            .map_err(|error| refusal(&error))
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

/// Python's `json.dumps`: spaces behind commas and colons, and nothing escaped for HTML.
fn to_json(value: Value, options: Kwargs) -> Result<String, Error> {
    let failed = |error: String| Error::new(ErrorKind::BadSerialization, error);
    let indent: Option<usize> = options.get("indent")?;
    let mut out = Vec::new();
    let written = match indent {
        Some(width) => {
            let indent = " ".repeat(width.min(16));
            let pretty = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, pretty))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Spaced)),
    };
    written.map_err(|error| failed(error.to_string()))?;
    String::from_utf8(out).map_err(|error| failed(error.to_string()))
}

/// One line with a space behind each comma and colon.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
    ) -> std::io::Result<()> {
        out.write_all(b": ")
    }
}

/// `{% generation %}` marks the answers for training and writes nothing; the engine does not know
/// the tag, so it becomes a comment with the same whitespace control.
fn without_generation_tags(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let (before, tag) = (&rest[..start], &rest[start + 2..start + length]);
        text.push_str(before);
        let name = tag.trim_matches(['-', '+']).trim();
        let comment = matches!(name, "generation" | "endgeneration");
        let (open, close) = if comment { ("{#", "#}") } else { ("{%", "%}") };
        text.extend([open, tag, close]);
        rest = &rest[start + length + 2..];
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> Result<String, String> {
        let template = ChatTemplate::new(source, "<s>", "</s>").map_err(|e| e.to_string())?;
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
