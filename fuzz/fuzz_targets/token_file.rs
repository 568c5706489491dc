//! Any bytes as a token file: refused, or all tokens can be read, and lie in the vocabulary if the
//! file is not damaged.
#![no_main]

use data::TokenFile;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz::with_files(&[("tokens.bin", bytes)], |folder| {
        let path = folder.join("tokens.bin");
        let open = || TokenFile::open(&path);
        let Ok(file) = fuzz::bounded(bytes.len(), 16, 1 << 18, open) else { return };
        assert!(TokenFile::is_token_file(&path));
        let tokens = fuzz::bounded(bytes.len(), 16, 1 << 18, || file.get(0..file.len()));
        assert_eq!(tokens.len(), file.len());
        assert!(file.len() * file.token_bytes() <= bytes.len());
        if file.verify().is_ok() {
            assert!(tokens.iter().all(|&token| (token as usize) < file.vocab_size()));
        }
    });
});
