//! Compares the block formats with ggml, which is linked in: equal bytes when quantizing, equal
//! floats when dequantizing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod oracle;
mod weights;

use gguf::{TensorType, blocks};
use oracle::{ggml_dequantize, ggml_quantize};
use proptest::prelude::*;
use weights::{Normal, gpt2_matrices, importances, mixed_magnitudes};

const ROW: usize = 256;

/// Our bytes must be ggml's, and so must the floats that they represent, without importance and
/// with every kind of importance.
fn assert_same_as_ggml(what: &str, weights: &[f32], row_len: usize) {
    assert_same_bytes(what, weights, row_len, None);
    for (kind, importance) in importances(row_len) {
        assert_same_bytes(&format!("{what}, {kind}"), weights, row_len, Some(&importance));
    }
}

fn assert_same_bytes(what: &str, weights: &[f32], row_len: usize, importance: Option<&[f32]>) {
    for tensor_type in TensorType::ALL {
        let ours = quantized(tensor_type, weights, row_len, importance);
        let theirs = ggml_quantize(tensor_type, weights, row_len, importance);
        let first = ours.iter().zip(&theirs).position(|(a, b)| a != b);
        if let Some(byte) = first.or((ours.len() != theirs.len()).then_some(ours.len())) {
            let block = byte / tensor_type.block_bytes();
            let start = block * tensor_type.block_len();
            panic!(
                "{what}, {tensor_type}: block {block} differs at byte {}: {:02x?}, ggml has \
                 {:02x?}, weights {:?}",
                byte % tensor_type.block_bytes(),
                ours.chunks(tensor_type.block_bytes()).nth(block),
                theirs.chunks(tensor_type.block_bytes()).nth(block),
                &weights[start..(start + tensor_type.block_len()).min(weights.len())],
            );
        }
        assert_same_floats(what, tensor_type, &ours, weights.len());
    }
}

fn assert_same_floats(what: &str, tensor_type: TensorType, bytes: &[u8], weights: usize) {
    let ours = dequantized(tensor_type, bytes, weights);
    let theirs = ggml_dequantize(tensor_type, bytes, weights);
    for (i, (a, b)) in ours.iter().zip(&theirs).enumerate() {
        let same = a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        assert!(same, "{what}, {tensor_type}: weight {i} reads {a}, ggml reads {b}");
    }
}

fn quantized(
    tensor_type: TensorType,
    weights: &[f32],
    row_len: usize,
    importance: Option<&[f32]>,
) -> Vec<u8> {
    let size = weights.len() / tensor_type.block_len() * tensor_type.block_bytes();
    let mut bytes = vec![0xaa; size];
    blocks::quantize(tensor_type, weights, row_len, importance, &mut bytes).unwrap();
    bytes
}

fn dequantized(tensor_type: TensorType, bytes: &[u8], weights: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; weights];
    blocks::dequantize(tensor_type, bytes, &mut out).unwrap();
    out
}

/// Square root of the ratio of the errors' squares to the weights' squares.
fn relative_rms(weights: &[f32], read: &[f32]) -> f64 {
    let sum = |f: &dyn Fn(usize) -> f64| (0..weights.len()).map(f).sum::<f64>();
    let error = sum(&|i| f64::from(weights[i] - read[i]).powi(2));
    (error / sum(&|i| f64::from(weights[i]).powi(2))).sqrt()
}

#[test]
fn normal_weights() {
    // More than one task, and a row count that no task size divides.
    let weights = Normal::new(7).take(0.02, 1031 * ROW);
    assert_same_bytes("normal weights", &weights, ROW, None);
    let (_, importance) = importances(3 * ROW).swap_remove(0);
    assert_same_bytes("normal weights", &weights[..1029 * ROW], 3 * ROW, Some(&importance));
}

#[test]
fn weights_of_every_magnitude() {
    for exponent in (-45..=38).step_by(1) {
        let weights = Normal::new(exponent as u64).take(10.0_f32.powi(exponent), 4 * ROW);
        let weights: Vec<f32> = weights.into_iter().filter(|w| w.is_finite()).collect();
        let whole = weights.len() / ROW * ROW;
        assert_same_as_ggml(&format!("weights around 1e{exponent}"), &weights[..whole], ROW);
    }
}

#[test]
fn magnitudes_mixed_within_a_block() {
    for seed in 0..40 {
        let weights = mixed_magnitudes(seed, 16 * ROW);
        assert_same_as_ggml("mixed magnitudes", &weights, ROW);
    }
}

#[test]
fn blocks_of_one_value() {
    let smallest = f32::from_bits(1);
    let values = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.1,
        -0.1,
        smallest,
        -smallest,
        f32::MIN_POSITIVE,
        1e-15,
        -1e-15,
        9.9e-16,
        1e-38,
        -3e-39,
        65504.0,
        65520.0,
        1e6,
        -1e6,
        1e38,
        f32::MAX,
        f32::MIN,
    ];
    for value in values {
        assert_same_as_ggml(&format!("blocks of {value:e}"), &[value; 2 * ROW], ROW);
    }
}

#[test]
fn zeros_of_both_signs() {
    let pattern = |seed: usize| {
        let sign = move |i: usize| if (i * seed / 3).is_multiple_of(2) { 0.0 } else { -0.0 };
        (0..2 * ROW).map(sign).collect::<Vec<f32>>()
    };
    for seed in 1..8 {
        let mut weights = pattern(seed);
        assert_same_as_ggml("signed zeros", &weights, ROW);
        weights[37] = 0.5;
        weights[301] = -0.5;
        assert_same_as_ggml("signed zeros and a weight", &weights, ROW);
    }
}

#[test]
fn one_sided_and_lopsided_blocks() {
    let normal = Normal::new(3).take(1.0, 8 * ROW);
    let negative: Vec<f32> = normal.iter().map(|w| -w.abs()).collect();
    let positive: Vec<f32> = normal.iter().map(|w| w.abs() + 0.25).collect();
    let mut outlier = normal.clone();
    for block in outlier.chunks_exact_mut(32) {
        block[5] = 300.0;
    }
    let ties: Vec<f32> =
        (0..8 * ROW).map(|i| if i % 3 == 0 { 2.0 } else { -2.0 } * (1 + i % 4) as f32).collect();
    let ramp: Vec<f32> = (0..8 * ROW).map(|i| (i % 32) as f32 / 2.0 - 7.75).collect();
    for (what, weights) in [
        ("negative only", negative),
        ("positive only", positive),
        ("one outlier", outlier),
        ("ties", ties),
        ("halves, where rounding ties", ramp),
    ] {
        assert_same_as_ggml(what, &weights, ROW);
    }
}

#[test]
fn matrices_of_gpt2() {
    let Some(matrices) = gpt2_matrices("matrices_of_gpt2") else { return };
    for (name, row_len, weights) in matrices {
        // The first and last rows and some in the middle: all rows in every format would take long.
        let rows = weights.len() / row_len;
        for row in [0, rows / 2, rows - 64.min(rows)] {
            let some = &weights[row * row_len..weights.len().min((row + 64) * row_len)];
            assert_same_as_ggml(&name, some, row_len);
        }
    }
}

#[test]
fn any_bytes_read_as_ggml_reads_them() {
    let mut random = Normal::new(99);
    for tensor_type in TensorType::ALL {
        if tensor_type == TensorType::F32 {
            continue;
        }
        let bytes: Vec<u8> =
            (0..64 * tensor_type.block_bytes()).map(|_| random.bits() as u8).collect();
        let weights = 64 * tensor_type.block_len();
        assert_same_floats("random bytes", tensor_type, &bytes, weights);
    }
}

/// Relative RMS errors on normal weights, measured once; `blocks/mod.rs` shows them as a table.
const ERRORS: [(TensorType, f64); 15] = [
    (TensorType::F32, 0.0),
    (TensorType::F16, 0.000_21),
    (TensorType::BF16, 0.001_66),
    (TensorType::Q8_0, 0.005_34),
    (TensorType::Q6_K, 0.017_76),
    (TensorType::Q5_K, 0.036_10),
    (TensorType::Q5_1, 0.037_90),
    (TensorType::Q5_0, 0.042_59),
    (TensorType::Q4_K, 0.071_45),
    (TensorType::IQ4_NL, 0.076_18),
    (TensorType::IQ4_XS, 0.076_76),
    (TensorType::Q4_1, 0.078_01),
    (TensorType::Q4_0, 0.085_93),
    (TensorType::Q3_K, 0.150_75),
    (TensorType::Q2_K, 0.296_82),
];

#[test]
fn errors_are_those_of_the_table() {
    let weights = Normal::new(1).take(0.02, 512 * ROW);
    for (tensor_type, expected) in ERRORS {
        let bytes = quantized(tensor_type, &weights, ROW, None);
        let error = relative_rms(&weights, &dequantized(tensor_type, &bytes, weights.len()));
        assert!((error - expected).abs() <= expected * 0.03, "{tensor_type}: {error:.5}");
    }
}

/// The largest error of a normal weight after it is read back, as a fraction of the largest
/// magnitude among the 32 (or 256) weights of its block.
///
/// Without a search that is half a step, or a whole step at the end where codes are clamped. A
/// search accepts large errors of a few weights for small errors of many.
const BOUNDS: [(TensorType, f32); 12] = [
    (TensorType::Q8_0, 0.5 / 127.0),
    (TensorType::Q6_K, 0.025),
    (TensorType::Q5_K, 0.075),
    (TensorType::Q5_1, 1.0 / 31.0),
    (TensorType::Q5_0, 1.0 / 16.0),
    (TensorType::Q4_K, 0.14),
    (TensorType::Q4_1, 1.0 / 15.0),
    (TensorType::Q4_0, 1.0 / 8.0),
    (TensorType::IQ4_NL, 0.16),
    (TensorType::IQ4_XS, 0.15),
    (TensorType::Q3_K, 0.3),
    (TensorType::Q2_K, 0.5),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_weight_moves_farther_than_its_bound(seed in any::<u64>(), exponent in -2..4_i32) {
        let weights = Normal::new(seed).take(10.0_f32.powi(exponent), 2 * ROW);
        for (tensor_type, bound) in BOUNDS {
            let bytes = quantized(tensor_type, &weights, ROW, None);
            let read = dequantized(tensor_type, &bytes, weights.len());
            let blocks = weights.chunks(tensor_type.block_len());
            for (block, read) in blocks.zip(read.chunks(tensor_type.block_len())) {
                let largest = block.iter().fold(0.0_f32, |most, w| most.max(w.abs()));
                for (w, r) in block.iter().zip(read) {
                    // The scale is also rounded to 11 bits.
                    let farthest = largest * (bound + 2e-3);
                    prop_assert!((w - r).abs() <= farthest, "{tensor_type}: {w} {r} {largest}");
                }
            }
        }
    }

    /// Any finite floats, including those that overflow every scale.
    #[test]
    fn any_floats_quantize_as_in_ggml(bits in proptest::collection::vec(any::<u32>(), ROW)) {
        let weights: Vec<f32> = bits.into_iter().map(finite).collect();
        assert_same_as_ggml("any floats", &weights, ROW);
    }

    /// Any importance that is not refused.
    #[test]
    fn any_importance_counts_as_in_ggml(
        seed in any::<u64>(),
        bits in proptest::collection::vec(any::<u32>(), ROW),
    ) {
        let importance: Vec<f32> = bits.into_iter().map(|b| finite(b).abs()).collect();
        for weights in [mixed_magnitudes(seed, 4 * ROW), Normal::new(seed).take(0.02, 4 * ROW)] {
            assert_same_bytes("any importance", &weights, ROW, Some(&importance));
        }
    }
}

fn finite(bits: u32) -> f32 {
    Some(f32::from_bits(bits)).filter(|w| w.is_finite()).unwrap_or(1.0)
}

#[test]
fn importance_must_make_sense() {
    let refused = |importance: &[f32]| {
        let mut out = vec![0; 2 * TensorType::Q4_K.block_bytes()];
        let importance = Some(importance);
        blocks::quantize(TensorType::Q4_K, &[0.5; 2 * ROW], ROW, importance, &mut out)
            .unwrap_err()
            .to_string()
    };
    let short = "rows of 256 weights need the importance of 256 columns, not of ";
    assert_eq!(refused(&[1.0; 255]), format!("{short}255"));
    assert_eq!(refused(&[1.0; 512]), format!("{short}512"));
    assert_eq!(refused(&[]), format!("{short}0"));
    for (value, name) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (-1e-9, "-0.000000001")] {
        let mut importance = [1.0; ROW];
        importance[17] = value;
        let expected = "expected a number that is 0 or more";
        assert_eq!(
            refused(&importance),
            format!("the importance of column 17 is {name}; {expected}")
        );
    }
}

#[test]
fn a_weight_that_is_no_number_is_refused_with_its_place() {
    let mut weights = vec![0.5; 300 * ROW];
    weights[299 * ROW + 17] = f32::NEG_INFINITY;
    for tensor_type in TensorType::ALL {
        let size = tensor_type.size_of(&[ROW as u64, 300]).unwrap() as usize;
        for importance in [None, Some(&[1.0; ROW][..])] {
            let mut out = vec![0; size];
            let refused = blocks::quantize(tensor_type, &weights, ROW, importance, &mut out);
            assert_eq!(
                refused.unwrap_err().to_string(),
                "weight 76561 (row 299) is -inf; only finite weights can be quantized"
            );
        }
    }
}

#[test]
fn rows_and_sizes_must_fit() {
    let refused = |row_len, out: usize| {
        let mut out = vec![0; out];
        blocks::quantize(TensorType::Q4_K, &[0.0; 512], row_len, None, &mut out)
            .unwrap_err()
            .to_string()
    };
    assert!(refused(128, 288).contains("rows of 128 weights cannot be Q4_K"));
    assert!(refused(0, 288).contains("rows of 0 weights"));
    assert!(refused(256, 287).contains("take 288 bytes, not 287"));
    assert!(refused(768, 288).contains("512 weights are no whole number of rows of 768"));
    assert!(blocks::dequantize(TensorType::Q8_0, &[0; 33], &mut [0.0; 32]).is_err());
    assert!(blocks::dequantize(TensorType::Q8_0, &[0; 34], &mut [0.0; 33]).is_err());
}

#[test]
fn a_scale_that_overflows_is_found() {
    let mut weights = vec![0.5; 4 * ROW];
    weights[2 * ROW] = 1e9;
    for tensor_type in TensorType::ALL {
        let bytes = quantized(tensor_type, &weights, ROW, None);
        let overflows = blocks::check_scales(tensor_type, &bytes).is_err();
        let holds = matches!(tensor_type, TensorType::F32 | TensorType::BF16);
        assert_eq!(overflows, !holds, "{tensor_type}");
    }
}
