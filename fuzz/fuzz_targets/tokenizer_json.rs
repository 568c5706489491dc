//! Any text as `tokenizer.json`: refused, or every text becomes tokens of the vocabulary; memory is
//! bounded. The `tokenizers` crate panics on some files, which the reader turns into an error.
#![no_main]

use data::Tokenizer;

/// Up to 16 patterns of at most 10 MB each (a limit of the `regex` crate), twice.
const PATTERNS: usize = 320 << 20;

const TEXT: &str = "The lamp\u{2014}a small one\u{301}, don't touch it! \n\n 12345 <|endoftext|> \u{1f600} \0";

libfuzzer_sys::fuzz_target!(
    init: fuzz::allow_caught_panics(),
    |bytes: &[u8]| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let read = || Tokenizer::from_tokenizer_json(text);
        let Ok(tokenizer) = fuzz::bounded(bytes.len(), 512, (16 << 20) + PATTERNS, read) else { return };
        let Ok(ids) = tokenizer.encode(TEXT) else { return };
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
        assert_eq!(tokenizer.encode(TEXT).ok(), Some(ids.clone()));
        let decoded = tokenizer.decode(&ids);
        assert!(decoded.len() <= 16 * (ids.len() + 1) * bytes.len());
    }
);
