//! The summary of a run: one line for each stage, and the bundle's path.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Name of the stage, with the recipe if each recipe has a file.
    pub stage: String,
    /// Wall time, in seconds.
    pub seconds: f64,
    /// What it wrote, relative to the run folder.
    pub output: PathBuf,
    /// Bytes of the output.
    pub bytes: u64,
    /// What was measured.
    pub quality: String,
    /// Whether it was skipped because the output of an earlier run is current.
    #[serde(default)]
    pub skipped: bool,
}

/// A whole run.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The run folder.
    pub run_dir: PathBuf,
    /// In the order they ran.
    pub stages: Vec<Row>,
    /// The folder to put onto the device.
    pub bundle: PathBuf,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = ["stage", "wall", "output", "size", "quality"].map(str::to_owned);
        let lines: Vec<[String; 5]> = std::iter::once(header)
            .chain(self.stages.iter().map(|row| {
                [
                    row.stage.clone(),
                    if row.skipped { "unchanged".to_owned() } else { cli::seconds(row.seconds) },
                    row.output.display().to_string(),
                    cli::bytes(row.bytes),
                    row.quality.clone(),
                ]
            }))
            .collect();
        let width = |i: usize| lines.iter().map(|line| line[i].chars().count()).max().unwrap_or(0);
        let [stage, wall, output, size] = [0, 1, 2, 3].map(width);
        for [a, b, c, d, e] in &lines {
            let line = format!("{a:stage$}  {b:>wall$}  {c:output$}  {d:>size$}  {e}");
            writeln!(f, "{}", line.trim_end())?;
        }
        write!(f, "\nbundle: {}", self.bundle.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_the_bundle_comes_last() {
        let row = |stage: &str, bytes| Row {
            stage: stage.to_owned(),
            seconds: 1.0,
            output: PathBuf::from("out"),
            bytes,
            quality: "good".to_owned(),
            skipped: false,
        };
        let summary = Summary {
            run_dir: PathBuf::from("runs/a"),
            stages: vec![row("train", 5), Row { skipped: true, ..row("quantize Q8_0", 2048) }],
            bundle: PathBuf::from("runs/a/bundle"),
        };
        let expected = "\
stage               wall  output     size  quality
train             1.00 s  out         5 B  good
quantize Q8_0  unchanged  out     2.0 KiB  good

bundle: runs/a/bundle";
        assert_eq!(summary.to_string(), expected);
    }
}
