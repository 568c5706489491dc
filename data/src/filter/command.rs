//! The arguments of `data filter`.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use checkpoint::atomic;
use clap::Args;

use super::{FilterJob, FilterReport, Limits, Rule, filter, write_report};
use crate::command::Reading;

/// `data filter`.
#[derive(Debug, Args)]
pub(crate) struct FilterArgs {
    /// What `data encode` reads.
    #[arg(value_name = "INPUT", required = true)]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    reading: Reading,
    /// The JSON Lines to write; compressed if it ends in .gz or .zst.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Least words of a document; in scripts without spaces, characters.
    #[arg(long, value_name = "N", default_value_t = 50)]
    min_words: usize,
    /// Most words of a document.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    max_words: usize,
    /// Do not apply a rule; may be given several times [default: all but near-duplicate are applied]
    #[arg(long, value_name = "RULE", value_enum)]
    without: Vec<Rule>,
    /// Leave out near-duplicates too (MinHash, 14 bands of 8 hashes): 92 % of the texts that share
    /// 80 % of their five-word sequences with an earlier one [default: equal texts only]
    #[arg(long)]
    near_duplicates: bool,
    /// Number of documents of each rule to show.
    #[arg(long, value_name = "N", default_value_t = 0)]
    show: usize,
    /// Also write the report as JSON; not written by default.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Replace existing output files; off by default.
    #[arg(long)]
    force: bool,
}

impl FilterArgs {
    pub fn run(self) -> Result<FilterReport> {
        let corpus = self.reading.corpus(&self.inputs)?;
        if let Some(report) = &self.report {
            let name = report.display();
            let is_taken = atomic::same_place(report, &self.output)
                || corpus.files().any(|input| atomic::same_place(report, input));
            ensure!(!is_taken, "{name} is the report and another file at once; name another file");
            ensure!(
                self.force || !report.exists(),
                "{name} exists already; use --force to replace it"
            );
        }
        let job = FilterJob {
            corpus: &corpus,
            text_field: &self.reading.text_field,
            output: &self.output,
            limits: Limits {
                min_words: self.min_words,
                max_words: self.max_words,
                without: self.without,
            },
            near_duplicates: self.near_duplicates,
            show: self.show,
            force: self.force,
        };
        let report = filter(&job)?;
        if let Some(path) = &self.report {
            write_report(&report, path, self.force)?;
        }
        Ok(report)
    }
}
