//! Token files: round trip, refused files, windows, splits, and encoding files of any size.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use crate::common;
use std::fs;
use std::path::{Path, PathBuf};

use checkpoint::atomic::write_file;
use data::{
    BUILTIN_STORY, Corpus, EncodeReport, Split, TokenFile, TokenWriter, Tokenizer, Window, Windows,
    inspect, inspect_tokens,
};
use tempfile::TempDir;

/// [`data::encode_file`] of one input with all settings at their defaults.
fn encode_file(
    input: &Path,
    tokenizer: &Tokenizer,
    output: &Path,
    force: bool,
) -> anyhow::Result<EncodeReport> {
    data::encode_file(&Corpus::open(input)?, tokenizer, output, force)
}

fn simple_from_file(input: &Path) -> anyhow::Result<Tokenizer> {
    data::simple_from_file(&Corpus::open(input)?)
}

/// A folder with the token file of the story.
fn story() -> (TempDir, PathBuf, Tokenizer) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.bin");
    let tokenizer = Tokenizer::gpt2().unwrap();
    encode_file(Path::new("builtin"), &tokenizer, &path, false).unwrap();
    (folder, path, tokenizer)
}

#[test]
fn what_was_encoded_is_read_back() {
    let (_folder, path, tokenizer) = story();
    let expected = tokenizer.encode(BUILTIN_STORY).unwrap();
    let file = TokenFile::open(&path).unwrap();
    file.verify().unwrap();
    assert_eq!(file.len(), expected.len());
    assert_eq!(file.get(0..file.len()), expected);
    assert_eq!(file.get(7..9), expected[7..9]);
    assert_eq!(file.token_bytes(), 2);
    assert_eq!(file.vocab_size(), 50_257);
    assert_eq!(file.text_bytes(), BUILTIN_STORY.len() as u64);
    assert_eq!(file.tokenizer_hash(), tokenizer.hash());
    assert!(TokenFile::is_token_file(&path));
    assert!(!TokenFile::is_token_file(Path::new(env!("CARGO_MANIFEST_DIR"))));
    assert_eq!(tokenizer.decode(&file.get(0..file.len())), BUILTIN_STORY);
}

#[test]
fn the_header_is_as_documented() {
    let (_folder, path, tokenizer) = story();
    let bytes = std::fs::read(&path).unwrap();
    let payload = &bytes[128..];
    assert_eq!(&bytes[..8], b"PGPTOKEN");
    assert_eq!(bytes[8..16], [1, 0, 0, 0, 2, 0, 0, 0]);
    assert_eq!(bytes[16..24], (payload.len() as u64 / 2).to_le_bytes());
    assert_eq!(bytes[24..32], 50_257_u64.to_le_bytes());
    assert_eq!(bytes[32..40], (BUILTIN_STORY.len() as u64).to_le_bytes());
    assert_eq!(bytes[40..72], tokenizer.hash());
    assert_eq!(bytes[72..104], *blake3::hash(payload).as_bytes());
    assert_eq!(bytes[104..128], [0; 24]);
    let first = tokenizer.encode("The").unwrap()[0];
    assert_eq!(payload[..2], (first as u16).to_le_bytes());
}

#[test]
fn hostile_headers_are_refused_for_their_own_reason() {
    let (folder, path, _) = story();
    let original = std::fs::read(&path).unwrap();
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = original.clone();
        change(&mut bytes);
        let path = folder.path().join("changed.bin");
        std::fs::write(&path, bytes).unwrap();
        format!("{:#}", TokenFile::open(&path).unwrap_err())
    };
    let set = |at: usize, value: u64| {
        move |bytes: &mut Vec<u8>| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes())
    };
    assert!(refused(&|b| b[0] = b'X').contains("not a token file"));
    assert!(refused(&|b| b.truncate(100)).contains("not a token file"));
    assert!(refused(&|b| b[8] = 2).contains("version 2 without sections"));
    assert!(refused(&|b| b[8] = 3).contains("version 3, expected 1 or 2"));
    assert!(refused(&|b| b[12] = 3).contains("3 bytes a token"));
    assert!(refused(&|b| b.truncate(b.len() - 1)).contains("cut short"));
    assert!(refused(&|b| b.push(0)).contains("cut short or added to"));
    assert!(refused(&set(16, u64::MAX)).contains("promises 18446744073709551615 tokens"));
    assert!(refused(&set(16, u64::MAX / 2 + 1)).contains("promises"));
    assert!(refused(&set(24, 1 << 40)).contains("a vocabulary of 1099511627776"));
    assert!(refused(&|b| b[110] = 1).contains("not zero"));
    let missing = TokenFile::open(&folder.path().join("none")).unwrap_err();
    assert!(format!("{missing:#}").contains("cannot open"));
    assert!(TokenFile::open(folder.path()).is_err());
    let empty = folder.path().join("empty");
    std::fs::write(&empty, b"").unwrap();
    assert!(TokenFile::open(&empty).is_err());
}

#[test]
fn damage_is_found() {
    let (_folder, path, tokenizer) = story();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = TokenFile::open(&path).unwrap().verify().unwrap_err().to_string();
    assert!(error.contains("damaged"), "{error}");
    assert!(inspect_tokens(&path, &tokenizer, 3).is_err());

    // A token outside of the vocabulary, with a matching hash.
    bytes[200..202].copy_from_slice(&[0xFF, 0xFF]);
    let hash = *blake3::hash(&bytes[128..]).as_bytes();
    bytes[72..104].copy_from_slice(&hash);
    std::fs::write(&path, &bytes).unwrap();
    let error = TokenFile::open(&path).unwrap().verify().unwrap_err().to_string();
    assert!(error.contains("token 65535 at position 36"), "{error}");
}

/// Inputs and targets of a window in which all positions train.
fn pair(window: Window) -> (Vec<u32>, Vec<u32>) {
    assert_eq!(window.trained, None);
    (window.inputs, window.targets)
}

/// Three documents of 3, 0 and 4 tokens, the middle of it with a mask.
fn with_sections(folder: &Path) -> PathBuf {
    let path = folder.join("sections.bin");
    write(&path, |writer| {
        writer.push(&[10, 11]).unwrap();
        writer.push_masked(&[12], &[false]).unwrap();
        writer.end_document().unwrap();
        writer.end_document().unwrap();
        writer.push_masked(&[13, 14, 15], &[false, true, false]).unwrap();
        writer.push(&[16, 17]).unwrap();
        assert!(writer.push_masked(&[1, 2], &[true]).is_err());
    });
    path
}

/// A token file of GPT-2's tokens, as `fill` writes it, of 99 bytes of text.
fn write(path: &Path, fill: impl FnOnce(&mut TokenWriter<'_>)) {
    let written = write_file::<_, anyhow::Error>(path, false, |out| {
        let mut writer = TokenWriter::new(out, &Tokenizer::gpt2()?)?;
        fill(&mut writer);
        writer.finish(99)
    });
    assert_eq!(written.unwrap().token_bytes, 2);
}

/// The layout by hand: no code of the crate makes these bytes.
#[test]
fn sections_are_as_documented() {
    let folder = tempfile::tempdir().unwrap();
    let path = with_sections(folder.path());
    let bytes = fs::read(&path).unwrap();
    let mut payload = Vec::new();
    for token in 10_u16..18 {
        payload.extend(token.to_le_bytes());
    }
    for end in [3_u64, 3, 8] {
        payload.extend(end.to_le_bytes());
    }
    payload.push(0b1101_0011);
    assert_eq!(bytes[128..], payload);
    assert_eq!(bytes[8..12], [2, 0, 0, 0]);
    assert_eq!(bytes[72..104], *blake3::hash(&payload).as_bytes());
    assert_eq!(bytes[104..112], 3_u64.to_le_bytes());
    assert_eq!(bytes[112..128], [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);

    let file = TokenFile::open(&path).unwrap();
    file.verify().unwrap();
    assert_eq!(file.documents().collect::<Vec<_>>(), [0..3, 3..3, 3..8]);
    assert_eq!(file.document(2), 3..8);
    assert_eq!(file.trains(1..6), [true, false, false, true, false]);
    assert_eq!(file.get(6..8), [16, 17]);
}

#[test]
fn sections_that_are_damaged_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = with_sections(folder.path());
    let original = fs::read(&path).unwrap();
    let refused = |change: &dyn Fn(&mut Vec<u8>), is_rehashed: bool| {
        let mut bytes = original.clone();
        change(&mut bytes);
        if is_rehashed {
            let hash = *blake3::hash(&bytes[128..]).as_bytes();
            bytes[72..104].copy_from_slice(&hash);
        }
        let path = folder.path().join("changed.bin");
        fs::write(&path, bytes).unwrap();
        let opened = TokenFile::open(&path);
        let error = opened.and_then(|file| {
            // Whatever the sections say, reading stays inside of the file.
            file.documents()
                .for_each(|range| drop(file.get(range.start..range.end.max(range.start))));
            file.verify()
        });
        format!("{:#}", error.unwrap_err())
    };
    let ends = 128 + 16;
    assert!(refused(&|b| b[ends] = 2, false).contains("is damaged"));
    assert!(refused(&|b| b[ends] = 4, true).contains("document 2 of 3 ends at token 3"));
    assert!(refused(&|b| b[ends + 16] = 7, true).contains("document 3 of 3 ends at token 7"));
    assert!(refused(&|b| b[ends + 8] = 200, true).contains("ends at token 200"));
    assert!(refused(&|b| b[104] = 4, false).contains("cut short"));
    assert!(refused(&|b| b[111] = 255, false).contains("promises"));
    assert!(refused(&|b| b[112] = 0, false).contains("added to"));
    assert!(refused(&|b| b[112] = 2, false).contains("2 where 1 says"));
    assert!(refused(&|b| b[8] = 1, false).contains("bytes 104 to 128"));
    assert!(refused(&|b| b.truncate(b.len() - 1), false).contains("cut short"));
}

#[test]
fn bits_behind_the_last_token_are_zero() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.bin");
    write(&path, |writer| writer.push_masked(&[1, 2, 3], &[true; 3]).unwrap());
    let file = TokenFile::open(&path).unwrap();
    file.verify().unwrap();
    assert_eq!((file.documents().len(), file.document(0)), (1, 0..3));
    let mut bytes = fs::read(&path).unwrap();
    // Two bytes of filling between three tokens of two bytes and the bits.
    assert_eq!(bytes[134..], [0, 0, 0b111]);
    bytes[136] = 0b1111;
    let hash = *blake3::hash(&bytes[128..]).as_bytes();
    bytes[72..104].copy_from_slice(&hash);
    fs::write(&path, bytes).unwrap();
    let error = TokenFile::open(&path).unwrap().verify().unwrap_err().to_string();
    assert!(error.contains("bits behind the last token"), "{error}");
}

#[test]
fn an_existing_file_stays_unless_forced() {
    let (_folder, path, tokenizer) = story();
    let before = std::fs::read(&path).unwrap();
    let error = encode_file(Path::new("builtin"), &tokenizer, &path, false).unwrap_err();
    assert!(error.to_string().contains("--force"), "{error}");
    let report = encode_file(Path::new("builtin"), &tokenizer, &path, true).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(report.tokens as usize, TokenFile::open(&path).unwrap().len());
}

#[test]
fn a_text_larger_than_any_buffer_encodes_as_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (text_path, path) = (folder.path().join("text"), folder.path().join("tokens.bin"));
    let text = [BUILTIN_STORY, "caf\u{E9} \u{4E2D}\u{6587}\u{3002}\n\n"].concat().repeat(420);
    assert!(text.len() > 9 << 20);
    std::fs::write(&text_path, &text).unwrap();
    for tokenizer in [Tokenizer::gpt2().unwrap(), simple_from_file(&text_path).unwrap()] {
        encode_file(&text_path, &tokenizer, &path, true).unwrap();
        let file = TokenFile::open(&path).unwrap();
        assert!(
            file.get(0..file.len()) == tokenizer.encode(&text).unwrap(),
            "{}",
            tokenizer.kind()
        );
    }
}

#[test]
fn a_large_vocabulary_takes_four_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (text_path, path) = (folder.path().join("text"), folder.path().join("tokens.bin"));
    let text: String = (0..70_000).map(|word| format!("w{word} ")).collect();
    std::fs::write(&text_path, &text).unwrap();
    let tokenizer = simple_from_file(&text_path).unwrap();
    assert_eq!(tokenizer.vocab_size(), 70_002);
    encode_file(&text_path, &tokenizer, &path, false).unwrap();
    let file = TokenFile::open(&path).unwrap();
    file.verify().unwrap();
    assert_eq!(file.token_bytes(), 4);
    assert_eq!(file.get(0..file.len()), tokenizer.encode(&text).unwrap());
}

#[test]
fn text_that_is_not_utf8_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let (text_path, path) = (folder.path().join("text"), folder.path().join("tokens.bin"));
    let mut text = BUILTIN_STORY.repeat(250).into_bytes();
    let at = text.len() - 100;
    text[at] = 0xFF;
    std::fs::write(&text_path, text).unwrap();
    let tokenizer = Tokenizer::gpt2().unwrap();
    let error = format!("{:#}", encode_file(&text_path, &tokenizer, &path, false).unwrap_err());
    assert!(error.contains(&format!("not UTF-8 at byte {at}")), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_text_is_not_replaced_by_its_tokens_and_tokens_are_no_text() {
    let (folder, path, tokenizer) = story();
    let error = encode_file(&path, &tokenizer, &folder.path().join("b"), false).unwrap_err();
    assert!(error.to_string().contains("is a token file already"), "{error}");
    let text = folder.path().join("text");
    std::fs::write(&text, "text").unwrap();
    let error = encode_file(&text, &tokenizer, &text, true).unwrap_err();
    assert!(error.to_string().contains("name another output"), "{error}");
    assert_eq!(std::fs::read_to_string(&text).unwrap(), "text");
}

#[test]
fn inspecting_the_text_and_its_tokens_counts_the_same() {
    let (_folder, path, tokenizer) = story();
    let of_tokens = inspect_tokens(&path, &tokenizer, 5).unwrap();
    let of_text = inspect(&Corpus::open(Path::new("builtin")).unwrap(), &tokenizer, 5).unwrap();
    assert_eq!((of_tokens.kind, of_text.kind), ("token file", "text"));
    assert_eq!(of_tokens.head, of_text.head);
    assert_eq!(of_tokens.top, of_text.top);
    assert_eq!(of_tokens.text_bytes, of_text.text_bytes);
    assert_eq!(of_tokens.head[0].text, "The");
    assert!(of_tokens.to_string().contains("most frequent"));

    let other = Tokenizer::simple("another vocabulary");
    let error = inspect_tokens(&path, &other, 5).unwrap_err().to_string();
    assert!(error.contains("another tokenizer"), "{error}");
}

#[test]
fn windows_of_the_verdict_are_those_of_the_book() {
    let Some(text) = common::shared("windows", "texts/the-verdict.txt") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.bin");
    encode_file(&text, &Tokenizer::gpt2().unwrap(), &path, false).unwrap();
    let file = TokenFile::open(&path).unwrap();
    let split = Split::new(file.len(), 0.9);
    assert_eq!((split.train.clone(), split.validation.clone()), (0..4630, 4630..5145));
    // Raschka, 2024, section 5.1.3: 9 batches of 2 to train, 1 to validate.
    let train = Windows::new(&file, split.train, 256, 256).unwrap();
    let validation = Windows::new(&file, split.validation, 256, 256).unwrap();
    assert_eq!((train.len() / 2, validation.len() / 2), (9, 1));
    // Section 2.6: the first windows of four tokens.
    let small = Windows::new(&file, 0..file.len(), 4, 1).unwrap();
    assert_eq!(pair(small.get(0)), (vec![40, 367, 2885, 1464], vec![367, 2885, 1464, 1807]));
    assert_eq!(pair(small.get(1)), (vec![367, 2885, 1464, 1807], vec![2885, 1464, 1807, 3619]));
    assert_eq!(small.len(), file.len() - 4);
}

#[test]
fn every_window_lies_inside_of_its_range_and_the_last_one_is_the_last_that_fits() {
    let (_folder, path, _) = story();
    let file = TokenFile::open(&path).unwrap();
    for (len, context, stride) in [
        (65, 64, 64),
        (66, 64, 1),
        (200, 64, 64),
        (193, 64, 64),
        (100, 10, 3),
        (12, 1, 1),
        (40, 8, 50),
    ] {
        let range = 17..17 + len;
        let windows = Windows::new(&file, range.clone(), context, stride).unwrap();
        for index in 0..windows.len() {
            let (inputs, targets) = pair(windows.get(index));
            let start = range.start + index * stride;
            assert_eq!(inputs, file.get(start..start + context));
            assert_eq!(targets, file.get(start + 1..start + context + 1));
            assert!(start + context < range.end);
        }
        let one_more = range.start + windows.len() * stride;
        assert!(one_more + context >= range.end, "{len} {context} {stride}");
    }
}

#[test]
fn a_text_shorter_than_one_window_is_refused_with_the_numbers() {
    let (_folder, path, _) = story();
    let file = TokenFile::open(&path).unwrap();
    let error = Windows::new(&file, 0..64, 64, 64).unwrap_err().to_string();
    assert!(error.contains("64 tokens") && error.contains("context 64 needs 65"), "{error}");
    assert!(Windows::new(&file, 0..file.len() + 1, 4, 4).is_err());
    assert!(Windows::new(&file, 0..100, 0, 4).is_err());
}
