//! What goes to stderr besides the error that ends a command: progress, notes and the log.

use tracing::Level;
use tracing_subscriber::EnvFilter;

/// The target under which progress and notes are switched on and off.
const PROGRESS: &str = "progress";

/// How much a command says.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Verbosity {
    /// Show no progress, notes or warnings on stderr [default: they are shown].
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Log more on stderr: -v level info, -vv level debug; RUST_LOG has precedence [default: warn].
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

impl Verbosity {
    /// Starts the log on stderr, once in a process; `RUST_LOG` says what is logged where it is set.
    pub fn start_log(self) {
        let filter = EnvFilter::try_from_default_env()
            .unwrap_or_else(|_| EnvFilter::new(self.level().as_str()));
        let filter = match format!("{PROGRESS}={}", self.progress()).parse() {
            Ok(directive) => filter.add_directive(directive),
            Err(_) => filter,
        };
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }

    fn level(self) -> Level {
        match self.verbose {
            _ if self.quiet => Level::ERROR,
            0 => Level::WARN,
            1 => Level::INFO,
            _ => Level::DEBUG,
        }
    }

    fn progress(self) -> &'static str {
        if self.quiet { "off" } else { "info" }
    }
}

/// Whether progress is shown: not with `--quiet`, and not where no command has started the log.
pub(crate) fn shows_progress() -> bool {
    tracing::enabled!(target: PROGRESS, Level::INFO)
}
