//! The tests, filters and methods of Jinja on Python that the template engine lacks or does
//! differently.

use std::fmt::Write;

use minijinja::value::{Kwargs, Rest, Tuple, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, filters};
use minijinja_contrib::pycompat;

/// Makes `environment` behave like Jinja on Python.
pub(super) fn set_up(environment: &mut Environment<'_>) {
    environment.set_unknown_method_callback(method);
    environment.add_test("sequence", is_sequence);
    environment.add_test("iterable", is_iterable);
    environment.add_filter("length", length);
    environment.add_filter("count", length);
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("tojson", to_json);
}

/// Values with a length and an index: Jinja's `test_sequence`.
fn is_sequence(value: &Value) -> bool {
    let kinds = [ValueKind::Undefined, ValueKind::String, ValueKind::Seq, ValueKind::Map];
    kinds.contains(&value.kind())
}

/// Values that Python's `iter` accepts.
fn is_iterable(value: &Value) -> bool {
    !value.is_none() && value.try_iter().is_ok()
}

/// Python's `len`, where an undefined value is empty.
fn length(value: &Value) -> Result<usize, Error> {
    match value.len() {
        Some(length) => Ok(length),
        None if value.is_undefined() => Ok(0),
        None => {
            let reason = format!("{} has no length", value.kind());
            Err(Error::new(ErrorKind::InvalidOperation, reason))
        }
    }
}

/// Text that is not a number gives 0, unless another default is given.
fn int(
    state: &State<'_, '_>,
    value: &Value,
    default: Option<Value>,
    base: Option<u32>,
    options: Kwargs,
) -> Result<Value, Error> {
    let default = default.or_else(|| (!options.has("default")).then(|| Value::from(0)));
    filters::int(state, value, default, base, options)
}

/// Text that is not a number gives 0.0, unless another default is given.
fn float(
    state: &State<'_, '_>,
    value: &Value,
    default: Option<Value>,
    options: Kwargs,
) -> Result<Value, Error> {
    let default = default.or_else(|| (!options.has("default")).then(|| Value::from(0.0)));
    filters::float(state, value, default, options)
}

/// Methods of Python's strings that the engine's own list lacks, then that list.
fn method(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return pycompat::unknown_method_callback(state, value, name, args);
    };
    let argument = args.first().and_then(Value::as_str);
    match (name, argument, args.len()) {
        ("removeprefix", Some(prefix), 1) => {
            Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)))
        }
        ("removesuffix", Some(suffix), 1) => {
            Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)))
        }
        ("partition", Some(middle), 1) if !middle.is_empty() => {
            let parts = text.split_once(middle);
            Ok(triple(parts.map_or([text, "", ""], |(left, right)| [left, middle, right])))
        }
        ("rpartition", Some(middle), 1) if !middle.is_empty() => {
            let parts = text.rsplit_once(middle);
            Ok(triple(parts.map_or(["", "", text], |(left, right)| [left, middle, right])))
        }
        ("rsplit", Some(separator), 1 | 2) if !separator.is_empty() => {
            let most = args.get(1).map(|most| i64::try_from(most.clone())).transpose()?;
            // A negative number of splits means no limit.
            let parts = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
            let parts = text.rsplitn(parts.saturating_add(1), separator);
            Ok(parts.collect::<Vec<_>>().into_iter().rev().map(Value::from).collect())
        }
        _ => pycompat::unknown_method_callback(state, value, name, args),
    }
}

fn triple(parts: [&str; 3]) -> Value {
    Value::from(Tuple::from(parts.map(Value::from)))
}

/// Python's `json.dumps`, with transformers' default of writing text without escapes.
fn to_json(value: &Value, positional: Rest<Value>, options: Kwargs) -> Result<String, Error> {
    if !positional.is_empty() {
        let reason = "tojson: expected its options by name";
        return Err(Error::new(ErrorKind::TooManyArguments, reason));
    }
    let indent = match options.get::<Option<Value>>("indent")? {
        None => None,
        Some(value) if value.is_none() => None,
        Some(value) => match (value.as_str(), usize::try_from(value.clone())) {
            (Some(text), _) => Some(text.to_owned()),
            (None, Ok(width)) => Some(" ".repeat(width.min(MAX_INDENT))),
            (None, Err(error)) => return Err(error),
        },
    };
    let (item, key) = match options.get::<Option<Value>>("separators")? {
        Some(pair) if !pair.is_none() => {
            let text = |at| pair.get_item_by_index(at).map(|text| text.to_string());
            (text(0)?, text(1)?)
        }
        _ if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        _ => (", ".to_owned(), ": ".to_owned()),
    };
    let mut json = Json {
        out: String::new(),
        ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sorted: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        indent,
        item,
        key,
    };
    options.assert_all_used()?;
    json.write(value, 0)?;
    Ok(json.out)
}

/// Largest indentation that a template may use.
const MAX_INDENT: usize = 64;
/// Deepest nesting of a value that is written, about the same as Python's own recursion limit.
const MAX_DEPTH: usize = 500;

/// A value that is written as JSON, with the arguments of `json.dumps`.
struct Json {
    out: String,
    ascii: bool,
    sorted: bool,
    indent: Option<String>,
    item: String,
    key: String,
}

impl Json {
    fn write(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(unserializable("a value that deep"));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&number(value)?),
            ValueKind::String => self.text(value.as_str().unwrap_or_default()),
            ValueKind::Seq => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.list(['[', ']'], depth, &items, |json, item| json.write(item, depth + 1))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sorted {
                    keys.sort();
                }
                self.list(['{', '}'], depth, &keys, |json, key| {
                    match key.kind() {
                        ValueKind::String => json.text(key.as_str().unwrap_or_default()),
                        ValueKind::None | ValueKind::Bool | ValueKind::Number => {
                            json.out.push('"');
                            json.write(key, depth + 1)?;
                            json.out.push('"');
                        }
                        kind => return Err(unserializable(&format!("a key that is {kind}"))),
                    }
                    json.out.push_str(&json.key.clone());
                    json.write(&value.get_item(key)?, depth + 1)
                })?;
            }
            kind => return Err(unserializable(&kind.to_string())),
        }
        Ok(())
    }

    /// Writes items between brackets, on separate lines if an indentation was asked for.
    fn list(
        &mut self,
        [open, close]: [char; 2],
        depth: usize,
        items: &[Value],
        mut write: impl FnMut(&mut Self, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        for (place, item) in items.iter().enumerate() {
            if place > 0 {
                self.out.push_str(&self.item.clone());
            }
            self.line(depth + 1);
            write(self, item)?;
        }
        if !items.is_empty() {
            self.line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            self.out.push_str(&indent.repeat(depth));
        }
    }

    fn text(&mut self, text: &str) {
        self.out.push('"');
        for letter in text.chars() {
            match letter {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                _ if letter < ' ' || self.ascii && !letter.is_ascii() => {
                    for unit in letter.encode_utf16(&mut [0; 2]) {
                        // Writing to a string cannot fail.
                        let _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
                _ => self.out.push(letter),
            }
        }
        self.out.push('"');
    }
}

/// A number in the format of Python's `repr`.
fn number(value: &Value) -> Result<String, Error> {
    if value.is_integer() {
        return Ok(value.to_string());
    }
    let number = f64::try_from(value.clone())?;
    let (size, zero) = (number.abs(), number == 0.0);
    if number.is_nan() {
        return Ok("NaN".to_owned());
    }
    if number.is_infinite() {
        return Ok(if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned());
    }
    if zero || (1e-4..1e16).contains(&size) {
        let text = number.to_string();
        return Ok(if text.contains('.') { text } else { text + ".0" });
    }
    // An exponent has a sign and at least two digits: 1e+16, 1e-05.
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    Ok(format!("{digits}e{sign}{exponent:0>2}"))
}

fn unserializable(what: &str) -> Error {
    Error::new(ErrorKind::BadSerialization, format!("tojson cannot write {what}"))
}
