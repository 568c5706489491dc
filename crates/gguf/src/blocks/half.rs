//! The 16-bit float in which a block stores its scale.

use bytemuck::{Pod, Zeroable};
use half::f16;

/// An IEEE half in little-endian bytes. It does not need alignment, so a block may begin at any
/// byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub(crate) struct Half([u8; 2]);

impl Half {
    /// Rounds to the nearest half, ties to even; beyond 65504 to infinity.
    #[inline(always)]
    pub(crate) fn new(x: f32) -> Self {
        Half(f16::from_f32(x).to_le_bytes())
    }

    /// A half as it is stored.
    pub(super) fn from_bytes(bytes: [u8; 2]) -> Self {
        Half(bytes)
    }

    /// The bytes in which it is stored.
    pub(super) fn to_bytes(self) -> [u8; 2] {
        self.0
    }

    /// The exact value.
    #[inline(always)]
    pub(crate) fn get(self) -> f32 {
        f16::from_le_bytes(self.0).to_f32()
    }

    /// False for NaN and the infinities.
    #[inline(always)]
    pub(super) fn is_finite(self) -> bool {
        f16::from_le_bytes(self.0).is_finite()
    }
}
