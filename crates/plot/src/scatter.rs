//! Named points, and a line through the best ones: quality over size.

use crate::PlotError;
use crate::axis::{Axis, Scale};
use crate::canvas::{Anchor, Canvas, Point};
use crate::layout::{self, Plot};
use crate::style::{AXIS, LABEL_SIZE, TICK_SIZE, color, one_line, text_width};

/// Radius of a point.
const DOT: i32 = 11;
/// Distance between a point and its name.
const GAP: i32 = 8;
/// Most characters of a point's name that are drawn.
const NAME_LIMIT: usize = 24;
/// Dashes and gaps of the line.
const DASH: (i32, i32) = (15, 12);

/// A point with a name beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct ScatterPoint {
    /// Along the horizontal axis.
    pub x: f64,
    /// Along the vertical axis.
    pub y: f64,
    /// Drawn next to the point if there is space; may be empty.
    pub name: String,
}

/// Points of one colour.
#[derive(Debug, Clone, PartialEq)]
pub struct ScatterSeries {
    /// Shown in the legend.
    pub name: String,
    /// A point with a NaN or an infinity, or one that a log scale cannot show, is left out.
    pub points: Vec<ScatterPoint>,
}

/// Points over two axes, with a dashed line behind them.
#[derive(Debug, Clone, PartialEq)]
pub struct ScatterChart {
    /// Above the chart.
    pub title: String,
    /// Below the horizontal axis, with the unit.
    pub x_label: String,
    /// Left of the vertical axis, with the unit.
    pub y_label: String,
    /// Scale of the horizontal axis.
    pub x_scale: Scale,
    /// Scale of the vertical axis.
    pub y_scale: Scale,
    /// Drawn in this order, so that later ones are on top.
    pub series: Vec<ScatterSeries>,
    /// The points of the dashed line, for example a Pareto front.
    pub line: Vec<(f64, f64)>,
}

pub(crate) fn draw(chart: &ScatterChart, canvas: &Canvas<'_>, top: i32) -> Result<(), PlotError> {
    let names: Vec<&str> = chart.series.iter().map(|series| series.name.as_str()).collect();
    let plot = Plot::new(&names, layout::BAR_MARK, top, layout::TICK_ROOM);
    plot.draw_titles(canvas, &chart.title, &chart.x_label, &chart.y_label)?;
    plot.draw_legend(canvas, &names, |canvas, index, (x, y)| {
        canvas.dot((x + layout::BAR_MARK / 2, y), DOT, color(index))
    })?;

    let shown = |x: f64, y: f64| chart.x_scale.shows(x) && chart.y_scale.shows(y);
    let points = || {
        let points = chart.series.iter().flat_map(|series| &series.points);
        points.map(|point| (point.x, point.y)).filter(move |&(x, y)| shown(x, y))
    };
    let x = Axis::over(points().map(|p| p.0), chart.x_scale, 0.12, (plot.left, plot.right));
    let y = Axis::over(points().map(|p| p.1), chart.y_scale, 0.08, (plot.bottom, plot.top));
    plot.draw_y_ticks(canvas, &y)?;
    plot.draw_x_ticks(canvas, &x)?;
    if points().next().is_none() {
        canvas.text("no data", plot.center(), LABEL_SIZE, Anchor::Middle)?;
    }
    let place = |px: f64, py: f64| Some((x.place(px)?, y.place(py)?));
    let line: Vec<Point> = chart.line.iter().filter_map(|&(px, py)| place(px, py)).collect();
    if line.len() > 1 {
        canvas.path(line, AXIS, 3, Some(DASH))?;
    }
    let mut taken = Vec::new();
    let mut named = Vec::new();
    for (index, series) in chart.series.iter().enumerate() {
        for point in &series.points {
            let Some(at) = place(point.x, point.y) else { continue };
            canvas.dot(at, DOT, color(index))?;
            taken.push(Area::around(at));
            named.push((at, one_line(&point.name, NAME_LIMIT)));
        }
    }
    draw_names(canvas, &plot, &named, taken)?;
    plot.draw_frame(canvas)
}

/// Places each name to the right of its point, to the left, above or below, where it does not cover
/// anything; a name without such a place is left out.
fn draw_names(
    canvas: &Canvas<'_>,
    plot: &Plot,
    named: &[(Point, String)],
    mut taken: Vec<Area>,
) -> Result<(), PlotError> {
    for (at, name) in named.iter().filter(|(_, name)| !name.is_empty()) {
        let (width, height) = (text_width(name, TICK_SIZE), TICK_SIZE);
        let beside = DOT + GAP;
        let places = [
            (Anchor::Left, (at.0 + beside, at.1)),
            (Anchor::Right, (at.0 - beside, at.1)),
            (Anchor::Middle, (at.0, at.1 - beside - height / 2)),
            (Anchor::Middle, (at.0, at.1 + beside + height / 2)),
        ];
        let free = places.into_iter().find_map(|(anchor, place)| {
            let left = match anchor {
                Anchor::Left => place.0,
                Anchor::Right => place.0 - width,
                _ => place.0 - width / 2,
            };
            let area = Area {
                left,
                right: left + width,
                top: place.1 - height / 2,
                bottom: place.1 + height / 2,
            };
            let inside = area.left >= plot.left
                && area.right <= plot.right
                && area.top >= plot.top
                && area.bottom <= plot.bottom;
            (inside && !taken.iter().any(|other| other.meets(&area)))
                .then_some((anchor, place, area))
        });
        if let Some((anchor, place, area)) = free {
            canvas.text(name, place, TICK_SIZE, anchor)?;
            taken.push(area);
        }
    }
    Ok(())
}

/// A rectangle that something was drawn in.
struct Area {
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
}

impl Area {
    fn around((x, y): Point) -> Self {
        Area { left: x - DOT, right: x + DOT, top: y - DOT, bottom: y + DOT }
    }

    fn meets(&self, other: &Area) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }
}
