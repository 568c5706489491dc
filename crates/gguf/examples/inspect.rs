//! Prints the keys and tensors of a GGUF, and to stderr how long it took to open.
//!
//!     cargo run --release -p gguf --example inspect -- model.gguf

use std::path::PathBuf;
use std::time::Instant;

use gguf::{GgufFile, TensorSource};

fn main() {
    let Some(path) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: inspect MODEL.gguf");
        std::process::exit(2);
    };
    let start = Instant::now();
    match GgufFile::open(&path) {
        Ok(file) => {
            eprintln!("opened in {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
            print!("{}{}", file.metadata(), file.layout());
        }
        Err(error) => {
            eprintln!("error: {error}");
            std::process::exit(2);
        }
    }
}
