//! What this machine has, and what that means for each stage.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use serde::Serialize;

/// Bytes that training holds for each parameter in f32: the weight, its gradient and AdamW's two
/// moments. Activations come on top and depend on the batch.
const TRAINING_BYTES_PER_PARAMETER: u64 = 16;

#[derive(clap::Args)]
pub struct Args {
    /// Look at the disk of this folder.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    folder: PathBuf,
    /// Print the report as JSON [default: a table].
    #[arg(long)]
    pub json: bool,
}

/// What was found. Bytes are `None` where the system does not tell.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The version of this program.
    version: &'static str,
    /// As the system names it.
    processor: Option<String>,
    /// Hardware threads that this process may use.
    threads: usize,
    /// The instruction sets that the kernels may use, slowest first.
    instruction_sets: Vec<String>,
    /// Whether training in bf16 is faster than in f32.
    multiplies_bf16: bool,
    /// All of it, and what programs can still get.
    memory_bytes: u64,
    available_memory_bytes: u64,
    /// Of the folder's disk.
    free_disk_bytes: Option<u64>,
    /// The backends of Burn that this program contains.
    backends: Vec<&'static str>,
    /// The device that `device = "auto"` takes.
    device: &'static str,
    /// The version of Node.js, which builds the web chat; not needed to run anything.
    node: Option<String>,
    /// Whether this program contains the web chat.
    web_chat: bool,
}

/// Looks at the machine; nothing is written.
pub fn run(args: Args) -> anyhow::Result<Report> {
    let folder = args.folder.canonicalize().map_err(|error| {
        anyhow::anyhow!("{}: {error}; name an existing folder", args.folder.display())
    })?;
    let system = sysinfo::System::new_with_specifics(
        sysinfo::RefreshKind::nothing()
            .with_memory(sysinfo::MemoryRefreshKind::nothing().with_ram())
            .with_cpu(sysinfo::CpuRefreshKind::nothing()),
    )
    .context("this machine cannot be looked at")?;
    let name = system.cpus().first().map(|cpu| cpu.brand().trim().to_owned());
    Ok(Report {
        version: env!("CARGO_PKG_VERSION"),
        processor: name.filter(|name| !name.is_empty()),
        threads: std::thread::available_parallelism()?.get(),
        instruction_sets: isa::Isa::available()
            .iter()
            .map(|isa| isa.level().name().to_owned())
            .collect(),
        multiplies_bf16: isa::Isa::best().has_bf16(),
        memory_bytes: system.total_memory(),
        available_memory_bytes: system.available_memory(),
        free_disk_bytes: free_disk(&folder),
        backends: crate::versions::backends(),
        device: train::auto_device_name()?,
        node: node(),
        web_chat: bundle::has_app(),
    })
}

/// Of the disk that is mounted nearest above the folder.
fn free_disk(folder: &Path) -> Option<u64> {
    let disks = sysinfo::Disks::new_with_refreshed_list().ok()?;
    let above = disks.iter().filter(|disk| folder.starts_with(disk.mount_point()));
    let nearest = above.max_by_key(|disk| disk.mount_point().components().count())?;
    Some(nearest.available_space())
}

fn node() -> Option<String> {
    let output = Command::new("node").arg("--version").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Report {
    /// A full training of this many parameters has room for its weights and optimizer.
    fn trainable(&self) -> u64 {
        self.available_memory_bytes / TRAINING_BYTES_PER_PARAMETER
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unknown = || "unknown".to_owned();
        let precision = match self.multiplies_bf16 {
            true => "training takes bf16 by default",
            false => "training takes f32 by default: there are no instructions for bf16",
        };
        let device = match self.device {
            "flex" if self.backends.len() == 1 => {
                "training runs on the CPU; a build with --features cuda or wgpu uses a graphics card"
            }
            "flex" => "training runs on the CPU: no graphics card was found",
            _ => "training runs on the graphics card",
        };
        let chat = match (self.web_chat, &self.node) {
            (true, _) => "this program contains the web chat",
            (false, Some(_)) => "this program has no web chat: run `make build`",
            (false, None) => "this program has no web chat: install Node.js 20, run `make build`",
        };
        let rows = [
            ("version", self.version.to_owned(), String::new()),
            ("processor", self.processor.clone().unwrap_or_else(unknown), String::new()),
            ("threads", self.threads.to_string(), String::new()),
            ("instructions", self.instruction_sets.join(", "), precision.to_owned()),
            (
                "memory",
                format!(
                    "{} of {} available",
                    cli::bytes(self.available_memory_bytes),
                    cli::bytes(self.memory_bytes)
                ),
                format!(
                    "training all weights: at most {} million parameters, less what a batch needs",
                    cli::count(self.trainable() / 1_000_000)
                ),
            ),
            (
                "disk",
                self.free_disk_bytes
                    .map_or_else(unknown, |bytes| format!("{} free", cli::bytes(bytes))),
                String::new(),
            ),
            ("backends", self.backends.join(", "), device.to_owned()),
            ("Node.js", self.node.clone().unwrap_or("not found".to_owned()), chat.to_owned()),
        ];
        let width = rows.iter().map(|(_, value, _)| value.chars().count()).max().unwrap_or(0);
        let lines: Vec<String> = rows
            .iter()
            .map(|(name, value, meaning)| {
                format!("{name:<12}  {value:<width$}  {meaning}").trim_end().to_owned()
            })
            .collect();
        f.write_str(&lines.join("\n"))
    }
}
