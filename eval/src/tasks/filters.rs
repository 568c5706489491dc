//! What is compared of a generated text: the filters of lm-evaluation-harness by their names, and
//! its `exact_match`.
//!
//! | layout | filters |
//! |---|---|
//! | GSM8K | `strict-match`: the number after `#### `; `flexible-extract`: the last number |
//! | `answer` | `remove_whitespace`: the whole text without whitespace around it |
//! | `answer` and `pattern` | `regex`: the first match, or its first group that is not empty |

use anyhow::{Context, Result};
use regex::{Regex, RegexBuilder};

use super::layout::Answer;
use super::python::{strip, without_final_point};

/// What a filter gives where it finds nothing.
const NOTHING: &str = "[invalid]";
/// Most memory of a compiled pattern, in bytes.
const PATTERN_MEMORY: usize = 1 << 20;

/// Which match of several.
#[derive(Debug, Clone, Copy)]
enum Pick {
    First,
    Last,
}

/// Compiles a pattern of a record.
///
/// # Errors
/// When it is not a regular expression, or a very large one.
pub fn compile(pattern: &str) -> Result<Regex> {
    RegexBuilder::new(pattern)
        .size_limit(PATTERN_MEMORY)
        .build()
        .with_context(|| format!("the pattern {pattern:?} is not a regular expression"))
}

/// The names of the filters for answers of this form.
pub fn names(answer: &Answer) -> &'static [&'static str] {
    match answer {
        Answer::Choice { .. } => &[],
        Answer::Number(_) => &["strict-match", "flexible-extract"],
        Answer::Text { pattern: None, .. } => &["remove_whitespace"],
        Answer::Text { pattern: Some(_), .. } => &["regex"],
    }
}

/// What each filter of [`names`] finds in `generated`, and whether it is the answer.
///
/// # Errors
/// When a pattern cannot be compiled.
pub fn judge(generated: &str, answer: &Answer) -> Result<Vec<(String, bool)>> {
    let found = match answer {
        Answer::Choice { .. } => Vec::new(),
        Answer::Number(_) => vec![
            find(&compile(r"#### (\-?[0-9\.\,]+)")?, generated, Pick::First),
            find(&compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")?, generated, Pick::Last),
        ],
        Answer::Text { pattern: None, .. } => vec![strip(generated).to_owned()],
        Answer::Text { pattern: Some(pattern), .. } => {
            vec![find(&compile(pattern)?, generated, Pick::First)]
        }
    };
    Ok(found.into_iter().map(|text| (text.clone(), is_match(&text, answer))).collect())
}

/// `RegexFilter`: `re.findall`, of one match the group, or the first that is not empty of several.
fn find(regex: &Regex, text: &str, pick: Pick) -> String {
    let mut matches = regex.captures_iter(text);
    let picked = match pick {
        Pick::First => matches.next(),
        Pick::Last => matches.last(),
    };
    let Some(captures) = picked else { return NOTHING.to_owned() };
    let groups: Vec<&str> =
        captures.iter().map(|group| group.map_or("", |found| found.as_str())).collect();
    let found = match groups[..] {
        [whole] => whole,
        [_, group] => group,
        _ => groups[1..].iter().find(|group| !group.is_empty()).copied().unwrap_or(NOTHING),
    };
    strip(found).to_owned()
}

/// `exact_match` with the settings of the task: GSM8K's leave out commas, dollars, everything before
/// the number, a point at the end, and case.
fn is_match(found: &str, answer: &Answer) -> bool {
    match answer {
        Answer::Choice { .. } => false,
        Answer::Number(text) => number(found) == number(text),
        Answer::Text { text, .. } => found == text,
    }
}

fn number(text: &str) -> String {
    let text = text.replace([',', '$'], "");
    let behind = text.rfind("#### ").map_or(text.as_str(), |at| &text[at + 5..]);
    without_final_point(behind).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(generated: &str, answer: &Answer) -> Vec<(String, bool)> {
        judge(generated, answer).unwrap()
    }

    #[test]
    fn gsm8k_is_judged_as_its_task_file_says() {
        // Found with lm-eval 0.4.13's `RegexFilter` and `exact_match_hf_evaluate`.
        let answer = Answer::Number("6 x 7 = <<6*7=42>>42\n#### 1,042".to_owned());
        for (generated, strict, flexible) in [
            (" So #### 1042.", ("1042.", true), ("1042.", true)),
            ("#### 3 or #### 1042", ("3", false), ("1042", true)),
            ("it is $1,042", ("[invalid]", false), ("$1,042", true)),
            ("none", ("[invalid]", false), ("[invalid]", false)),
            ("7", ("[invalid]", false), ("7", false)),
            ("well, 1042", ("[invalid]", false), ("1042", true)),
            ("1042 ... ", ("[invalid]", false), ("...", false)),
        ] {
            let expected = [strict, flexible].map(|(text, good)| (text.to_owned(), good));
            assert_eq!(judged(generated, &answer), expected, "{generated}");
        }
    }

    #[test]
    fn a_text_is_compared_whole_and_a_pattern_finds_it() {
        let plain = Answer::Text { text: "Paris".to_owned(), pattern: None };
        assert_eq!(judged(" Paris\n", &plain), [("Paris".to_owned(), true)]);
        assert_eq!(judged(" Paris.", &plain), [("Paris.".to_owned(), false)]);
        let pattern = |pattern: &str| Answer::Text {
            text: "Paris".to_owned(),
            pattern: Some(pattern.to_owned()),
        };
        let of_two = pattern("(?:is (\\w+))|(P\\w+)");
        assert_eq!(judged("it is Paris, Prague", &of_two), [("Paris".to_owned(), true)]);
        assert_eq!(judged("Paris", &of_two), [("Paris".to_owned(), true)]);
        assert_eq!(judged("London", &of_two), [("[invalid]".to_owned(), false)]);
        assert_eq!(judged("x Paris y", &pattern("P\\w+")), [("Paris".to_owned(), true)]);
    }

    #[test]
    fn a_bad_pattern_is_refused() {
        let error = format!("{:#}", compile("(").unwrap_err());
        assert!(error.starts_with("the pattern \"(\" is not a regular expression"), "{error}");
        assert!(compile("(a{1000}){1000}").is_err(), "too large");
    }
}
