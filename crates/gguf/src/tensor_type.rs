//! The number formats of tensors, with ggml's names, ids and block sizes.

use std::fmt;
use std::str::FromStr;

use crate::GgufError;

/// How the weights of a tensor are stored.
///
/// Ids and block sizes are those of `enum ggml_type` in ggml's `ggml.h`; a format that is not
/// listed here is refused by name or number when a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(non_camel_case_types, reason = "ggml's own names")]
pub enum TensorType {
    /// 32-bit float.
    F32,
    /// 16-bit IEEE float.
    F16,
    /// The upper half of a 32-bit float.
    BF16,
    /// 32 weights: one scale, 4 bits each.
    Q4_0,
    /// 32 weights: scale and minimum, 4 bits each.
    Q4_1,
    /// 32 weights: one scale, 5 bits each.
    Q5_0,
    /// 32 weights: scale and minimum, 5 bits each.
    Q5_1,
    /// 32 weights: one scale, 8 bits each.
    Q8_0,
    /// 256 weights in 16 groups: 4-bit scales and minima, 2 bits each.
    Q2_K,
    /// 256 weights in 16 groups: 6-bit scales, 3 bits each.
    Q3_K,
    /// 256 weights in 8 groups: 6-bit scales and minima, 4 bits each.
    Q4_K,
    /// 256 weights in 8 groups: 6-bit scales and minima, 5 bits each.
    Q5_K,
    /// 256 weights in 16 groups: 8-bit scales, 6 bits each.
    Q6_K,
    /// 32 weights: one scale, 4-bit codes for 16 unevenly spaced levels.
    IQ4_NL,
    /// 256 weights in 8 groups: 6-bit scales, 4-bit codes for 16 unevenly spaced levels.
    IQ4_XS,
}

impl TensorType {
    /// Every format, in the order of ggml's ids.
    pub const ALL: [TensorType; 15] = [
        TensorType::F32,
        TensorType::F16,
        TensorType::Q4_0,
        TensorType::Q4_1,
        TensorType::Q5_0,
        TensorType::Q5_1,
        TensorType::Q8_0,
        TensorType::Q2_K,
        TensorType::Q3_K,
        TensorType::Q4_K,
        TensorType::Q5_K,
        TensorType::Q6_K,
        TensorType::IQ4_NL,
        TensorType::IQ4_XS,
        TensorType::BF16,
    ];

    /// The number in the file: `enum ggml_type`.
    pub fn id(self) -> u32 {
        match self {
            TensorType::F32 => 0,
            TensorType::F16 => 1,
            TensorType::Q4_0 => 2,
            TensorType::Q4_1 => 3,
            TensorType::Q5_0 => 6,
            TensorType::Q5_1 => 7,
            TensorType::Q8_0 => 8,
            TensorType::Q2_K => 10,
            TensorType::Q3_K => 11,
            TensorType::Q4_K => 12,
            TensorType::Q5_K => 13,
            TensorType::Q6_K => 14,
            TensorType::IQ4_NL => 20,
            TensorType::IQ4_XS => 23,
            TensorType::BF16 => 30,
        }
    }

    /// The inverse of [`TensorType::id`].
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.id() == id)
    }

    /// ggml's name, for example `Q4_K`.
    pub fn name(self) -> &'static str {
        match self {
            TensorType::F32 => "F32",
            TensorType::F16 => "F16",
            TensorType::BF16 => "BF16",
            TensorType::Q4_0 => "Q4_0",
            TensorType::Q4_1 => "Q4_1",
            TensorType::Q5_0 => "Q5_0",
            TensorType::Q5_1 => "Q5_1",
            TensorType::Q8_0 => "Q8_0",
            TensorType::Q2_K => "Q2_K",
            TensorType::Q3_K => "Q3_K",
            TensorType::Q4_K => "Q4_K",
            TensorType::Q5_K => "Q5_K",
            TensorType::Q6_K => "Q6_K",
            TensorType::IQ4_NL => "IQ4_NL",
            TensorType::IQ4_XS => "IQ4_XS",
        }
    }

    /// Weights in one block; a row is a whole number of blocks.
    pub const fn block_len(self) -> usize {
        match self {
            TensorType::F32 | TensorType::F16 | TensorType::BF16 => 1,
            TensorType::Q4_0
            | TensorType::Q4_1
            | TensorType::Q5_0
            | TensorType::Q5_1
            | TensorType::Q8_0
            | TensorType::IQ4_NL => 32,
            TensorType::Q2_K
            | TensorType::Q3_K
            | TensorType::Q4_K
            | TensorType::Q5_K
            | TensorType::Q6_K
            | TensorType::IQ4_XS => 256,
        }
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        match self {
            TensorType::F32 => 4,
            TensorType::F16 | TensorType::BF16 => 2,
            TensorType::Q4_0 => 18,
            TensorType::Q4_1 => 20,
            TensorType::Q5_0 => 22,
            TensorType::Q5_1 => 24,
            TensorType::Q8_0 => 34,
            TensorType::Q2_K => 84,
            TensorType::Q3_K => 110,
            TensorType::Q4_K => 144,
            TensorType::Q5_K => 176,
            TensorType::Q6_K => 210,
            TensorType::IQ4_NL => 18,
            TensorType::IQ4_XS => 136,
        }
    }

    /// Whether weights are stored in blocks.
    pub fn is_quantized(self) -> bool {
        self.block_len() > 1
    }

    /// Bytes of a tensor of `shape`; `None` if a row is not a whole number of blocks or the size
    /// does not fit in 63 bits.
    pub fn size_of(self, shape: &[u64]) -> Option<u64> {
        let row = *shape.first()?;
        let block = self.block_len() as u64;
        if !row.is_multiple_of(block) {
            return None;
        }
        let elements = shape.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim))?;
        let size = (elements / block).checked_mul(self.block_bytes() as u64)?;
        i64::try_from(size).is_ok().then_some(size)
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for TensorType {
    type Err = GgufError;

    /// Accepts ggml's names in lower and upper case: `q4_k`, `Q4_K`.
    fn from_str(name: &str) -> Result<Self, GgufError> {
        Self::ALL
            .into_iter()
            .find(|t| t.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| GgufError::UnknownTypeName { name: name.to_owned() })
    }
}
