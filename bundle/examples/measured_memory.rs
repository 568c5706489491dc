//! What a GGUF takes in llama.cpp, as `bundle plan` computes it and as it was measured.
//!
//! ```text
//! cargo run --release -p pocketgpt-bundle --example measured_memory -- model-Q4_K_M.gguf [CONTEXT]
//! ```
//!
//! Loads the model with llama.cpp's defaults and fills a context of 512 tokens (or `CONTEXT`).
//! Buffers are the sizes that llama.cpp logs; resident memory is the system's count (Linux), of
//! mapped pages for the weights and of the program's own memory for the rest.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bundle::{MemoryNeed, candidates};
use llama_cpp::{Arithmetic, Llama, Settings};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().ok_or("usage: measured_memory MODEL.gguf [CONTEXT]")?;
    let context: usize = arguments.next().map_or(Ok(512), |text| text.parse())?;
    let planned = candidates(Path::new(&model), None)?;
    let need = MemoryNeed::of(&planned.config, planned.candidates[0].weights, context);

    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_writer(move || writer.clone()).init();
    let before = resident()?;
    let llama = Llama::load(Path::new(&model))?;
    let settings = Settings { context, threads: 0, arithmetic: Arithmetic::Default };
    let mut session = llama.session(settings)?;
    let vocab_size = llama.vocab_size() as u32;
    let tokens: Vec<u32> = (0..context as u32).map(|i| i * 7919 % vocab_size).collect();
    session.push(&tokens)?;
    let after = resident()?;

    let logged = |name: &str| log.sum(&format!("{name} buffer size"));
    let compute = logged("compute") + logged("output");
    println!("{model}, {context} tokens of context; MB");
    println!("{:<22} {:>10} {:>10} {:>10}", "", "plan", "llama.cpp", "resident");
    let row = |name: &str, plan: u64, buffers: f64, resident: Option<u64>| {
        let resident = resident.map_or(String::new(), |bytes| format!("{:.1}", bytes as f64 / 1e6));
        println!("{name:<22} {:>10.1} {:>10.1} {resident:>10}", plan as f64 / 1e6, buffers / 1e6);
    };
    let mapped = after.mapped.saturating_sub(before.mapped);
    let own = after.own.saturating_sub(before.own);
    row("weights", need.weights, logged("model"), Some(mapped));
    row("KV cache", need.kv_cache, logged("KV"), None);
    row("compute", need.compute, compute, None);
    let rest = logged("KV") + compute;
    row("KV cache and compute", need.kv_cache + need.compute, rest, Some(own));
    row("total", need.total, logged("model") + rest, Some(mapped + own));
    Ok(())
}

/// Pages in memory, in bytes.
struct Resident {
    /// Of mapped files.
    mapped: u64,
    /// Of no file.
    own: u64,
}

fn resident() -> Result<Resident, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = |key: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
    };
    let missing = "the system does not say how much memory is resident";
    Ok(Resident { mapped: line("RssFile:").ok_or(missing)?, own: line("RssAnon:").ok_or(missing)? })
}

/// llama.cpp's log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// All sizes of one kind, in bytes: `CPU KV buffer size = 12.00 MiB`.
    fn sum(&self, kind: &str) -> f64 {
        let log = self.0.lock().map(|log| log.clone()).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let size = |line: &str| -> Option<f64> {
            let (_, size) = line.split_once(kind)?;
            let size = size.trim_start_matches([' ', '=']).split_once(" MiB")?.0;
            size.trim().parse::<f64>().ok()
        };
        text.lines().filter_map(size).sum::<f64>() * f64::from(1 << 20)
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Ok(mut log) = self.0.lock() {
            log.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
