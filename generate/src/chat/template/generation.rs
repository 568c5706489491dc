//! `{% generation %}` of transformers: it marks what a model wrote, for training, and renders its
//! body in a scope of its own.
//!
//! The template engine does not know the tag, so it becomes `{% with %}`, which has the same
//! scope. Comments, strings and raw blocks are left as they are, as Jinja's lexer leaves them.

use std::borrow::Cow;

/// `source` with `{% with %}` in place of `{% generation %}`, on the same lines.
pub(super) fn as_with(source: &str) -> Cow<'_, str> {
    if !source.contains("generation") {
        return Cow::Borrowed(source);
    }
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = ["{%", "{{", "{#"].iter().filter_map(|open| rest.find(open)).min() {
        text.push_str(&rest[..start]);
        rest = &rest[start..];
        let length = match &rest[..2] {
            "{#" => rest.find("#}").map(|end| end + 2),
            "{{" => code_end(rest, "}}"),
            _ => code_end(rest, "%}"),
        };
        // What is never closed is the engine's to report.
        let Some(length) = length else { break };
        let (tag, behind) = rest.split_at(length);
        rest = behind;
        match name_of(tag) {
            Some("generation") => text.push_str(&tag.replacen("generation", "with", 1)),
            Some("endgeneration") => text.push_str(&tag.replacen("endgeneration", "endwith", 1)),
            Some("raw") => {
                let raw = raw_end(rest);
                text.push_str(tag);
                text.push_str(&rest[..raw]);
                rest = &rest[raw..];
            }
            _ => text.push_str(tag),
        }
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// What stands alone in a block tag: `generation` in `{%- generation -%}`.
fn name_of(tag: &str) -> Option<&str> {
    let inside = tag.strip_prefix("{%")?.strip_suffix("%}")?;
    let inside = inside.strip_prefix(['-', '+']).unwrap_or(inside);
    Some(inside.strip_suffix(['-', '+']).unwrap_or(inside).trim())
}

/// Length of `text` up to and with `close`, which stands outside of strings and brackets.
fn code_end(text: &str, close: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (2, 0_usize);
    while let Some(&byte) = bytes.get(at) {
        if depth == 0 && bytes[at..].starts_with(close.as_bytes()) {
            return Some(at + close.len());
        }
        match byte {
            b'\'' | b'"' => at = string_end(bytes, at)?,
            b'{' | b'[' | b'(' => depth += 1,
            b'}' | b']' | b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// Where the quote is that closes the one at `start`.
fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 1,
            _ if byte == bytes[start] => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// Where `{% endraw %}` begins; the end of `text` if it is missing.
fn raw_end(text: &str) -> usize {
    let ends_raw = |&(at, _): &(usize, &str)| {
        let tag = &text[at..];
        tag.find("%}").is_some_and(|end| name_of(&tag[..end + 2]) == Some("endraw"))
    };
    text.match_indices("{%").find(ends_raw).map_or(text.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::as_with;

    #[test]
    fn tags_are_rewritten_and_nothing_else() {
        for (source, expected) in [
            ("a{% generation %}b{% endgeneration %}c", "a{% with %}b{% endwith %}c"),
            ("{%- generation -%}\n{%+endgeneration+%}", "{%- with -%}\n{%+endwith+%}"),
            ("{# {% generation %} #}", "{# {% generation %} #}"),
            ("{{ '{% generation %}' }}", "{{ '{% generation %}' }}"),
            ("{% set a = '%} {% generation %}' %}", "{% set a = '%} {% generation %}' %}"),
            ("{{ {'a': {}}}}{% generation %}", "{{ {'a': {}}}}{% with %}"),
            ("{{ 'it\\'s }}' }}{% generation %}", "{{ 'it\\'s }}' }}{% with %}"),
            (
                "{% raw %}{% generation %}{{ ' {% endraw %}{% generation %}",
                "{% raw %}{% generation %}{{ ' {% endraw %}{% with %}",
            ),
            ("{% if add_generation_prompt %}", "{% if add_generation_prompt %}"),
            ("{% generation", "{% generation"),
            ("{# generation", "{# generation"),
            ("{% raw %}generation", "{% raw %}generation"),
        ] {
            assert_eq!(as_with(source), expected);
        }
    }
}
