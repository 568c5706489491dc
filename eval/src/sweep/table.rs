//! A sweep as text and as Markdown: one table of quality, and one of times and memory.

use std::fmt::{self, Write};

use super::probe::Speed;
use super::report::{KlRatio, Row, SweepReport};
use super::variant::FileRole;
use crate::metrics::Agreement;

/// Cells in rows; the first column is left-aligned, all others are numbers.
struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// The cell of one column for a row; `base` is the row that it is compared with.
struct Column<'a> {
    title: String,
    cell: Box<dyn Fn(&Row) -> String + 'a>,
}

impl SweepReport {
    /// The tables as Markdown.
    pub fn markdown(&self) -> String {
        let mut out = format!("{}\n\n", self.title());
        for table in self.tables() {
            table.markdown(&mut out);
            out.push('\n');
        }
        for note in self.remarks() {
            let _ = writeln!(out, "{note}");
        }
        out
    }

    fn title(&self) -> String {
        let text = &self.text;
        format!(
            "{} windows of {} tokens from {}, {} positions scored; {} on {} thread{}",
            text.windows,
            text.context,
            text.source,
            cli::count(text.scored as u64),
            self.engine,
            self.threads,
            if self.threads == 1 { "" } else { "s" }
        )
    }

    fn tables(&self) -> Vec<Table> {
        let quality = Table::new(self.quality_columns(), &self.rows);
        let measured = self.rows.iter().any(|row| row.speed.is_some() || row.cache_bytes.is_some());
        let device = measured.then(|| Table::new(self.device_columns(), &self.rows));
        std::iter::once(quality).chain(device).collect()
    }

    fn remarks(&self) -> Vec<String> {
        let base = self.base().map_or("base", |base| &base.label);
        let mut remarks = vec![
            format!("KL: KL({base} || variant) in nats. ±: one standard error."),
            "*: nothing in the table is both smaller and nearer (the Pareto front).".to_owned(),
        ];
        if self.rows.iter().any(|row| row.speed.is_some()) {
            remarks.push(format!(
                "x: times {base}'s figure. KV MB measured: what making the context took, llama.cpp's \
                 own records of it included."
            ));
        }
        for row in &self.rows {
            if let Some(problem) = &row.problem {
                remarks.push(format!("{}: {problem}.", row.label));
            }
            if let Some(problem) = &row.speed_problem {
                remarks.push(format!("{}: its speed was not measured: {problem}.", row.label));
            }
        }
        remarks
    }

    fn quality_columns(&self) -> Vec<Column<'_>> {
        let base = self.base();
        let against = base.map_or("base", |base| &base.label);
        let of_quality = |cell: fn(&Agreement) -> String| {
            move |row: &Row| row.quality.as_ref().map_or_else(nothing, cell)
        };
        let mut columns = vec![
            column("variant", name),
            column("KV", |row| row.cache.clone()),
            column("MB", |row| format!("{:.2}", row.file_bytes as f64 / 1e6)),
            column(format!("of {against}"), move |row| {
                let whole = base.map_or(0, |base| base.file_bytes).max(1) as f64;
                format!("{:.1} %", 100.0 * row.file_bytes as f64 / whole)
            }),
            column("bits/weight", |row| format!("{:.3}", row.bits_per_weight)),
            column("perplexity", of_quality(perplexity)),
            column(format!("over {against}"), of_quality(perplexity_ratio)),
            column("mean KL", of_quality(mean_kl)),
            column("median", of_quality(|quality| digits(quality.kl.median))),
            column("99 %", of_quality(|quality| digits(quality.kl.p99))),
            column("99.9 %", of_quality(|quality| quality.kl.p999.map_or_else(nothing, digits))),
            column("max", of_quality(|quality| digits(quality.kl.max))),
            column("top-1", of_quality(top1)),
            column("RMS Δp", of_quality(probability_change)),
        ];
        if self.rows.iter().any(|row| row.kl_ratio.is_some()) {
            columns.push(column("KL over peer", |row| {
                row.kl_ratio.as_ref().map_or_else(nothing, |KlRatio { peer, value, error }| {
                    format!("{value:.3} ± {error:.3} ({peer})")
                })
            }));
        }
        columns
    }

    fn device_columns(&self) -> Vec<Column<'_>> {
        let base = self.base().and_then(|base| base.speed.as_ref());
        let of_speed = move |of: fn(&Speed) -> f64, decimals: usize| {
            move |row: &Row| {
                let Some(speed) = &row.speed else { return nothing() };
                let against = base.map(of).filter(|base| *base > 0.0);
                let times =
                    against.map_or_else(String::new, |base| format!(" ({:.2}x)", of(speed) / base));
                format!("{:.decimals$}{times}", of(speed))
            }
        };
        let megabytes = |bytes: Option<u64>| {
            bytes.map_or_else(nothing, |bytes| format!("{:.2}", bytes as f64 / 1e6))
        };
        vec![
            column("variant", name),
            column("KV", |row| row.cache.clone()),
            column("prompt tokens/s", of_speed(|speed| speed.prompt_tokens_per_s, 1)),
            column("generation tokens/s", of_speed(|speed| speed.generation_tokens_per_s, 1)),
            column("first token ms", of_speed(|speed| 1e3 * speed.first_token_seconds, 1)),
            column("load ms", of_speed(|speed| 1e3 * speed.load_seconds, 1)),
            column("peak MB", move |row| {
                let peak = |speed: &Speed| speed.peak_resident_bytes.map(|bytes| bytes as f64);
                match (row.speed.as_ref().and_then(peak), base.and_then(peak)) {
                    (Some(own), Some(base)) => format!("{:.1} ({:.2}x)", own / 1e6, own / base),
                    (Some(own), None) => format!("{:.1}", own / 1e6),
                    _ => nothing(),
                }
            }),
            column("KV MB computed", move |row| megabytes(row.cache_bytes)),
            column("KV MB measured", move |row| {
                megabytes(row.speed.as_ref().and_then(|speed| speed.cache_resident_bytes))
            }),
        ]
    }
}

impl fmt::Display for SweepReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.title())?;
        for table in self.tables() {
            writeln!(f, "{table}")?;
        }
        let remarks = self.remarks();
        f.write_str(&remarks.join("\n"))
    }
}

fn column<'a>(title: impl Into<String>, cell: impl Fn(&Row) -> String + 'a) -> Column<'a> {
    Column { title: title.into(), cell: Box::new(cell) }
}

fn nothing() -> String {
    "-".to_owned()
}

fn name(row: &Row) -> String {
    let front = if row.pareto { " *" } else { "" };
    let peer = if row.role == FileRole::Peer { " (peer)" } else { "" };
    format!("{}{peer}{front}", row.label)
}

fn perplexity(quality: &Agreement) -> String {
    let Some(value) = quality.perplexity else { return nothing() };
    let decimals = if value < 1000.0 { 3 } else { 1 };
    let error = quality.perplexity_error.map_or_else(nothing, |e| format!("{e:.decimals$}"));
    format!("{value:.decimals$} ± {error}")
}

fn perplexity_ratio(quality: &Agreement) -> String {
    let ratio = quality.perplexity.zip(quality.base_perplexity).map(|(own, base)| own / base);
    ratio.map_or_else(nothing, |ratio| format!("{ratio:.4}"))
}

fn mean_kl(quality: &Agreement) -> String {
    let error = quality.kl.mean_error.map_or_else(nothing, digits);
    format!("{} ± {error}", digits(quality.kl.mean))
}

fn top1(quality: &Agreement) -> String {
    let error = quality.top1_error.map_or_else(nothing, |error| format!("{:.2}", 100.0 * error));
    format!("{:.2} ± {error} %", 100.0 * quality.top1_agreement)
}

fn probability_change(quality: &Agreement) -> String {
    let percent = |value: f64| format!("{:.3}", 100.0 * value);
    match (quality.rms_probability_change, quality.rms_probability_change_error) {
        (Some(value), Some(error)) => format!("{} ± {} %", percent(value), percent(error)),
        _ => nothing(),
    }
}

/// Three significant digits, with a power of ten if the number is far from 1.
fn digits(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        x if !(1e-3..1e4).contains(&x) => format!("{value:.2e}"),
        x => {
            let decimals = (2 - x.log10().floor() as i32).max(0) as usize;
            format!("{value:.decimals$}")
        }
    }
}

impl Table {
    fn new(columns: Vec<Column<'_>>, rows: &[Row]) -> Self {
        let cells = |row: &Row| columns.iter().map(|column| (column.cell)(row)).collect();
        let rows = rows.iter().map(cells).collect();
        Table { rows, header: columns.into_iter().map(|column| column.title).collect() }
    }

    fn markdown(&self, out: &mut String) {
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        out.push_str(&line(&self.header));
        let rule: Vec<String> = (0..self.header.len())
            .map(|index| if index == 0 { "---".to_owned() } else { "---:".to_owned() })
            .collect();
        out.push_str(&line(&rule));
        for row in &self.rows {
            out.push_str(&line(row));
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = || std::iter::once(&self.header).chain(&self.rows);
        let width =
            |column: usize| lines().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        for line in lines() {
            let cells = line.iter().zip(&widths).enumerate().map(|(index, (cell, &width))| {
                if index == 0 { format!("{cell:width$}") } else { format!("{cell:>width$}") }
            });
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (2.5441e-9, "2.54e-9"),
            (0.0012345, "0.00123"),
            (0.12345, "0.123"),
            (9.999, "10.00"),
            (123.4, "123"),
            (5432.1, "5432"),
            (54321.0, "5.43e4"),
        ] {
            assert_eq!(digits(value), text);
        }
    }
}
