//! Rules for the quality of a text that do not depend on its language.
//!
//! Rae et al., 2021 ("Scaling Language Models: Methods, Analysis & Insights from Training Gopher"),
//! section A.1.1 and table A1, with their limits; without the rules that are made for English (mean
//! length of words, stop words). Raffel et al., 2020 (C4): filler text, and words of more than 1000
//! characters. What is counted is what `datatrove`'s filters count, which FineWeb was made with.

use std::collections::HashMap;
use std::fmt;

use rustc_hash::FxBuildHasher;
use serde::Serialize;

use super::words::{Word, combine, words};

/// Why a document is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
#[value(rename_all = "kebab-case")]
pub enum Rule {
    /// Fewer words than `--min-words`.
    TooShort,
    /// More words than `--max-words`.
    TooLong,
    /// More than one `#` for ten words.
    HashSigns,
    /// More than one ellipsis for ten words.
    Ellipses,
    /// More than 90 % of the lines begin with a bullet.
    BulletLines,
    /// More than 30 % of the lines end with an ellipsis.
    EllipsisLines,
    /// Fewer than 80 % of the words have a letter.
    NonAlphabetic,
    /// A word of more than 1000 characters.
    LongWord,
    /// `lorem ipsum` occurs.
    LoremIpsum,
    /// Paragraphs that occurred before are more than 30 % of all, or have 20 % of the characters.
    RepeatedParagraphs,
    /// The same of lines.
    RepeatedLines,
    /// The most frequent two words have more than 20 % of the characters, three 18 %, four 16 %.
    FrequentWords,
    /// Five words that occurred before have more than 15 % of the characters, six 14 %, ... ten 10 %.
    RepeatedWords,
    /// The same text occurred before.
    Duplicate,
    /// Almost the same text occurred before.
    NearDuplicate,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self);
        f.pad(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// A rule that a text does not keep, and how far it is from it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// What was measured.
    pub found: f64,
    /// What is allowed.
    pub limit: f64,
}

/// The settings of the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Least words; marks alone are not words.
    pub min_words: usize,
    /// Most words.
    pub max_words: usize,
    /// Rules that are not applied.
    pub without: Vec<Rule>,
}

const TOP_NGRAMS: [(usize, f64); 3] = [(2, 0.20), (3, 0.18), (4, 0.16)];
const REPEATED_NGRAMS: [(usize, f64); 6] =
    [(5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10)];

impl Limits {
    /// The first rule that `text` does not keep.
    pub fn judge(&self, text: &str) -> Option<Finding> {
        let applies = |rule: Rule| !self.without.contains(&rule);
        let measures = Measures::of(text);
        let found = measures.findings(self).find(|finding| applies(finding.rule));
        found.or_else(|| measures.repetition(&applies))
    }
}

/// What the rules look at.
struct Measures<'t> {
    text: &'t str,
    chars: usize,
    words: Vec<&'t str>,
}

impl<'t> Measures<'t> {
    fn of(text: &'t str) -> Self {
        Measures { text, chars: text.chars().count(), words: words(text) }
    }

    /// What is cheap to measure, in the order of the rules.
    fn findings<'a>(&'a self, limits: &'a Limits) -> impl Iterator<Item = Finding> + 'a {
        type Measure = fn(&Measures<'_>) -> f64;
        let (min, max) = (limits.min_words as f64, limits.max_words as f64);
        let rules: [(Rule, Measure, f64, bool); 9] = [
            (Rule::TooShort, |text| text.real_words(), min, true),
            (Rule::TooLong, |text| text.real_words(), max, false),
            (
                Rule::HashSigns,
                |text| text.for_each_word(text.text.matches('#').count()),
                0.1,
                false,
            ),
            (Rule::Ellipses, |text| text.for_each_word(text.ellipses()), 0.1, false),
            (Rule::BulletLines, |text| text.share_of_lines(is_bullet), 0.9, false),
            (Rule::EllipsisLines, |text| text.share_of_lines(ends_in_ellipsis), 0.3, false),
            (Rule::NonAlphabetic, |text| text.alphabetic(), 0.8, true),
            (Rule::LongWord, |text| text.longest_word(), 1000.0, false),
            (Rule::LoremIpsum, |text| text.lorem_ipsum(), 0.0, false),
        ];
        rules.into_iter().filter_map(move |(rule, measure, limit, is_least)| {
            let found = measure(self);
            let is_kept = if is_least { found >= limit } else { found <= limit };
            (!is_kept).then_some(Finding { rule, found, limit })
        })
    }

    fn real_words(&self) -> f64 {
        let is_word = |word: &&&str| word.contains(char::is_alphanumeric);
        self.words.iter().filter(is_word).count() as f64
    }

    fn for_each_word(&self, count: usize) -> f64 {
        count as f64 / self.words.len().max(1) as f64
    }

    fn ellipses(&self) -> usize {
        self.text.matches("...").count() + self.text.matches('\u{2026}').count()
    }

    fn share_of_lines(&self, is_such: impl Fn(&str) -> bool) -> f64 {
        let (mut such, mut all) = (0_u64, 0_u64);
        for line in self.text.lines() {
            such += u64::from(is_such(line));
            all += 1;
        }
        such as f64 / all.max(1) as f64
    }

    fn alphabetic(&self) -> f64 {
        let has_letter = |word: &&&str| word.contains(char::is_alphabetic);
        self.for_each_word(self.words.iter().filter(has_letter).count())
    }

    fn longest_word(&self) -> f64 {
        let long = self.words.iter().filter(|word| word.len() > 1000);
        long.map(|word| word.chars().count()).max().unwrap_or(0) as f64
    }

    fn lorem_ipsum(&self) -> f64 {
        const FILLER: &[u8] = b"lorem ipsum";
        let is_filler = |found: &[u8]| found.eq_ignore_ascii_case(FILLER);
        f64::from(u8::from(self.text.as_bytes().windows(FILLER.len()).any(is_filler)))
    }

    fn of_chars(&self, chars: usize) -> f64 {
        chars as f64 / self.chars.max(1) as f64
    }

    /// The first rule of repetition that the text does not keep.
    fn repetition(&self, applies: &impl Fn(Rule) -> bool) -> Option<Finding> {
        let over = |rule: Rule, found: f64, limit: f64| {
            (applies(rule) && found > limit).then_some(Finding { rule, found, limit })
        };
        let parts = |rule: Rule, repeated: Repeated| {
            let share = repeated.count as f64 / repeated.of.max(1) as f64;
            over(rule, share, 0.3).or_else(|| over(rule, self.of_chars(repeated.chars), 0.2))
        };
        let paragraphs = parts(Rule::RepeatedParagraphs, repeated(paragraphs(self.text.trim())));
        let lines = || parts(Rule::RepeatedLines, repeated(lines(self.text)));
        if let Some(found) = paragraphs.or_else(lines) {
            return Some(found);
        }
        if !applies(Rule::FrequentWords) && !applies(Rule::RepeatedWords) {
            return None;
        }
        let words: Vec<Word> = self.words.iter().map(|word| Word::of(word)).collect();
        let mut top = TOP_NGRAMS.into_iter().filter_map(|(n, limit)| {
            over(Rule::FrequentWords, self.of_chars(top_ngram(&words, n)), limit)
        });
        let mut again = REPEATED_NGRAMS.into_iter().filter_map(|(n, limit)| {
            over(Rule::RepeatedWords, self.of_chars(repeated_ngrams(&words, n)), limit)
        });
        top.next().or_else(|| again.next())
    }
}

fn is_bullet(line: &str) -> bool {
    line.trim_start().starts_with(['\u{2022}', '-'])
}

fn ends_in_ellipsis(line: &str) -> bool {
    let line = line.trim_end();
    line.ends_with("...") || line.ends_with('\u{2026}')
}

/// What is between runs of line feeds, also before the first and behind the last.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    between_feeds(text, 1)
}

/// The same for runs of two or more.
fn paragraphs(text: &str) -> impl Iterator<Item = &str> {
    between_feeds(text, 2)
}

fn between_feeds(text: &str, least: usize) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut from = 0;
        while let Some(at) = text[from..].find('\n').map(|at| from + at) {
            let behind = at + text[at..].bytes().take_while(|&byte| byte == b'\n').count();
            if behind - at >= least {
                rest = Some(&text[behind..]);
                return Some(&text[..at]);
            }
            from = behind;
        }
        rest = None;
        Some(text)
    })
}

struct Repeated {
    /// Parts that occurred before.
    count: usize,
    /// Their characters.
    chars: usize,
    /// All parts.
    of: usize,
}

fn repeated<'t>(parts: impl Iterator<Item = &'t str>) -> Repeated {
    let mut seen = std::collections::HashSet::with_hasher(FxBuildHasher);
    let mut repeated = Repeated { count: 0, chars: 0, of: 0 };
    for part in parts {
        repeated.of += 1;
        if !seen.insert(part) {
            repeated.count += 1;
            repeated.chars += part.chars().count();
        }
    }
    repeated
}

fn ngram(words: &[Word]) -> (u64, usize) {
    let hash = words.iter().fold(0, |state, word| combine(state, word.hash));
    (hash, words.iter().map(|word| word.chars).sum())
}

/// Characters of all occurrences of the most frequent n-gram, with a space between its words. Of several
/// equally frequent ones, the first.
fn top_ngram(words: &[Word], n: usize) -> usize {
    let mut counts: HashMap<u64, (usize, usize), FxBuildHasher> = HashMap::default();
    for (at, found) in words.windows(n).enumerate() {
        counts.entry(ngram(found).0).or_insert((0, at)).0 += 1;
    }
    let top = counts.values().max_by_key(|&&(count, at)| (count, std::cmp::Reverse(at)));
    top.map_or(0, |&(count, at)| count * (ngram(&words[at..at + n]).1 + n - 1))
}

/// Characters of the n-grams that occurred before, each character once.
fn repeated_ngrams(words: &[Word], n: usize) -> usize {
    let mut seen = std::collections::HashSet::with_hasher(FxBuildHasher);
    let (mut at, mut repeated) = (0, 0);
    while let Some(found) = words.get(at..at + n) {
        let (hash, chars) = ngram(found);
        if seen.insert(hash) {
            at += 1;
        } else {
            repeated += chars;
            at += n;
        }
    }
    repeated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_parted_as_python_parts_them() {
        let found = |text: &'static str, least| between_feeds(text, least).collect::<Vec<_>>();
        // re.split(r"\n+", ...) and re.split(r"\n{2,}", ...)
        assert_eq!(found("a\nb\n\n\nc\n", 1), ["a", "b", "c", ""]);
        assert_eq!(found("\na", 1), ["", "a"]);
        assert_eq!(found("a\nb\n\n\nc\nd\n\ne", 2), ["a\nb", "c\nd", "e"]);
        assert_eq!(found("", 1), [""]);
    }

    #[test]
    fn n_grams_are_counted_as_by_hand() {
        let of = |text| words(text).into_iter().map(Word::of).collect::<Vec<_>>();
        // "a bb" three times: 4 characters each.
        assert_eq!(top_ngram(&of("a bb a bb c a bb"), 2), 12);
        assert_eq!(top_ngram(&of("a"), 2), 0);
        // The second "a bb c": 4 characters; then "d" follows.
        assert_eq!(repeated_ngrams(&of("a bb c d a bb c d"), 3), 4);
    }
}
