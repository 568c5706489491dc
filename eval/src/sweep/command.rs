//! `eval sweep` on the command line.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use checkpoint::atomic::write_file;
use llama_cpp::Cache;

use super::{NamedFile, PIECE_BYTES, ProbeProgram, SweepEngine, SweepJob, SweepReport, sweep};

/// Shown after the help text.
pub const EXAMPLES: &str = "\
Examples:
  eval sweep --base model-F32.gguf --text wiki.test.raw model-Q8_0.gguf model-Q4_K_M.gguf
  eval sweep --base model-F32.gguf --text book.txt --base-logits base.kld --kv f16,q8_0,q4_0 *.gguf
  eval sweep --base model-F32.gguf --text book.txt --plot sweep.pdf --markdown sweep.md \\
    model-Q4_K_M.gguf --peer llama=quantized-by-llama.cpp-Q4_K_M.gguf

Windows, positions and perplexity are those of llama-perplexity. Ctrl-C keeps what there is of
--base-logits FILE (as FILE.part); the same command goes on from there.";

/// Compare files with the base they were made from.
#[derive(Debug, Clone, clap::Args)]
pub struct SweepArgs {
    /// Variants to evaluate, GGUF files; LABEL=FILE sets the name in the table
    #[arg(value_name = "[LABEL=]FILE", required = true)]
    pub variants: Vec<NamedFile>,
    /// Unquantized GGUF that everything is compared with
    #[arg(long, value_name = "FILE")]
    pub base: PathBuf,
    /// Files that others of the same recipe are compared with as a ratio, for example
    /// llama-quantize's [default: the last file of each recipe]
    #[arg(long, value_name = "[LABEL=]FILE", num_args = 1..)]
    pub peer: Vec<NamedFile>,
    /// UTF-8 text to read
    #[arg(long, value_name = "FILE")]
    pub text: PathBuf,
    /// Most tokens of the text to read, rounded down to whole windows; 0 reads the whole text
    #[arg(long, value_name = "TOKENS", default_value_t = 20_000)]
    pub tokens: usize,
    /// Tokens in a window, of which the second half is scored
    #[arg(long, value_name = "TOKENS", default_value_t = 512)]
    pub context: usize,
    /// File that keeps the base's logits for the next sweep: 2 bytes for each token of the
    /// vocabulary at each scored position [default: a temporary file of at most 1 GiB]
    #[arg(long, value_name = "FILE")]
    pub base_logits: Option<PathBuf>,
    /// Types of KV cache to measure each file with: f32, f16, q8_0, q4_0, or KEYS/VALUES
    #[arg(long, value_name = "TYPE,...", value_delimiter = ',', default_value = "f16")]
    pub kv: Vec<Cache>,
    /// Engine that computes the logits; speed and memory are always measured with llama.cpp
    #[arg(long, value_enum, default_value_t = SweepEngine::Llama)]
    pub engine: SweepEngine,
    /// Threads that compute; 0 uses all cores
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub threads: usize,
    /// Do not measure speed and memory [default: off]
    #[arg(long)]
    pub no_speed: bool,
    /// File for the report, as JSON [default: not saved]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// File for the tables, as Markdown [default: not saved]
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// File for the pictures, as PDF [default: not drawn]
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// Replace existing files, and a base of logits that belongs to another model or text or is
    /// damaged [default: off]
    #[arg(long)]
    pub force: bool,
}

/// Sweeps, and saves the requested outputs.
///
/// # Errors
/// Those of [`sweep`], and when an output exists or cannot be written.
pub fn run(args: SweepArgs) -> Result<SweepReport> {
    ensure!(
        args.engine == SweepEngine::Llama || args.kv == [Cache::F16],
        "--kv is llama.cpp's: --engine reference keeps keys and values in f32"
    );
    let outputs = [&args.output, &args.markdown, &args.plot];
    for path in outputs.into_iter().flatten() {
        ensure!(args.force || !path.exists(), "{} exists: --force replaces it", path.display());
    }
    let job = SweepJob {
        base: args.base,
        variants: args.variants,
        peers: args.peer,
        text: args.text,
        tokens: args.tokens,
        context: args.context,
        base_logits: args.base_logits,
        piece_bytes: PIECE_BYTES,
        engine: args.engine,
        caches: args.kv,
        threads: args.threads,
        probe: match args.no_speed {
            true => None,
            false => Some(ProbeProgram::of_this_process()?),
        },
        overwrite: args.force,
        interrupt: cli::Interrupt::install()?,
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.threads).build()?;
    let report = pool.install(|| sweep(&job))?;
    if let Some(path) = &args.output {
        let mut json = serde_json::to_vec_pretty(&report)?;
        json.push(b'\n');
        save(path, args.force, &json)?;
    }
    if let Some(path) = &args.markdown {
        save(path, args.force, report.markdown().as_bytes())?;
    }
    if let Some(path) = &args.plot {
        save(path, args.force, &report.pdf()?)?;
    }
    Ok(report)
}

fn save(path: &Path, overwrite: bool, bytes: &[u8]) -> Result<()> {
    write_file(path, overwrite, |out| {
        std::io::Write::write_all(out, bytes)?;
        anyhow::Ok(())
    })
}
