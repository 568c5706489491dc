//! Blocks that are unpacked and packed again have the same bytes, and the weights that the block
//! formats read.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use gguf::grid::{Grid, MAX_BLOCK};
use gguf::{TensorType, blocks};

/// Pseudo-random bytes (the generator is Knuth's MMIX).
fn bytes(n: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 56) as u8
        })
        .collect()
}

fn quantized_types() -> impl Iterator<Item = (TensorType, Grid)> {
    TensorType::ALL.into_iter().filter_map(|t| Some((t, Grid::of(t)?)))
}

#[test]
fn every_quantized_type_has_a_grid() {
    for tensor_type in TensorType::ALL {
        assert_eq!(Grid::of(tensor_type).is_some(), tensor_type.is_quantized(), "{tensor_type}");
    }
}

#[test]
fn taken_apart_and_put_together_the_bytes_are_the_same() {
    for (tensor_type, grid) in quantized_types() {
        for seed in 0..200 {
            let mut block = bytes(tensor_type.block_bytes(), seed);
            if tensor_type == TensorType::Q8_0 {
                block.iter_mut().skip(2).for_each(|b| *b = if *b == 128 { 129 } else { *b });
            }
            let parts = grid.unpack(&block);
            if parts.scale.is_nan() || parts.min.is_nan() {
                continue; // which NaN it was is lost
            }
            let mut again = vec![0; block.len()];
            grid.pack(&parts, &mut again);
            assert_eq!(again, block, "{tensor_type}");
        }
    }
}

#[test]
fn a_grids_weights_are_those_that_the_format_reads() {
    for (tensor_type, grid) in quantized_types() {
        for seed in 1000..1200 {
            let block = bytes(tensor_type.block_bytes(), seed);
            let mut expected = vec![0.0; grid.block_len()];
            blocks::dequantize(tensor_type, &block, &mut expected).unwrap();
            let parts = grid.unpack(&block);
            if !parts.scale.is_finite() || !parts.min.is_finite() {
                continue;
            }
            let mut weights = vec![0.0; MAX_BLOCK];
            let weights = &mut weights[..grid.block_len()];
            grid.weights(&parts, weights);
            let is_128 = |w: usize| tensor_type == TensorType::Q8_0 && block[2 + w] == 128;
            for (i, (a, b)) in weights.iter().zip(&expected).enumerate() {
                assert!(a == b || is_128(i), "{tensor_type}, weight {i}: {a} and {b}");
            }
        }
    }
}
