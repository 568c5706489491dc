//! The shapes of which a chart consists, in drawing units from the page's top left corner.

use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::{
    Circle, DrawingArea, IntoDrawingArea, IntoFont, PathElement, Rectangle, SVGBackend, Text,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontTransform, IntoTextStyle, RGBColor, ShapeStyle, WHITE};

use crate::PlotError;
use crate::style::{Dash, INK};

/// A position on the page: units to the right, units down.
pub type Point = (i32, i32);

/// The size of text is its line height in plotters and its em in SVG; plotters' SVG backend divides
/// by this.
const LINE_HEIGHT: f64 = 1.24;

/// The font family in the SVG: the embedded font if it is installed, otherwise any sans-serif.
const FONT: &str = "Ubuntu, sans-serif";

/// How a text is placed relative to its point.
#[derive(Debug, Clone, Copy)]
pub enum Anchor {
    /// Begins at the point, centred on its height.
    Left,
    /// Centred on the point.
    Middle,
    /// Ends at the point, centred on its height.
    Right,
    /// Below the point.
    Top,
}

/// A page that is being drawn.
pub struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
}

/// Draws a page of `size` units and returns it as SVG.
pub fn draw(
    size: Point,
    paint: impl FnOnce(&Canvas<'_>) -> Result<(), PlotError>,
) -> Result<String, PlotError> {
    let mut svg = String::new();
    {
        let size = (size.0.unsigned_abs(), size.1.unsigned_abs());
        let canvas = Canvas { area: SVGBackend::with_string(&mut svg, size).into_drawing_area() };
        canvas.area.fill(&WHITE).map_err(failed)?;
        paint(&canvas)?;
        canvas.area.present().map_err(failed)?;
    }
    Ok(svg)
}

impl Canvas<'_> {
    /// A line through `points`.
    pub fn path(
        &self,
        points: Vec<Point>,
        color: RGBColor,
        width: u32,
        dash: Dash,
    ) -> Result<(), PlotError> {
        let style = color.stroke_width(width);
        match dash {
            None => self.area.draw(&PathElement::new(points, style)),
            Some((on, off)) => self.area.draw(&DashedPathElement::new(points, on, off, style)),
        }
        .map_err(failed)
    }

    /// A filled disc.
    pub fn dot(&self, center: Point, radius: i32, color: RGBColor) -> Result<(), PlotError> {
        self.area.draw(&Circle::new(center, radius, color.filled())).map_err(failed)
    }

    /// A filled rectangle between two opposite corners.
    pub fn bar(&self, a: Point, b: Point, color: RGBColor) -> Result<(), PlotError> {
        let corners = [(a.0.min(b.0), a.1.min(b.1)), (a.0.max(b.0), a.1.max(b.1))];
        self.area.draw(&Rectangle::new(corners, color.filled())).map_err(failed)
    }

    /// The outline of a rectangle.
    pub fn frame(&self, a: Point, b: Point, color: RGBColor) -> Result<(), PlotError> {
        let style: ShapeStyle = color.stroke_width(2);
        self.area.draw(&Rectangle::new([a, b], style)).map_err(failed)
    }

    /// A line of text with an em of `size` units.
    pub fn text(&self, text: &str, at: Point, size: i32, anchor: Anchor) -> Result<(), PlotError> {
        self.any_text(text, at, size, anchor, FontTransform::None)
    }

    /// A line of text that reads from bottom to top.
    pub fn upward_text(
        &self,
        text: &str,
        at: Point,
        size: i32,
        anchor: Anchor,
    ) -> Result<(), PlotError> {
        self.any_text(text, at, size, anchor, FontTransform::Rotate270)
    }

    fn any_text(
        &self,
        text: &str,
        at: Point,
        size: i32,
        anchor: Anchor,
        transform: FontTransform,
    ) -> Result<(), PlotError> {
        let (horizontal, vertical) = match anchor {
            Anchor::Left => (HPos::Left, VPos::Center),
            Anchor::Middle => (HPos::Center, VPos::Center),
            Anchor::Right => (HPos::Right, VPos::Center),
            Anchor::Top => (HPos::Center, VPos::Top),
        };
        let style = (FONT, f64::from(size) * LINE_HEIGHT)
            .into_font()
            .transform(transform)
            .color(&INK)
            .into_text_style(&self.area)
            .pos(Pos::new(horizontal, vertical));
        self.area.draw(&Text::new(text.to_owned(), at, style)).map_err(failed)
    }
}

fn failed(error: impl std::fmt::Display) -> PlotError {
    PlotError::Draw(error.to_string())
}
