//! Any bytes as `config.json` beside weights: refused, or the model that is saved and opened again has
//! the same settings; memory is bounded.
#![no_main]

use checkpoint::Checkpoint;
use export::{HuggingFaceJob, export_hugging_face};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let weights = include_bytes!("../seeds/gpt2.safetensors");
    fuzz::with_files(&[("config.json", bytes), ("model.safetensors", weights)], |folder| {
        let open = || Checkpoint::open(folder);
        let opened = fuzz::bounded(bytes.len() + weights.len(), 64, 1 << 20, open);
        let Ok(checkpoint) = opened else { return };
        fuzz::with_files(&[], |other| {
            let output = other.join("copy");
            let input = folder.to_owned().into();
            let job = HuggingFaceJob { input, output: output.clone(), overwrite: false };
            export_hugging_face(&job).expect("what is opened can be saved");
            let again = Checkpoint::open(&output).expect("what is saved is opened");
            assert_eq!(again.config(), checkpoint.config());
        });
    });
});
