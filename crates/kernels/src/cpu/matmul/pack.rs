//! Operands of a bf16 product, rounded and in the layout that the instructions read.
//!
//! A product `C[M, N] = A[M, K] B[K, N]` reads its operands many times, so each is rounded to bf16
//! once and stored as tiles of 1 KiB, 512 numbers that the inner loop reads in a row:
//!
//! ```text
//! A: rows/16 x depth/32 tiles of [16 rows][32 depths]
//! B: columns/16 x depth/32 tiles of [16 pairs of depths][16 columns][2]
//! ```
//!
//! Both instruction sets need B in pairs of depths: one 32-bit lane holds two numbers, which are
//! multiplied with the two in A's lane and summed. Edges are filled with zeros, which do not change
//! the sums.

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use isa::{Isa, vectorised};

/// Rows of A or columns of B in a tile.
pub const TILE: usize = 16;
/// Depths in a tile.
pub const TILE_DEPTH: usize = 32;
/// Numbers in a tile.
pub const TILE_LEN: usize = TILE * TILE_DEPTH;
/// Tiles up to which one thread packs faster than several.
const WORTH_SHARING: usize = 256;
/// Maximum of strips that are packed together.
const STRIPS: usize = 16;

/// One tile, aligned to a cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Tile(pub [u16; TILE_LEN]);

/// A matrix in f32, as it is stored in memory, possibly read transposed.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    /// Numbers from one line in memory to the next.
    stride: usize,
    /// Lines in memory are columns.
    transposed: bool,
}

impl<'a> Matrix<'a> {
    /// `data` is `[rows, columns]`, row by row.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(Some(data.len()), rows.checked_mul(columns), "a matrix of [{rows}, {columns}]");
        Matrix { data, rows, columns, stride: columns, transposed: false }
    }

    /// Rows of `columns` numbers that start `stride` numbers apart.
    pub fn strided(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(columns <= stride, "rows of {columns} every {stride} numbers");
        let last =
            rows.saturating_sub(1).checked_mul(stride).and_then(|at| at.checked_add(columns));
        assert!(
            rows == 0 || last.is_some_and(|end| end <= data.len()),
            "{rows} rows every {stride}"
        );
        Matrix { data, rows, columns, stride, transposed: false }
    }

    /// Some rows and columns of it.
    pub fn part(self, rows: Range<usize>, columns: Range<usize>) -> Self {
        assert!(rows.end <= self.rows && columns.end <= self.columns, "a part of the matrix");
        let (row, column) = self.strides();
        let start = (rows.start * row + columns.start * column).min(self.data.len());
        let (rows, columns) = (rows.len(), columns.len());
        Matrix { data: &self.data[start..], rows, columns, ..self }
    }

    /// The same numbers with rows for columns.
    pub fn transpose(self) -> Self {
        Matrix { rows: self.columns, columns: self.rows, transposed: !self.transposed, ..self }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Numbers from one row to the next, and from one column to the next.
    pub fn strides(&self) -> (usize, usize) {
        if self.transposed { (1, self.stride) } else { (self.stride, 1) }
    }

    /// The numbers from the first on.
    pub fn data(&self) -> &'a [f32] {
        self.data
    }
}

/// An operand in tiles, each number as the sum of `P` parts: its nearest bf16, the nearest bf16 to
/// the remainder, and so on.
#[derive(Debug, Clone)]
pub struct Packed<const P: usize> {
    tiles: Vec<[Tile; P]>,
    /// Rows of A or columns of B.
    pub(super) width: usize,
    /// Length of the dot products.
    pub(super) depth: usize,
    /// The largest absolute value, if there is more than one part; NaN if any number is NaN.
    pub(in crate::cpu) largest: f32,
}

impl<const P: usize> Packed<P> {
    /// Rounds and packs the left operand, `[M, K]`.
    pub fn left(isa: Isa, a: Matrix<'_>) -> Self {
        let kind = if a.transposed { Kind::LeftAcross } else { Kind::LeftAlongDepth };
        Self::pack(isa, a, a.rows, a.columns, kind)
    }

    /// Rounds and packs the right operand, `[K, N]`.
    pub fn right(isa: Isa, b: Matrix<'_>) -> Self {
        let kind = if b.transposed { Kind::RightAlongDepth } else { Kind::RightAcross };
        Self::pack(isa, b, b.columns, b.rows, kind)
    }

    /// [`Packed::right`] on this thread alone: a thread that uses tile registers must not start
    /// other work, which would use them too.
    pub(super) fn right_on_this_thread(isa: Isa, b: Matrix<'_>) -> Self {
        let kind = if b.transposed { Kind::RightAlongDepth } else { Kind::RightAcross };
        Self::pack_on(isa, b, b.columns, b.rows, kind, 1)
    }

    fn pack(isa: Isa, source: Matrix<'_>, width: usize, depth: usize, kind: Kind) -> Self {
        Self::pack_on(isa, source, width, depth, kind, rayon::current_num_threads())
    }

    fn pack_on(
        isa: Isa,
        source: Matrix<'_>,
        width: usize,
        depth: usize,
        kind: Kind,
        threads: usize,
    ) -> Self {
        let deep = depth.div_ceil(TILE_DEPTH).max(1);
        // An even number of strips: the inner loops take two at a time.
        let strips = width.div_ceil(2 * TILE).max(1) * 2;
        let mut tiles = Vec::with_capacity(strips * deep);
        let spare = &mut tiles.spare_capacity_mut()[..strips * deep];
        let work = Packing { isa, kind, data: source.data, stride: source.stride, width, depth };
        let largest = if threads == 1 || strips * deep * P <= WORTH_SHARING {
            work.fill(spare, deep, 0)
        } else {
            let share = (strips / (4 * threads)).clamp(1, STRIPS);
            let shares = spare.par_chunks_mut(share * deep).enumerate();
            shares.map(|(i, tiles)| work.fill(tiles, deep, i * share)).max().unwrap_or(0)
        };
        // SAFETY: the shares are all of the tiles, and `fill` writes every tile of its share.
        unsafe { tiles.set_len(strips * deep) };
        Packed { tiles, width, depth, largest: f32::from_bits(largest) }
    }

    /// Tiles along the depth.
    pub fn tiles_deep(&self) -> usize {
        self.depth.div_ceil(TILE_DEPTH).max(1)
    }

    /// The tiles of 16 rows (or columns), starting at depth 0.
    pub fn strip(&self, strip: usize) -> &[[Tile; P]] {
        let deep = self.tiles_deep();
        &self.tiles[strip * deep..(strip + 1) * deep]
    }
}

/// Which operand is packed, and its layout in memory: lines along the depth are `[width, depth]`,
/// lines across it `[depth, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    LeftAlongDepth,
    LeftAcross,
    RightAlongDepth,
    RightAcross,
}

impl Kind {
    fn lines_run_along_depth(self) -> bool {
        matches!(self, Kind::LeftAlongDepth | Kind::RightAlongDepth)
    }
}

/// A matrix that is being packed into tiles.
#[derive(Clone, Copy)]
struct Packing<'a> {
    isa: Isa,
    kind: Kind,
    data: &'a [f32],
    /// Numbers from one line in memory to the next.
    stride: usize,
    /// Rows of A or columns of B.
    width: usize,
    depth: usize,
}

impl Packing<'_> {
    /// Fills the strips from `first` on. The tiles are filled in the order of the lines in memory:
    /// the lines of a tile are on as many pages, whose addresses are still in the TLB for the next
    /// tile of the same lines.
    ///
    /// Returns the bits of the largest absolute value, if there is more than one part.
    fn fill<const P: usize>(
        self,
        tiles: &mut [MaybeUninit<[Tile; P]>],
        deep: usize,
        first: usize,
    ) -> u32 {
        let strips = tiles.len() / deep;
        let mut largest = 0;
        if self.kind.lines_run_along_depth() {
            for (at, tile) in tiles.iter_mut().enumerate() {
                largest = largest.max(self.tile(tile, first + at / deep, at % deep));
            }
        } else {
            for k in 0..deep {
                for strip in 0..strips {
                    let tile = &mut tiles[strip * deep + k];
                    largest = largest.max(self.tile(tile, first + strip, k));
                }
            }
        }
        largest
    }

    /// Writes the `k`-th tile of a strip.
    fn tile<const P: usize>(self, out: &mut MaybeUninit<[Tile; P]>, strip: usize, k: usize) -> u32 {
        let (across, along) = (strip * TILE, k * TILE_DEPTH);
        let start = if self.kind.lines_run_along_depth() {
            across * self.stride + along
        } else {
            along * self.stride + across
        };
        let data = self.data.get(start..).unwrap_or_default();
        let width = self.width.saturating_sub(across).min(TILE);
        let depth = self.depth.saturating_sub(along).min(TILE_DEPTH);
        #[cfg(target_arch = "x86_64")]
        if width == TILE && depth == TILE_DEPTH && self.isa.has_bf16() {
            // SAFETY: the processor has the features that the function is compiled for.
            return unsafe { super::pack_avx512::tile(self.kind, data, self.stride, out) };
        }
        let parts = out.write([Tile([0; TILE_LEN]); P]);
        if width == TILE && depth == TILE_DEPTH {
            return whole_tile(self.isa, self.kind, data, self.stride, parts);
        }
        self.edge_tile(parts, data, width, depth)
    }

    /// A tile of which only some rows or depths exist; the others stay zero.
    fn edge_tile<const P: usize>(
        self,
        parts: &mut [Tile; P],
        data: &[f32],
        width: usize,
        depth: usize,
    ) -> u32 {
        let mut largest = 0;
        for w in 0..width {
            for d in 0..depth {
                let from = if self.kind.lines_run_along_depth() {
                    w * self.stride + d
                } else {
                    d * self.stride + w
                };
                let to = match self.kind {
                    Kind::LeftAlongDepth | Kind::LeftAcross => w * TILE_DEPTH + d,
                    Kind::RightAlongDepth | Kind::RightAcross => d / 2 * 2 * TILE + w * 2 + d % 2,
                };
                let mut rest = data[from];
                largest = largest.max(rest.abs().to_bits());
                for part in parts.iter_mut() {
                    part.0[to] = round_to_bf16(rest);
                    rest -= widen(part.0[to]);
                }
            }
        }
        largest
    }
}

/// Pairs of 16-bit numbers, two for each lane: `[16][16]`.
type Lanes = [[u32; TILE]; TILE];

vectorised! {
    /// A tile of which all rows and depths exist. The lines of memory are rounded first and are then
    /// arranged as 16 x 16 lanes of two neighbouring depths, which are transposed where the lines do
    /// not run as the tile's do.
    fn whole_tile<const P: usize>(
        kind: Kind,
        data: &[f32],
        stride: usize,
        parts: &mut [Tile; P],
    ) -> u32 {
        let along = kind.lines_run_along_depth();
        let mut rest = if along {
            lines::<TILE_DEPTH>(data, stride)
        } else {
            lines::<TILE>(data, stride)
        };
        let largest = rest.iter().map(|x| x.abs().to_bits()).fold(0, u32::max);
        for (part, tile) in parts.iter_mut().enumerate() {
            let mut rounded = [0; TILE_LEN];
            for (to, from) in rounded.iter_mut().zip(&mut rest) {
                *to = round_to_bf16(*from);
                if part + 1 < P {
                    *from -= widen(*to);
                }
            }
            let lanes = if along { pairs_in_lines(&rounded) } else { pairs_of_lines(&rounded) };
            let lanes = match kind {
                Kind::LeftAlongDepth | Kind::RightAcross => lanes,
                Kind::LeftAcross | Kind::RightAlongDepth => transposed(&lanes),
            };
            for (to, lane) in tile.0.as_chunks_mut::<2>().0.iter_mut().zip(lanes.as_flattened()) {
                *to = [*lane as u16, (lane >> 16) as u16];
            }
        }
        largest
    }
}

/// The lines of a tile, each of `N` numbers, one after the other.
#[inline(always)]
fn lines<const N: usize>(data: &[f32], stride: usize) -> [f32; TILE_LEN] {
    let mut out = [0.0; TILE_LEN];
    for (line, to) in out.as_chunks_mut::<N>().0.iter_mut().enumerate() {
        to.copy_from_slice(&data[line * stride..][..N]);
    }
    out
}

/// Lanes of two neighbouring numbers of a line.
#[inline(always)]
fn pairs_in_lines(lines: &[u16; TILE_LEN]) -> Lanes {
    let mut lanes = [[0; TILE]; TILE];
    for (lane, pair) in lanes.as_flattened_mut().iter_mut().zip(lines.as_chunks::<2>().0) {
        *lane = u32::from(pair[0]) | u32::from(pair[1]) << 16;
    }
    lanes
}

/// Lanes of the numbers at the same place in two neighbouring lines.
#[inline(always)]
fn pairs_of_lines(lines: &[u16; TILE_LEN]) -> Lanes {
    let mut lanes = [[0; TILE]; TILE];
    for (lanes, two) in lanes.iter_mut().zip(lines.as_chunks::<{ 2 * TILE }>().0) {
        for (c, lane) in lanes.iter_mut().enumerate() {
            *lane = u32::from(two[c]) | u32::from(two[TILE + c]) << 16;
        }
    }
    lanes
}

#[inline(always)]
fn transposed(lanes: &Lanes) -> Lanes {
    let mut out = [[0; TILE]; TILE];
    for (r, row) in lanes.iter().enumerate() {
        for (c, &lane) in row.iter().enumerate() {
            out[c][r] = lane;
        }
    }
    out
}

/// The number that 16 bits represent.
#[inline(always)]
pub fn widen(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}

/// The nearest bf16, ties to even; NaN stays NaN.
#[inline(always)]
pub fn round_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let quiet = bits >> 16 | 0x40;
    (if x.is_nan() { quiet } else { nearest }) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::noise;

    /// A whole tile is packed as one with edges is, number by number.
    #[test]
    fn whole_tiles_are_packed_as_edges_are() {
        const STRIDE: usize = 40;
        let data = noise(TILE_DEPTH * STRIDE, 3);
        let kinds =
            [Kind::LeftAlongDepth, Kind::LeftAcross, Kind::RightAlongDepth, Kind::RightAcross];
        for &isa in Isa::available() {
            for kind in kinds {
                let zero = [Tile([0; TILE_LEN]); 3];
                let (mut whole, mut edge) = (zero, zero);
                let work = Packing {
                    isa,
                    kind,
                    data: &data,
                    stride: STRIDE,
                    width: TILE,
                    depth: TILE_DEPTH,
                };
                let largest = whole_tile(isa, kind, &data, STRIDE, &mut whole);
                assert_eq!(largest, work.edge_tile(&mut edge, &data, TILE, TILE_DEPTH));
                let equal = whole.iter().zip(&edge).all(|(x, y)| x.0 == y.0);
                assert!(equal, "{isa:?} {kind:?}");
            }
        }
    }
}
