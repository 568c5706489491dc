//! A model small enough to train in a moment, and helpers that read its run folder.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use std::fs;
use std::path::{Path, PathBuf};

use checkpoint::Checkpoint;
use config::{RunFile, TokenizerKind};
use train::{Options, Report};

/// A run of a two-layer model with its own text and folder.
pub struct Fixture {
    folder: tempfile::TempDir,
    /// Settings that a test may change before training.
    pub run_file: RunFile,
}

impl Fixture {
    /// Six steps in an epoch, dropout on, constant learning rate.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("text.txt");
        fs::write(&text, text_of(120)).unwrap();
        let mut run_file = RunFile::default();
        run_file.run.dir = folder.path().join("run");
        run_file.data.path = text.into();
        run_file.data.tokenizer = TokenizerKind::Simple;
        run_file.data.context = 16;
        run_file.model.context_length = 16;
        run_file.model.n_layer = 2;
        run_file.model.n_head = 2;
        run_file.model.n_embd = 16;
        run_file.model.dropout = 0.1;
        run_file.model.tie_embeddings = false;
        run_file.model.qkv_bias = Some(false);
        run_file.train.batch_size = 4;
        run_file.train.epochs = 2;
        run_file.train.max_steps = Some(8);
        run_file.train.eval_interval = 3;
        run_file.train.checkpoint_interval = 2;
        run_file.train.keep_checkpoints = 2;
        run_file.train.sample_prompt = "the sea".to_owned();
        run_file.train.sample_tokens = 4;
        run_file.optimizer.learning_rate = 1e-2;
        run_file.eval.golden_windows = 2;
        Fixture { folder, run_file }
    }

    /// A folder that is removed with the fixture.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The same settings with another run folder.
    pub fn other(&self, name: &str) -> RunFile {
        let mut run_file = self.run_file.clone();
        run_file.run.dir = self.path().join(name);
        run_file
    }

    /// Writes the run file to disk, for the real command.
    pub fn config_file(&self, run_file: &RunFile) -> PathBuf {
        let path = run_file.run.dir.with_extension("toml");
        fs::write(&path, run_file.to_toml().unwrap()).unwrap();
        path
    }
}

/// `sentences` lines of text with a grammar simple enough to be learned.
pub fn text_of(sentences: usize) -> String {
    let nouns = ["sea", "keeper", "lamp", "boat"];
    let verbs = ["waits", "burns", "sleeps"];
    (0..sentences).map(|i| format!("the {} {} .\n", nouns[i * 7 % 4], verbs[i * 5 % 3])).collect()
}

/// Trains to the end.
pub fn train(run_file: &RunFile) -> Report {
    train::train(run_file, &Options::default()).unwrap()
}

/// Resumes from the last checkpoint.
pub fn resume(run_file: &RunFile) -> Report {
    train::train(run_file, &Options { resume: true, ..Options::default() }).unwrap()
}

/// The error that training ends with.
pub fn failure(run_file: &RunFile) -> String {
    let error = train::train(run_file, &Options::default()).unwrap_err();
    cli::one_line(&error)
}

/// All logged values of each step, without those that depend on the clock.
pub fn metrics(run_file: &RunFile) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(run_file.run.dir.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| {
            let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
            for key in ["tokens_per_s", "elapsed_s", "peak_rss_bytes"] {
                line.as_object_mut().unwrap().remove(key);
            }
            line
        })
        .collect()
}

/// Asserts that two runs logged the same figures for the same steps, with a relative difference of
/// at most `tolerance`.
pub fn assert_same_figures(a: &RunFile, b: &RunFile, tolerance: f64) {
    let [a, b] = [a, b].map(metrics);
    assert_eq!(a.len(), b.len());
    let mut compared = 0;
    for (step, (a, b)) in a.iter().zip(&b).enumerate() {
        for key in ["train_loss", "val_loss", "grad_norm", "teacher_divergence"] {
            let (Some(x), Some(y)) = (a[key].as_f64(), b[key].as_f64()) else {
                assert_eq!(a[key], b[key], "step {step}, {key}");
                continue;
            };
            compared += 1;
            assert!((x - y).abs() <= tolerance * x.abs(), "step {step}, {key}: {x}, {y}");
        }
    }
    assert!(compared > 16, "only {compared} figures were compared");
}

/// Asserts that the last checkpoints of two runs hold the same bits.
pub fn assert_same_end(a: &RunFile, b: &RunFile) {
    let [a, b] = [a, b].map(|run_file| checkpoint::latest(&run_file.run.dir).unwrap());
    assert_eq!(a.file_name(), b.file_name());
    for file in ["model.safetensors", "optimizer.safetensors", "golden.safetensors"] {
        let [a, b] = [&a, &b].map(|dir| fs::read(dir.join(file)).unwrap());
        assert!(a == b, "{file} differs");
    }
    let [a, b] = [a, b].map(|dir| Checkpoint::open(&dir).unwrap().trainer().unwrap().unwrap());
    assert_eq!((a.step, a.epoch, a.batch, a.tokens), (b.step, b.epoch, b.batch, b.tokens));
    assert_eq!((a.best_val_loss, a.metrics), (b.best_val_loss, b.metrics));
}

/// The names in a folder that are not hidden, sorted.
pub fn visible(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}
