//! Any bytes as importance data, in GGUF or in the older format: refused, or means that are finite and
//! not negative; a GGUF that is written and read again is equal.
#![no_main]

use quantize::{ImatrixFile, Importance};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz::with_files(&[("imatrix", bytes)], |folder| {
        let path = folder.join("imatrix");
        let open = || Importance::open(&path);
        if let Ok(data) = fuzz::bounded(bytes.len(), 64, 1 << 20, open) {
            assert!(!data.is_empty());
        }
        let Ok(file) = ImatrixFile::open(&path) else { return };
        let _ = file.means();
        let copy = folder.join("copy");
        if file.write(&copy, false, &[]).is_err() {
            return; // a count that does not fit into the format
        }
        let again = ImatrixFile::open(&copy).expect("what is written is read");
        // As text, in which NaN equals NaN.
        assert_eq!(format!("{again:?}"), format!("{file:?}"));
    });
});
