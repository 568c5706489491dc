//! Quantizes a matrix to each block format of ggml, and prints the bits per weight and what is lost.
//!
//!     cargo run --release -p pocketgpt-gguf --example quantize_tensor

use std::error::Error;

use gguf::{TensorType, blocks};

const ROWS: usize = 64;
const ROW_LEN: usize = 1024;

fn main() -> Result<(), Box<dyn Error>> {
    // Any numbers do; these are spread as a sine is.
    let weights: Vec<f32> = (0..ROWS * ROW_LEN).map(|i| 0.1 * (i as f32 * 0.7).sin()).collect();
    println!("format     bits  relative RMS error");
    for tensor_type in TensorType::ALL {
        let bytes = tensor_type.size_of(&[ROW_LEN as u64, ROWS as u64]).ok_or("half a block")?;
        let mut stored = vec![0; bytes as usize];
        blocks::quantize(tensor_type, &weights, ROW_LEN, None, &mut stored)?;

        let mut read = vec![0.0; weights.len()];
        blocks::dequantize(tensor_type, &stored, &mut read)?;
        let square = |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>();
        let error = square(&mut weights.iter().zip(&read).map(|(w, r)| w - r));
        let relative = (error / square(&mut weights.iter().copied())).sqrt();
        let bits = 8.0 * bytes as f64 / weights.len() as f64;
        println!("{tensor_type:8} {bits:6.2}  {relative:.1e}");
    }
    Ok(())
}
