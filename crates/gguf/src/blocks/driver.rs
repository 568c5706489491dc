//! Runs a block kernel over a whole tensor, in parallel and with the widest vectors of the
//! processor.

use isa::Isa;
use rayon::prelude::*;

use super::weighted::Rows;
use super::{Block, simd};

/// Weights per task: 256 KiB of floats, which stay in the thread's cache between the check for NaN
/// and the kernel. A multiple of every block length.
const CHUNK: usize = 1 << 16;

/// Quantizes all blocks; returns the position of the first weight that is not finite.
///
/// With importance, which is as long as a row, each task gets whole rows.
pub(super) fn quantize<B: Block>(
    x: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Option<usize> {
    let isa = Isa::vectors();
    let chunk = importance.map_or(CHUNK, |row| (CHUNK / row.len()).max(1) * row.len());
    let chunk_bytes = chunk / B::TYPE.block_len() * size_of::<B>();
    for_each_chunk(x, out, chunk, chunk_bytes, |x, out| {
        let (x, out) = (bytemuck::cast_slice(x), bytemuck::cast_slice_mut(out));
        match importance.map(bytemuck::cast_slice) {
            None => simd::quantize::<B>(isa, x, out),
            Some(importance) => simd::quantize_weighted::<B>(isa, Rows { x, importance }, out),
        }
    })
}

/// Converts with a function that takes any number of weights; otherwise as [`quantize`].
pub(super) fn write_plain(
    x: &[f32],
    out: &mut [u8],
    write: fn(&[f32], &mut [u8]),
) -> Option<usize> {
    let bytes_per_weight = out.len().checked_div(x.len()).unwrap_or(1);
    for_each_chunk(x, out, CHUNK, CHUNK * bytes_per_weight, write)
}

fn for_each_chunk(
    x: &[f32],
    out: &mut [u8],
    chunk: usize,
    chunk_bytes: usize,
    convert: impl Fn(&[f32], &mut [u8]) + Sync,
) -> Option<usize> {
    let isa = Isa::vectors();
    x.par_chunks(chunk)
        .zip(out.par_chunks_mut(chunk_bytes))
        .enumerate()
        .filter_map(|(index, (x, out))| {
            if !simd::all_finite(isa, x) {
                return x.iter().position(|v| !v.is_finite()).map(|i| index * chunk + i);
            }
            convert(x, out);
            None
        })
        .min()
}

/// Dequantizes all blocks.
pub(super) fn dequantize<B: Block>(bytes: &[u8], out: &mut [f32]) {
    let isa = Isa::vectors();
    let chunk_bytes = CHUNK / B::TYPE.block_len() * size_of::<B>();
    bytes.par_chunks(chunk_bytes).zip(out.par_chunks_mut(CHUNK)).for_each(|(bytes, out)| {
        simd::dequantize::<B>(isa, bytemuck::cast_slice(bytes), bytemuck::cast_slice_mut(out));
    });
}

/// Converts with a function that takes any number of weights.
pub(super) fn read_plain(bytes: &[u8], out: &mut [f32], read: fn(&[u8], &mut [f32])) {
    let bytes_per_weight = bytes.len().checked_div(out.len()).unwrap_or(1);
    bytes
        .par_chunks(CHUNK * bytes_per_weight)
        .zip(out.par_chunks_mut(CHUNK))
        .for_each(|(bytes, out)| read(bytes, out));
}

/// The first block with a scale that is not finite.
pub(super) fn first_not_finite<B: Block>(bytes: &[u8]) -> Option<usize> {
    let blocks: &[B] = bytemuck::cast_slice(bytes);
    blocks.par_iter().with_min_len(CHUNK).position_first(|block| !block.is_finite())
}
