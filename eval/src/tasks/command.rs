//! `eval tasks` on the command line.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use checkpoint::atomic::write_file;
use config::{EvalTask, TaskKind};
use generate::EngineKind;

use super::{FORMAT, Sample, Task, TaskModel, TasksReport, VERSION, ask};
use crate::sweep::NamedFile;

/// Shown after the help text.
pub const EXAMPLES: &str = "\
Examples:
  eval tasks --model model-F32.gguf --model model-Q4_K_M.gguf hellaswag.jsonl arc.jsonl
  eval tasks --model runs/a --shots 5 --shots-from mmlu-dev.jsonl mmlu-test.jsonl
  eval tasks --model model.gguf --chat --max-tokens 400 --limit 100 gsm8k.jsonl

Files are JSON Lines, JSON, CSV or Parquet with the fields of one of these layouts:
  hellaswag        activity_label ctx_a ctx_b endings label
  arc              question choices.text choices.label answerKey
  piqa             goal sol1 sol2 label
  mmlu             question choices answer subject
  multiple-choice  query choices gold
  generate         question answer (GSM8K), or prompt|messages answer [pattern]

Prompts, metrics and standard errors are those of lm-evaluation-harness. Examples of --shots are the
first of their file, without the question itself.";

/// Measure what models can do: choices by likelihood, generated answers.
#[derive(Debug, Clone, clap::Args)]
pub struct TasksArgs {
    /// Files of questions: JSON Lines, JSON, CSV or Parquet
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Checkpoint, run or Hugging Face folder, GGUF or folder of pieces; may be repeated, and
    /// LABEL=PATH sets the name in the table
    #[arg(long = "model", short = 'm', value_name = "[LABEL=]PATH", required = true)]
    pub models: Vec<NamedFile>,
    /// Layout of the files: hellaswag, arc, piqa, mmlu, multiple-choice or generate [default:
    /// recognised from the fields]
    #[arg(long, value_name = "TASK")]
    pub task: Option<TaskKind>,
    /// Answered examples before each question
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub shots: usize,
    /// File of these examples, in the questions' layout [default: the file of the questions]
    #[arg(long, value_name = "FILE", requires = "shots")]
    pub shots_from: Option<PathBuf>,
    /// Ask the first questions of each file only [default: all]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Ask as a user of a chat, with the model's chat template [default: only for `messages`]
    #[arg(long)]
    pub chat: bool,
    /// Most tokens of a generated answer
    #[arg(long, value_name = "TOKENS", default_value_t = EvalTask::MAX_TOKENS as u32,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: u32,
    /// Text that ends a generated answer; may be repeated [default: an empty line after a prompt,
    /// "Question:" for GSM8K]
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Engine that computes the logits: auto is llama.cpp if every model is a GGUF file
    #[arg(long, value_enum, default_value_t = TasksEngine::Auto)]
    pub engine: TasksEngine,
    /// Tokens that a model reads at once; longer questions lose their beginning [default: the
    /// model's context]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    pub context: Option<u32>,
    /// A tokenizer.json to use instead of the models' own [default: none]
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// Threads that compute; 0 uses all cores
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub threads: usize,
    /// File for the report, as JSON [default: not saved]
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// File for every question with what the model said, one JSON object in a line [default: not
    /// saved]
    #[arg(long, value_name = "FILE")]
    pub log_samples: Option<PathBuf>,
    /// Replace existing files [default: refuse]
    #[arg(long)]
    pub force: bool,
}

/// Which engine to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TasksEngine {
    /// llama.cpp if every model is a GGUF file, otherwise the reference for all: figures of one
    /// table are of one engine.
    Auto,
    /// The plain Rust pass, which reads every format.
    Reference,
    /// llama.cpp, which reads GGUF files.
    Llama,
}

/// Asks every model the questions of every file, and saves the requested outputs.
///
/// # Errors
/// Those of [`ask`] and [`Task::read`], and when an output exists or cannot be written.
pub fn run(args: TasksArgs) -> Result<TasksReport> {
    for path in [&args.report, &args.log_samples].into_iter().flatten() {
        ensure!(args.force || !path.exists(), "{} exists: --force replaces it", path.display());
    }
    let tasks = args.files.iter().map(|path| Task::read(&args.spec(path), &args.stop));
    let tasks = tasks.collect::<Result<Vec<_>>>()?;
    let models = args.models()?;
    let interrupt = cli::Interrupt::install()?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.threads).build()?;
    let mut results = Vec::new();
    let mut samples: Vec<Sample> = Vec::new();
    for model in &models {
        let mut keep = |sample| {
            if args.log_samples.is_some() {
                samples.push(sample);
            }
        };
        results.extend(pool.install(|| ask(model, &tasks, &interrupt, &mut keep))?);
    }
    let program = env!("CARGO_PKG_VERSION").to_owned();
    let report = TasksReport { format: FORMAT.to_owned(), version: VERSION, program, results };
    if let Some(path) = &args.report {
        let mut json = serde_json::to_vec_pretty(&report)?;
        json.push(b'\n');
        save(path, args.force, |out| Ok(out.write_all(&json)?))?;
    }
    if let Some(path) = &args.log_samples {
        save(path, args.force, |out| {
            for sample in &samples {
                serde_json::to_writer(&mut *out, sample)?;
                out.write_all(b"\n")?;
            }
            Ok(())
        })?;
    }
    Ok(report)
}

impl TasksArgs {
    fn spec(&self, path: &Path) -> EvalTask {
        EvalTask {
            path: path.to_owned(),
            task: self.task,
            shots: self.shots,
            shots_from: self.shots_from.clone(),
            limit: self.limit.map(|limit| limit as usize),
            chat: self.chat,
            max_tokens: self.max_tokens as usize,
            ..EvalTask::default()
        }
    }

    fn models(&self) -> Result<Vec<TaskModel>> {
        let is_gguf =
            |path: &Path| path.is_file() && path.extension().is_none_or(|it| it != "json");
        let engine = match self.engine {
            TasksEngine::Reference => EngineKind::Reference,
            TasksEngine::Llama => EngineKind::Llama,
            TasksEngine::Auto => match self.models.iter().all(|model| is_gguf(&model.path)) {
                true => EngineKind::Llama,
                false => EngineKind::Reference,
            },
        };
        let mut models: Vec<TaskModel> = Vec::new();
        for model in &self.models {
            let label = model.label.clone().unwrap_or_else(|| super::file_name(&model.path));
            if let Some(other) = models.iter().find(|other| other.label == label) {
                bail!(
                    "{} and {} would both be called {label}: name one LABEL=PATH",
                    other.path.display(),
                    model.path.display()
                );
            }
            models.push(TaskModel {
                label,
                path: model.path.clone(),
                tokenizer: self.tokenizer.clone(),
                engine,
                threads: self.threads,
                context: self.context.map(|context| context as usize),
            });
        }
        Ok(models)
    }
}

fn save(
    path: &Path,
    overwrite: bool,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    write_file(path, overwrite, |out| write(out))
        .with_context(|| format!("cannot write {}", path.display()))
}
