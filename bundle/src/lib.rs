//! Packs what the device needs: one folder (or one `.zip`) with the model in fragments, its
//! tokenizer and licence, the measurements of `eval`, and a self-test.
//!
//! ```text
//! bundle.json             everything the app needs to choose a variant, and every file's hashes
//! model/                  Q4_K_M.manifest.json, Q8_0.manifest.json, <blake3>.dat shared by them
//! tokenizer.json  generation_config.json  LICENSE  MODEL_CARD.md
//! app/                    the web chat, with everything it loads
//! bundle.sig              signature of bundle.json (optional)
//! ```
//!
//! The self-test runs the model that was packed, from the fragments that were packed, through
//! `reference`: that is why this crate uses it, and `data` for the prompt's tokens, which are those
//! that the GGUF's own keys give, as on the device.

mod app;
mod archive;
mod card;
mod device;
mod estimate;
mod failed_once;
mod files;
mod inputs;
mod keys;
mod license;
pub mod manifest;
mod memory;
mod pack;
mod plan;
mod planned;
mod quality;
mod report;
mod self_test;
pub mod serve;
mod signature;
mod signed_output;
mod source_license;
mod statement;
mod static_site;
mod training;
mod verify;

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use checkpoint::RunLock;
use serde::Serialize;

pub use app::{digest as app_digest, is_built as has_app};
pub use inputs::Inputs;
pub use keys::{KeyReport, keygen};
pub use license::License;
pub use manifest::{BundleManifest, Generation, Provenance, Quality, TaskScore};
pub use memory::{MemoryNeed, compute_bytes, kv_cache_bytes};
pub use pack::{AppChoice, PackJob, VariantInput, pack};
pub use plan::{DevicePlan, PlanReport, PlannedVariant, budget, candidates, plan, proposed};
pub use planned::{Candidate, Planned};
pub use quality::{Measured, MeasuredFile};
pub use report::{PackReport, SelfTestResult, VerifyReport};
pub use self_test::continuation;
pub use serve::{Certificate, HostName, Limits, Reach, ServeJob, ServeReport, serve, serve_routes};
pub use signature::{SignReport, sign, signer};
pub use statement::{StatementReport, revoke_key, rotate_key};
pub use static_site::{StaticReport, export_static};
pub use training::TrainingNeed;
pub use verify::{Demands, read_manifest, verify, verify_as};

/// Plans, packs and verifies what goes onto the device.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// Print the report as JSON instead of a table.
    #[arg(long, global = true)]
    pub json: bool,
}

/// The report of whichever command ran.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Report {
    /// Of `pack`.
    Pack(PackReport),
    /// Of `verify`.
    Verify(VerifyReport),
    /// Of `plan`.
    Plan(PlanReport),
    /// Of `keygen`.
    Key(KeyReport),
    /// Of `sign`.
    Sign(SignReport),
    /// Of `rotate-key` and `revoke-key`.
    Statement(StatementReport),
    /// Of `serve`.
    Serve(ServeReport),
    /// Of `export-static`.
    Static(StaticReport),
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::Pack(report) => report.fmt(f),
            Report::Verify(report) => report.fmt(f),
            Report::Plan(report) => report.fmt(f),
            Report::Key(report) => report.fmt(f),
            Report::Sign(report) => report.fmt(f),
            Report::Statement(report) => report.fmt(f),
            Report::Serve(report) => report.fmt(f),
            Report::Static(report) => report.fmt(f),
        }
    }
}

/// The commands of this crate.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Verb {
    /// Put a measured model together for the device
    #[command(after_help = "Examples:
  bundle pack --run runs/quickstart --output pocket
  bundle pack --variant Q8_0=model-Q8_0.gguf --tokenizer tokenizer.json --output pocket")]
    Pack(PackArgs),
    /// Check every file, then let every variant continue the self-test's prompt
    #[command(after_help = "Examples:
  bundle verify --input pocket
  bundle verify --input pocket.zip --key release.pem.pub --at-least 3")]
    Verify(VerifyArgs),
    /// Make a key to sign bundles with
    #[command(after_help = "Example: bundle keygen --output release.pem")]
    Keygen {
        /// File of the secret key; the public one gets .pub added to its name
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
        /// Replace the files if they exist (off)
        #[arg(long)]
        force: bool,
    },
    /// Sign a bundle that states its release, so that an app can tell who made it
    #[command(after_help = "Examples:
  bundle sign --input pocket --key release.pem
  bundle sign --input pocket --key new.pem --statement new.json")]
    Sign {
        /// The bundle's folder; its .zip, where it has one, is signed too
        #[arg(long, short, value_name = "DIR")]
        input: PathBuf,
        /// The secret key that keygen wrote
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Statement of rotate-key or revoke-key to pass on with the bundle; may be given several
        /// times (none)
        #[arg(long, value_name = "FILE")]
        statement: Vec<PathBuf>,
        /// Replace a signature that is there (off)
        #[arg(long)]
        force: bool,
    },
    /// State that another key takes the place of this one
    #[command(after_help = "Example: bundle rotate-key --key release.pem --new-key new.pem.pub \
--output new.json")]
    RotateKey {
        /// The secret key that is replaced
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The public key that takes its place
        #[arg(long, value_name = "FILE")]
        new_key: PathBuf,
        /// File of the statement, for sign --statement
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
        /// Replace the output if it exists (off)
        #[arg(long)]
        force: bool,
    },
    /// State that nothing counts any more which this key signed
    #[command(after_help = "Example: bundle revoke-key --key release.pem --output revoked.json")]
    RevokeKey {
        /// The secret key that is revoked
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// File of the statement, for sign --statement and verify --statement
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
        /// Replace the output if it exists (off)
        #[arg(long)]
        force: bool,
    },
    /// Serve the web chat and the model to a browser
    #[command(after_help = "Examples:
  bundle serve --input pocket
  bundle serve --input pocket --lan")]
    Serve(ServeArgs),
    /// Copy a bundle to a folder that any web host can serve
    #[command(after_help = "Example: bundle export-static --input pocket --output site")]
    ExportStatic {
        /// The bundle's folder
        #[arg(long, short, value_name = "DIR")]
        input: PathBuf,
        /// Folder to write
        #[arg(long, short, value_name = "DIR")]
        output: PathBuf,
        /// Replace the output if it exists (off)
        #[arg(long)]
        force: bool,
    },
    /// Show what training and running the model take, and which variant fits which device
    #[command(after_help = "Examples:
  bundle plan --config configs/hessgpt-0.5b.toml --context 512
  bundle plan --input model-Q8_0.gguf --input model-Q4_K_M.gguf")]
    Plan {
        /// Run file, GGUF, fragments folder or bundle; several GGUFs of one model may be given
        #[arg(long, short, visible_alias = "config", value_name = "PATH", required = true)]
        input: Vec<PathBuf>,
        /// Tokens of context (all that the model has)
        #[arg(long, value_name = "TOKENS")]
        context: Option<usize>,
        /// Tokens of the vocabulary, where a run file leaves it open (what its tokenizer has)
        #[arg(long, value_name = "TOKENS")]
        vocab_size: Option<usize>,
    },
}

/// The flags of `verify`.
#[derive(Debug, Clone, clap::Args)]
pub struct VerifyArgs {
    /// The bundle's folder or .zip
    #[arg(long, short, value_name = "PATH")]
    pub input: PathBuf,
    /// Require a signature by this public key, or by one that it says replaces it (none)
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Require this release or a later one (any)
    #[arg(long, value_name = "N", requires = "key")]
    pub at_least: Option<u64>,
    /// Statement of rotate-key or revoke-key that counts besides those in the bundle; may be given
    /// several times (none)
    #[arg(long, value_name = "FILE")]
    pub statement: Vec<PathBuf>,
    /// Take a bundle whose last day is past (off)
    #[arg(long)]
    pub allow_expired: bool,
}

/// The flags of `serve`.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeArgs {
    /// The bundle's folder
    #[arg(long, short, value_name = "DIR")]
    pub input: PathBuf,
    /// TCP port; 0 takes any that is free
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub port: u16,
    /// Serve this network over HTTPS, not this machine alone over HTTP (off)
    #[arg(long)]
    pub lan: bool,
    /// Answer to this name of the machine too; may be repeated (localhost and its addresses)
    #[arg(long, value_name = "NAME")]
    pub host: Vec<HostName>,
    /// PEM certificate that the devices trust, for --lan (one that is made and kept)
    #[arg(long, value_name = "FILE", requires = "lan", requires = "certificate_key")]
    pub certificate: Option<PathBuf>,
    /// PEM key of the certificate (none)
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub certificate_key: Option<PathBuf>,
    /// Folder where the made certificate is kept (pocketgpt/serve in the user's state folder)
    #[arg(long, value_name = "DIR", requires = "lan", conflicts_with = "certificate")]
    pub certificate_folder: Option<PathBuf>,
}

impl ServeArgs {
    fn job(self) -> anyhow::Result<ServeJob> {
        let certificate = match (self.certificate, self.certificate_key) {
            (Some(chain), Some(key)) => Certificate::Files { chain, key },
            _ => Certificate::Kept { folder: self.certificate_folder },
        };
        let reach = if self.lan { Reach::Lan(certificate) } else { Reach::Loopback };
        let limits = Limits::of_this_process()?;
        Ok(ServeJob { input: self.input, port: self.port, reach, hosts: self.host, limits })
    }
}

/// The flags of `pack`: a run folder, or files one by one.
#[derive(Debug, Clone, clap::Args)]
pub struct PackArgs {
    /// Run folder with config.toml, checkpoints, report.json and fragments or GGUFs
    #[arg(long, value_name = "DIR", conflicts_with_all = ["variant", "tokenizer", "report", "name",
        "license", "license_file", "prompt", "self_test_tokens", "max_bytes"])]
    pub run: Option<PathBuf>,
    /// A variant and its GGUF or fragments folder; may be given several times
    #[arg(long, value_name = "RECIPE=PATH", required_unless_present = "run")]
    pub variant: Vec<String>,
    /// tokenizer.json of the model
    #[arg(long, value_name = "FILE", required_unless_present = "run")]
    pub tokenizer: Option<PathBuf>,
    /// report.json of eval; without it no quality is claimed (none)
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Folder to write (RUN/bundle with --run)
    #[arg(long, short, value_name = "DIR", required_unless_present = "run")]
    pub output: Option<PathBuf>,
    /// Name shown to the user
    #[arg(long, value_name = "TEXT", default_value = "pocketgpt")]
    pub name: String,
    /// SPDX expression for the weights (what README.md or LICENSE beside the tokenizer says)
    #[arg(long, value_name = "SPDX")]
    pub license: Option<String>,
    /// File with the text of a licence that is not on SPDX's list; --license names it
    /// LicenseRef-NAME (none)
    #[arg(long, value_name = "FILE")]
    pub license_file: Option<PathBuf>,
    /// Which release of this model it is: 1, 2, 3 ...; a bundle without one cannot be signed (what
    /// the run file says, or none)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(config::RELEASES))]
    pub release: Option<u64>,
    /// Last day, in UTC, on which devices should install it (what the run file says, or none)
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    pub expires: Option<String>,
    /// Text that the self-test continues
    #[arg(long, value_name = "TEXT", default_value = "Every effort moves you")]
    pub prompt: String,
    /// Tokens that the self-test expects
    #[arg(long, value_name = "TOKENS", default_value_t = 16)]
    pub self_test_tokens: usize,
    /// Most bytes in one fragment (10 MiB), where a variant is a GGUF
    #[arg(long, value_name = "BYTES", default_value_t = 10 << 20)]
    pub max_bytes: u64,
    /// Also write OUTPUT.zip (off, or as the run file says)
    #[arg(long)]
    pub zip: bool,
    /// Replace the output if it exists; a signature that holds for the new bundle too is kept, one
    /// that does not is named (off)
    #[arg(long)]
    pub force: bool,
    /// Leave the web chat out (off)
    #[arg(long)]
    pub no_app: bool,
}

/// Runs the command. If `verify` finds a problem, the report is printed to stdout, file by file,
/// before the error ends the process.
///
/// # Errors
/// Those of the command.
pub fn run(args: Args) -> anyhow::Result<Report> {
    match args.verb {
        Verb::Pack(pack_args) => {
            let _lock = lock(&pack_args)?;
            pack(&pack_job(pack_args)?).map(Report::Pack)
        }
        Verb::Verify(VerifyArgs { input, key, at_least, statement, allow_expired }) => {
            let demands = Demands { key, at_least, statements: statement, allow_expired };
            let report = verify_as(&input, &demands)?;
            if let Err(error) = report.require_sound() {
                // The exit code must be right even if stdout is closed.
                cli::print_report(&report, args.json).ok();
                return Err(error);
            }
            Ok(Report::Verify(report))
        }
        Verb::Keygen { output, force } => keygen(&output, force).map(Report::Key),
        Verb::Sign { input, key, statement, force } => {
            sign(&input, &key, &statement, force).map(Report::Sign)
        }
        Verb::RotateKey { key, new_key, output, force } => {
            rotate_key(&key, &new_key, &output, force).map(Report::Statement)
        }
        Verb::RevokeKey { key, output, force } => {
            revoke_key(&key, &output, force).map(Report::Statement)
        }
        Verb::Serve(serve_args) => {
            serve(&serve_args.job()?, &cli::Interrupt::install()?).map(Report::Serve)
        }
        Verb::ExportStatic { input, output, force } => {
            export_static(&input, &output, force).map(Report::Static)
        }
        Verb::Plan { input, context, vocab_size } => {
            plan_inputs(&input, context, vocab_size).map(Report::Plan)
        }
    }
}

/// The run folder, if the bundle is written into it.
fn lock(args: &PackArgs) -> anyhow::Result<Option<RunLock>> {
    let (Some(run), None) = (&args.run, &args.output) else { return Ok(None) };
    if !run.is_dir() {
        return Ok(None); // which is refused with more words later
    }
    let lock = RunLock::take(run, "bundle pack");
    lock.map(Some)
        .map_err(|error| anyhow::anyhow!("{error}; --output DIR writes the bundle elsewhere"))
}

fn pack_job(args: PackArgs) -> anyhow::Result<PackJob> {
    let license_sources = license_sources(&args);
    let mut job = match args.run {
        Some(run) => PackJob::from_run(&run, args.output)?,
        None => {
            let inputs = Inputs {
                license_sources,
                variants: args
                    .variant
                    .iter()
                    .map(|text| variant(text))
                    .collect::<Result<_, _>>()?,
                tokenizer: args.tokenizer.context("--tokenizer is missing")?,
                report: args.report,
                name: args.name,
                license: args.license,
                license_file: args.license_file,
                prompt: args.prompt,
                self_test_tokens: args.self_test_tokens,
                max_bytes: args.max_bytes,
            };
            PackJob::from_inputs(inputs, args.output.context("--output is missing")?)?
        }
    };
    job.zip |= args.zip;
    job.release = args.release.or(job.release);
    job.expires = args.expires.or(job.expires);
    job.force = args.force;
    job.replace_signed = args.force;
    job.app = if args.no_app { AppChoice::Left } else { AppChoice::Required };
    Ok(job)
}

/// The folders of the tokenizer and of the variants.
fn license_sources(args: &PackArgs) -> Vec<PathBuf> {
    let variants = args.variant.iter().filter_map(|text| variant(text).ok());
    let files = args.tokenizer.clone().into_iter().chain(variants.map(|(_, path)| path));
    files.filter_map(|file| Some(file.parent()?.to_owned())).collect()
}

fn day(text: &str) -> Result<String, String> {
    if config::is_day(text) {
        return Ok(text.to_owned());
    }
    Err(format!("expected {}", config::DAY_FORM))
}

fn variant(text: &str) -> anyhow::Result<(String, PathBuf)> {
    let (recipe, path) = text.split_once('=').with_context(|| {
        format!("--variant {text}: expected RECIPE=PATH, for example Q8_0=a.gguf")
    })?;
    Ok((recipe.to_owned(), PathBuf::from(path)))
}

fn plan_inputs(
    inputs: &[PathBuf],
    context: Option<usize>,
    vocab_size: Option<usize>,
) -> anyhow::Result<PlanReport> {
    let mut model: Option<Planned> = None;
    for input in inputs {
        let found = candidates(input, vocab_size)?;
        match &mut model {
            None => model = Some(found),
            Some(first) => {
                let same = first.config == found.config;
                ensure!(same, "{} is another model than the first input", input.display());
                first.candidates.extend(found.candidates);
            }
        }
    }
    let model = model.context("--input is missing")?;
    let limit = model.config.context_length;
    let context = context.unwrap_or(limit);
    ensure!(
        (1..=limit).contains(&context),
        "--context {context}: expected 1 to the model's {limit}"
    );
    Ok(plan(&model, context))
}
