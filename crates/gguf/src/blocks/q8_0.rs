//! Q8_0: 32 weights, one scale, 8 bits each; 8.5 bits per weight.
//!
//! ```text
//! d = max |w| / 127        q = round(w / d), halves away from zero        w' = d q
//! ```
//!
//! Layout: `block_q8_0` in ggml's
//! [`ggml-common.h`](https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h).

use bytemuck::{Pod, Zeroable};

use super::each::map;
use super::half::Half;
use super::minmax::largest_magnitude;
use super::rounding::{inverse_or_zero, round_to_byte};
use super::weighted::Rows;
use super::{Block, assert_block_size};
use crate::TensorType;

/// 32 weights in 34 bytes.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockQ8_0 {
    pub(crate) scale: Half,
    pub(crate) quants: [i8; 32],
}

assert_block_size!(BlockQ8_0, TensorType::Q8_0);

impl Block for BlockQ8_0 {
    const TYPE: TensorType = TensorType::Q8_0;
    type Weights = [f32; 32];

    #[inline(always)]
    fn quantize_all(x: &[[f32; 32]], out: &mut [Self]) {
        for (x, block) in x.iter().zip(out) {
            let scale = largest_magnitude(x) / 127.0;
            let inverse = inverse_or_zero(scale);
            // As in `q4::floors_within`: ggml converts numbers that are not finite to zeros.
            let quants = match inverse.is_infinite() {
                true => [0; 32],
                false => map(x, |w| round_to_byte(w * inverse)),
            };
            *block = BlockQ8_0 { scale: Half::new(scale), quants };
        }
    }

    /// Ignores the importance, because only the largest weight determines the step.
    #[inline(always)]
    fn quantize_weighted(rows: Rows<[f32; 32]>, out: &mut [Self]) {
        BlockQ8_0::quantize_all(rows.x, out);
    }

    #[inline(always)]
    fn dequantize(&self, out: &mut [f32; 32]) {
        let scale = self.scale.get();
        *out = map(&self.quants, |q| f32::from(q) * scale);
    }

    #[inline(always)]
    fn is_finite(&self) -> bool {
        self.scale.is_finite()
    }
}
