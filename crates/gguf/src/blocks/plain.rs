//! F32, F16 and BF16: one weight after another, little-endian, without blocks.

use half::f16;
use half::slice::HalfFloatSliceExt;

/// Weights that are converted together, in a buffer that is aligned even if the bytes are not.
const RUN: usize = 256;

/// Copies weights to bytes.
pub(super) fn write_f32(x: &[f32], out: &mut [u8]) {
    out.copy_from_slice(bytemuck::cast_slice(x));
}

/// Copies bytes to weights.
pub(super) fn read_f32(bytes: &[u8], out: &mut [f32]) {
    bytemuck::cast_slice_mut(out).copy_from_slice(bytes);
}

/// Rounds to the nearest half, ties to even; beyond 65504 to infinity.
pub(super) fn write_f16(x: &[f32], out: &mut [u8]) {
    let mut run = [f16::ZERO; RUN];
    for (x, out) in x.chunks(RUN).zip(out.chunks_mut(2 * RUN)) {
        let run = &mut run[..x.len()];
        run.convert_from_f32_slice(x);
        out.copy_from_slice(bytemuck::cast_slice(run));
    }
}

/// Every half is an exact float.
pub(super) fn read_f16(bytes: &[u8], out: &mut [f32]) {
    let mut run = [f16::ZERO; RUN];
    for (bytes, out) in bytes.chunks(2 * RUN).zip(out.chunks_mut(RUN)) {
        let run = &mut run[..out.len()];
        bytemuck::cast_slice_mut(run).copy_from_slice(bytes);
        run.convert_to_f32_slice(out);
    }
}

/// Rounds to the nearest float whose lower half is zero, ties to even.
pub(super) fn write_bf16(x: &[f32], out: &mut [u8]) {
    for (x, out) in x.iter().zip(out.as_chunks_mut::<2>().0) {
        let bits = x.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        *out = (rounded as u16).to_le_bytes();
    }
}

/// Appends zeros as the lower half.
pub(super) fn read_bf16(bytes: &[u8], out: &mut [f32]) {
    for (&bytes, out) in bytes.as_chunks::<2>().0.iter().zip(out) {
        *out = f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16);
    }
}

/// The first of the weights of `SIZE` bytes whose exponent, a mask of the upper two bytes, is all
/// ones: NaN or infinite.
pub(super) fn first_not_finite<const SIZE: usize>(bytes: &[u8], exponent: u16) -> Option<usize> {
    bytes.as_chunks::<SIZE>().0.iter().position(|weight| {
        let upper = u16::from_le_bytes([weight[SIZE - 2], weight[SIZE - 1]]);
        upper & exponent == exponent
    })
}
