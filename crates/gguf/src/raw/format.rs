//! All number formats to which ggml has assigned a number, also those that this crate does not
//! compute with.

use std::fmt;

/// The number of a format in a file: one of ggml's formats, or a number that ggml has not assigned.
///
/// For formats whose weights this crate can read, use [`TensorType`](crate::TensorType).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoredFormat(pub u32);

/// Name, weights in a block, bytes of a block.
type Row = (u32, &'static str, u64, u64);

/// `enum ggml_type` of `ggml.h` with the block structs of `ggml-common.h`. The six repacked formats
/// (31 to 33, 36 to 38), which stored blocks in another order, were removed from files in 2024.
const FORMATS: [Row; 41] = [
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 36),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (30, "BF16", 1, 2),
    (31, "Q4_0_4_4", 32, 18),
    (32, "Q4_0_4_8", 32, 18),
    (33, "Q4_0_8_8", 32, 18),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (36, "IQ4_NL_4_4", 32, 18),
    (37, "IQ4_NL_4_8", 32, 18),
    (38, "IQ4_NL_8_8", 32, 18),
    (39, "MXFP4", 32, 17),
    (40, "NVFP4", 64, 36),
    (41, "Q1_0", 128, 18),
    (42, "Q2_0", 64, 18),
];

impl StoredFormat {
    fn row(self) -> Option<&'static Row> {
        FORMATS.iter().find(|(id, ..)| *id == self.0)
    }

    /// ggml's name, if it has one.
    pub fn known_name(self) -> Option<&'static str> {
        self.row().map(|(_, name, ..)| *name)
    }

    /// Weights and bytes of one block, if the format is known.
    pub fn block(self) -> Option<(u64, u64)> {
        self.row().map(|&(_, _, weights, bytes)| (weights, bytes))
    }

    /// Bytes of a tensor of `shape` (fastest dimension first); `None` if the format is unknown, a
    /// row is not a whole number of blocks, or the size does not fit in 63 bits.
    pub fn size_of(self, shape: &[u64]) -> Option<u64> {
        let (weights, bytes) = self.block()?;
        if !shape.first()?.is_multiple_of(weights) {
            return None;
        }
        let elements = shape.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim))?;
        let size = (elements / weights).checked_mul(bytes)?;
        i64::try_from(size).is_ok().then_some(size)
    }
}

/// ggml's name, or `type 99` for a number without one.
impl fmt::Display for StoredFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known_name() {
            Some(name) => f.pad(name),
            None => f.pad(&format!("type {}", self.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorType;

    #[test]
    fn both_tables_of_formats_say_the_same() {
        for tensor_type in TensorType::ALL {
            let format = StoredFormat(tensor_type.id());
            assert_eq!(format.known_name(), Some(tensor_type.name()));
            let block = (tensor_type.block_len() as u64, tensor_type.block_bytes() as u64);
            assert_eq!(format.block(), Some(block));
        }
    }

    #[test]
    fn sizes_are_counted_in_whole_blocks() {
        assert_eq!(StoredFormat(39).size_of(&[64, 3]), Some(2 * 17 * 3));
        assert_eq!(StoredFormat(39).size_of(&[33, 3]), None);
        assert_eq!(StoredFormat(99).size_of(&[32]), None);
        assert_eq!(StoredFormat(0).size_of(&[1 << 40, 1 << 40]), None);
        assert_eq!(StoredFormat(0).size_of(&[]), None);
    }
}
