//! The right operand of a product: already packed into tiles, or packed block by block during the
//! product.
//!
//! A weight is the right operand of one product, and its tiles are not needed after that. Packed as
//! a whole it would be written to memory and read back. Packed block by block it stays in the cache
//! of the thread that multiplies it, and the weight of the output head is not stored twice.

use std::borrow::Cow;
use std::ops::Range;

use super::SQUARE;
use super::pack::{Matrix, Packed, TILE_DEPTH, Tile};
use isa::Isa;

/// A right operand, `[K, N]`.
#[derive(Clone, Copy)]
pub(super) enum Right<'a, const P: usize> {
    Packed(&'a Packed<P>),
    Matrix(Matrix<'a>),
}

impl<'a, const P: usize> Right<'a, P> {
    /// `K` and `N`.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Right::Packed(b) => (b.depth, b.width),
            Right::Matrix(b) => (b.rows(), b.columns()),
        }
    }

    /// The tiles of some depths, for the columns of some squares.
    pub fn panel(self, isa: Isa, depth: Range<usize>, squares: Range<usize>) -> Panel<'a, P> {
        match self {
            Right::Packed(b) => Panel { tiles: Cow::Borrowed(b), depth, first_square: 0 },
            Right::Matrix(b) => {
                let tiles = depth.len();
                let rows = depth.start * TILE_DEPTH..b.rows().min(depth.end * TILE_DEPTH);
                let columns = squares.start * SQUARE..b.columns().min(squares.end * SQUARE);
                let packed = Packed::right_on_this_thread(isa, b.part(rows, columns));
                Panel { tiles: Cow::Owned(packed), depth: 0..tiles, first_square: squares.start }
            }
        }
    }
}

/// Part of a right operand, in tiles.
pub(super) struct Panel<'a, const P: usize> {
    tiles: Cow<'a, Packed<P>>,
    depth: Range<usize>,
    first_square: usize,
}

impl<const P: usize> Panel<'_, P> {
    /// The two strips of a square's columns.
    pub fn strips(&self, square: usize) -> [&[[Tile; P]]; 2] {
        let strip = 2 * (square - self.first_square);
        [strip, strip + 1].map(|strip| &self.tiles.strip(strip)[self.depth.clone()])
    }

    /// As [`Packed::largest`], for the whole operand or for what was packed for this panel.
    pub fn largest(&self) -> f32 {
        self.tiles.largest
    }
}
