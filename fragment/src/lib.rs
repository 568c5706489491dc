//! A GGUF in pieces that a phone can fetch, resume, verify and share.
//!
//! ```text
//! model.gguf --split--> <blake3>.dat ... + manifest.json --join--> model.gguf (byte for byte)
//!                                |    ^
//!                                |    +--push, pull--> s3://, gs://, az://, https://
//!                                +--FragmentFolder--> tensors, without joining
//! ```
//!
//! Pieces are read through [`PieceSource`]: from a folder ([`FolderSource`]), or from other places
//! through a cache ([`RemoteSource`]). What a place sends ([`transport::Transport`]) is verified
//! before it is stored or used.
//!
//! Pieces are named by their content, so variants of a model that share bytes share files, and a
//! piece that arrived once never has to be fetched again.

mod address;
mod cache;
mod error;
mod extract;
mod fetch;
mod folder;
mod inspect;
mod join;
pub mod manifest;
mod mirrors;
#[cfg(feature = "network")]
mod objects;
mod packing;
mod pieces;
mod pull;
mod push;
mod remote;
mod report;
mod source;
mod split;
pub mod transport;
pub mod tree;
mod verify;
mod whole;

use std::path::PathBuf;

use anyhow::Context;
use transport::Patience;

pub use address::{AddressError, Origin, Place, is_address};
pub use cache::Cache;
pub use error::{ManifestError, PieceError};
pub use extract::{ExtractJob, ExtractReport, extract, read_tensor};
pub use folder::{FragmentFolder, Located, is_fragments, open_source, open_weights, read_manifest};
pub use inspect::inspect;
pub use join::{JoinJob, join};
pub use manifest::{Fragment, Manifest, Shard, Tensor, TensorKind, WholeFile, is_device_name};
pub use mirrors::{FetchedManifest, Mirrors, SourceReport};
pub use packing::pack;
pub use pieces::{Pieces, open_plain};
pub use pull::{PullJob, PullReport, pull};
pub use push::{PushJob, PushReport, push};
pub use remote::{RemoteSource, local, local_in, open_remote, whole_file, whole_file_in};
pub use report::{
    InspectReport, JoinReport, Problem, ProblemKind, Report, SplitReport, VerifyReport,
};
pub use source::{FolderSource, PieceSource};
pub use split::{SplitJob, add_trees, guard_replaced, split, split_into};
pub use verify::{verify, verify_whole};
pub use whole::digests;

/// Cuts a GGUF into pieces, joins, verifies and describes them.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// Print the report as JSON instead of a table.
    #[arg(long, global = true)]
    pub json: bool,
}

/// The commands of this crate.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Verb {
    /// Cut a GGUF into pieces with a manifest
    #[command(after_help = "Example: fragment split --input model-Q8_0.gguf --output pieces")]
    Split {
        /// The GGUF file; of a model in several, any part: they are joined
        #[arg(long, short, value_name = "FILE")]
        input: PathBuf,
        /// Folder for the pieces and manifest.json
        #[arg(long, short, value_name = "DIR")]
        output: PathBuf,
        /// Most bytes in one piece (10 MiB)
        #[arg(long, value_name = "BYTES", default_value_t = 10 << 20)]
        max_bytes: u64,
        /// Also write a BLAKE3 tree beside each piece, with which a part of it can be verified:
        /// for folders that a web server serves [default: only push makes them]
        #[arg(long)]
        trees: bool,
        /// Replace the folder if it exists [default: refuse]
        #[arg(long)]
        force: bool,
    },
    /// Join pieces into the file they were cut from
    #[command(after_help = "Example: fragment join --input pieces --output model-Q8_0.gguf")]
    Join {
        /// Folder with manifest.json, or a manifest
        #[arg(long, short, value_name = "DIR")]
        input: PathBuf,
        /// The GGUF file to write
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
        /// Replace the file if it exists [default: refuse]
        #[arg(long)]
        force: bool,
    },
    /// Name every damaged, missing or foreign piece
    #[command(after_help = "Examples: fragment verify --input pieces
          fragment verify --from https://example.org/model")]
    Verify {
        /// Folder with one or more manifests, a manifest, or an address
        #[arg(long, short, visible_alias = "from", value_name = "DIR")]
        input: PathBuf,
    },
    /// Show the file, its tensors and where they lie
    #[command(after_help = "Examples: fragment inspect --input pieces
          fragment inspect s3://bucket/model")]
    Inspect {
        /// Folder with manifest.json, a manifest, or an address
        #[arg(value_name = "DIR", required_unless_present = "input", conflicts_with = "input")]
        place: Option<PathBuf>,
        /// The same as a flag
        #[arg(long, short, value_name = "DIR")]
        input: Option<PathBuf>,
    },
    /// Write the bytes of one tensor
    #[command(after_help = "Example: fragment extract --input https://example.org/model \
          --tensor output_norm.weight --output norm.bin")]
    Extract {
        /// Folder with manifest.json, a manifest, or an address
        #[arg(long, short, value_name = "DIR")]
        input: PathBuf,
        /// Name of the tensor
        #[arg(long, value_name = "NAME")]
        tensor: String,
        /// The file to write
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
        /// Replace the file if it exists [default: refuse]
        #[arg(long)]
        force: bool,
    },
    /// Store a model in pieces at an address; what is there stays
    #[command(after_help = "Example: fragment push --input pieces --to s3://bucket/model

Credentials and endpoints are read from the environment: AWS_..., GOOGLE_... or AZURE_...")]
    Push {
        /// Folder with manifest.json, or a manifest
        #[arg(long, short, value_name = "DIR")]
        input: PathBuf,
        /// Address: s3://BUCKET/PATH, gs://BUCKET/PATH or az://CONTAINER/PATH
        #[arg(long, value_name = "URL")]
        to: PathBuf,
        /// Longest time without an answer, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 30)]
        timeout: u64,
    },
    /// Fetch a model in pieces into a folder; what is there is kept
    #[command(after_help = "Example: fragment pull --from https://example.org/model \
          --from s3://bucket/model --output pieces")]
    Pull {
        /// Address (https, http, s3, gs, az) or folder of the pieces; behind # the BLAKE3 of the
        /// manifest. May be repeated: a piece that one lacks is taken from the next
        #[arg(long, value_name = "URL", required = true)]
        from: Vec<PathBuf>,
        /// Folder for the pieces and the manifest
        #[arg(long, short, value_name = "DIR")]
        output: PathBuf,
        /// Longest time without a byte from a source, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 30)]
        timeout: u64,
    },
}

/// Runs the command. If `verify` finds a problem, the report is printed to stdout, piece by piece,
/// before the error ends the process.
///
/// # Errors
/// Those of the command.
pub fn run(args: Args) -> anyhow::Result<Report> {
    match args.verb {
        Verb::Split { input, output, max_bytes, trees, force } => {
            let report = split(&SplitJob { input, output, max_bytes, force })?;
            if trees {
                add_trees(&report.output)?;
            }
            Ok(Report::Split(report))
        }
        Verb::Join { input, output, force } => {
            join(&JoinJob { input, output, force }).map(Report::Join)
        }
        Verb::Verify { input } => {
            let report = verify(&input)?;
            if let Err(error) = report.require_sound() {
                // The exit code must be right even if stdout is closed.
                cli::print_report(&report, args.json).ok();
                return Err(error);
            }
            Ok(Report::Verify(report))
        }
        Verb::Inspect { place, input } => {
            let input = place.or(input).context("the folder or address is missing")?;
            inspect(&input).map(Report::Inspect)
        }
        Verb::Extract { input, tensor, output, force } => {
            extract(&ExtractJob { input, tensor, output, force }).map(Report::Extract)
        }
        Verb::Push { input, to, timeout } => {
            let (to, patience) = (Origin::parse(&to)?, patience(timeout)?);
            let interrupt = cli::Interrupt::install()?;
            push(&PushJob { input, to, patience, interrupt }).map(Report::Push)
        }
        Verb::Pull { from, output, timeout } => {
            let from = from.iter().map(|from| Origin::parse(from));
            let from = from.collect::<Result<Vec<_>, _>>()?;
            let patience = patience(timeout)?;
            let interrupt = cli::Interrupt::install()?;
            pull(&PullJob { from, output, patience, interrupt }).map(Report::Pull)
        }
    }
}

fn patience(seconds: u64) -> anyhow::Result<Patience> {
    anyhow::ensure!((1..=3600).contains(&seconds), "--timeout {seconds}: expected 1 to 3600");
    Ok(Patience { stall: std::time::Duration::from_secs(seconds) })
}
