//! Operands of a bf16 product, rounded and laid out the way the instructions read them.
//!
//! A product `C[M, N] = A[M, K] B[K, N]` reads its operands many times, so each is rounded to bf16
//! once and stored as tiles of 1 KiB, 512 numbers that the inner loop reads in a row:
//!
//! ```text
//! A: rows/16 x depth/32 tiles of [16 rows][32 depths]
//! B: columns/16 x depth/32 tiles of [16 pairs of depths][16 columns][2]
//! ```
//!
//! Both instruction sets want B in pairs of depths: one 32-bit lane holds the two numbers that are
//! multiplied with the two in A's lane and summed. Edges are filled with zeros, which add nothing.

use rayon::prelude::*;

/// Rows of A or columns of B in a tile.
pub const TILE: usize = 16;
/// Depths in a tile.
pub const TILE_DEPTH: usize = 32;
/// Numbers in a tile.
pub const TILE_LEN: usize = TILE * TILE_DEPTH;
/// Tiles that one thread packs faster than it hands them to others.
const WORTH_SHARING: usize = 256;

/// One tile, aligned to a cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Tile(pub [u16; TILE_LEN]);

/// A matrix in f32, as it lies in memory, possibly to be read transposed.
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
        assert_eq!(data.len(), rows * columns, "a matrix of [{rows}, {columns}]");
        Matrix { data, rows, columns, stride: columns, transposed: false }
    }

    /// Rows of `columns` numbers that start `stride` numbers apart.
    pub fn strided(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(columns <= stride, "rows of {columns} every {stride} numbers");
        assert!(
            rows == 0 || data.len() >= (rows - 1) * stride + columns,
            "{rows} rows every {stride}"
        );
        Matrix { data, rows, columns, stride, transposed: false }
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

/// An operand in tiles.
#[derive(Debug, Clone)]
pub struct Packed {
    tiles: Vec<Tile>,
    /// Rows of A or columns of B.
    pub width: usize,
    /// Length of the dot products.
    pub depth: usize,
}

impl Packed {
    /// Rounds and packs the left operand, `[M, K]`.
    pub fn left(a: Matrix<'_>) -> Self {
        let kind = if a.transposed { Kind::LeftAcross } else { Kind::LeftAlongDepth };
        Self::pack(a, a.rows, a.columns, kind)
    }

    /// Rounds and packs the right operand, `[K, N]`.
    pub fn right(b: Matrix<'_>) -> Self {
        let kind = if b.transposed { Kind::RightAlongDepth } else { Kind::RightAcross };
        Self::pack(b, b.columns, b.rows, kind)
    }

    fn pack(source: Matrix<'_>, width: usize, depth: usize, kind: Kind) -> Self {
        let deep = depth.div_ceil(TILE_DEPTH).max(1);
        // An even number of strips: the inner loops take two at a time.
        let strips = width.div_ceil(2 * TILE).max(1) * 2;
        let mut tiles = Vec::with_capacity(strips * deep);
        let stride = source.stride;
        let tile_at = |at: usize| {
            let (across, along) = (at / deep * TILE, at % deep * TILE_DEPTH);
            let start = match kind {
                Kind::LeftAlongDepth | Kind::RightAlongDepth => across * stride + along,
                Kind::LeftAcross | Kind::RightAcross => along * stride + across,
            };
            let region = Region {
                kind,
                data: source.data.get(start..).unwrap_or_default(),
                stride,
                width: width.saturating_sub(across).min(TILE),
                depth: depth.saturating_sub(along).min(TILE_DEPTH),
            };
            region.tile()
        };
        if strips * deep <= WORTH_SHARING {
            tiles.extend((0..strips * deep).map(tile_at));
        } else {
            let all = (0..strips * deep).into_par_iter().with_min_len(WORTH_SHARING);
            all.map(tile_at).collect_into_vec(&mut tiles);
        }
        Packed { tiles, width, depth }
    }

    /// Tiles along the depth.
    pub fn tiles_deep(&self) -> usize {
        self.depth.div_ceil(TILE_DEPTH)
    }

    /// The tiles of 16 rows (or columns), from depth 0 on.
    pub fn strip(&self, strip: usize) -> &[Tile] {
        let deep = self.tiles_deep();
        &self.tiles[strip * deep..(strip + 1) * deep]
    }
}

/// Which operand is packed, and how it lies in memory: runs along the depth are `[width, depth]`,
/// runs across it `[depth, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    LeftAlongDepth,
    LeftAcross,
    RightAlongDepth,
    RightAcross,
}

/// The numbers of one tile: where they start in memory and how far apart their lines are.
#[derive(Clone, Copy)]
struct Region<'a> {
    kind: Kind,
    data: &'a [f32],
    /// From one line in memory to the next.
    stride: usize,
    /// Rows of A or columns of B that exist, at most 16.
    width: usize,
    /// Depths that exist, at most 32.
    depth: usize,
}

impl Region<'_> {
    fn tile(self) -> Tile {
        #[cfg(target_arch = "x86_64")]
        if self.width == TILE && self.depth == TILE_DEPTH && is_x86_feature_detected!("avx512bf16")
        {
            // SAFETY: the processor has the features that the function is compiled for.
            return unsafe { super::pack_avx512::tile(self.kind, self.data, self.stride) };
        }
        self.tile_plain()
    }

    fn tile_plain(self) -> Tile {
        let mut tile = Tile([0; TILE_LEN]);
        for across in 0..self.width {
            for depth in 0..self.depth {
                let from = match self.kind {
                    Kind::LeftAlongDepth | Kind::RightAlongDepth => across * self.stride + depth,
                    Kind::LeftAcross | Kind::RightAcross => depth * self.stride + across,
                };
                let to = match self.kind {
                    Kind::LeftAlongDepth | Kind::LeftAcross => across * TILE_DEPTH + depth,
                    Kind::RightAlongDepth | Kind::RightAcross => {
                        depth / 2 * 2 * TILE + across * 2 + depth % 2
                    }
                };
                tile.0[to] = round_to_bf16(self.data[from]);
            }
        }
        tile
    }
}

/// The nearest bf16, ties to even; NaN stays NaN.
#[inline(always)]
pub fn round_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let quiet = bits >> 16 | 0x40;
    (if x.is_nan() { quiet } else { nearest }) as u16
}
