//! Prints size, SHA-256 and BLAKE3 of a file and their times, to be compared with `sha256sum`:
//!
//! ```text
//! time sha256sum FILE; cargo run --release -p pocketgpt-checkpoint --example hash FILE
//! ```

use std::time::Instant;

fn main() -> std::io::Result<()> {
    for path in std::env::args().skip(1) {
        let start = Instant::now();
        let digests = checkpoint::hash::hash_file(&path)?;
        println!("{path}: {:.3} s, {digests:?}", start.elapsed().as_secs_f64());
    }
    Ok(())
}
