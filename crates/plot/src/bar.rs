//! Grouped bars: the next token's probability at several temperatures.

use crate::PlotError;
use crate::axis::{Axis, Scale};
use crate::canvas::{Anchor, Canvas, Point};
use crate::layout::{self, Plot};
use crate::style::{AXIS, LABEL_SIZE, TICK_SIZE, color, one_line, text_width};

/// Maximum of characters of a group's name that are drawn.
const NAME_LIMIT: usize = 18;
/// Share of a group's width that its bars take.
const FILLED: f64 = 0.8;

/// One bar in every group.
#[derive(Debug, Clone, PartialEq)]
pub struct BarSeries {
    /// Shown in the legend.
    pub name: String,
    /// One height for each group; for NaN and infinity no bar is drawn.
    pub values: Vec<f64>,
}

/// Groups of bars with names. The vertical axis is linear and always contains 0.
#[derive(Debug, Clone, PartialEq)]
pub struct BarChart {
    /// Above the chart.
    pub title: String,
    /// Below the groups.
    pub x_label: String,
    /// Left of the vertical axis, with the unit.
    pub y_label: String,
    /// Names of the groups, from left to right. Control characters are escaped.
    pub groups: Vec<String>,
    /// From left to right inside each group.
    pub series: Vec<BarSeries>,
}

pub(crate) fn draw(chart: &BarChart, canvas: &Canvas<'_>, top: i32) -> Result<(), PlotError> {
    check(chart)?;
    let names: Vec<&str> = chart.series.iter().map(|series| series.name.as_str()).collect();
    let groups: Vec<String> = chart.groups.iter().map(|name| one_line(name, NAME_LIMIT)).collect();
    let widest = groups.iter().map(|name| text_width(name, TICK_SIZE)).max().unwrap_or(0);
    let slot = f64::from(layout::plot_width()) / groups.len().max(1) as f64;
    let upright = f64::from(widest) < slot * 0.95;
    let room = if upright { layout::TICK_ROOM } else { widest + layout::TICK_ROOM / 2 };

    let plot = Plot::new(&names, layout::BAR_MARK, top, room);
    plot.draw_titles(canvas, &chart.title, &chart.x_label, &chart.y_label)?;
    plot.draw_legend(canvas, &names, |canvas, index, (x, y)| {
        let half = layout::BAR_MARK / 2;
        canvas.bar((x, y - half), (x + layout::BAR_MARK, y + half), color(index))
    })?;
    let values = || chart.series.iter().flat_map(|series| series.values.iter().copied());
    let ends = values().chain([0.0]);
    let y = Axis::over(ends, Scale::Linear, 0.0, (plot.bottom, plot.top + 12));
    plot.draw_y_ticks(canvas, &y)?;
    if !values().any(|value| Scale::Linear.shows(value)) {
        canvas.text("no data", plot.center(), LABEL_SIZE, Anchor::Middle)?;
    }
    draw_bars(chart, canvas, &plot, &y)?;
    draw_group_names(&groups, canvas, &plot, upright)?;
    plot.draw_frame(canvas)
}

fn check(chart: &BarChart) -> Result<(), PlotError> {
    match chart.series.iter().find(|series| series.values.len() != chart.groups.len()) {
        None => Ok(()),
        Some(series) => Err(PlotError::ValueCount {
            chart: chart.title.clone(),
            series: series.name.clone(),
            found: series.values.len(),
            expected: chart.groups.len(),
        }),
    }
}

fn draw_bars(
    chart: &BarChart,
    canvas: &Canvas<'_>,
    plot: &Plot,
    y: &Axis,
) -> Result<(), PlotError> {
    let Some(zero) = y.place(0.0) else { return Ok(()) };
    let slot = f64::from(plot.right - plot.left) / chart.groups.len().max(1) as f64;
    let width = slot * FILLED / chart.series.len().max(1) as f64;
    for (index, series) in chart.series.iter().enumerate() {
        for (group, &value) in series.values.iter().enumerate() {
            let Some(height) = y.place(value) else { continue };
            let start = f64::from(plot.left)
                + slot * (group as f64 + (1.0 - FILLED) / 2.0)
                + width * index as f64;
            let (a, b) = (start.round() as i32, (start + width * 0.94).round() as i32);
            canvas.bar((a, zero), (b.max(a + 1), height), color(index))?;
        }
    }
    canvas.path(vec![(plot.left, zero), (plot.right, zero)], AXIS, 3, None)
}

fn draw_group_names(
    groups: &[String],
    canvas: &Canvas<'_>,
    plot: &Plot,
    upright: bool,
) -> Result<(), PlotError> {
    let slot = f64::from(plot.right - plot.left) / groups.len().max(1) as f64;
    for (index, name) in groups.iter().enumerate() {
        let x = f64::from(plot.left) + slot * (index as f64 + 0.5);
        let at: Point = (x.round() as i32, plot.bottom + 18);
        if upright {
            canvas.text(name, at, TICK_SIZE, Anchor::Top)?;
        } else {
            canvas.upward_text(name, at, TICK_SIZE, Anchor::Right)?;
        }
    }
    Ok(())
}
