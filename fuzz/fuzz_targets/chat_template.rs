//! Any text as a chat template: reading and rendering end with a text or an error within their bounds.
#![no_main]

use std::time::{Duration, Instant};

use chat_template::{ChatTemplate, Message};

/// A child has two seconds; the rest is what a loaded machine needs to start and end three of them.
const LONGEST: Duration = Duration::from_secs(9);

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(source) = std::str::from_utf8(bytes) else { return };
    // A child for each reading: only some inputs are worth that.
    if bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)) % 16 != 0 {
        return;
    }
    let start = Instant::now();
    let told = match ChatTemplate::new(source, Some("<s>"), None) {
        Ok(template) => template.render(&[Message::user("a <b>")]),
        Err(error) => Err(error),
    };
    if let Err(error) = told {
        let text = format!("{error:#}");
        assert!(text.starts_with("the chat template "), "{text}");
        assert!(text.len() < 4096, "an error of {} bytes", text.len());
    }
    assert!(start.elapsed() < LONGEST, "{:?}", start.elapsed());
});
