//! Measures the memory for a text that is a single line, or a single word.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::str::FromStr;
use std::sync::Mutex;

use data::{Corpus, Tokenizer, encode_file};
use testing::{CountingAllocator, peak_of};

/// Only one test counts at a time.
static ALONE: Mutex<()> = Mutex::new(());

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Letters without repetitions, with a space after every `word` of them.
fn letters(count: usize, word: usize) -> String {
    let mut state = 1_u32;
    let letter = |at: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if at % (word + 1) == word { ' ' } else { char::from(b'a' + (state >> 24) as u8 % 26) }
    };
    (0..count).map(letter).collect()
}

/// Most bytes that were allocated while `text` was encoded into a file, and its tokens.
fn peak(tokenizer: &Tokenizer, text: &str) -> (usize, u64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.txt");
    fs::write(&path, text).unwrap();
    let output = folder.path().join("tokens.bin");
    let (peak, report) =
        peak_of(|| encode_file(&Corpus::open(&path).unwrap(), tokenizer, &output, false).unwrap());
    (peak, report.tokens)
}

#[test]
fn a_text_of_one_word_takes_a_few_bytes_for_each_of_its_own() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let tokenizer = Tokenizer::gpt2().unwrap();
    let size = 24 << 20;
    let (bytes, tokens) = peak(&tokenizer, &letters(size, usize::MAX - 1));
    println!("one word of {} MiB: peak {} MiB, {tokens} tokens", size >> 20, bytes >> 20);
    // The text, the tokens, and each of them twice while its vector is enlarged.
    assert!(bytes < 9 * size, "{bytes}");
}

#[test]
fn a_text_of_one_line_takes_no_more_than_one_of_many() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let tokenizer = Tokenizer::gpt2().unwrap();
    let size = 24 << 20;
    let (bytes, tokens) = peak(&tokenizer, &letters(size, 6));
    println!("one line of {} MiB: peak {} MiB, {tokens} tokens", size >> 20, bytes >> 20);
    // Batches of 4 MiB: being read, waiting, being encoded, and their tokens.
    assert!(bytes < 64 << 20, "{bytes}");
}

/// Chinese without a space or a line end, as a text and as one record.
#[test]
fn a_text_of_chinese_takes_no_more_memory_than_another() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let folder = tempfile::tempdir().unwrap();
    let sentence = "\u{4E2D}\u{6587}\u{5B57}\u{7B26}\u{6CA1}\u{6709}\u{7A7A}\u{683C}\u{3002}";
    let count = (64 << 20) / sentence.len();
    let tokenizer = Tokenizer::gpt2().unwrap();
    let each = tokenizer.encode(sentence).unwrap().len();
    assert_eq!(tokenizer.encode(&sentence.repeat(2)).unwrap().len(), 2 * each);
    let text = folder.path().join("a.txt");
    fs::write(&text, sentence.repeat(count)).unwrap();
    let (bytes, tokens) = peak_of_input(&text);
    println!("64 MiB of Chinese: peak {} MiB", bytes >> 20);
    assert_eq!(tokens, Ok((count * each) as u64));
    assert!(bytes < 96 << 20, "{bytes}");
    let record = folder.path().join("b.jsonl");
    fs::write(&record, format!("{{\"text\": \"{}\"}}", sentence.repeat(count))).unwrap();
    let (bytes, tokens) = peak_of_input(&record);
    println!("as one record: peak {} MiB", bytes >> 20);
    assert_eq!(tokens, Ok((count * each + 1) as u64));
    // The line, its text, and its tokens of four bytes, more than one for each byte here.
    assert!(bytes < 9 * (64 << 20), "{bytes}");
}

/// Most bytes that were allocated while an input was encoded, and what became of it.
fn peak_of_input(path: &Path) -> (usize, Result<u64, String>) {
    let tokenizer = Tokenizer::gpt2().unwrap();
    let output = path.with_extension("bin");
    peak_of(|| {
        let report = encode_file(&Corpus::open(path).unwrap(), &tokenizer, &output, false);
        report.map(|report| report.tokens).map_err(|error| format!("{error:#}"))
    })
}

/// `count` times `piece`, compressed.
fn gzip(path: &Path, piece: &[u8], count: usize) {
    let file = fs::File::create(path).unwrap();
    let mut out = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    (0..count).for_each(|_| out.write_all(piece).unwrap());
    out.finish().unwrap();
}

/// A few MB of gzip that stand for a gigabyte, as a line without end, as one JSON text, as a CSV field,
/// and as a word.
#[test]
fn a_gzip_bomb_is_refused_within_bounded_memory() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let folder = tempfile::tempdir().unwrap();
    let zeros = vec![b'0'; 1 << 20];
    for (name, expected, most) in [
        ("a.jsonl.gz", "a line of more than 268435456 bytes", 600),
        ("a.json.gz", "not an array of objects", 64),
        ("a.csv.gz", "a record of more than 268435456 bytes", 800),
        ("a.txt.gz", "without a place where this tokenizer's text can be cut", 400),
    ] {
        let path = folder.path().join(name);
        gzip(&path, &zeros, 1 << 10);
        let (bytes, result) = peak_of_input(&path);
        let error = result.unwrap_err();
        assert!(error.contains(expected) && error.contains(name), "{name}: {error}");
        assert!(bytes < most << 20, "{name}: {} MiB", bytes >> 20);
    }
}

#[test]
fn many_records_take_no_more_memory_than_some() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl.gz");
    let line = format!("{{\"text\": \"{}\"}}\n", letters(1000, 6));
    gzip(&path, line.repeat(100).as_bytes(), 1000);
    let (bytes, tokens) = peak_of_input(&path);
    println!("100 MB of records: peak {} MiB, {} tokens", bytes >> 20, tokens.unwrap());
    assert!(bytes < 64 << 20, "{bytes}");
}

#[test]
fn a_line_of_a_hundred_megabytes_is_one_document() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    let size = 100 << 20;
    fs::write(&path, format!("{{\"text\": \"{}\"}}", letters(size, 6))).unwrap();
    let (bytes, tokens) = peak_of_input(&path);
    println!("one line of 100 MiB: peak {} MiB, {} tokens", bytes >> 20, tokens.unwrap());
    // The line, its text, and its tokens of four bytes.
    assert!(bytes < 9 * size, "{bytes}");
}

/// The windows of a long piece, compared with Hugging Face's own crate, which merges it at once.
#[test]
fn long_words_become_the_tokens_that_hugging_face_gives() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let ours = Tokenizer::gpt2().unwrap();
    let theirs = tokenizers::Tokenizer::from_str(&ours.tokenizer_json().unwrap()).unwrap();
    let repeated = |text: &str| text.repeat((150 << 10) / text.len());
    let texts = [
        letters(150 << 10, usize::MAX - 1),
        repeated("a"),
        repeated("antidisestablishmentarianism"),
        repeated("\u{E4}\u{4E2D}\u{6587}"),
        repeated("1234567890"),
        repeated("=-"),
        repeated(" "),
    ];
    for text in texts {
        let expected = theirs.encode_fast(text.as_str(), false).unwrap();
        assert!(
            ours.encode(&text).unwrap() == expected.get_ids(),
            "{}...",
            &text[..text.floor_char_boundary(30)]
        );
    }
}
