//! Charts of a run: loss curves, grouped bars and named points, as SVG and as PDF.
//!
//! ```text
//! LineChart, BarChart, ScatterChart --layout--> plotters elements --SVG--> usvg (our own font) --svg2pdf--> PDF
//! ```
//!
//! A chart must look the same on every machine, so it does not depend on installed fonts: the only
//! font (Ubuntu Light, Ubuntu Font Licence 1.0) is compiled in, and the glyphs in use are embedded.
//! Files do not contain a date: equal figures give equal bytes.
//!
//! The charts compute their own layout (axes, ticks, legend) and use plotters only to draw, because
//! plotters without a system font library estimates the width of text by its length in bytes.

mod axis;
mod bar;
mod canvas;
mod layout;
mod line;
mod pdf;
mod scatter;
mod style;

pub use axis::Scale;
pub use bar::{BarChart, BarSeries};
pub use line::{LineChart, Series};
pub use scatter::{ScatterChart, ScatterPoint, ScatterSeries};

/// A chart of any kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Figure {
    /// Curves over a continuous axis.
    Line(LineChart),
    /// Groups of bars over named places.
    Bar(BarChart),
    /// Named points over two axes.
    Scatter(ScatterChart),
}

impl From<LineChart> for Figure {
    fn from(chart: LineChart) -> Self {
        Figure::Line(chart)
    }
}

impl From<BarChart> for Figure {
    fn from(chart: BarChart) -> Self {
        Figure::Bar(chart)
    }
}

impl From<ScatterChart> for Figure {
    fn from(chart: ScatterChart) -> Self {
        Figure::Scatter(chart)
    }
}

/// Why a chart could not be drawn.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// Nothing to draw.
    #[error("a page needs at least one figure")]
    NoFigures,
    /// More figures than one page can hold.
    #[error("{found} figures on one page: expected at most {limit}; draw several pages")]
    TooManyFigures {
        /// How many were given.
        found: usize,
        /// The most that one page takes.
        limit: usize,
    },
    /// A bar series does not have exactly one value for each group.
    #[error(
        "bar chart \"{chart}\": series \"{series}\" has {found} values for {expected} groups: \
         give one value for each group, NaN where there is none"
    )]
    ValueCount {
        /// Title of the chart.
        chart: String,
        /// Name of the series.
        series: String,
        /// Number of values found.
        found: usize,
        /// Number of groups.
        expected: usize,
    },
    /// The drawing library refused.
    #[error("drawing failed: {0}")]
    Draw(String),
    /// The SVG could not be read back, which is an error in this crate.
    #[error("the drawing is no valid SVG: {0}")]
    Svg(String),
    /// The SVG could not be converted to PDF.
    #[error("conversion to PDF failed: {0}")]
    Pdf(String),
}

/// Most figures on one page: a page of this many is still shorter than 2 m.
pub const MAX_FIGURES: usize = 16;

/// Draws the figures one below the other as an SVG document.
///
/// Text remains text, in the font `Ubuntu`, or else in any sans-serif font.
///
/// # Errors
/// [`PlotError`] if there are no figures, too many, or one contradicts itself.
pub fn render_svg(figures: &[Figure]) -> Result<String, PlotError> {
    if figures.is_empty() {
        return Err(PlotError::NoFigures);
    }
    if figures.len() > MAX_FIGURES {
        return Err(PlotError::TooManyFigures { found: figures.len(), limit: MAX_FIGURES });
    }
    let height = style::FIGURE_HEIGHT * figures.len() as i32;
    canvas::draw((style::FIGURE_WIDTH, height), |canvas| {
        for (index, figure) in figures.iter().enumerate() {
            let top = style::FIGURE_HEIGHT * index as i32;
            match figure {
                Figure::Line(chart) => line::draw(chart, canvas, top)?,
                Figure::Bar(chart) => bar::draw(chart, canvas, top)?,
                Figure::Scatter(chart) => scatter::draw(chart, canvas, top)?,
            }
        }
        Ok(())
    })
}

/// Draws the figures one below the other on a single PDF page, 600 pt wide.
///
/// # Errors
/// As [`render_svg`].
pub fn render_pdf(figures: &[Figure]) -> Result<Vec<u8>, PlotError> {
    pdf::from_svg(&render_svg(figures)?)
}
