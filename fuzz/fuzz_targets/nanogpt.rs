//! Any bytes as `ckpt.pt` of nanoGPT: refused, or a GGUF that the strict reader opens.
#![no_main]

use export::{ExportJob, Input, NO_TOKENIZER, export_gguf};
use gguf::{GgufFile, TensorType};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz::with_files(&[("ckpt.pt", bytes)], |folder| {
        let output = folder.join("model.gguf");
        let job = ExportJob {
            input: Input {
                path: folder.join("ckpt.pt"),
                tokenizer: Some(NO_TOKENIZER.into()),
                adapter: None,
            },
            output: Some(output.clone()),
            tensor_type: TensorType::F32,
            name: None,
            overwrite: false,
        };
        if fuzz::bounded(bytes.len(), 256, 8 << 20, || export_gguf(&job)).is_ok() {
            let file = GgufFile::open(&output).expect("what is exported is read");
            checkpoint::gguf_config(&file).expect("its settings too");
        }
    });
});
