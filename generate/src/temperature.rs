//! Draws the effect of the temperature: the distribution of one next token at several temperatures.

use std::fmt;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use checkpoint::atomic;
use plot::{BarChart, BarSeries, Figure};
use serde::Serialize;

use crate::sampling::{Sampling, distribution};
use crate::source::{ModelJob, Ready};

/// Most tokens in one picture.
const MOST_TOKENS: usize = 30;

/// What to draw.
#[derive(Debug, Clone)]
pub struct TemperatureJob {
    /// The model and its engine.
    pub model: ModelJob,
    /// The prompt whose next token is drawn.
    pub prompt: String,
    /// The temperatures; each group has one bar for each.
    pub temperatures: Vec<f32>,
    /// Number of the most likely tokens to show.
    pub tokens: usize,
    /// The PDF to write.
    pub output: PathBuf,
    /// Whether to replace an existing file.
    pub force: bool,
}

/// The numbers in the plot.
#[derive(Debug, Clone, Serialize)]
pub struct TemperatureReport {
    /// The path of the plot.
    pub output: PathBuf,
    /// The prompt whose next token was drawn.
    pub prompt: String,
    /// The temperatures, from left to right.
    pub temperatures: Vec<f32>,
    /// The tokens, most likely first.
    pub tokens: Vec<TokenAtTemperatures>,
    /// Seconds for reading the prompt.
    pub first_token_s: f64,
}

/// One token's probability at each temperature.
#[derive(Debug, Clone, Serialize)]
pub struct TokenAtTemperatures {
    /// Its id.
    pub token: u32,
    /// Its text, quoted.
    pub text: String,
    /// One for each temperature.
    pub probabilities: Vec<f64>,
}

/// Reads the prompt once and draws the distribution of the next token.
///
/// # Errors
/// Invalid settings, a model that cannot be loaded, or a file that exists or cannot be written.
pub fn temperature_plot(job: &TemperatureJob) -> Result<TemperatureReport> {
    check(job)?;
    let ready = Ready::load(&job.model)?;
    let prompt = ready.encode(&job.prompt)?;
    let start = std::time::Instant::now();
    let logits = ready.model.session()?.push(&prompt)?;
    let first_token_s = start.elapsed().as_secs_f64();
    let report = TemperatureReport {
        output: job.output.clone(),
        prompt: job.prompt.clone(),
        temperatures: job.temperatures.clone(),
        tokens: table(&logits, job, &|token| {
            String::from_utf8_lossy(&ready.tokenizer.decode_bytes(&[token])).into_owned()
        }),
        first_token_s,
    };
    let pdf = plot::render_pdf(&[Figure::from(chart(&report))])?;
    atomic::write_file::<_, anyhow::Error>(&job.output, job.force, |file| {
        Ok(file.write_all(&pdf)?)
    })?;
    Ok(report)
}

fn check(job: &TemperatureJob) -> Result<()> {
    ensure!(!job.prompt.is_empty(), "the prompt is empty: give at least one character");
    ensure!(!job.temperatures.is_empty(), "no temperature to draw: name at least one");
    for &t in &job.temperatures {
        ensure!(t > 0.0 && t.is_finite(), "temperature = {t}: expected more than 0");
    }
    ensure!(
        (1..=MOST_TOKENS).contains(&job.tokens),
        "tokens = {}: expected 1 to {MOST_TOKENS}",
        job.tokens
    );
    ensure!(
        job.force || !job.output.exists(),
        "{} exists: choose another name, or pass --force to replace it",
        job.output.display()
    );
    Ok(())
}

/// The most likely tokens, with their probability at each temperature.
fn table(
    logits: &[f32],
    job: &TemperatureJob,
    text: &dyn Fn(u32) -> String,
) -> Vec<TokenAtTemperatures> {
    let mut tokens: Vec<TokenAtTemperatures> = distribution(logits, &[], &Sampling::PLAIN)
        .into_iter()
        .take(job.tokens)
        .map(|candidate| TokenAtTemperatures {
            token: candidate.token,
            text: format!("{:?}", text(candidate.token)),
            probabilities: Vec::new(),
        })
        .collect();
    for &temperature in &job.temperatures {
        // The order of tokens is the same at every temperature: most likely first, equal ones by
        // id.
        let hot = distribution(logits, &[], &Sampling { temperature, ..Sampling::PLAIN });
        for (token, candidate) in tokens.iter_mut().zip(hot) {
            debug_assert_eq!(token.token, candidate.token);
            token.probabilities.push(candidate.probability);
        }
    }
    tokens
}

fn chart(report: &TemperatureReport) -> BarChart {
    let series = report.temperatures.iter().enumerate().map(|(i, temperature)| BarSeries {
        name: format!("temperature {temperature}"),
        values: report.tokens.iter().map(|token| token.probabilities[i]).collect(),
    });
    BarChart {
        title: format!("After {:?}", shortened(&report.prompt)),
        x_label: "next token".into(),
        y_label: "probability".into(),
        groups: report.tokens.iter().map(|token| token.text.clone()).collect(),
        series: series.collect(),
    }
}

/// The end of a prompt, short enough for a title.
fn shortened(prompt: &str) -> String {
    const LIMIT: usize = 40;
    let count = prompt.chars().count();
    if count <= LIMIT {
        return prompt.to_owned();
    }
    format!("…{}", prompt.chars().skip(count - LIMIT).collect::<String>())
}

impl fmt::Display for TemperatureReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.tokens.iter().map(|token| token.text.chars().count()).max().unwrap_or(0);
        let width = width.max("next token".len());
        write!(f, "{:width$}", "next token")?;
        for temperature in &self.temperatures {
            write!(f, "  {:>8}", format!("T = {temperature}"))?;
        }
        for token in &self.tokens {
            write!(f, "\n{:width$}", token.text)?;
            for probability in &token.probabilities {
                write!(f, "  {probability:8.4}")?;
            }
        }
        write!(f, "\npicture: {}", self.output.display())
    }
}
