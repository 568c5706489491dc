//! The `tokenizers` crate where a file makes it panic or give wrong tokens.
//!
//! - Reading a file: what is known to panic is refused before, what is left is caught.
//! - Patterns: the crate's engine (`fancy-regex`) gives up after a million steps back, and the crate
//!   takes the rest of the text for one piece then, which gives wrong tokens. A pattern that the
//!   engine has to go back for is tried here first, and its giving up is an error. Other patterns,
//!   which the `regex` crate runs, have no limit and cost nothing here.
//! - Memory: twenty bytes of a pattern take up to 10 MB when they are compiled, so that their number
//!   is limited.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::{
    NormalizedString, Normalizer as _, OffsetReferential, OffsetType, PreTokenizedString,
    PreTokenizer as _, Tokenizer,
};
use tokenizers_regex::Regex;

/// Patterns that a `tokenizer.json` may have. Those of known models have at most six.
const MAX_PATTERNS: usize = 16;

/// The tokenizer in the text of a `tokenizer.json`.
///
/// # Errors
/// What the crate says; that it panics; more than [`MAX_PATTERNS`] patterns.
pub(super) fn load(json: &str, file: &Value) -> Result<Tokenizer> {
    check_merges(&file["model"])?;
    let patterns = count_patterns(file);
    ensure!(
        patterns <= MAX_PATTERNS,
        "it has {patterns} patterns (regular expressions); expected at most {MAX_PATTERNS}, because \
         each may take megabytes"
    );
    let loaded = catch_unwind(AssertUnwindSafe(|| json.parse::<Tokenizer>()));
    let panicked = |_| anyhow!("a part of it is malformed in a way that the library panics on");
    loaded.map_err(panicked)?.map_err(|error| anyhow!("{error}"))
}

/// How many regular expressions a part of a file has.
fn count_patterns(part: &Value) -> usize {
    let own = usize::from(part["pattern"]["Regex"].is_string());
    let parts: Box<dyn Iterator<Item = &Value>> = match part {
        Value::Array(list) => Box::new(list.iter()),
        // The vocabulary and the merges of a model have no patterns.
        Value::Object(map) => {
            Box::new(map.iter().filter(|(key, _)| *key != "model").map(|(_, part)| part))
        }
        _ => Box::new(std::iter::empty()),
    };
    own + parts.map(count_patterns).sum::<usize>()
}

/// The crate writes each merged token, without the prefix that marks a token within a word, into
/// room for the longest of the vocabulary.
fn check_merges(model: &Value) -> Result<()> {
    let prefix = model["continuing_subword_prefix"].as_str().unwrap_or_default();
    let (Some(merges), Some(vocab)) = (model["merges"].as_array(), model["vocab"].as_object())
    else {
        return Ok(());
    };
    let longest = vocab.keys().map(String::len).max().unwrap_or(0);
    for (index, merge) in merges.iter().enumerate() {
        let Some((first, second)) = pair(merge) else { continue };
        ensure!(
            second.is_char_boundary(prefix.len()),
            "model.merges[{index}] is {merge}: expected a second token that begins with \
             continuing_subword_prefix, {prefix:?}"
        );
        ensure!(
            first.len() + second.len() - prefix.len() <= longest,
            "model.merges[{index}] is {merge}: expected two tokens that make up one of model.vocab"
        );
    }
    Ok(())
}

/// The two tokens of a merge, which is a text or a list; other things the crate refuses.
fn pair(merge: &Value) -> Option<(&str, &str)> {
    match merge {
        Value::String(text) => text.split_once(' '),
        list => Some((list[0].as_str()?, list[1].as_str()?)),
    }
}

/// The patterns of a tokenizer at which the engine may give up.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    of: HashMap<String, Regex>,
}

impl Patterns {
    /// Those of a `tokenizer.json`.
    ///
    /// # Errors
    /// When one is no pattern.
    pub fn of(file: &Value) -> Result<Self> {
        let mut patterns = Patterns::default();
        for part in ["normalizer", "pre_tokenizer"] {
            patterns.collect(&file[part])?;
        }
        Ok(patterns)
    }

    fn collect(&mut self, part: &Value) -> Result<()> {
        if let Some(pattern) = part["pattern"]["Regex"].as_str()
            && goes_back(pattern)
        {
            let regex = Regex::new(pattern).with_context(|| format!("the pattern {pattern:?}"))?;
            self.of.insert(pattern.to_owned(), regex);
        }
        let parts = ["pretokenizers", "normalizers"].iter().filter_map(|key| part[key].as_array());
        parts.flatten().try_for_each(|part| self.collect(part))
    }

    /// Goes through `text` with `pattern`, as the crate will.
    fn check(&self, pattern: &str, text: &str) -> tokenizers::Result<()> {
        let Some(regex) = self.of.get(pattern) else { return Ok(()) };
        match regex.find_iter(text).find_map(std::result::Result::err) {
            None => Ok(()),
            Some(error) => Err(format!("the pattern {pattern:?} gives up on it: {error}").into()),
        }
    }

    /// What a normalizer would find in `text` that it cannot do.
    ///
    /// # Errors
    /// When a pattern in it gives up, or a part of it fails.
    pub fn check_normalizer(
        &self,
        normalizer: Option<&NormalizerWrapper>,
        text: &str,
    ) -> tokenizers::Result<()> {
        match normalizer {
            Some(normalizer) if !self.of.is_empty() => {
                self.normalize(normalizer, &mut NormalizedString::from(text))
            }
            _ => Ok(()),
        }
    }

    fn normalize(
        &self,
        normalizer: &NormalizerWrapper,
        text: &mut NormalizedString,
    ) -> tokenizers::Result<()> {
        match normalizer {
            NormalizerWrapper::Sequence(parts) => {
                parts.as_ref().iter().try_for_each(|part| self.normalize(part, text))
            }
            NormalizerWrapper::Replace(replace) => {
                // The pattern is shown in this way only.
                let shown = serde_json::to_value(replace)?;
                if let Some(pattern) = shown["pattern"]["Regex"].as_str() {
                    self.check(pattern, text.get())?;
                }
                replace.normalize(text)
            }
            other => other.normalize(text),
        }
    }

    /// Cuts as `pre_tokenizer` does.
    ///
    /// # Errors
    /// When a pattern in it gives up, or a part of it fails.
    pub fn pre_tokenize(
        &self,
        pre_tokenizer: &PreTokenizerWrapper,
        pieces: &mut PreTokenizedString,
    ) -> tokenizers::Result<()> {
        match pre_tokenizer {
            PreTokenizerWrapper::Sequence(parts) => {
                return parts.as_ref().iter().try_for_each(|part| self.pre_tokenize(part, pieces));
            }
            PreTokenizerWrapper::Split(split) if !self.of.is_empty() => {
                if let SplitPattern::Regex(pattern) = &split.pattern {
                    let pieces = pieces.get_splits(OffsetReferential::Normalized, OffsetType::None);
                    let mut uncut = pieces.iter().filter(|(_, _, tokens)| tokens.is_none());
                    uncut.try_for_each(|(text, ..)| self.check(pattern, text))?;
                }
            }
            _ => {}
        }
        pre_tokenizer.pre_tokenize(pieces)
    }
}

/// Whether the engine has ways of its own for a pattern: what the `regex` crate does not know, and
/// possessive repetitions, which it takes for repeated ones.
fn goes_back(pattern: &str) -> bool {
    let is_possessive = ["++", "*+", "?+", "}+"].iter().any(|sign| pattern.contains(sign));
    is_possessive || regex_syntax::parse(pattern).is_err()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails says where")]
mod tests {
    use serde_json::json;

    use crate::Tokenizer;

    fn file(normalizer: serde_json::Value, pre_tokenizer: serde_json::Value) -> serde_json::Value {
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": null,
            "decoder": null,
            "model": {
                "type": "BPE", "dropout": null, "unk_token": "u", "fuse_unk": false,
                "continuing_subword_prefix": null, "end_of_word_suffix": null,
                "byte_fallback": false, "vocab": {"u": 0, "a": 1, "b": 2, "aa": 3}, "merges": ["a a"],
            },
        })
    }

    fn refusal(file: &serde_json::Value) -> String {
        format!("{:#}", Tokenizer::from_tokenizer_json(&file.to_string()).unwrap_err())
    }

    #[test]
    fn a_merge_without_the_prefix_is_an_error() {
        for merges in [json!(["a a"]), json!([["a", "a"]])] {
            let mut file = file(json!(null), json!(null));
            file["model"]["continuing_subword_prefix"] = json!("##");
            file["model"]["merges"] = merges;
            let error = refusal(&file);
            assert!(error.contains("model.merges[0]") && error.contains("\"##\""), "{error}");
        }
    }

    #[test]
    fn a_merge_into_no_token_is_an_error() {
        let mut file = file(json!(null), json!(null));
        file["model"]["merges"] = json!(["aa aa"]);
        let error = refusal(&file);
        assert!(error.contains("merges"), "{error}");
    }

    #[test]
    fn no_part_of_any_type_ends_the_program() {
        let odd = [
            json!(7),
            json!("x"),
            json!([]),
            json!([[]]),
            json!({}),
            json!({"type": "Sequence"}),
            json!({"type": "Sequence", "decoders": [7]}),
            json!({"type": 7}),
            json!({"type": "WordPiece", "prefix": 3}),
            json!({"type": "Strip", "content": "ab", "start": -1, "stop": 1}),
            json!(1e300),
        ];
        for part in ["decoder", "normalizer", "pre_tokenizer", "post_processor", "model"] {
            for value in &odd {
                let mut file = file(json!(null), json!(null));
                file[part] = value.clone();
                let _ = Tokenizer::from_tokenizer_json(&file.to_string());
            }
        }
    }

    #[test]
    fn many_patterns_are_an_error() {
        let split = json!({
            "type": "Split", "pattern": {"Regex": "\\w{9}"}, "behavior": "Isolated", "invert": false,
        });
        let with = |count| {
            let splits = vec![split.clone(); count];
            file(json!(null), json!({"type": "Sequence", "pretokenizers": splits}))
        };
        assert!(Tokenizer::from_tokenizer_json(&with(16).to_string()).is_ok());
        let error = refusal(&with(17));
        assert!(error.contains("17 patterns") && error.contains("at most 16"), "{error}");
    }

    /// Two ways to go at every letter, and none that reaches the end.
    const COSTLY: &str = "(?:(?=a)a|a)*c";

    #[test]
    fn a_pattern_that_gives_up_is_an_error_and_gives_no_tokens() {
        let split = json!({
            "type": "Split", "pattern": {"Regex": COSTLY}, "behavior": "Isolated", "invert": false,
        });
        let sequence = json!({"type": "Sequence", "pretokenizers": [split]});
        let replace = json!({"type": "Replace", "pattern": {"Regex": COSTLY}, "content": "b"});
        let null = json!(null);
        for (normalizer, pre_tokenizer) in [(&null, &split), (&null, &sequence), (&replace, &null)]
        {
            let file = file(normalizer.clone(), pre_tokenizer.clone());
            let tokenizer = Tokenizer::from_tokenizer_json(&file.to_string()).unwrap();
            assert!(tokenizer.encode("ab").is_ok());
            let error = tokenizer.encode(&"a".repeat(60)).unwrap_err().to_string();
            assert!(error.contains("gives up on it"), "{error}");
        }
    }
}
