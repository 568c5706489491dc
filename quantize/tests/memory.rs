//! Quantizing, collecting importance data and the reference pass hold one expert of a layer in
//! memory, for any number of experts: measured with a counting allocator.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[path = "quantize/models.rs"]
mod models;

use std::borrow::Cow;
use std::path::Path;

use checkpoint::{CheckpointError, HuggingFaceFiles, Tensors, names};
use config::{Architecture, Attention, Experts, ModelConfig};
use models::{LLAMA, Model};
use quantize::{ImatrixFile, ImatrixJob, QuantizeJob, Recipe, collect, quantize_file};
use testing::{CountingAllocator, peak_of};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const WIDTH: usize = 512;
const INNER: usize = 1024;
const EXPERTS: usize = 32;

/// One expert's matrix in f32.
const ONE: usize = 4 * WIDTH * INNER;

/// The same of all experts of a layer.
const ALL: usize = EXPERTS * ONE;

/// An expert, the slabs of rows that are converted and written at a time, and the other memory of a
/// run.
const LIMIT: usize = ONE + 38 * 1024 * 1024;

const TOKENIZER: &str = r#"{
    "added_tokens": [{"id": 3, "content": "<|endoftext|>", "special": true}],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
    "model": {"type": "BPE", "merges": ["a b"],
        "vocab": {"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}}}"#;

/// Weights that are generated on request.
struct Made<'a>(&'a ModelConfig);

impl Tensors for Made<'_> {
    fn list(&self) -> Vec<(String, Vec<usize>)> {
        names::tensors(self.0).into_iter().map(|row| (row.hugging_face, row.shape)).collect()
    }

    fn data(&self, name: &str) -> Result<Cow<'_, [f32]>, CheckpointError> {
        let table = names::tensors(self.0);
        let elements = table.iter().find(|row| row.hugging_face == name).unwrap().elements();
        Ok(Cow::Owned((0..elements).map(|i| (i % 1013) as f32 / 512.0 - 1.0).collect()))
    }
}

fn write_folder(folder: &Path) {
    let config = ModelConfig {
        architecture: Architecture::Qwen3Moe,
        vocab_size: 4,
        context_length: 8,
        n_layer: 1,
        n_head: 8,
        n_kv_head: 2,
        n_embd: WIDTH,
        n_inner: INNER,
        norm_epsilon: 1e-5,
        rope_base: config::ROPE_BASE,
        qkv_bias: false,
        tie_embeddings: true,
        dropout: 0.0,
        attention: Attention::PLAIN,
        experts: Some(Experts { count: EXPERTS, used: 2 }),
    };
    let (weights, tokenizer_json) = (&Made(&config), Some(TOKENIZER));
    let files =
        HuggingFaceFiles { config: &config, weights, tokenizer_json, tokenizer_folder: None };
    checkpoint::save_hugging_face(folder, false, files).unwrap();
}

#[test]
fn one_expert_is_in_memory_at_a_time() {
    const { assert!(LIMIT < ALL, "the experts must be larger than what is tested") };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let model = Model {
        layers: 1,
        width: WIDTH as u64,
        inner: INNER as u64,
        experts: EXPERTS as u64,
        ..LLAMA
    };
    model.write(&path("model.gguf"), 3);
    write_folder(&path("folder"));
    let measure = |what: &str, work: &dyn Fn()| {
        let (peak, ()) = peak_of(work);
        println!("{what}: {peak} bytes");
        assert!(peak <= LIMIT, "{what}: {peak} bytes, expected at most {LIMIT} of {ALL}");
    };

    let text: String = (0..60).map(|i| format!("the {i}th word of them all. ")).collect();
    std::fs::write(path("text.txt"), text).unwrap();
    measure("importance data", &|| {
        let report = collect(&ImatrixJob {
            input: path("model.gguf"),
            text: path("text.txt"),
            output: path("imatrix.gguf"),
            context: 16,
            tokens: None,
            process_output: false,
            overwrite: false,
            interrupt: cli::Interrupt::default(),
        });
        drop(report.unwrap());
    });
    let data = ImatrixFile::open(&path("imatrix.gguf")).unwrap();
    assert_eq!(data.entries["blk.0.ffn_up_exps.weight"].counts.len(), EXPERTS);

    for (input, importance) in
        [("model.gguf", None), ("model.gguf", Some(path("imatrix.gguf"))), ("folder", None)]
    {
        for recipe in [Recipe::Q8_0, Recipe::Q4_0] {
            let what = format!("{input} to {recipe}, importance: {}", importance.is_some());
            let job = QuantizeJob {
                output: Some(path("out.gguf")),
                importance: importance.clone(),
                overwrite: true,
                ..QuantizeJob::new(path(input), recipe)
            };
            measure(&what, &|| drop(quantize_file(&job).unwrap()));
        }
    }
}
