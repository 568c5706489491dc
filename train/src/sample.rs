//! What the model writes after each epoch, in `samples.txt`.

use std::path::Path;

use anyhow::Context;
use burn::tensor::{Device, Int, Tensor, TensorData};
use model::Model;

use crate::corpus::Corpus;
use crate::journal::Journal;

/// The likeliest continuation of `prompt` by `count` tokens: text of both together. The model sees
/// the last tokens of them, as many as it learns from at a time.
pub fn greedy(
    model: &Model,
    corpus: &Corpus,
    prompt: &str,
    count: usize,
    device: &Device,
) -> String {
    let (tokenizer, context) = (corpus.tokenizer(), corpus.context());
    let model = model.without_graph();
    let mut tokens = match corpus.prompt(prompt) {
        Ok(ids) => ids,
        // A sample is no reason to end a run.
        Err(error) => return format!("(no sample of the prompt {prompt:?}: {error:#})"),
    };
    let begins = tokens.first().is_some_and(|&first| tokenizer.begin_of_text() == Some(first));
    let text_start = usize::from(begins);
    if tokens.is_empty() {
        tokens.push(tokenizer.end_of_text().unwrap_or(0));
    }
    for _ in 0..count {
        let start = tokens.len().saturating_sub(context);
        let window: Vec<i32> = tokens[start..].iter().map(|&id| id as i32).collect();
        let shape = [1, window.len()];
        let window = TensorData::new(window, shape);
        let window = Tensor::<2, Int>::from_data(window, &device.clone().inner());
        let next: i64 = model.next_logits(window).argmax(1).into_scalar();
        tokens.push(next as u32);
        if tokenizer.ends().contains(&(next as u32)) {
            break;
        }
    }
    tokenizer.decode(&tokens[text_start..])
}

/// Heads the sample of one epoch; also what a resumed run finds its place by.
fn heading(epoch: u64, step: u64) -> String {
    format!("=== epoch {epoch}, step {step}\n")
}

/// One sample as it stands in the file.
pub fn entry(epoch: u64, step: u64, text: &str) -> String {
    format!("{}{text}\n\n", heading(epoch, step))
}

/// Opens the samples of a run that goes on after `step`: those of later steps are cut off.
///
/// # Errors
/// When the file cannot be read or written.
pub fn open(path: &Path, step: u64) -> anyhow::Result<Journal> {
    let text = match plain_file::read(path) {
        Ok(bytes) => whole_characters(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
    };
    let end = end_of(&text, step).unwrap_or(text.len());
    Journal::start(path, &text[..end])
}

/// The text up to the first byte that is none: a full disk may have cut a character in two.
fn whole_characters(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| {
        let whole = error.utf8_error().valid_up_to();
        let mut bytes = error.into_bytes();
        bytes.truncate(whole);
        String::from_utf8(bytes).unwrap_or_default()
    })
}

/// Where the first sample of a later step begins.
fn end_of(text: &str, step: u64) -> Option<usize> {
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let found = line.strip_prefix("=== epoch ").and_then(|rest| rest.split_once(", step "));
        if let Some((_, number)) = found
            && number.trim_end().parse::<u64>().is_ok_and(|number| number > step)
        {
            return Some(offset);
        }
        offset += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_character_at_the_end_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("samples.txt");
        let whole = entry(1, 10, "mer");
        std::fs::write(&path, [whole.as_bytes(), &"é".as_bytes()[..1]].concat()).unwrap();
        open(&path, 10).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
    }

    #[test]
    fn a_resumed_run_cuts_the_samples_of_later_steps() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("samples.txt");
        let mut samples = open(&path, 3).unwrap();
        for epoch in 1..=3 {
            let text = format!("text {epoch}\nof two lines");
            samples.append(&entry(epoch, 10 * epoch, &text)).unwrap();
        }
        open(&path, 20).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.ends_with("=== epoch 2, step 20\ntext 2\nof two lines\n\n"), "{text}");
        open(&path, 20).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}
