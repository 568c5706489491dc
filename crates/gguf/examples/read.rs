//! Prints what a GGUF holds: its keys, and of each tensor its shape, type and root mean square.
//!
//!     cargo run --release -p pocketgpt-gguf --example read -- model.gguf

use std::error::Error;
use std::path::PathBuf;

use gguf::{GgufFile, TensorSource, read_f32};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: read MODEL.gguf")?;
    let file = GgufFile::open(&path)?;
    for (key, value) in file.metadata().iter() {
        println!("{key} = {value}");
    }
    for tensor in file.tensors() {
        // Whatever the type, blocks become numbers.
        let values = read_f32(&file, tensor)?;
        let squares: f64 = values.iter().map(|&x| f64::from(x).powi(2)).sum();
        let rms = (squares / values.len() as f64).sqrt();
        println!("{} {:?} {}  rms {rms:.4}", tensor.name, tensor.shape, tensor.tensor_type);
        file.release(tensor);
    }
    Ok(())
}
