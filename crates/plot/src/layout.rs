//! Shared by all kinds of charts: title, legend, axes and the frame around the plot.
//!
//! ```text
//! title
//! -- train  - - validation            legend, as many rows as it needs
//! y +--------------------------+
//!   |                          |
//!   +--------------------------+
//!     0      10k     20k              ticks, or names of groups
//!            x label
//! ```

use crate::PlotError;
use crate::axis::Axis;
use crate::canvas::{Anchor, Canvas, Point};
use crate::style::{
    AXIS, FIGURE_HEIGHT, FIGURE_WIDTH, GRID, LABEL_SIZE, TICK_SIZE, TITLE_SIZE, one_line,
    text_width,
};

/// Units between a plot and the numbers below it, numbers included.
pub const TICK_ROOM: i32 = 60;
/// Length of the line in front of a curve's name in the legend.
pub const LINE_MARK: i32 = 90;
/// Side of the square in front of a bar's name.
pub const BAR_MARK: i32 = LABEL_SIZE;

const MARGIN: i32 = 36;
const LEFT_ROOM: i32 = 200;
/// Space for half of the last tick's label, which extends over the right edge.
const RIGHT_ROOM: i32 = 24;
const TICK_LENGTH: i32 = 10;
const LEGEND_ROW: i32 = 48;
const LEGEND_GAP: i32 = 18;
const NAME_LIMIT: usize = 60;
const TITLE_LIMIT: usize = 80;
const MAX_LEGEND_ROWS: i32 = 6;

/// Width of every plot in units.
pub fn plot_width() -> i32 {
    FIGURE_WIDTH - MARGIN - RIGHT_ROOM - LEFT_ROOM
}

/// The rectangle in which values are drawn, and the positions of the elements around it.
pub struct Plot {
    /// Left edge.
    pub left: i32,
    /// Right edge.
    pub right: i32,
    /// Upper edge.
    pub top: i32,
    /// Lower edge.
    pub bottom: i32,
    figure_top: i32,
    legend: Vec<Point>,
    mark_width: i32,
}

impl Plot {
    /// Reserves space above for a legend of `names` after marks of `mark_width`, and below for
    /// `tick_room` units of labels, in the figure that begins at `figure_top`.
    pub fn new(names: &[&str], mark_width: i32, figure_top: i32, tick_room: i32) -> Self {
        let (left, right) = (LEFT_ROOM, LEFT_ROOM + plot_width());
        let legend_top = figure_top + MARGIN + TITLE_SIZE + 2 * LEGEND_GAP;
        let legend = place_legend(names, mark_width, (left, right), legend_top);
        let legend_bottom = legend.last().map_or(legend_top, |last| last.1 + LEGEND_ROW / 2);
        Plot {
            left,
            right,
            top: legend_bottom + LEGEND_GAP,
            bottom: figure_top + FIGURE_HEIGHT - MARGIN - LABEL_SIZE - LEGEND_GAP - tick_room,
            figure_top,
            legend,
            mark_width,
        }
    }

    /// The middle of the rectangle.
    pub fn center(&self) -> Point {
        ((self.left + self.right) / 2, (self.top + self.bottom) / 2)
    }

    /// The chart's title and the names of its axes.
    pub fn draw_titles(
        &self,
        canvas: &Canvas<'_>,
        title: &str,
        x_label: &str,
        y_label: &str,
    ) -> Result<(), PlotError> {
        let middle = self.center();
        let title_at = (self.left, self.figure_top + MARGIN + TITLE_SIZE / 2);
        canvas.text(&one_line(title, TITLE_LIMIT), title_at, TITLE_SIZE, Anchor::Left)?;
        let x_at = (middle.0, self.figure_top + FIGURE_HEIGHT - MARGIN - LABEL_SIZE / 2);
        canvas.text(&one_line(x_label, TITLE_LIMIT), x_at, LABEL_SIZE, Anchor::Middle)?;
        let y_at = (MARGIN + LABEL_SIZE / 2, middle.1);
        canvas.upward_text(&one_line(y_label, TITLE_LIMIT / 2), y_at, LABEL_SIZE, Anchor::Middle)
    }

    /// The names of the series, each after a mark that `mark` draws from a point to its right.
    pub fn draw_legend(
        &self,
        canvas: &Canvas<'_>,
        names: &[&str],
        mark: impl Fn(&Canvas<'_>, usize, Point) -> Result<(), PlotError>,
    ) -> Result<(), PlotError> {
        for (index, (name, &(x, y))) in names.iter().zip(&self.legend).enumerate() {
            mark(canvas, index, (x, y))?;
            let name_at = (x + self.mark_width + LEGEND_GAP, y);
            canvas.text(&one_line(name, NAME_LIMIT), name_at, LABEL_SIZE, Anchor::Left)?;
        }
        Ok(())
    }

    /// Horizontal grid lines, and their values on the left of the plot.
    pub fn draw_y_ticks(&self, canvas: &Canvas<'_>, axis: &Axis) -> Result<(), PlotError> {
        for tick in axis.ticks(8) {
            let Some(y) = axis.place(tick.value) else { continue };
            canvas.path(vec![(self.left, y), (self.right, y)], GRID, 2, None)?;
            canvas.path(vec![(self.left - TICK_LENGTH, y), (self.left, y)], AXIS, 3, None)?;
            let at = (self.left - 2 * TICK_LENGTH, y);
            canvas.text(&tick.label, at, TICK_SIZE, Anchor::Right)?;
        }
        Ok(())
    }

    /// Vertical grid lines, and their values below the plot.
    pub fn draw_x_ticks(&self, canvas: &Canvas<'_>, axis: &Axis) -> Result<(), PlotError> {
        for tick in axis.ticks(10) {
            let Some(x) = axis.place(tick.value) else { continue };
            canvas.path(vec![(x, self.top), (x, self.bottom)], GRID, 2, None)?;
            canvas.path(vec![(x, self.bottom), (x, self.bottom + TICK_LENGTH)], AXIS, 3, None)?;
            let at = (x, self.bottom + 2 * TICK_LENGTH);
            canvas.text(&tick.label, at, TICK_SIZE, Anchor::Top)?;
        }
        Ok(())
    }

    /// The border, drawn last so that it covers the ends of the curves.
    pub fn draw_frame(&self, canvas: &Canvas<'_>) -> Result<(), PlotError> {
        canvas.frame((self.left, self.top), (self.right, self.bottom), AXIS)
    }
}

/// Fills rows from left to right; entries that do not fit in the last row are left out.
fn place_legend(
    names: &[&str],
    mark_width: i32,
    (left, right): (i32, i32),
    top: i32,
) -> Vec<Point> {
    let (mut x, mut row) = (left, 0);
    let mut places = Vec::new();
    for name in names {
        let text = text_width(&one_line(name, NAME_LIMIT), LABEL_SIZE);
        let width = mark_width + LEGEND_GAP + text + 3 * LEGEND_GAP;
        if x > left && x + width > right {
            (x, row) = (left, row + 1);
        }
        if row == MAX_LEGEND_ROWS {
            break;
        }
        places.push((x, top + row * LEGEND_ROW + LEGEND_ROW / 2));
        x += width;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_legend_wraps_and_leaves_room_for_the_plot() {
        let names = vec!["a name of some length"; 200];
        let plot = Plot::new(&names, LINE_MARK, 0, TICK_ROOM);
        assert!(plot.legend.len() < names.len());
        assert!(plot.bottom - plot.top > FIGURE_HEIGHT / 3);
        assert!(plot.legend.iter().all(|place| place.0 < plot.right && place.1 < plot.top));
    }
}
