//! Any text as a plan of `quantize`: refused, or what is written and read again is equal.
#![no_main]

use quantize::PlanFile;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz::with_files(&[("plan.toml", bytes)], |folder| {
        let read = |name: &str| PlanFile::read(&folder.join(name));
        let plan = fuzz::bounded(bytes.len(), 256, 1 << 20, || read("plan.toml"));
        let Ok(plan) = plan else { return };
        let text = plan.to_text("a note").expect("what is read can be written");
        std::fs::write(folder.join("again.toml"), text).expect("a file");
        assert_eq!(read("again.toml").expect("what is written is read"), plan);
        let _ = plan.most_frequent();
    });
});
