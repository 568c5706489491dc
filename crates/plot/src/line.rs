//! Curves: losses over tokens, quality over size.

use crate::PlotError;
use crate::axis::{Axis, Scale};
use crate::canvas::{Anchor, Canvas, Point};
use crate::layout::{self, Plot};
use crate::style::{LABEL_SIZE, color, dash};

/// Width of a curve in drawing units.
const STROKE: u32 = 5;
/// Radius of a point without a neighbour to connect it with.
const DOT: i32 = 8;

/// One curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Shown in the legend.
    pub name: String,
    /// `(x, y)` in drawing order. A point with a NaN or an infinity, or one that a log scale cannot
    /// show, is left out, and the curve has a gap there.
    pub points: Vec<(f64, f64)>,
}

/// Curves over a linear horizontal axis.
#[derive(Debug, Clone, PartialEq)]
pub struct LineChart {
    /// Above the chart.
    pub title: String,
    /// Below the horizontal axis, with the unit.
    pub x_label: String,
    /// Left of the vertical axis, with the unit.
    pub y_label: String,
    /// Scale of the vertical axis.
    pub y_scale: Scale,
    /// Drawn in this order, so that later ones are on top.
    pub series: Vec<Series>,
}

pub(crate) fn draw(chart: &LineChart, canvas: &Canvas<'_>, top: i32) -> Result<(), PlotError> {
    let names: Vec<&str> = chart.series.iter().map(|series| series.name.as_str()).collect();
    let plot = Plot::new(&names, layout::LINE_MARK, top, layout::TICK_ROOM);
    plot.draw_titles(canvas, &chart.title, &chart.x_label, &chart.y_label)?;
    plot.draw_legend(canvas, &names, |canvas, index, (x, y)| {
        let sample = vec![(x, y), (x + layout::LINE_MARK, y)];
        canvas.path(sample, color(index), STROKE, dash(index))
    })?;

    let shown = |&(x, y): &(f64, f64)| Scale::Linear.shows(x) && chart.y_scale.shows(y);
    let points = || chart.series.iter().flat_map(|series| &series.points).copied().filter(shown);
    let x = Axis::over(points().map(|p| p.0), Scale::Linear, 0.0, (plot.left, plot.right));
    let y = Axis::over(points().map(|p| p.1), chart.y_scale, 0.04, (plot.bottom, plot.top));
    plot.draw_y_ticks(canvas, &y)?;
    plot.draw_x_ticks(canvas, &x)?;
    if points().next().is_none() {
        canvas.text("no data", plot.center(), LABEL_SIZE, Anchor::Middle)?;
    }
    for (index, series) in chart.series.iter().enumerate() {
        for run in runs(series, &x, &y) {
            match run[..] {
                [only] => canvas.dot(only, DOT, color(index))?,
                _ => canvas.path(run, color(index), STROKE, dash(index))?,
            }
        }
    }
    plot.draw_frame(canvas)
}

/// The segments of a curve between its gaps, reduced to the points that are visible.
fn runs(series: &Series, x: &Axis, y: &Axis) -> Vec<Vec<Point>> {
    let mut runs: Vec<Vec<Point>> = vec![Vec::new()];
    for &(px, py) in &series.points {
        match (x.place(px), y.place(py), runs.last_mut()) {
            (Some(px), Some(py), Some(run)) => run.push((px, py)),
            (_, _, Some(run)) if run.is_empty() => {}
            _ => runs.push(Vec::new()),
        }
    }
    runs.retain(|run| !run.is_empty());
    runs.iter().map(|run| thin(run)).collect()
}

/// Of the points in one column of the page, keeps the first, lowest, highest and last one: the
/// drawing does not change, and a million steps fit into a small file (M4 aggregation; Jugel et
/// al., VLDB 2014).
fn thin(points: &[Point]) -> Vec<Point> {
    let mut kept: Vec<Point> = Vec::new();
    for column in points.chunk_by(|a, b| a.0 == b.0) {
        let last = column.len() - 1;
        let extreme = |better: fn(i32, i32) -> bool| {
            (0..column.len())
                .fold(0, |best, i| if better(column[i].1, column[best].1) { i } else { best })
        };
        let mut indices = [0, extreme(|a, b| a < b), extreme(|a, b| a > b), last];
        indices.sort_unstable();
        for index in indices {
            if kept.last() != Some(&column[index]) {
                kept.push(column[index]);
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_ends_and_extremes() {
        let points = [(0, 5), (0, 9), (0, 1), (0, 4), (0, 6), (1, 6), (2, 7)];
        assert_eq!(thin(&points), [(0, 5), (0, 9), (0, 1), (0, 6), (1, 6), (2, 7)]);
        assert_eq!(thin(&[(3, 3)]), [(3, 3)]);
        assert_eq!(thin(&[(3, 3), (3, 3)]), [(3, 3)]);
    }

    #[test]
    fn a_point_without_a_place_breaks_the_curve() {
        let series = Series {
            name: String::new(),
            points: vec![
                (0.0, f64::NAN),
                (1.0, 1.0),
                (2.0, 2.0),
                (f64::INFINITY, 2.0),
                (f64::NAN, 2.0),
                (3.0, 1.0),
            ],
        };
        let axis = |pixels| Axis::over([0.0, 4.0].into_iter(), Scale::Linear, 0.0, pixels);
        let runs = runs(&series, &axis((0, 40)), &axis((40, 0)));
        assert_eq!(runs, [vec![(10, 30), (20, 20)], vec![(30, 30)]]);
    }
}
