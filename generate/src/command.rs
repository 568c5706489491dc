//! The command line of this crate.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Subcommand;
use config::sampling;
use serde::Serialize;

use crate::chat::{ChatJob, ChatReport, bundled, chat};
use crate::compare::{CompareJob, CompareReport, compare, usual_strategies};
use crate::engine::EngineKind;
use crate::sampling::Sampling;
use crate::source::ModelJob;
use crate::temperature::{TemperatureJob, TemperatureReport, temperature_plot};
use crate::text::{GenerateJob, TextReport, generate};

/// Write text with a model.
#[derive(Debug, clap::Args)]
#[command(
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true,
    after_help = "Example:\n  generate --model runs/quickstart --prompt \"The lamp\" --max-tokens 60"
)]
pub struct Args {
    /// A command other than generating one text.
    #[command(subcommand)]
    pub verb: Option<Verb>,

    /// The model of a single text, if no command is given.
    #[command(flatten)]
    pub model: Option<ModelArgs>,

    /// How it generates.
    #[command(flatten)]
    pub text: TextArgs,

    /// Print one JSON object to stdout instead of text.
    #[arg(long, global = true)]
    pub json: bool,
}

/// The commands besides generating one text.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Generate one text with each of several strategies, side by side with figures.
    #[command(
        after_help = "Example:\n  generate compare --model runs/quickstart --prompt \"The lamp\" \
                            --strategy greedy --strategy temperature=0.8,top-k=40"
    )]
    Compare(CompareArgs),
    /// Draw the next token's distribution at several temperatures as a PDF.
    #[command(after_help = "Example:\n  generate temperature-plot --model runs/quickstart \
                            --prompt \"The lamp\" --output temperature.pdf")]
    TemperaturePlot(TemperatureArgs),
    /// Chat with a model in its own chat format, turn by turn.
    #[command(after_help = "Example:\n  generate chat --model model.gguf --system \"Be brief.\" \
                            --save chat.json\n  generate chat --model model.gguf \
                            --resume chat.json\n  generate chat --bundle pocket")]
    Chat(ChatArgs),
}

/// A conversation.
#[derive(Debug, clap::Args)]
pub struct ChatArgs {
    /// A checkpoint folder, a run folder (its newest checkpoint), a GGUF file, a folder of
    /// fragments, or its address (https, s3, gs, az).
    #[arg(long, short, value_name = "PATH", required_unless_present = "bundle")]
    pub model: Option<PathBuf>,

    /// A bundle's folder, instead of --model: llama.cpp runs its model, joined once into the user's
    /// cache.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["model", "engine"])]
    pub bundle: Option<PathBuf>,

    /// Variant of the bundle; the largest by default.
    #[arg(long, value_name = "RECIPE", requires = "bundle")]
    pub variant: Option<String>,

    /// System message that tells the model how to behave; none by default.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,

    /// Write the conversation to this JSON file after every turn; not saved by default.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,

    /// Continue a saved conversation; it is saved to the same file unless --save names another.
    #[arg(long, value_name = "FILE")]
    pub resume: Option<PathBuf>,

    /// A Jinja chat template to use instead of the model's own.
    #[arg(long, value_name = "FILE", conflicts_with = "plain")]
    pub template: Option<PathBuf>,

    /// Use no template: the model continues the typed text, as any other text.
    #[arg(long)]
    pub plain: bool,

    /// Read special tokens in typed text as such, for example <|im_end|>; by default they stay
    /// text, and only those of the template count.
    #[arg(long)]
    pub parse_special: bool,

    /// Replace the file of --save if it exists; off by default.
    #[arg(long)]
    pub force: bool,

    /// Engine that computes the logits: `reference` reads every format, `llama` GGUF files and
    /// fragments, which are joined into the cache.
    #[arg(long, value_enum, default_value = "reference")]
    pub engine: EngineKind,

    /// Threads of llama.cpp; 0 uses all cores. For the reference pass set RAYON_NUM_THREADS.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,

    /// A tokenizer.json to use instead of the model's own.
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,

    /// How it generates; --max-tokens counts for each answer.
    #[command(flatten)]
    pub text: TextArgs,
}

/// The model and its engine.
#[derive(Debug, Clone, clap::Args)]
pub struct ModelArgs {
    /// A checkpoint folder, a run folder (its newest checkpoint), a GGUF file, a folder of
    /// fragments, or its address (https, s3, gs, az).
    #[arg(long, short, value_name = "PATH")]
    pub model: PathBuf,

    /// The text to continue.
    #[arg(long, value_name = "TEXT")]
    pub prompt: String,

    /// Engine that computes the logits: `reference` reads every format, `llama` GGUF files and
    /// fragments, which are joined into the cache.
    #[arg(long, value_enum, default_value = "reference")]
    pub engine: EngineKind,

    /// Threads of llama.cpp; 0 uses all cores. For the reference pass set RAYON_NUM_THREADS.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,

    /// A tokenizer.json to use instead of the model's own.
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
}

/// How one text is generated.
#[derive(Debug, Clone, clap::Args)]
pub struct TextArgs {
    /// Always take the most likely token; the same as --temperature 0.
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p"])]
    pub greedy: bool,

    /// Divide the logits: below 1 likely tokens become likelier, above 1 less likely, 0 is greedy.
    #[arg(long, value_name = "T", default_value_t = sampling::TEMPERATURE as f32)]
    pub temperature: f32,

    /// Choose among the K most likely tokens; 0 means all.
    #[arg(long, value_name = "K", default_value_t = sampling::TOP_K)]
    pub top_k: usize,

    /// Choose among the smallest set of tokens with probability P; 1 means all.
    #[arg(long, value_name = "P", default_value_t = sampling::TOP_P as f32)]
    pub top_p: f32,

    /// Reduce the probability of tokens that the context holds already; 1 does not.
    #[arg(long, value_name = "R", default_value_t = sampling::REPETITION_PENALTY as f32)]
    pub repetition_penalty: f32,

    /// When it ends.
    #[command(flatten)]
    pub length: LengthArgs,
}

/// The length of a text, and the seed of its random numbers.
#[derive(Debug, Clone, clap::Args)]
pub struct LengthArgs {
    /// Seed of the random numbers: equal seeds give equal texts.
    #[arg(long, value_name = "N", default_value_t = 123)]
    pub seed: u64,

    /// Generate at most this many tokens; the text ends earlier at the model's end-of-text token or
    /// when its context is full.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub max_tokens: usize,
}

/// Several texts.
#[derive(Debug, clap::Args)]
pub struct CompareArgs {
    /// The model and its prompt.
    #[command(flatten)]
    pub model: ModelArgs,

    /// A strategy: greedy, or temperature=T, top-k=K, top-p=P, repetition-penalty=R joined by
    /// commas. May be given several times [default: six common ones].
    #[arg(long = "strategy", value_name = "SETTINGS")]
    pub strategies: Vec<Sampling>,

    /// When they end.
    #[command(flatten)]
    pub length: LengthArgs,
}

/// A picture.
#[derive(Debug, clap::Args)]
pub struct TemperatureArgs {
    /// The model and its prompt.
    #[command(flatten)]
    pub model: ModelArgs,

    /// The PDF to write.
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,

    /// Temperatures to draw, all above 0.
    #[arg(long, value_name = "T,T,...", value_delimiter = ',', default_value = "0.5,1,2,5")]
    pub temperatures: Vec<f32>,

    /// Number of the most likely tokens to draw, at most 30.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub tokens: usize,

    /// Replace the PDF if it exists.
    #[arg(long)]
    pub force: bool,
}

/// The result of a command.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Report {
    /// One text.
    Text(TextReport),
    /// Several texts.
    Compare(CompareReport),
    /// The numbers of a picture.
    Temperature(TemperatureReport),
    /// A conversation.
    Chat(ChatReport),
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Report::Text(report) => report.fmt(f),
            Report::Compare(report) => report.fmt(f),
            Report::Temperature(report) => report.fmt(f),
            Report::Chat(report) => report.fmt(f),
        }
    }
}

/// Runs the command: text is written to stdout while it is generated (unless JSON was asked for),
/// the speed to stderr.
///
/// # Errors
/// Invalid settings or input; the message names what was expected.
pub fn run(args: Args) -> Result<Report> {
    match (args.verb, args.model) {
        (Some(Verb::Compare(args)), _) => {
            let report = compare(&args.into())?;
            eprintln!("{}", report.summary());
            Ok(Report::Compare(report))
        }
        (Some(Verb::TemperaturePlot(args)), _) => {
            let report = temperature_plot(&args.into())?;
            eprintln!("the prompt was read in {:.3} s", report.first_token_s);
            Ok(Report::Temperature(report))
        }
        (Some(Verb::Chat(chat_args)), _) => chat(&chat_args.job()?, args.json).map(Report::Chat),
        (None, Some(model)) => run_text(&args.text.job(model), args.json),
        (None, None) => anyhow::bail!("nothing to do: pass --model PATH and --prompt TEXT"),
    }
}

fn run_text(job: &GenerateJob, json: bool) -> Result<Report> {
    let mut stdout = std::io::stdout().lock();
    let mut report = generate(job, &mut |piece| {
        if !json {
            stdout.write_all(piece.as_bytes())?;
            stdout.flush()?;
        }
        Ok(())
    })?;
    report.shown = !json;
    drop(stdout);
    // On a terminal the last line of the text is not ended yet.
    eprintln!("{}{}", if json { "" } else { "\n" }, report.summary());
    Ok(Report::Text(report))
}

impl ModelArgs {
    fn job(&self) -> ModelJob {
        ModelJob {
            path: self.model.clone(),
            tokenizer: self.tokenizer.clone(),
            engine: self.engine,
            threads: self.threads,
        }
    }
}

impl TextArgs {
    fn sampling(&self) -> Sampling {
        Sampling {
            temperature: if self.greedy { 0.0 } else { self.temperature },
            top_k: self.top_k,
            top_p: self.top_p,
            repetition_penalty: self.repetition_penalty,
        }
    }

    fn job(&self, model: ModelArgs) -> GenerateJob {
        GenerateJob {
            model: model.job(),
            prompt: model.prompt,
            sampling: self.sampling(),
            seed: self.length.seed,
            max_tokens: self.length.max_tokens,
        }
    }
}

impl ChatArgs {
    fn job(self) -> Result<ChatJob> {
        let (path, engine) = match (self.bundle, self.model) {
            (Some(bundle), _) => {
                let variant = self.variant.as_deref();
                (bundled::gguf_of(&bundle, variant, &bundled::cache_folder()?)?, EngineKind::Llama)
            }
            (None, Some(model)) => (model, self.engine),
            (None, None) => bail!("expected --model or --bundle"),
        };
        Ok(ChatJob {
            model: ModelJob { path, tokenizer: self.tokenizer, engine, threads: self.threads },
            sampling: self.text.sampling(),
            system: self.system,
            save: self.save,
            resume: self.resume,
            template: self.template,
            plain: self.plain,
            parse_special: self.parse_special,
            force: self.force,
            seed: self.text.length.seed,
            max_tokens: self.text.length.max_tokens,
        })
    }
}

impl From<CompareArgs> for CompareJob {
    fn from(args: CompareArgs) -> Self {
        let usual = args.strategies.is_empty();
        CompareJob {
            model: args.model.job(),
            prompt: args.model.prompt,
            strategies: if usual { usual_strategies() } else { args.strategies },
            seed: args.length.seed,
            max_tokens: args.length.max_tokens,
        }
    }
}

impl From<TemperatureArgs> for TemperatureJob {
    fn from(args: TemperatureArgs) -> Self {
        TemperatureJob {
            model: args.model.job(),
            prompt: args.model.prompt,
            temperatures: args.temperatures,
            tokens: args.tokens,
            output: args.output,
            force: args.force,
        }
    }
}
