//! Export holds one tensor in memory for any size of the model: measured with a counting allocator.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod common;

use std::sync::Mutex;

use config::{Architecture, Experts, ModelConfig};
use export::{ExportJob, HuggingFaceJob, export_gguf, export_hugging_face};
use gguf::TensorType;
use testing::{CountingAllocator, peak_of};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Only one test counts at a time.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn export_holds_one_tensor_and_a_little_more() {
    let config = common::config(4, 512, 8192);
    assert_holds_little(&config, 4 * config.parameter_count() / 2);
}

/// The experts of a layer are one tensor of a GGUF.
#[test]
fn export_holds_one_expert_of_many() {
    let config = ModelConfig {
        architecture: Architecture::Qwen3Moe,
        qkv_bias: false,
        experts: Some(Experts { count: 32, used: 2 }),
        ..common::config(1, 512, 1024)
    };
    assert_holds_little(&config, 32 * 4 * config.n_embd * config.n_inner);
}

/// Exports a model to every format. `too_much` bytes must never be held together.
fn assert_holds_little(config: &ModelConfig, too_much: usize) {
    let _alone = ALONE.lock().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("model");
    common::write_checkpoint(&input, config);
    let largest = 4 * config.n_embd * config.n_inner;
    // Far below the allowed 200 MB: the piece that is read at a time, and buffers.
    let limit = largest + 40 * 1024 * 1024;
    assert!(limit < too_much, "the test model must be larger than what it tests");

    for tensor_type in [TensorType::F32, TensorType::F16, TensorType::BF16] {
        let output = Some(folder.path().join(format!("{tensor_type}.gguf")));
        let job = ExportJob {
            input: input.clone().into(),
            output,
            tensor_type,
            name: None,
            overwrite: false,
        };
        let (peak, ()) = peak_of(|| drop(export_gguf(&job).unwrap()));
        assert!(peak <= limit, "{tensor_type}: {peak} bytes, expected at most {limit}");
    }
    let output = folder.path().join("hugging-face");
    let job = HuggingFaceJob { input: input.into(), output, overwrite: false };
    let (peak, ()) = peak_of(|| drop(export_hugging_face(&job).unwrap()));
    assert!(peak <= limit, "Hugging Face: {peak} bytes, expected at most {limit}");
}
