//! Converts blocks between bytes and `grid::Parts`.
//!
//! This file only knows where the fields of a block are; each format's own file packs the bits.
//! Layouts are those of ggml's
//! [`ggml-common.h`](https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h).

use super::half::Half;
use super::{iq4, q2_k, q3_k, q4, q4_k, q5, q5_k, q6_k, six_bits};
use crate::TensorType;
use crate::grid::Parts;

/// The block's scales and codes.
///
/// # Panics
/// When `bytes` is not exactly one block long, or the type has no blocks.
pub(crate) fn take_apart(tensor_type: TensorType, bytes: &[u8]) -> Parts {
    check(tensor_type, bytes.len());
    let half = |at: usize| Half::from_bytes(part(bytes, at)).get();
    let mut parts = Parts::default();
    match tensor_type {
        TensorType::Q4_0 | TensorType::IQ4_NL => {
            parts.scale = half(0);
            set(&mut parts.codes, &q4::unpack_nibbles(&part(bytes, 2)));
        }
        TensorType::Q4_1 => {
            (parts.scale, parts.min) = (half(0), half(2));
            set(&mut parts.codes, &q4::unpack_nibbles(&part(bytes, 4)));
        }
        TensorType::Q5_0 => {
            parts.scale = half(0);
            set(&mut parts.codes, &q5::unpack(&part(bytes, 6), part(bytes, 2)));
        }
        TensorType::Q5_1 => {
            (parts.scale, parts.min) = (half(0), half(2));
            set(&mut parts.codes, &q5::unpack(&part(bytes, 8), part(bytes, 4)));
        }
        TensorType::Q8_0 => {
            parts.scale = half(0);
            for (code, &byte) in parts.codes.iter_mut().zip(&bytes[2..]) {
                // ggml never writes -128, the only value without a code.
                *code = (i16::from(byte as i8).max(-127) + 127) as u8;
            }
        }
        TensorType::Q2_K => {
            (parts.scale, parts.min) = (half(80), half(82));
            for (group, byte) in bytes[..16].iter().enumerate() {
                parts.scale_steps[group] = i16::from(byte & 15);
                parts.min_steps[group] = i16::from(byte >> 4);
            }
            parts.codes = q2_k::unpack_two_bits(&part(bytes, 16));
        }
        TensorType::Q3_K => {
            parts.scale = half(108);
            let scales = q3_k::unpack_scales(&part(bytes, 96));
            set_steps(&mut parts.scale_steps, scales.map(|s| i16::from(s) - 32));
            parts.codes = q3_k::unpack_three_bits(&part(bytes, 32), &part(bytes, 0));
        }
        TensorType::Q4_K | TensorType::Q5_K => {
            (parts.scale, parts.min) = (half(0), half(2));
            for (group, (s, m)) in six_bits::unpack_six_bits(&part(bytes, 4)).iter().enumerate() {
                parts.scale_steps[group] = i16::from(*s);
                parts.min_steps[group] = i16::from(*m);
            }
            parts.codes = match tensor_type {
                TensorType::Q4_K => q4_k::unpack_four_bits(&part(bytes, 16)),
                _ => q5_k::unpack_five_bits(&part(bytes, 48), &part(bytes, 16)),
            };
        }
        TensorType::Q6_K => {
            parts.scale = half(208);
            let scales: [u8; 16] = part(bytes, 192);
            set_steps(&mut parts.scale_steps, scales.map(|s| i16::from(s as i8)));
            parts.codes = q6_k::unpack_six_bit_codes(&part(bytes, 0), &part(bytes, 128));
        }
        TensorType::IQ4_XS => {
            parts.scale = half(0);
            let scales = iq4::unpack_scales(&part(bytes, 2), &part(bytes, 4));
            set_steps(&mut parts.scale_steps, scales.map(|s| i16::from(s) - 32));
            for group in 0..8 {
                let codes = q4::unpack_nibbles(&part(bytes, 8 + 16 * group));
                set(&mut parts.codes[32 * group..], &codes);
            }
        }
        TensorType::F32 | TensorType::F16 | TensorType::BF16 => {}
    }
    if tensor_type.block_len() == 32 {
        parts.scale_steps[0] = 1;
    }
    parts
}

/// The inverse of [`take_apart`].
///
/// # Panics
/// When `out` is not exactly one block long, or the type has no blocks.
pub(crate) fn put_together(tensor_type: TensorType, parts: &Parts, out: &mut [u8]) {
    check(tensor_type, out.len());
    let (scale, min) = (Half::new(parts.scale).to_bytes(), Half::new(parts.min).to_bytes());
    let codes: [u8; 32] = part(&parts.codes, 0);
    match tensor_type {
        TensorType::Q4_0 | TensorType::IQ4_NL => {
            join(out, &[&scale, &q4::pack_nibbles(&codes)]);
        }
        TensorType::Q4_1 => join(out, &[&scale, &min, &q4::pack_nibbles(&codes)]),
        TensorType::Q5_0 => {
            join(out, &[&scale, &q5::gather_fifth_bits(&codes), &q4::pack_nibbles(&codes)]);
        }
        TensorType::Q5_1 => {
            join(out, &[&scale, &min, &q5::gather_fifth_bits(&codes), &q4::pack_nibbles(&codes)]);
        }
        TensorType::Q8_0 => join(out, &[&scale, &codes.map(|q| q.wrapping_sub(127))]),
        TensorType::Q2_K => {
            let mut steps = [0; 16];
            for (group, byte) in steps.iter_mut().enumerate() {
                *byte = parts.scale_steps[group] as u8 & 15 | (parts.min_steps[group] as u8) << 4;
            }
            join(out, &[&steps, &q2_k::pack_two_bits(&parts.codes), &scale, &min]);
        }
        TensorType::Q3_K => {
            let scales = parts.scale_steps.map(|s| (s + 32) as u8);
            let (low, high) = q3_k::pack_three_bits(&parts.codes);
            join(out, &[&high, &low, &q3_k::pack_scales(&scales), &scale]);
        }
        TensorType::Q4_K | TensorType::Q5_K => {
            let eight = |steps: &[i16; 16]| {
                let steps: [i16; 8] = part(steps, 0);
                steps.map(|s| s as u8)
            };
            let packed =
                six_bits::pack_six_bits(&eight(&parts.scale_steps), &eight(&parts.min_steps));
            if tensor_type == TensorType::Q4_K {
                join(out, &[&scale, &min, &packed, &q4_k::pack_four_bits(&parts.codes)]);
            } else {
                let (low, high) = q5_k::pack_five_bits(&parts.codes);
                join(out, &[&scale, &min, &packed, &high, &low]);
            }
        }
        TensorType::Q6_K => {
            let (low, high) = q6_k::pack_six_bit_codes(&parts.codes);
            join(out, &[&low, &high, &parts.scale_steps.map(|s| s as u8), &scale]);
        }
        TensorType::IQ4_XS => {
            let steps: [i16; 8] = part(&parts.scale_steps, 0);
            let (high, low) = iq4::pack_scales(&steps.map(|s| (s + 32) as u8));
            let mut quants = [0; 128];
            for (group, bytes) in quants.chunks_exact_mut(16).enumerate() {
                bytes.copy_from_slice(&q4::pack_nibbles(&part(&parts.codes, 32 * group)));
            }
            join(out, &[&scale, &high, &low, &quants]);
        }
        TensorType::F32 | TensorType::F16 | TensorType::BF16 => {}
    }
}

fn check(tensor_type: TensorType, bytes: usize) {
    assert!(tensor_type.is_quantized(), "{tensor_type} has no blocks");
    assert_eq!(bytes, tensor_type.block_bytes(), "bytes of one {tensor_type} block");
}

/// `N` items from `at` on.
fn part<T: Copy + Default, const N: usize>(items: &[T], at: usize) -> [T; N] {
    let mut out = [T::default(); N];
    out.copy_from_slice(&items[at..at + N]);
    out
}

fn set(codes: &mut [u8], first: &[u8]) {
    codes[..first.len()].copy_from_slice(first);
}

fn set_steps<const N: usize>(steps: &mut [i16], first: [i16; N]) {
    steps[..N].copy_from_slice(&first);
}

/// Writes fields one after the other.
fn join(out: &mut [u8], fields: &[&[u8]]) {
    let mut at = 0;
    for field in fields {
        out[at..at + field.len()].copy_from_slice(field);
        at += field.len();
    }
}
