//! A GGUF in pieces that a phone can fetch, resume, verify and share.
//!
//! ```text
//! model.gguf --split--> <blake3>.dat ... + manifest.json --join--> model.gguf (byte for byte)
//!                                |
//!                                +--FragmentFolder--> tensors, without joining
//! ```
//!
//! Pieces are named by their content, so variants of a model that share bytes share files, and a
//! piece that arrived once never has to be fetched again.

mod error;
mod folder;
mod inspect;
mod join;
pub mod manifest;
mod packing;
mod pieces;
mod report;
mod split;
mod verify;
mod whole;

use std::path::PathBuf;

pub use error::{ManifestError, PieceError};
pub use folder::{FragmentFolder, Located, open_source, open_weights, read_manifest};
pub use inspect::inspect;
pub use join::{JoinJob, join};
pub use manifest::{Fragment, Manifest, Shard, Tensor, TensorKind, WholeFile, is_device_name};
pub use packing::pack;
pub use pieces::{Pieces, open_plain};
pub use report::{
    InspectReport, JoinReport, Problem, ProblemKind, Report, SplitReport, VerifyReport,
};
pub use split::{SplitJob, guard_replaced, split, split_into};
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
    #[command(after_help = "Example: fragment verify --input pieces")]
    Verify {
        /// Folder with one or more manifests, or a manifest
        #[arg(long, short, value_name = "DIR")]
        input: PathBuf,
    },
    /// Show the file, its tensors and where they lie
    #[command(after_help = "Example: fragment inspect --input pieces")]
    Inspect {
        /// Folder with manifest.json, or a manifest
        #[arg(long, short, value_name = "DIR")]
        input: PathBuf,
    },
}

/// Runs the command. If `verify` finds a problem, the report is printed to stdout, piece by piece,
/// before the error ends the process.
///
/// # Errors
/// Those of the command.
pub fn run(args: Args) -> anyhow::Result<Report> {
    match args.verb {
        Verb::Split { input, output, max_bytes, force } => {
            split(&SplitJob { input, output, max_bytes, force }).map(Report::Split)
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
        Verb::Inspect { input } => inspect(&input).map(Report::Inspect),
    }
}
