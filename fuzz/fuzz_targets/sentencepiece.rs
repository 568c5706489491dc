//! Any bytes as SentencePiece's `tokenizer.model`: refused, or converted into a `tokenizer.json` whose
//! tokens are those of the vocabulary; memory is bounded.
#![no_main]

use data::Tokenizer;

libfuzzer_sys::fuzz_target!(
    init: fuzz::allow_caught_panics(),
    |bytes: &[u8]| {
        fuzz::with_files(&[("tokenizer.model", bytes)], |folder| {
            let read = || checkpoint::tokenizer_json(folder);
            let Ok(Some(json)) = fuzz::bounded(bytes.len(), 2048, 8 << 20, read) else { return };
            serde_json::from_str::<serde_json::Value>(&json).expect("what is converted is JSON");
            let Ok(tokenizer) = Tokenizer::from_tokenizer_json(&json) else { return };
            let Ok(ids) = tokenizer.encode(" The lamp\n \u{1f600}") else { return };
            assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
        });
    }
);
