//! Any text as a chat template: the rewriting of `{% generation %}` changes nothing else and is done
//! after one pass; reading and rendering end with a text or an error within their bounds.
#![no_main]

use std::time::{Duration, Instant};

use fuzz::chat::conversation::Message;
use fuzz::chat::template::ChatTemplate;
use fuzz::chat::without_generation;

/// A child has two seconds; the rest is what a loaded machine needs to start and end three of them.
const LONGEST: Duration = Duration::from_secs(9);

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(source) = std::str::from_utf8(bytes) else { return };
    let rewritten = without_generation(source);
    assert_eq!(without_generation(&rewritten), rewritten);
    assert_eq!(rewritten.lines().count(), source.lines().count());
    assert_eq!(rewritten.replace("with", ""), source.replace("generation", "").replace("with", ""));
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
