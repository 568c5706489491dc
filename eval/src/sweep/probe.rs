//! Measures times and memory of a variant on this device, in a separate process.
//!
//! The sweep starts this program again for each variant and cache, so that peak memory is that of
//! one model alone, with weights mapped as on a device. The child loads the file, reads a prompt,
//! generates greedily, and prints its measurements:
//!
//! ```text
//! load          until the file is mapped and ready
//! first token   prompt read and the first token chosen, the first time
//! prompt        tokens/s of reading it again, the median of the rounds
//! generation    tokens/s of writing one token after another, the median of the rounds
//! cache         growth of anonymous memory when the context is made: llama.cpp fills it with zeros
//! peak          most bytes that were resident, mapped weights included
//! ```

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use cli::memory::{AnonymousPeak, peak_resident};
use llama_cpp::{Arithmetic, Cache, Llama, Session, Settings};
use reference::ops::argmax;
use serde::{Deserialize, Serialize};

/// Rounds after the first; the median of these is used.
const ROUNDS: usize = 3;
/// Most tokens of a prompt.
const PROMPT: usize = 512;
/// Most tokens to generate.
const GENERATED: usize = 64;

/// Times and memory of one variant with one cache, in llama.cpp.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// From the path to a ready model, in seconds, with the file in the system's cache.
    pub load_seconds: f64,
    /// From the prompt to the first token, the first time, in seconds.
    pub first_token_seconds: f64,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens per second while a prompt is read.
    pub prompt_tokens_per_s: f64,
    /// Tokens generated after the prompt.
    pub generated_tokens: usize,
    /// Tokens per second while a text is generated.
    pub generation_tokens_per_s: f64,
    /// Most bytes that were resident; none if the system does not report it.
    pub peak_resident_bytes: Option<u64>,
    /// Anonymous memory that creating the context added, in bytes.
    pub cache_resident_bytes: Option<u64>,
}

/// The arguments of the child.
#[derive(Debug, Clone, clap::Args)]
pub struct ProbeArgs {
    /// The GGUF.
    #[arg(long, short)]
    model: PathBuf,
    /// Capacity of the context, in tokens.
    #[arg(long)]
    context: usize,
    /// The types of keys and values.
    #[arg(long)]
    cache: Cache,
    /// Threads that compute.
    #[arg(long)]
    threads: usize,
    /// The prompt's tokens, separated by commas.
    #[arg(long, value_delimiter = ',')]
    prompt: Vec<u32>,
}

/// The program that is started as the child: as `PROGRAM eval probe`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeProgram(PathBuf);

impl ProbeProgram {
    /// The program of this process, which has `eval` among its commands.
    ///
    /// # Errors
    /// When the system does not report the path of this program.
    pub fn of_this_process() -> Result<Self> {
        std::env::current_exe().map(Self).context("the path of this program is unknown")
    }

    /// Runs the child on the file at `path` with the beginning of `window` as the prompt.
    ///
    /// # Errors
    /// When it cannot be started, or fails.
    pub fn measure(
        &self,
        path: &Path,
        window: &[u32],
        cache: Cache,
        threads: usize,
    ) -> Result<Speed> {
        let (prompt, _) = lengths(window.len());
        let prompt: Vec<String> = window[..prompt].iter().map(u32::to_string).collect();
        let output = Command::new(&self.0)
            .args(["eval", "probe", "--json", "--model"])
            .arg(path)
            .args(["--context", &window.len().to_string(), "--cache", &cache.to_string()])
            .args(["--threads", &threads.to_string(), "--prompt", &prompt.join(",")])
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot start {}", self.0.display()))?;
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            let error = error.trim().trim_start_matches("error: ");
            bail!("measuring {} failed ({}): {error}", path.display(), output.status);
        }
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("measuring {}: the answer is no JSON", path.display()))
    }
}

/// The numbers of tokens to read and to generate in a context.
fn lengths(context: usize) -> (usize, usize) {
    let prompt = (context / 2).clamp(1, PROMPT);
    (prompt, context.saturating_sub(prompt).clamp(1, GENERATED))
}

/// Measures the model; this is the work of the child.
///
/// # Errors
/// When llama.cpp refuses the file or the prompt.
pub fn probe(args: &ProbeArgs) -> Result<Speed> {
    let (_, generated) = lengths(args.context);
    ensure!(!args.prompt.is_empty(), "--prompt: no tokens");
    let start = Instant::now();
    let llama = Llama::load(&gguf::first_part(&args.model))?;
    let load_seconds = start.elapsed().as_secs_f64();

    let anonymous = || {
        let now = AnonymousPeak::default();
        now.sample();
        now.bytes()
    };
    let before = anonymous();
    let arithmetic = Arithmetic::Cached(args.cache);
    let settings = Settings { context: args.context, threads: args.threads, arithmetic };
    let mut session = llama.session(settings)?;
    let cache_resident_bytes =
        anonymous().zip(before).map(|(after, before)| after.saturating_sub(before));

    let first = round(&mut session, &args.prompt, generated)?;
    let rounds = (0..ROUNDS)
        .map(|_| round(&mut session, &args.prompt, generated))
        .collect::<Result<Vec<Round>>>()?;
    let median = |of: fn(&Round) -> f64| {
        let mut seconds: Vec<f64> = rounds.iter().map(of).collect();
        seconds.sort_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    };
    Ok(Speed {
        load_seconds,
        first_token_seconds: first.prompt_seconds,
        prompt_tokens: args.prompt.len(),
        prompt_tokens_per_s: args.prompt.len() as f64 / median(|round| round.prompt_seconds),
        generated_tokens: generated,
        generation_tokens_per_s: generated as f64 / median(|round| round.generation_seconds),
        peak_resident_bytes: peak_resident(),
        cache_resident_bytes,
    })
}

struct Round {
    prompt_seconds: f64,
    generation_seconds: f64,
}

/// Reads the prompt from an empty cache, then generates greedily.
fn round(session: &mut Session<'_>, prompt: &[u32], generated: usize) -> Result<Round> {
    session.clear();
    let start = Instant::now();
    let mut token = argmax(&session.push(prompt)?) as u32;
    let prompt_seconds = start.elapsed().as_secs_f64();
    let start = Instant::now();
    for _ in 0..generated {
        token = argmax(&session.push(&[token])?) as u32;
    }
    Ok(Round { prompt_seconds, generation_seconds: start.elapsed().as_secs_f64() })
}

impl std::fmt::Display for Speed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "load {}, first token {}, prompt {:.1} tokens/s, generation {:.1} tokens/s",
            cli::seconds(self.load_seconds),
            cli::seconds(self.first_token_seconds),
            self.prompt_tokens_per_s,
            self.generation_tokens_per_s
        )
    }
}
