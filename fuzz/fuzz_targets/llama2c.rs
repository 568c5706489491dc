//! Any bytes as a model of llama2.c and its tokenizer: refused, or a GGUF that the strict reader
//! opens. The first two bytes say how long the tokenizer is.
#![no_main]

use std::path::PathBuf;

use export::{ExportJob, Input, export_gguf};
use gguf::{GgufFile, TensorSource, TensorType};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return };
    let length = usize::from(u16::from_le_bytes(*length));
    let Some((tokenizer, model)) = rest.split_at_checked(length) else { return };
    fuzz::with_files(&[("model.bin", model), ("tokenizer.bin", tokenizer)], |folder| {
        let input = Input {
            path: folder.join("model.bin"),
            tokenizer: Some(folder.join("tokenizer.bin")),
            adapter: None,
        };
        let output: PathBuf = folder.join("model.gguf");
        let job = ExportJob {
            input,
            output: Some(output.clone()),
            tensor_type: TensorType::F32,
            name: None,
            overwrite: false,
        };
        if fuzz::bounded(bytes.len(), 256, 8 << 20, || export_gguf(&job)).is_ok() {
            let file = GgufFile::open(&output).expect("what is exported is read");
            assert!(!file.tensors().is_empty());
            checkpoint::gguf_config(&file).expect("its settings too");
        }
    });
});
