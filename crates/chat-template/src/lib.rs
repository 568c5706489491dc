//! Chat templates: Jinja that writes a conversation in the form that a model was trained on, to
//! talk to a model and to train one.
//!
//! Templates are written for transformers' `apply_chat_template`, so this renders as it does:
//! the same whitespace rules, Python's methods on values, and its functions `raise_exception`,
//! `strftime_now` and `tojson`.
//!
//! They come from strangers, so a template is read and rendered in a process of its own, which has
//! bounds of time, memory, depth and output (`isolated`). Whatever a template does beyond them is
//! an error.

mod answers;
mod generation;
mod input;
mod isolated;
mod message;
mod python;

use anyhow::{Context, Result, anyhow, ensure};
use jiff::Zoned;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, Error, ErrorKind};

use input::nothing;

pub use answers::{Answered, MARKS};
pub use input::TemplateInput;
pub use message::{Message, Speaker};

/// Longest template, in bytes; those in use have up to 20 KB.
const LONGEST: usize = 1 << 20;
/// Steps of the template engine before it gives up: milliseconds for a real template. An error of
/// the engine says more than one about time.
const FUEL: u64 = 4_000_000;
const NAME: &str = "chat template";

/// A template that was understood.
pub struct ChatTemplate {
    source: String,
    /// What the template calls `bos_token` and `eos_token`, where the model has them.
    special: Vec<(&'static str, String)>,
}

impl ChatTemplate {
    /// `bos` and `eos` are what the template calls `bos_token` and `eos_token`; without a token
    /// the name is not defined.
    ///
    /// # Errors
    /// When the text is no template, with the line; when reading it takes too much time or memory.
    pub fn new(source: &str, bos: Option<&str>, eos: Option<&str>) -> Result<Self> {
        ensure!(
            source.len() <= LONGEST,
            "the {NAME} has {} bytes; expected at most {LONGEST}",
            source.len()
        );
        let now = Zoned::now();
        isolated::run(isolated::LONGEST, || environment(source, now, None).map(|_| String::new()))
            .map_err(|error| anyhow!("the {NAME} cannot be used: {error:#}"))?;
        let named = [("bos_token", bos), ("eos_token", eos)];
        let special = named.into_iter().filter_map(|(name, text)| Some((name, text?.to_owned())));
        Ok(ChatTemplate { source: source.to_owned(), special: special.collect() })
    }

    /// The conversation as text, up to where the model's answer begins.
    ///
    /// # Errors
    /// What the template does not allow, in its own words; what it does not do within its bounds.
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
        let context = self.variables(input)?;
        // Asked for here: the process that renders must not wait for a lock.
        let now = Zoned::now();
        let text = isolated::run(isolated::LONGEST, || {
            let environment = environment(&self.source, now, None)?;
            environment.get_template(NAME)?.render(context).map_err(|error| refusal(&error))
        });
        text.map_err(|error| failure(&error.to_string()))
    }

    fn variables(&self, input: &TemplateInput) -> Result<Value> {
        let special = self.special.iter().map(|(name, text)| (*name, Value::from(text.as_str())));
        Ok(Value::from_pairs(special.chain(input.variables()?)))
    }

    /// Whether the template knows what a system prompt is: it mentions the role and takes it.
    pub fn takes_system(&self) -> bool {
        let [system, user] = [Message::system("s"), Message::user("u")];
        self.render(&[system, user.clone()])
            .is_ok_and(|with| self.render(&[user]).is_ok_and(|without| with != without))
    }
}

/// The engine with the template in it, which writes `marks` around answers where it says which text
/// they are. The text may ask for any amount of time and memory already here, since constants are
/// computed.
fn environment(source: &str, now: Zoned, marks: Option<[char; 2]>) -> Result<Environment<'static>> {
    let mut environment = Environment::new();
    // As transformers sets Jinja up.
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.context(NAME)?);
    environment.set_fuel(Some(FUEL));
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", move |format: &str| strftime(format, &now));
    environment.add_filter("generation", move |text: String| match marks {
        Some([open, close]) => format!("{open}{text}{close}"),
        None => text,
    });
    python::set_up(&mut environment);
    environment.add_template_owned(NAME, generation::rewritten(source).into_owned())?;
    Ok(environment)
}

/// `raise_exception` is the template speaking; everything else is a fault in it.
fn refusal(error: &Error) -> anyhow::Error {
    match (error.kind(), error.detail()) {
        (ErrorKind::InvalidOperation, Some(detail)) if detail.starts_with(RAISED) => {
            anyhow!(detail.to_owned())
        }
        _ => anyhow!(error.to_string()),
    }
}

/// What went wrong, from the text of [`refusal`].
fn failure(text: &str) -> anyhow::Error {
    match text.strip_prefix(RAISED) {
        Some(said) => anyhow!("the {NAME} refuses this conversation: {said}"),
        None => anyhow!("the {NAME} fails: {text}"),
    }
}

/// Marks what a template says itself, in an error's text.
const RAISED: &str = "raised: ";

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
}

fn strftime(format: &str, now: &Zoned) -> Result<String, Error> {
    jiff::fmt::strtime::format(format, now)
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

    /// A word of this lets a template that doubles it reach gigabytes in a few steps.
    const DOUBLED: &str = "{% set n = namespace(x='0123456789') %}{% for i in range(40) %}{% set \
                           n.x = n.x ~ n.x %}{% endfor %}{{ n.x | length }}";
    const NESTED: &str = "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = \
                          [n.x, n.x] %}{% endfor %}{{ n.x | tojson }}";

    #[test]
    fn whatever_a_template_does_is_an_error_within_its_bounds() {
        let many_opened = "{{".repeat(400_000);
        let deep = format!("{{{{ {}1{} }}}}", "[".repeat(200_000), "]".repeat(200_000));
        for source in [
            "{%}",
            "{{ '%4000000000d'|format(1) }}",
            DOUBLED,
            &DOUBLED.replace('~', "+"),
            NESTED,
            &NESTED.replace("tojson", "string"),
            &NESTED.replace("tojson", "tojson(indent=4)"),
            "{% set n = namespace() %}{% set n.a = n %}{{ n }}",
            "{% set n = namespace() %}{% set n.a = [n] %}{{ n.a | tojson }}",
            "{{ 'x' * 4000000000 }}",
            "{% set n = namespace(x='aa') %}{% for i in range(40) %}{% set n.x = \
             n.x.replace('a', n.x) %}{% endfor %}",
            "{% set n = namespace(x='aa') %}{% for i in range(40) %}{% set n.x = \
             n.x | replace('a', n.x) %}{% endfor %}",
            "{% set n = namespace(x='aa') %}{% for i in range(40) %}{% set n.x = \
             n.x.join([n.x, n.x, n.x]) %}{% endfor %}",
            "{% set n = namespace(x='aa') %}{% for i in range(40) %}{% set n.x %}{{ n.x }}{{ n.x \
             }}{% endset %}{% endfor %}",
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "{{ 'x\\ny' | indent(4000000000) }}",
            "{{ 'x' | center(4000000000) }}",
            "{{ range(4000000000) | list }}",
            "{{ strftime_now('%4000000000d') }}",
            "{{ raise_exception('x' * 100000000) }}",
            "{% for i in range(90000) %}{{ 'a bit of text' * 100 }}{% endfor %}",
            &many_opened,
            &deep,
        ] {
            let start = std::time::Instant::now();
            let error = render(source);
            let shown: String = source.chars().take(80).collect();
            assert!(error.is_err(), "{shown} gives {} bytes", error.map_or(0, |text| text.len()));
            let error = error.unwrap_err();
            assert!(error.starts_with("the chat template "), "{shown}: {error}");
            assert!(error.len() < 2000, "{shown}: an error of {} bytes", error.len());
            assert!(start.elapsed().as_secs_f64() < 2.0, "{shown}: {:?}", start.elapsed());
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_stays_within_the_bound() {
        let peak_of_children = || {
            // SAFETY: `getrusage` writes the whole struct, for which zeros are a value.
            unsafe {
                let mut usage: libc::rusage = std::mem::zeroed();
                libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage);
                usage.ru_maxrss
            }
        };
        render(DOUBLED).unwrap_err();
        render("{{ '%4000000000d'|format(1) }}").unwrap_err();
        render("{{ 'x' * 4000000000 }}").unwrap_err();
        // In KiB. The copy starts with what the tests hold.
        assert!(peak_of_children() < 256 << 10, "{} KiB", peak_of_children());
    }
}
