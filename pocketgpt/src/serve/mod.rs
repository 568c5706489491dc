//! `pocketgpt serve`: a model behind the HTTP interface that OpenAI's clients speak.
//!
//! | module | |
//! |---|---|
//! | `request` | what a client may ask, and what is refused by name |
//! | `answer` | the JSON of answers, in one piece and in parts, and of errors |
//! | `stop_texts` | texts that end an answer |
//! | `worker` | the one thread that has the model, and takes one request after the other |
//! | `routes` | which paths exist |

mod answer;
mod request;
mod routes;
mod stop_texts;
mod worker;

use std::path::PathBuf;
use std::time::Duration;

use bundle::{HostName, Limits, serve_routes};
use generate::EngineKind;
use generate::chat::bundled;
use serde::Serialize;

pub const EXAMPLES: &str = "Examples:
  pocketgpt serve --bundle runs/assistant/bundle
  pocketgpt serve --model model-Q4_K_M.gguf --port 8080
  curl http://127.0.0.1:8080/v1/chat/completions -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'";

/// A client that waits for a whole answer sees nothing until it is there.
const PATIENCE: Duration = Duration::from_secs(3600);

/// The flags of `serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A GGUF file, a checkpoint, run or Hugging Face folder, or a folder of pieces.
    #[arg(long, short, value_name = "PATH", required_unless_present = "bundle")]
    pub model: Option<PathBuf>,

    /// A bundle's folder, instead of --model: its model is joined once into the user's cache.
    #[arg(long, value_name = "DIR", conflicts_with = "model")]
    pub bundle: Option<PathBuf>,

    /// Variant of the bundle [default: the largest]
    #[arg(long, value_name = "RECIPE", requires = "bundle")]
    pub variant: Option<String>,

    /// Engine that computes the logits: llama reads GGUF files, reference every format.
    #[arg(long, value_enum, default_value = "llama")]
    pub engine: EngineKind,

    /// Threads of llama.cpp; 0 uses all cores.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,

    /// TCP port of 127.0.0.1; 0 takes any that is free.
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub port: u16,

    /// Another name of this machine that is answered, beside localhost; may be repeated [default: none]
    #[arg(long = "host", value_name = "NAME")]
    pub hosts: Vec<HostName>,

    /// Key that clients must send; better in the variable than on the command line [default: none]
    #[arg(long, value_name = "KEY", env = "POCKETGPT_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,

    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What was served.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Name of the model.
    pub model: String,
    /// Answers given.
    pub answers: u64,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} answers", self.model, cli::count(self.answers))
    }
}

/// Serves until Ctrl-C.
///
/// # Errors
/// When the model cannot be loaded, or the port is taken.
pub fn run(args: Args) -> anyhow::Result<Report> {
    let interrupt = cli::Interrupt::install()?;
    let (path, name) = model_of(&args)?;
    let job =
        generate::ModelJob { path, tokenizer: None, engine: args.engine, threads: args.threads };
    let (worker, thread) = worker::start(job, name.clone())?;
    let limits = Limits { idle: PATIENCE, ..Limits::of_this_process()? };
    let routes = routes::router(worker.clone(), args.api_key);
    serve_routes(routes, args.port, &args.hosts, limits, &interrupt, |address| {
        eprintln!("serving {name} at {address}/v1 (Ctrl-C stops)");
    })?;
    worker.end();
    let answers = worker.answers();
    drop(worker);
    thread.join().ok();
    Ok(Report { model: name, answers })
}

/// The model's path, and the name by which clients see it.
fn model_of(args: &Args) -> anyhow::Result<(PathBuf, String)> {
    let given = args.model.as_ref().or(args.bundle.as_ref());
    let name = given.and_then(|path| path.canonicalize().ok());
    let name = name.as_deref().and_then(|path| path.file_stem()).unwrap_or_default();
    let name = name.to_string_lossy().into_owned();
    match (&args.model, &args.bundle) {
        (Some(model), _) => Ok((model.clone(), name)),
        (None, Some(folder)) => {
            let cache = bundled::cache_folder()?;
            let path = bundled::gguf_of(folder, args.variant.as_deref(), &cache)?;
            let name = bundle::read_manifest(folder).map_or(name, |manifest| manifest.name);
            Ok((path, name))
        }
        (None, None) => anyhow::bail!("serve what? pass --model PATH or --bundle DIR"),
    }
}
