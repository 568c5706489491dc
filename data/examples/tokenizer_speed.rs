//! Measures how fast a tokenizer encodes, to be compared with `tokenizer_speed.py` beside it.
//!
//! ```text
//! cargo run --release -p pocketgpt-data --example tokenizer_speed -- TEXT [--tokenizer tokenizer.json] \
//!     [--threads N] [--runs 9]
//! ```
//!
//! Prints one JSON object: the median over the runs in millions of bytes per second, from text to
//! ids in memory, and for comparison the same on one thread with Hugging Face's crate and, for
//! `gpt2`, with tiktoken-rs.

use std::time::Instant;

use clap::Parser;
use serde_json::json;

/// Speed of a tokenizer.
#[derive(Parser)]
struct Args {
    /// A UTF-8 text file.
    text: std::path::PathBuf,
    /// `gpt2`, or the path of a tokenizer.json or of the folder that holds it.
    #[arg(long, default_value = "gpt2")]
    tokenizer: std::path::PathBuf,
    /// Number of threads; 0 for one on each core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Number of runs whose median is printed.
    #[arg(long, default_value_t = 9)]
    runs: usize,
    /// Number of repetitions of the text in one run.
    #[arg(long, default_value_t = 1)]
    repeat: usize,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let text = std::fs::read_to_string(&args.text)?.repeat(args.repeat);
    let is_gpt2 = args.tokenizer.as_os_str() == "gpt2";
    let tokenizer = data::open_tokenizer(&args.tokenizer, &data::Corpus::open(&args.text)?)?;
    let hugging_face: tokenizers::Tokenizer =
        tokenizer.tokenizer_json()?.parse().map_err(|error| anyhow::anyhow!("{error}"))?;
    let tiktoken = tiktoken_rs::r50k_base()?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.threads).build()?;
    let speed = |encode: &dyn Fn() -> usize| {
        let mut seconds: Vec<f64> = (0..args.runs.max(1))
            .map(|_| {
                let start = Instant::now();
                std::hint::black_box(encode());
                start.elapsed().as_secs_f64()
            })
            .collect();
        seconds.sort_unstable_by(f64::total_cmp);
        text.len() as f64 / 1e6 / seconds[seconds.len() / 2]
    };
    let ours =
        pool.install(|| speed(&|| tokenizer.encode_parallel(&text).map_or(0, |ids| ids.len())));
    let one_thread = speed(&|| tokenizer.encode(&text).map_or(0, |ids| ids.len()));
    let theirs = speed(&|| {
        hugging_face.encode_fast(text.as_str(), false).map_or(0, |encoding| encoding.len())
    });
    let tiktoken = is_gpt2.then(|| speed(&|| tiktoken.encode_ordinary(&text).len()));
    let report = json!({
        "text_bytes": text.len(),
        "threads": pool.current_num_threads(),
        "megabytes_per_second": ours,
        "megabytes_per_second_on_one_thread": one_thread,
        "tokenizers_megabytes_per_second_on_one_thread": theirs,
        "tiktoken_rs_megabytes_per_second_on_one_thread": tiktoken,
    });
    println!("{report:#}");
    Ok(())
}
