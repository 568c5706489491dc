//! Any text as a run file: refused, or what is written and read again is equal.
#![no_main]

use config::RunFile;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let place = std::path::Path::new("config.toml");
    let read = || RunFile::parse(place, text, &[]);
    let run_file = match fuzz::bounded(bytes.len(), 256, 1 << 20, read) {
        Ok(run_file) => run_file,
        Err(error) => {
            let said = error.to_string();
            assert!(said.lines().count() <= 1, "{said}");
            return;
        }
    };
    let written = run_file.to_toml().expect("what is read can be written");
    let again = RunFile::parse(place, &written, &[]).expect("what is written is read");
    assert_eq!(again, run_file);
});
