//! Generates texts from the same prompt with several strategies, side by side.

use std::fmt;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::repetition::Repetition;
use crate::sampling::Sampling;
use crate::source::{ModelJob, Ready};
use crate::text::{GenerateJob, TextReport, write_text};

/// What to compare.
#[derive(Debug, Clone)]
pub struct CompareJob {
    /// The model and its engine.
    pub model: ModelJob,
    /// The text to continue.
    pub prompt: String,
    /// The strategies; one text is generated with each.
    pub strategies: Vec<Sampling>,
    /// Seed of the random numbers of each text.
    pub seed: u64,
    /// At most this many new tokens in each text.
    pub max_tokens: usize,
}

/// The default strategies of a comparison.
pub fn usual_strategies() -> Vec<Sampling> {
    let (greedy, plain) = (Sampling::GREEDY, Sampling::PLAIN);
    vec![
        greedy,
        Sampling { repetition_penalty: 1.2, ..greedy },
        Sampling { temperature: 0.7, ..plain },
        plain,
        Sampling { top_k: 40, ..plain },
        Sampling { top_p: 0.9, ..plain },
    ]
}

/// Texts side by side.
#[derive(Debug, Clone, Serialize)]
pub struct CompareReport {
    /// The text to continue.
    pub prompt: String,
    /// One for each strategy, in the order given.
    pub texts: Vec<ComparedText>,
}

/// One strategy's text with its figures.
#[derive(Debug, Clone, Serialize)]
pub struct ComparedText {
    /// The strategy as on the command line.
    pub strategy: String,
    /// The text and its speed.
    #[serde(flatten)]
    pub report: TextReport,
    /// Measures of repetition in the text.
    #[serde(flatten)]
    pub repetition: Repetition,
}

/// Generates one text with each strategy.
///
/// # Errors
/// Invalid settings, an empty or too long prompt, or a model that cannot be loaded.
pub fn compare(job: &CompareJob) -> Result<CompareReport> {
    ensure!(!job.strategies.is_empty(), "no strategy to compare: name at least one");
    job.strategies.iter().try_for_each(Sampling::validate)?;
    ensure!(!job.prompt.is_empty(), "the prompt is empty: give at least one character");
    let ready = Ready::load(&job.model)?;
    let texts = job.strategies.iter().map(|&sampling| {
        let text_job = GenerateJob {
            model: job.model.clone(),
            prompt: job.prompt.clone(),
            sampling,
            seed: job.seed,
            max_tokens: job.max_tokens,
        };
        let report = write_text(&ready, &text_job, &mut |_| Ok(()))?;
        let repetition = Repetition::of(&report.tokens);
        Ok(ComparedText { strategy: sampling.to_string(), report, repetition })
    });
    Ok(CompareReport { prompt: job.prompt.clone(), texts: texts.collect::<Result<_>>()? })
}

impl CompareReport {
    /// Speed over all texts: `6 texts, the first token after 0.12 s on average, ...`.
    pub fn summary(&self) -> String {
        let mean = |values: Vec<f64>| {
            if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
        };
        let first = mean(self.texts.iter().map(|t| t.report.timing.first_token_s).collect());
        let speeds = self.texts.iter().filter_map(|t| t.report.timing.tokens_per_s).collect();
        format!(
            "{} texts, the first token after {first:.3} s, then {:.1} tokens/s (means)",
            self.texts.len(),
            mean(speeds)
        )
    }
}

/// Characters of text in one line of the table.
const TEXT_WIDTH: usize = 56;

impl fmt::Display for CompareReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.texts.iter().map(|text| text.strategy.len()).max().unwrap_or(0).max(8);
        writeln!(f, "prompt: {}", one_line(&self.prompt))?;
        write!(f, "{:width$}  {:TEXT_WIDTH$}", "strategy", "text")?;
        write!(f, "  distinct-1  distinct-2  distinct-3  repeated-4  tokens  tokens/s")?;
        for text in &self.texts {
            let Repetition { distinct_1, distinct_2, distinct_3, repeated_4 } = text.repetition;
            let speed = text.report.timing.tokens_per_s;
            let speed = speed.map_or("-".to_owned(), |speed| format!("{speed:.1}"));
            let mut lines = wrap(&one_line(&text.report.text), TEXT_WIDTH).into_iter();
            let first = lines.next().unwrap_or_default();
            write!(f, "\n{:width$}  {first:TEXT_WIDTH$}", text.strategy)?;
            write!(f, "  {distinct_1:10.3}  {distinct_2:10.3}  {distinct_3:10.3}")?;
            write!(f, "  {repeated_4:10.3}  {:6}  {speed:>8}", text.report.tokens.len())?;
            for line in lines {
                write!(f, "\n{:width$}  {line}", "")?;
            }
        }
        Ok(())
    }
}

/// Replaces line ends by visible characters, so that a text stays in its column.
fn one_line(text: &str) -> String {
    text.replace("\r\n", "\n").replace(['\n', '\r'], "↵").replace('\t', " ")
}

/// Lines of at most `width` characters, broken at spaces if there are any.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut len = 0;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if len > 0 && len + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut line));
            len = 0;
        }
        if len > 0 {
            line.push(' ');
            len += 1;
        }
        for character in word.chars() {
            if len == width {
                lines.push(std::mem::take(&mut line));
                len = 0;
            }
            line.push(character);
            len += 1;
        }
    }
    if len > 0 {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_spaces_and_long_words_anywhere() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("", 3), Vec::<String>::new());
        let text = "Ünï cödé ↵ wörds änd möre";
        assert!(wrap(text, 9).iter().all(|line| line.chars().count() <= 9));
    }

    #[test]
    fn line_ends_are_visible() {
        assert_eq!(one_line("a\nb\r\nc\td"), "a↵b↵c d");
    }
}
