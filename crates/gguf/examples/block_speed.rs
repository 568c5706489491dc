//! Compares the speed of every block format with ggml's own quantizer, in the same process and with
//! the same number of threads, without and with the importance of the columns.
//!
//!     cargo run --release -p pocketgpt-gguf --example block_speed [TYPE...]

#![allow(clippy::unwrap_used, reason = "an example that cannot go on should stop")]

#[path = "../tests/blocks/oracle.rs"]
#[allow(dead_code, reason = "only the quantizing half is timed")]
mod oracle;
#[allow(dead_code, reason = "the tests need more kinds of weights")]
#[path = "../tests/blocks/weights.rs"]
mod weights;

use std::time::Instant;

use gguf::{TensorType, blocks};
use rayon::prelude::*;

/// A matrix of GPT-2 124M: `ffn_down`.
const ROW_LEN: usize = 3072;
const ROWS: usize = 768;
const RUNS: usize = 7;

fn main() {
    let asked: Vec<TensorType> =
        std::env::args().skip(1).map(|name| name.parse().unwrap()).collect();
    let rows = weights::Normal::new(1).take(0.02, ROWS * ROW_LEN);
    let (_, importance) = weights::importances(ROW_LEN).swap_remove(0);
    println!(
        "{} threads; million weights a second, medians of {RUNS}",
        rayon::current_num_threads()
    );
    println!("{:8} {:>8} {:>8} {:>7}   with importance", "type", "ours", "ggml", "factor");
    for tensor_type in TensorType::ALL.into_iter().filter(|t| t.is_quantized()) {
        if asked.is_empty() || asked.contains(&tensor_type) {
            let [ours, ggml] = speeds(tensor_type, &rows, None);
            let [ours_i, ggml_i] = speeds(tensor_type, &rows, Some(&importance));
            println!(
                "{tensor_type:8} {ours:8.1} {ggml:8.1} {:7.1}   {ours_i:8.1} {ggml_i:8.1} {:7.1}",
                ours / ggml,
                ours_i / ggml_i,
            );
        }
    }
}

/// Million weights per second: ours, ggml's.
fn speeds(tensor_type: TensorType, rows: &[f32], importance: Option<&[f32]>) -> [f64; 2] {
    let size = tensor_type.size_of(&[ROW_LEN as u64, ROWS as u64]).unwrap() as usize;
    let mut out = vec![0; size];
    let piece = ROW_LEN * ROWS.div_ceil(4 * rayon::current_num_threads());
    let mut seconds = [Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        let start = Instant::now();
        blocks::quantize(tensor_type, rows, ROW_LEN, importance, &mut out).unwrap();
        seconds[0].push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let theirs: Vec<Vec<u8>> = rows
            .par_chunks(piece)
            .map(|rows| oracle::ggml_quantize(tensor_type, rows, ROW_LEN, importance))
            .collect();
        seconds[1].push(start.elapsed().as_secs_f64());
        assert!(theirs.concat() == out, "{tensor_type}: the bytes differ");
    }
    seconds.map(|mut times| {
        times.sort_by(f64::total_cmp);
        rows.len() as f64 / times[RUNS / 2] / 1e6
    })
}
