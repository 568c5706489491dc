//! `loss.pdf`: training and validation loss over tokens seen, on a linear and a logarithmic axis.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use checkpoint::atomic::{self, AtomicError};
use plot::{Figure, LineChart, Scale, Series};

use crate::metrics::Metrics;

/// Draws the losses of a run and writes the page.
///
/// # Errors
/// When it cannot be drawn or written.
pub fn write(path: &Path, lines: &[Metrics]) -> anyhow::Result<()> {
    let of_pairs = lines.iter().any(|line| line.rewards.is_some());
    let unit = if of_pairs { "pair" } else { "token" };
    let chart = |title: &str, y_scale| {
        Figure::from(LineChart {
            title: title.to_owned(),
            x_label: "tokens seen".to_owned(),
            y_label: format!("loss (nats per {unit})"),
            y_scale,
            series: vec![
                series("training", lines, |line| line.train_loss),
                series("validation", lines, |line| line.val_loss),
            ],
        })
    };
    let figures = [chart("Loss", Scale::Linear), chart("Loss, logarithmic", Scale::Log)];
    let pdf = plot::render_pdf(&figures).context("cannot draw the losses")?;
    atomic::write_file(path, true, |out| {
        out.write_all(&pdf).map_err(|source| AtomicError::write(path, source))
    })?;
    Ok(())
}

fn series(name: &str, lines: &[Metrics], loss: impl Fn(&Metrics) -> Option<f64>) -> Series {
    let points = lines.iter().filter_map(|line| Some((line.tokens as f64, loss(line)?)));
    Series { name: name.to_owned(), points: points.collect() }
}
