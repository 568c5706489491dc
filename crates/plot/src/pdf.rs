//! Converts SVG to PDF, with only the font that is compiled in.

use std::sync::Arc;

use svg2pdf::usvg::{self, fontdb};
use svg2pdf::{ConversionOptions, PageOptions};

use crate::PlotError;
use crate::style::UNITS_PER_POINT;

/// The family name inside the font file.
const FAMILY: &str = "Ubuntu";

/// Converts a page of [`crate::render_svg`].
pub fn from_svg(svg: &str) -> Result<Vec<u8>, PlotError> {
    // One font only: with several, svg2pdf lists them in the order of a hash map, and equal
    // figures would no longer give equal bytes.
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    fonts.set_sans_serif_family(FAMILY);
    let options = usvg::Options {
        font_family: FAMILY.to_owned(),
        fontdb: Arc::new(fonts),
        ..usvg::Options::default()
    };
    let tree =
        usvg::Tree::from_str(svg, &options).map_err(|error| PlotError::Svg(error.to_string()))?;
    let page = PageOptions { dpi: 72.0 * UNITS_PER_POINT as f32 };
    svg2pdf::to_pdf(&tree, ConversionOptions::default(), page)
        .map_err(|error| PlotError::Pdf(error.to_string()))
}
