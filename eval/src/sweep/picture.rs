//! Draws a sweep: divergence over size with the Pareto front, and speed.

use anyhow::Result;
use plot::{BarChart, BarSeries, Figure, Scale, ScatterChart, ScatterPoint, ScatterSeries};

use super::report::{Row, SweepReport};
use super::variant::FileRole;
use crate::metrics::KlDivergence;

impl SweepReport {
    /// Draws one page: mean and 99.9th percentile of the divergence over the file's size and, if it
    /// was measured, tokens per second.
    ///
    /// # Errors
    /// When the page cannot be drawn.
    pub fn pdf(&self) -> Result<Vec<u8>> {
        Ok(plot::render_pdf(&self.figures())?)
    }

    fn figures(&self) -> Vec<Figure> {
        let base = self.base().map_or("base", |base| &base.label);
        let mean = self.divergence(format!("Mean KL({base} || variant)"), |kl| Some(kl.mean));
        let tail = self.divergence(format!("99.9 % of KL({base} || variant)"), |kl| kl.p999);
        let mut figures = vec![mean.into(), tail.into()];
        figures.extend(self.speeds().map(Figure::from));
        figures
    }

    /// Rows of the first cache: other caches do not change a file's size.
    fn judged(&self) -> impl Iterator<Item = &Row> {
        let cache = self.rows.first().map(|row| row.cache.as_str());
        let judged =
            move |row: &&Row| row.role != FileRole::Base && Some(row.cache.as_str()) == cache;
        self.rows.iter().filter(judged)
    }

    fn divergence(&self, title: String, of: impl Fn(&KlDivergence) -> Option<f64>) -> ScatterChart {
        let point = |row: &Row| {
            let y = of(&row.quality.as_ref()?.kl)?;
            Some(ScatterPoint { x: row.file_bytes as f64 / 1e6, y, name: row.label.clone() })
        };
        let series = |name: &str, role: FileRole| ScatterSeries {
            name: name.to_owned(),
            points: self.judged().filter(|row| row.role == role).filter_map(point).collect(),
        };
        let mut series =
            vec![series("variants", FileRole::Variant), series("peers", FileRole::Peer)];
        series.retain(|series| !series.points.is_empty());
        let front = self.judged().filter(|row| row.pareto).filter_map(point);
        let mut line: Vec<(f64, f64)> = front.map(|point| (point.x, point.y)).collect();
        line.sort_by(|a, b| a.0.total_cmp(&b.0));
        ScatterChart {
            title: format!("{title}, {} positions", cli::count(self.text.scored as u64)),
            x_label: "file, MB (dashed: the Pareto front)".to_owned(),
            y_label: "nats".to_owned(),
            x_scale: Scale::Linear,
            y_scale: Scale::Log,
            series,
            line,
        }
    }

    fn speeds(&self) -> Option<BarChart> {
        let cache = self.rows.first().map(|row| &row.cache);
        let measured: Vec<(&Row, f64, f64)> = self
            .rows
            .iter()
            .filter(|row| Some(&row.cache) == cache)
            .filter_map(|row| {
                let speed = row.speed.as_ref()?;
                Some((row, speed.prompt_tokens_per_s, speed.generation_tokens_per_s))
            })
            .collect();
        let series = |name: &str, of: fn(&(&Row, f64, f64)) -> f64| BarSeries {
            name: name.to_owned(),
            values: measured.iter().map(of).collect(),
        };
        (!measured.is_empty()).then(|| BarChart {
            title: format!("Speed in llama.cpp, threads: {}", self.threads),
            x_label: String::new(),
            y_label: "tokens/s".to_owned(),
            groups: measured.iter().map(|(row, ..)| row.label.clone()).collect(),
            series: vec![
                series("reading a prompt", |(_, prompt, _)| *prompt),
                series("writing", |(_, _, generation)| *generation),
            ],
        })
    }
}
