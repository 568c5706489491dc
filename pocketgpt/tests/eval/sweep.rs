//! `eval sweep` on tiny models with random weights: its figures against ones computed here, what
//! is taken up after a death, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "the judge's tests use the rest of the fixture")]
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use super::common::{Fixture, config, stderr, stdout};
use config::{Architecture, ModelConfig};
use eval::SweepReport;
use eval::metrics::{Agreement, Divergence};
use eval::sweep::{FileRole, Row, SweepEngine, SweepJob};
use gguf::{TensorSource, TensorType, Value};
use llama_cpp::{Arithmetic, Cache, CacheType, Llama, Settings};

/// Tokens in a window: the whole context of the tiny models.
const CONTEXT: usize = 32;

/// One tiny model, its files and a text.
struct Sweep {
    fixture: Fixture,
    text: PathBuf,
}

impl Sweep {
    fn new(config: &ModelConfig) -> Self {
        let fixture = Fixture::of(config);
        let text = fixture.path("text.txt");
        let sweep = Sweep { fixture, text };
        sweep.write_text(3000);
        sweep
    }

    /// Words without a meaning, so that no window is like another.
    fn write_text(&self, words: usize) {
        let word = |i: usize| {
            let letters =
                (0..2 + i % 5).map(|k| (b'a' + ((i * 7 + k * k * 5 + i / 11) % 26) as u8) as char);
            letters.collect::<String>()
        };
        let text: Vec<String> = (0..words).map(word).collect();
        std::fs::write(&self.text, text.join(" ")).unwrap();
    }

    /// The command, on one thread: waiting threads of llama.cpp spin.
    fn command(
        &self,
        base: &Path,
        tokens: usize,
        arguments: &[&dyn AsRef<std::ffi::OsStr>],
    ) -> Command {
        let mut command = crate::program::stage("eval");
        command.arg("sweep").arg("--base").arg(base).arg("--text").arg(&self.text);
        command.args(["--tokens", &tokens.to_string(), "--context", &CONTEXT.to_string()]);
        command.args(["--threads", "1", "--json"]);
        command.args(arguments.iter().map(|argument| argument.as_ref())).env_remove("RUST_LOG");
        command
    }

    fn run(&self, tokens: usize, arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
        self.command(&self.fixture.f32(), tokens, arguments).output().unwrap()
    }

    fn report(&self, tokens: usize, arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> SweepReport {
        let output = self.run(tokens, arguments);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The windows as llama-perplexity cuts them, by hand.
    fn windows(&self, model: &Path, tokens: usize) -> Vec<Vec<u32>> {
        let file = gguf::GgufFile::open(model).unwrap();
        let tokenizer = data::Tokenizer::from_gguf(file.metadata()).unwrap();
        let begin = tokenizer.begin_of_text();
        let text = std::fs::read_to_string(&self.text).unwrap();
        let mut all: Vec<u32> = begin.into_iter().chain(tokenizer.encode(&text).unwrap()).collect();
        all.truncate(tokens);
        let mut windows: Vec<Vec<u32>> = all.chunks_exact(CONTEXT).map(<[u32]>::to_vec).collect();
        for window in &mut windows {
            window[0] = begin.unwrap_or(window[0]);
        }
        windows
    }
}

/// The logits `[15, V]` of llama.cpp for the positions of a window that are scored.
fn scored(model: &Llama, window: &[u32], cache: Cache) -> Vec<f32> {
    let settings = Settings { context: CONTEXT, threads: 1, arithmetic: Arithmetic::Cached(cache) };
    let logits = model.session(settings).unwrap().logits(window).unwrap();
    let vocab_size = model.vocab_size();
    logits[CONTEXT / 2 * vocab_size..(CONTEXT - 1) * vocab_size].to_vec()
}

/// What a sweep measures, without a base on disk.
fn direct(base: &Path, variant: &Path, windows: &[Vec<u32>], cache: Cache) -> Agreement {
    let (base, variant) = (Llama::load(base).unwrap(), Llama::load(variant).unwrap());
    let mut divergence = Divergence::new();
    for window in windows {
        let exact = scored(&base, window, Cache::F16);
        let candidate = scored(&variant, window, cache);
        let width = base.vocab_size();
        let row = |i: usize, row: &mut [f32]| row.copy_from_slice(&exact[i * width..][..width]);
        divergence.add(&window[CONTEXT / 2 + 1..], &candidate, row).unwrap();
    }
    divergence.finish().unwrap()
}

fn close(name: &str, found: f64, expected: f64, relative: f64, absolute: f64) {
    let tolerance = relative * expected.abs() + absolute;
    assert!((found - expected).abs() <= tolerance, "{name}: {found:e} instead of {expected:e}");
}

fn check(row: &Row, expected: &Agreement) {
    let found = row.quality.as_ref().unwrap();
    assert_eq!(found.positions, expected.positions, "{}", row.label);
    // Rounding adds up to 1e-8 here, and at one position 2 sqrt(1e-8 KL).
    let kl = (found.kl, expected.kl);
    close("mean", kl.0.mean, kl.1.mean, 2e-3, 1e-8);
    close("mean error", kl.0.mean_error.unwrap(), kl.1.mean_error.unwrap(), 2e-2, 1e-8);
    for (name, found, expected) in [
        ("median", kl.0.median, kl.1.median),
        ("99 %", kl.0.p99, kl.1.p99),
        ("99.9 %", kl.0.p999.unwrap(), kl.1.p999.unwrap()),
        ("max", kl.0.max, kl.1.max),
    ] {
        close(name, found, expected, 0.0, 1e-8 + 2.0 * (1e-8 * expected).sqrt());
    }
    close("perplexity", found.perplexity.unwrap(), expected.perplexity.unwrap(), 1e-9, 0.0);
    let base = (found.base_perplexity.unwrap(), expected.base_perplexity.unwrap());
    close("base perplexity", base.0, base.1, 1e-5, 0.0);
    close("top-1", found.top1_agreement, expected.top1_agreement, 0.0, 1e-12);
    let change = |agreement: &Agreement| agreement.rms_probability_change.unwrap();
    close("RMS change", change(found), change(expected), 1e-3, 1e-6);
}

fn row<'a>(report: &'a SweepReport, label: &str, cache: &str) -> &'a Row {
    report.rows.iter().find(|row| row.label == label && row.cache == cache).unwrap()
}

#[test]
fn a_gpt2_is_measured_as_without_a_stored_base() {
    let sweep = Sweep::new(&config());
    let q8 = sweep.fixture.quantized("tiny-Q8_0.gguf", TensorType::Q8_0);
    let q4 = sweep.fixture.quantized("ours-Q4_0.gguf", TensorType::Q4_0);
    let peer = sweep.fixture.quantized("theirs-Q4_1.gguf", TensorType::Q4_1);
    // A peer of the same recipe: what its own name says.
    let twin = sweep.fixture.path("theirs-Q4_0.gguf");
    std::fs::rename(peer, &twin).unwrap();
    let report = sweep.report(900, &[&"--no-speed", &q8, &q4, &"--peer", &twin]);
    assert_eq!((report.format.as_str(), report.version), ("pocketgpt.sweep", 1));
    assert_eq!((report.text.windows, report.text.context, report.text.scored), (28, 32, 28 * 15));
    let labels: Vec<(&str, FileRole)> =
        report.rows.iter().map(|row| (row.label.as_str(), row.role)).collect();
    assert_eq!(
        labels,
        [
            ("F32", FileRole::Base),
            ("Q8_0", FileRole::Variant),
            ("ours-Q4_0", FileRole::Variant),
            ("theirs-Q4_0", FileRole::Peer)
        ]
    );

    let windows = sweep.windows(&sweep.fixture.f32(), 900);
    for (label, path) in [("Q8_0", &q8), ("ours-Q4_0", &q4), ("theirs-Q4_0", &twin)] {
        check(
            row(&report, label, "f16"),
            &direct(&sweep.fixture.f32(), path, &windows, Cache::F16),
        );
    }
    let base = report.rows[0].quality.as_ref().unwrap();
    assert_eq!((base.kl.max, base.top1_agreement), (0.0, 1.0));
    assert_eq!(base.perplexity, base.base_perplexity);

    let size = |path: &Path| std::fs::metadata(path).unwrap().len();
    assert_eq!(report.rows[1].file_bytes, size(&q8));
    assert!(report.rows[1].bits_per_weight < 12.0);
    let ratio = report.rows[2].kl_ratio.as_ref().unwrap();
    let mean = |row: &Row| row.quality.as_ref().unwrap().kl.mean;
    assert_eq!(ratio.peer, "theirs-Q4_0");
    close("ratio", ratio.value, mean(&report.rows[2]) / mean(&report.rows[3]), 1e-12, 0.0);
    assert!(ratio.error > 0.0);
    assert!(report.rows[1].kl_ratio.is_none() && report.rows[3].kl_ratio.is_none());
    assert!(!report.rows[0].pareto && report.rows[1].pareto);
    assert!(report.rows.iter().all(|row| row.speed.is_none()));
}

#[test]
fn a_base_in_pieces_gives_the_same_table() {
    let sweep = Sweep::new(&config());
    let q8 = sweep.fixture.quantized("tiny-Q8_0.gguf", TensorType::Q8_0);
    let job = |piece_bytes| SweepJob {
        base: sweep.fixture.f32(),
        variants: vec![q8.display().to_string().parse().unwrap()],
        peers: Vec::new(),
        text: sweep.text.clone(),
        tokens: 500,
        context: CONTEXT,
        base_logits: None,
        piece_bytes,
        engine: SweepEngine::Reference,
        caches: vec![Cache::F16],
        threads: 1,
        probe: None,
        overwrite: false,
        interrupt: cli::Interrupt::default(),
    };
    let whole = eval::sweep::sweep(&job(eval::sweep::PIECE_BYTES)).unwrap();
    assert_eq!(whole.text.windows, 15);
    // Four windows of 15 rows, and less than one.
    for piece_bytes in [4 * 15 * (4 + 2 * 260), 1] {
        assert_eq!(eval::sweep::sweep(&job(piece_bytes)).unwrap(), whole);
    }
    let stopped = job(1);
    stopped.interrupt.request();
    let error = eval::sweep::sweep(&stopped).unwrap_err();
    assert!(error.downcast_ref::<cli::Interrupted>().is_some(), "{error}");
}

/// The perplexity of a plain f32 pass, in windows that begin as the model was trained.
#[test]
fn a_llama_whose_texts_begin_with_a_token_agrees_with_the_reference() {
    let llama = ModelConfig {
        architecture: Architecture::Llama,
        n_kv_head: 2,
        qkv_bias: false,
        tie_embeddings: false,
        ..config()
    };
    let sweep = Sweep::new(&llama);
    let base = sweep.fixture.with_key(
        "begins-F32.gguf",
        "tokenizer.ggml.add_bos_token",
        Value::Bool(true),
    );
    let q8 = sweep.fixture.quantized("tiny-Q8_0.gguf", TensorType::Q8_0);
    let windows = sweep.windows(&base, 700);
    assert!(windows.iter().all(|window| window[0] == windows[0][0]), "each begins a text");
    let model = reference::Model::load(&gguf::GgufFile::open(&base).unwrap()).unwrap();
    let vocab_size = model.config().vocab_size;
    let mut divergence = Divergence::new();
    for window in &windows {
        let logits = model.logits(window).unwrap();
        let logits = &logits[16 * vocab_size..31 * vocab_size];
        divergence.add(&window[17..], logits, |_, row| row.fill(0.0)).unwrap();
    }
    let expected = divergence.finish().unwrap().perplexity.unwrap();

    for engine in ["llama", "reference"] {
        let output = sweep
            .command(&base, 700, &[&"--no-speed", &"--engine", &engine, &q8])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let report: SweepReport = serde_json::from_slice(&output.stdout).unwrap();
        let quality = report.rows[0].quality.as_ref().unwrap();
        // llama.cpp keeps keys and values in f16.
        let relative = if engine == "llama" { 1e-3 } else { 1e-6 };
        close(engine, quality.perplexity.unwrap(), expected, relative, 0.0);
        assert!(report.rows[1].quality.as_ref().unwrap().kl.mean > 0.0);
        let cache = if engine == "llama" { "f16" } else { "f32" };
        assert_eq!(report.rows[1].cache, cache);
        assert_eq!(report.rows[1].cache_bytes.is_some(), engine == "llama");
    }
}

/// Heads 32 wide, as blocks of a quantized cache need.
fn wide_heads() -> ModelConfig {
    ModelConfig { n_head: 2, n_kv_head: 2, ..config() }
}

#[test]
fn every_cache_is_a_row() {
    let sweep = Sweep::new(&wide_heads());
    let q8 = sweep.fixture.quantized("tiny-Q8_0.gguf", TensorType::Q8_0);
    let report = sweep.report(600, &[&"--no-speed", &"--kv", &"f16,f32,q8_0,q4_0,q8_0/q4_0", &q8]);
    assert_eq!(report.rows.len(), 10);
    let windows = sweep.windows(&sweep.fixture.f32(), 600);
    let mixed = Cache { keys: CacheType::Q8_0, values: CacheType::Q4_0 };
    let caches = [
        (Cache::F16, 4, 2.0, 2.0),
        (Cache::both(CacheType::F32), 4, 4.0, 4.0),
        (Cache::both(CacheType::Q8_0), 4, 34.0 / 32.0, 34.0 / 32.0),
        (Cache::both(CacheType::Q4_0), 4, 18.0 / 32.0, 18.0 / 32.0),
        (mixed, 4, 34.0 / 32.0, 18.0 / 32.0),
    ];
    for (cache, _, keys, values) in caches {
        let name = cache.to_string();
        check(row(&report, "Q8_0", &name), &direct(&sweep.fixture.f32(), &q8, &windows, cache));
        // 2 layers, 256 cells, 64 wide.
        let bytes = (2.0 * 256.0 * 64.0 * (keys + values)) as u64;
        assert_eq!(row(&report, "F32", &name).cache_bytes, Some(bytes), "{name}");
    }
    let kl = |cache: &str| row(&report, "F32", cache).quality.as_ref().unwrap().kl.mean;
    assert_eq!(kl("f16"), 0.0);
    assert!(kl("f32") < 1e-5 && kl("f32") < kl("q8_0") && kl("q8_0") < kl("q4_0"));
    let front: Vec<&str> =
        report.rows.iter().filter(|row| row.pareto).map(|row| row.cache.as_str()).collect();
    assert_eq!(front, ["f16"], "a cache makes no file smaller");

    // Heads of 16 fill no block of 32.
    let narrow = Sweep::new(&config());
    let q8 = narrow.fixture.quantized("tiny-Q8_0.gguf", TensorType::Q8_0);
    let output = narrow.run(600, &[&"--no-speed", &"--kv", &"q8_0", &q8]);
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("a cache in q8_0 has blocks of 32, but a head is 16 wide"), "{error}");
}

#[test]
fn a_child_measures_speed_and_memory() {
    let sweep = Sweep::new(&wide_heads());
    let q8 = sweep.fixture.quantized("tiny-Q8_0.gguf", TensorType::Q8_0);
    let pdf = sweep.fixture.path("out/sweep.pdf");
    let markdown = sweep.fixture.path("out/sweep.md");
    let json = sweep.fixture.path("out/sweep.json");
    let outputs: [&dyn AsRef<std::ffi::OsStr>; 7] =
        [&"--plot", &pdf, &"--markdown", &markdown, &"--output", &json, &q8];
    let report = sweep.report(100, &outputs);
    for row in &report.rows {
        let speed = row.speed.as_ref().unwrap();
        assert_eq!((speed.prompt_tokens, speed.generated_tokens), (16, 16));
        for figure in [
            speed.load_seconds,
            speed.first_token_seconds,
            speed.prompt_tokens_per_s,
            speed.generation_tokens_per_s,
        ] {
            assert!(figure.is_finite() && figure > 0.0, "{speed:?}");
        }
        if cfg!(target_os = "linux") {
            let cache = row.cache_bytes.unwrap();
            assert!(speed.cache_resident_bytes.unwrap() >= cache, "{speed:?}");
            assert!(speed.peak_resident_bytes.unwrap() > row.file_bytes, "{speed:?}");
        }
    }
    assert!(std::fs::read(&pdf).unwrap().starts_with(b"%PDF-"));
    let saved: SweepReport = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(saved, report);
    assert_eq!(std::fs::read_to_string(&markdown).unwrap(), report.markdown());

    let again = sweep.run(100, &outputs);
    assert_eq!(again.status.code(), Some(2));
    assert!(
        stderr(&again).contains("sweep.json exists: --force replaces it"),
        "{}",
        stderr(&again)
    );
}

/// Windows of a base, or of the part that is there of it, that carry a mark.
fn marks(path: &Path) -> usize {
    let read = |path: &Path| -> std::io::Result<Vec<u8>> {
        let mut head = vec![0; 128 + 32 * MANY];
        std::fs::File::open(path)?.read_exact(&mut head)?;
        Ok(head)
    };
    let Ok(head) = read(&part_of(path)).or_else(|_| read(path)) else { return 0 };
    head[128..].chunks(32).filter(|mark| mark.iter().any(|&byte| byte != 0)).count()
}

fn part_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".part");
    name.into()
}

const MANY: usize = 1200;

/// Starts a sweep of many windows with its base at `path`, and returns when `done` are marked and
/// at least one of them by this process.
fn started(sweep: &Sweep, path: &Path, variant: &Path, done: usize) -> Child {
    let arguments: [&dyn AsRef<std::ffi::OsStr>; 4] =
        [&"--no-speed", &"--base-logits", &path, &variant];
    let done = done.max(marks(path) + 1);
    let mut child = sweep
        .command(&sweep.fixture.f32(), MANY * CONTEXT, &arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while marks(path) < done && !path.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child
}

#[test]
fn a_base_survives_any_death_bit_for_bit() {
    let sweep = Sweep::new(&config());
    sweep.write_text(20_000);
    let q8 = sweep.fixture.quantized("tiny-Q8_0.gguf", TensorType::Q8_0);
    let (whole, killed) = (sweep.fixture.path("whole.kld"), sweep.fixture.path("killed.kld"));
    let uninterrupted =
        sweep.report(MANY * CONTEXT, &[&"--no-speed", &"--base-logits", &whole, &q8]);
    assert_eq!(uninterrupted.text.windows, MANY);
    assert_eq!(uninterrupted.base_bytes, std::fs::metadata(&whole).unwrap().len());

    // Moments without a pattern, from the first window on.
    let mut found = Vec::new();
    for (index, done) in [1_usize, 73, 190, 411, 700, 905].into_iter().enumerate() {
        let mut child = started(&sweep, &killed, &q8, done);
        let by_signal = cfg!(unix) && index % 2 == 1;
        if by_signal {
            interrupt(&mut child)
        } else {
            child.kill().unwrap()
        }
        let output = child.wait_with_output().unwrap();
        if by_signal && output.status.code() != Some(0) {
            assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
            assert!(stderr(&output).contains("interrupted; run the command again"));
        }
        found.push(marks(&killed));
    }
    assert!(found.windows(2).all(|pair| pair[0] <= pair[1]), "nothing is lost: {found:?}");
    assert!(found[0] > 0 && found[0] < MANY, "{found:?}");
    let unfinished = part_of(&killed).exists();
    let output = sweep.run(MANY * CONTEXT, &[&"--no-speed", &"--base-logits", &killed, &q8]);
    let report: SweepReport = serde_json::from_slice(&output.stdout).unwrap();
    if unfinished {
        assert!(stderr(&output).contains("windows of it already"), "{}", stderr(&output));
    }
    assert_eq!(report, uninterrupted);
    assert!(std::fs::read(&killed).unwrap() == std::fs::read(&whole).unwrap());
    assert!(!part_of(&killed).exists());
    let output = sweep.run(MANY * CONTEXT, &[&"--no-speed", &"--base-logits", &killed, &q8]);
    assert_eq!(stderr(&output), "", "a finished base is not written again");
}

/// What Ctrl-C does.
#[cfg(unix)]
fn interrupt(child: &mut Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}

#[cfg(not(unix))]
fn interrupt(child: &mut Child) {
    child.kill().unwrap();
}

#[test]
fn a_base_of_something_else_is_refused_until_forced() {
    let sweep = Sweep::new(&config());
    let q8 = sweep.fixture.quantized("tiny-Q8_0.gguf", TensorType::Q8_0);
    let base = sweep.fixture.path("base.kld");
    sweep.report(400, &[&"--no-speed", &"--base-logits", &base, &q8]);
    let before = std::fs::read(&base).unwrap();
    let refused = |output: Output, reason: &str| {
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(reason), "{reason}: {error}");
        assert_eq!(stdout(&output), "");
        assert_eq!(std::fs::read(&base).unwrap(), before);
    };
    let stored: [&dyn AsRef<std::ffi::OsStr>; 4] = [&"--no-speed", &"--base-logits", &base, &q8];
    let other = sweep.fixture.changed("other-F32.gguf", |_, weights| weights[0] += 0.5);
    refused(sweep.command(&other, 400, &stored).output().unwrap(), "a base of another model");
    refused(sweep.run(500, &stored), "a base of 12 windows, not 15");
    let mut reference = stored.to_vec();
    reference.extend([&"--engine" as &dyn AsRef<std::ffi::OsStr>, &"reference"]);
    refused(sweep.run(400, &reference), "computed by llama.cpp, not by the reference");
    std::fs::write(&sweep.text, "an entirely different text, ".repeat(60)).unwrap();
    refused(sweep.run(400, &stored), "a base of another text");

    let mut forced = stored.to_vec();
    forced.push(&"--force");
    sweep.report(400, &forced);
    assert_ne!(std::fs::read(&base).unwrap(), before);

    // What was never a base is not replaced, whatever is forced.
    std::fs::write(&base, "somebody's notes").unwrap();
    let error = stderr(&sweep.run(400, &forced));
    assert!(error.contains("is no base of logits"), "{error}");
    assert_eq!(std::fs::read_to_string(&base).unwrap(), "somebody's notes");
}

#[test]
fn a_logit_that_is_not_finite_fails_by_name() {
    let sweep = Sweep::new(&config());
    let broken = sweep.fixture.path("broken-F16.gguf");
    let file = gguf::GgufFile::open(&sweep.fixture.f32()).unwrap();
    let tensor = file.tensor("blk.0.ffn_up.weight").unwrap();
    let place = (file.layout().data_start + tensor.offset) as usize;
    let mut bytes = std::fs::read(sweep.fixture.f32()).unwrap();
    bytes[place..place + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&broken, bytes).unwrap();
    let q8 = sweep.fixture.quantized("tiny-Q8_0.gguf", TensorType::Q8_0);

    let output = sweep.run(200, &[&"--no-speed", &broken, &q8]);
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("gate failed: F16: window 0: logit NaN at position 0"), "{error}");
    let report: SweepReport = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report.rows[1].quality.is_none() && report.rows[2].quality.is_some());

    let output = sweep.command(&broken, 200, &[&"--no-speed", &q8]).output().unwrap();
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("nothing can be judged by it"), "{error}");
}

#[test]
fn bad_input_is_one_line_and_exit_code_2() {
    let sweep = Sweep::new(&config());
    let q8 = sweep.fixture.quantized("tiny-Q8_0.gguf", TensorType::Q8_0);
    let same = sweep.fixture.quantized("other/tiny-Q8_0.gguf", TensorType::Q8_0);
    let missing = sweep.fixture.path("missing.gguf");
    let cut = sweep.fixture.path("cut-Q8_0.gguf");
    let whole = std::fs::read(&q8).unwrap();
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let refusals: [(&[&dyn AsRef<std::ffi::OsStr>], &str); 6] = [
        (&[&missing], "missing.gguf: no such file"),
        (&[&cut], "cut-Q8_0.gguf"),
        (&[&q8, &same], "would both be called tiny-Q8_0: name one LABEL=FILE"),
        (&[&q8, &"--engine", &"reference", &"--kv", &"q8_0"], "--kv is llama.cpp's"),
        (&[&q8, &"--kv", &"q3_0"], "\"q3_0\" is no type of a KV cache"),
        (&[&sweep.text], "text.txt"),
    ];
    for (arguments, expected) in refusals {
        let mut arguments = arguments.to_vec();
        arguments.push(&"--no-speed");
        let output = sweep.run(200, &arguments);
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(expected), "expected \"{expected}\" in: {error}");
        assert_eq!(stdout(&output), "");
    }
    let output = sweep.run(31, &[&q8]);
    assert!(stderr(&output).contains("do not fill one window of 32"), "{}", stderr(&output));
    let other = Fixture::of(&ModelConfig { vocab_size: 261, ..config() });
    let output = sweep.run(200, &[&"--no-speed", &other.f32()]);
    assert!(stderr(&output).contains("not of the same model"), "{}", stderr(&output));
}

/// llama.cpp ends the program on such a file.
#[test]
fn a_vocabulary_that_repeats_a_token_is_an_error() {
    let sweep = Sweep::new(&config());
    let q8 = sweep.fixture.quantized("tiny-Q8_0.gguf", TensorType::Q8_0);
    let twice = sweep.fixture.path("twice-Q8_0.gguf");
    let tokens = gguf::GgufFile::open(&q8).unwrap();
    let tokens = tokens.metadata().strings("tokenizer.ggml.tokens").unwrap();
    let stored = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let pair = tokens.windows(2).find(|pair| pair[0].len() == pair[1].len()).unwrap();
    let from = [stored(&pair[0]), stored(&pair[1])].concat();
    let to = [stored(&pair[0]), stored(&pair[0])].concat();
    let mut bytes = std::fs::read(&q8).unwrap();
    let place = bytes.windows(from.len()).position(|window| window == from).unwrap();
    bytes[place..place + to.len()].copy_from_slice(&to);
    std::fs::write(&twice, bytes).unwrap();

    for engine in ["llama", "reference"] {
        let output = sweep.run(200, &[&"--no-speed", &"--engine", &engine, &twice]);
        let error = stderr(&output);
        assert_ne!(output.status.code(), None, "{engine}: {error}");
        if engine == "llama" {
            assert_eq!(output.status.code(), Some(2), "{error}");
            assert!(error.contains("twice-Q8_0.gguf: the tokens "), "{error}");
        }
    }
}
