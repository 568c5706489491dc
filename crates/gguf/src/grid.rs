//! The numbers that a block format can store.
//!
//! Every format cuts a row into groups of 16 or 32 weights, and the weights of each group are an
//! affine function of a short list of values:
//!
//! ```text
//! w' = a v(q) + b        q: the code of a weight, v: the format's values, a, b: of the group
//! ```
//!
//! Formats differ in the values and in the possible `a` and `b`: a 16-bit float, or a small integer
//! times a 16-bit float that all groups of a block share. A search for better codes than those from
//! rounding each block needs only this description, which is [`Grid`]. [`Parts`] contains the
//! scales and codes of a block, and [`Grid::pack`] writes the bytes that ggml reads.
//!
//! | format | group | values | `a` | `b` |
//! |---|---|---|---|---|
//! | Q4_0, Q5_0, Q8_0 | 32 | -8..=7, -16..=15, -127..=127 | d | 0 |
//! | Q4_1, Q5_1 | 32 | 0..=15, 0..=31 | d | m |
//! | IQ4_NL | 32 | 16 uneven ones | d | 0 |
//! | Q2_K | 16 | 0..=3 | d s, s in 0..=15 | -dmin m, m in 0..=15 |
//! | Q3_K | 16 | -4..=3 | d s, s in -32..=31 | 0 |
//! | Q4_K, Q5_K | 32 | 0..=15, 0..=31 | d s, s in 0..=63 | -dmin m, m in 0..=63 |
//! | Q6_K | 16 | -32..=31 | d s, s in -128..=127 | 0 |
//! | IQ4_XS | 32 | 16 uneven ones | d s, s in -32..=31 | 0 |

use crate::TensorType;
use crate::blocks;

/// Maximum of groups in a block.
pub const MAX_GROUPS: usize = 16;
/// Maximum of weights in a block.
pub const MAX_BLOCK: usize = 256;

/// The values of the codes, before scale and offset.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Codebook {
    /// All integers from the lowest to the highest; code 0 is the lowest.
    Integers {
        /// Value of code 0.
        lowest: i32,
        /// Value of the last code.
        highest: i32,
    },
    /// Sixteen values, ascending.
    Table(&'static [f32; 16]),
}

/// The possible factors `a` of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleGrid {
    /// Any 16-bit float: the group is the block.
    Free,
    /// An integer times the block's 16-bit float.
    Steps {
        /// Smallest integer.
        lowest: i32,
        /// Largest integer.
        highest: i32,
    },
}

/// The possible offsets `b` of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetGrid {
    /// Always 0.
    None,
    /// Any 16-bit float.
    Free,
    /// Minus an integer times the block's second 16-bit float.
    Steps {
        /// Largest integer; the smallest is 0.
        highest: i32,
    },
}

/// The numbers that a format can store.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    /// The format.
    pub tensor_type: TensorType,
    /// Weights in a group.
    pub group_len: usize,
    /// Values of the codes.
    pub codebook: Codebook,
    /// Scales of groups.
    pub scale: ScaleGrid,
    /// Offsets of groups.
    pub offset: OffsetGrid,
}

/// The scales and codes of a block. Entries beyond the format's groups and weights are 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parts {
    /// The block's scale, whose value is exactly a 16-bit float.
    pub scale: f32,
    /// The block's second 16-bit float: the step of offsets, or the offset itself.
    pub min: f32,
    /// The integer of each group's scale; 1 where the scale is free.
    pub scale_steps: [i16; MAX_GROUPS],
    /// The integer of each group's offset.
    pub min_steps: [i16; MAX_GROUPS],
    /// The code of each weight.
    pub codes: [u8; MAX_BLOCK],
}

/// The uneven values of IQ4_NL and IQ4_XS, as floats.
const IQ4_VALUES: [f32; 16] = {
    let mut values = [0.0; 16];
    let mut code = 0;
    while code < 16 {
        values[code] = blocks::IQ4_LEVELS[code] as f32;
        code += 1;
    }
    values
};

impl Default for Parts {
    fn default() -> Self {
        Parts {
            scale: 0.0,
            min: 0.0,
            scale_steps: [0; MAX_GROUPS],
            min_steps: [0; MAX_GROUPS],
            codes: [0; MAX_BLOCK],
        }
    }
}

impl Codebook {
    /// Number of codes.
    pub fn len(&self) -> usize {
        match self {
            Codebook::Integers { lowest, highest } => (highest - lowest + 1) as usize,
            Codebook::Table(values) => values.len(),
        }
    }

    /// Always false: every format has codes.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Smallest and largest value.
    pub fn ends(&self) -> (f32, f32) {
        match self {
            Codebook::Integers { lowest, highest } => (*lowest as f32, *highest as f32),
            Codebook::Table(values) => (values[0], values[values.len() - 1]),
        }
    }

    /// The value of `code`.
    pub fn value(&self, code: u8) -> f32 {
        match self {
            Codebook::Integers { lowest, .. } => (lowest + i32::from(code)) as f32,
            Codebook::Table(values) => values[usize::from(code) & 15],
        }
    }
}

impl Grid {
    /// The grid of a format; `None` for plain floats, which do not have codes.
    pub fn of(tensor_type: TensorType) -> Option<Self> {
        use TensorType::*;
        let integers = |lowest, highest| Codebook::Integers { lowest, highest };
        let steps = |lowest, highest| ScaleGrid::Steps { lowest, highest };
        let (group_len, codebook, scale, offset) = match tensor_type {
            F32 | F16 | BF16 => return None,
            Q4_0 => (32, integers(-8, 7), ScaleGrid::Free, OffsetGrid::None),
            Q4_1 => (32, integers(0, 15), ScaleGrid::Free, OffsetGrid::Free),
            Q5_0 => (32, integers(-16, 15), ScaleGrid::Free, OffsetGrid::None),
            Q5_1 => (32, integers(0, 31), ScaleGrid::Free, OffsetGrid::Free),
            Q8_0 => (32, integers(-127, 127), ScaleGrid::Free, OffsetGrid::None),
            Q2_K => (16, integers(0, 3), steps(0, 15), OffsetGrid::Steps { highest: 15 }),
            Q3_K => (16, integers(-4, 3), steps(-32, 31), OffsetGrid::None),
            Q4_K => (32, integers(0, 15), steps(0, 63), OffsetGrid::Steps { highest: 63 }),
            Q5_K => (32, integers(0, 31), steps(0, 63), OffsetGrid::Steps { highest: 63 }),
            Q6_K => (16, integers(-32, 31), steps(-128, 127), OffsetGrid::None),
            IQ4_NL => (32, Codebook::Table(&IQ4_VALUES), ScaleGrid::Free, OffsetGrid::None),
            IQ4_XS => (32, Codebook::Table(&IQ4_VALUES), steps(-32, 31), OffsetGrid::None),
        };
        Some(Grid { tensor_type, group_len, codebook, scale, offset })
    }

    /// Weights in a block.
    pub fn block_len(&self) -> usize {
        self.tensor_type.block_len()
    }

    /// Groups in a block.
    pub fn groups(&self) -> usize {
        self.block_len() / self.group_len
    }

    /// `(a, b)` of a group: its weights are `a v(q) + b`.
    pub fn affine(&self, parts: &Parts, group: usize) -> (f32, f32) {
        let a = match self.scale {
            ScaleGrid::Free => parts.scale,
            ScaleGrid::Steps { .. } => parts.scale * f32::from(parts.scale_steps[group]),
        };
        let b = match self.offset {
            OffsetGrid::None => 0.0,
            OffsetGrid::Free => parts.min,
            OffsetGrid::Steps { .. } => -(parts.min * f32::from(parts.min_steps[group])),
        };
        (a, b)
    }

    /// The weights of a block, as `blocks::dequantize` returns them (except the sign of zeros).
    pub fn weights(&self, parts: &Parts, out: &mut [f32]) {
        for (group, out) in out.chunks_exact_mut(self.group_len).enumerate() {
            let (a, b) = self.affine(parts, group);
            let codes = &parts.codes[group * self.group_len..];
            for (w, &code) in out.iter_mut().zip(codes) {
                *w = a * self.codebook.value(code) + b;
            }
        }
    }

    /// Writes a block's bytes, as ggml lays them out.
    ///
    /// # Panics
    /// When `out` is not exactly one block long.
    pub fn pack(&self, parts: &Parts, out: &mut [u8]) {
        blocks::put_together(self.tensor_type, parts, out);
    }

    /// Reads scales and codes from a block's bytes.
    ///
    /// # Panics
    /// When `bytes` is not exactly one block long.
    pub fn unpack(&self, bytes: &[u8]) -> Parts {
        blocks::take_apart(self.tensor_type, bytes)
    }
}
