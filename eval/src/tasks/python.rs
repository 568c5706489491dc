//! Python's functions on texts, where they differ from Rust's: prompts must be
//! lm-evaluation-harness's to the byte.

/// `str.isspace` of one character.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `str.strip`.
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.rstrip`.
pub fn rstrip(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

/// `str.capitalize`: the first character in title case, the rest in lower case. (Greek capitals
/// with an iota below become two letters here and one in Python.)
pub fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return String::new() };
    title(first) + &chars.as_str().to_lowercase()
}

fn title(c: char) -> String {
    match c {
        'Ǆ' | 'ǅ' | 'ǆ' => "ǅ".to_owned(),
        'Ǉ' | 'ǈ' | 'ǉ' => "ǈ".to_owned(),
        'Ǌ' | 'ǋ' | 'ǌ' => "ǋ".to_owned(),
        'Ǳ' | 'ǲ' | 'ǳ' => "ǲ".to_owned(),
        // Georgian has no title case.
        '\u{10d0}'..='\u{10ff}' => c.to_string(),
        c => {
            let mut upper = c.to_uppercase();
            let first = upper.next().into_iter();
            first.chain(upper.flat_map(char::to_lowercase)).collect()
        }
    }
}

/// `re.sub(r"\.$", "", text)`: `$` is also before a line break that ends the text.
pub fn without_final_point(text: &str) -> String {
    match text.strip_suffix('.') {
        Some(rest) => rest.to_owned(),
        None => text.strip_suffix(".\n").map_or(text.to_owned(), |rest| format!("{rest}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_python_does() {
        // CPython 3.11.
        for (text, expected) in [
            ("", ""),
            ("he RUNS", "He runs"),
            ("ßA", "Ssa"),
            ("ǆx", "ǅx"),
            ("აბ", "აბ"),
            ("ÉCOLE", "École"),
            ("1A", "1a"),
        ] {
            assert_eq!(capitalize(text), expected);
        }
        assert_eq!(strip("\u{1f}\u{a0} a\u{200b}\t"), "a\u{200b}");
        assert_eq!(rstrip(" a \n\u{85}"), " a");
        for (text, expected) in [("4.", "4"), ("4.\n", "4\n"), ("4..", "4."), ("4.\n\n", "4.\n\n")]
        {
            assert_eq!(without_final_point(text), expected);
        }
    }
}
