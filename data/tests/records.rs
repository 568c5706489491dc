//! Records of every format against what Python's json and csv and pyarrow read, and every kind of file
//! that is refused.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use config::OnError;
use data::{Corpus, Format, Inputs, Record, TokenFile, Tokenizer, encode_file, records};
use serde_json::{Map, Value};
use tempfile::TempDir;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/records").join(name)
}

fn read(path: &Path) -> Result<Vec<Record>, String> {
    let inputs = Inputs::open(&[path], None).map_err(|error| format!("{error:#}"))?;
    records(&inputs).collect::<Result<_, _>>().map_err(|error| error.to_string())
}

/// A folder with one file.
fn file(name: &str, content: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    (folder, path)
}

#[test]
fn every_format_gives_what_python_reads() {
    let expected: Map<String, Value> =
        serde_json::from_slice(&fs::read(golden("expected.json")).unwrap()).unwrap();
    assert!(expected.len() >= 14);
    for (name, rows) in expected {
        let found = read(&golden(&name)).unwrap();
        let rows = rows.as_array().unwrap();
        assert_eq!(found.len(), rows.len(), "{name}");
        for (record, row) in found.iter().zip(rows) {
            assert_eq!(&Value::Object(record.fields.clone()), row, "{}", record.place);
        }
    }
}

#[test]
fn a_record_knows_where_it_stands() {
    let places = |name: &str| {
        let records = read(&golden(name)).unwrap();
        let of = |record: &Record| record.place.to_string().rsplit_once(": ").unwrap().1.to_owned();
        (of(&records[0]), of(&records[1]), of(&records[2]))
    };
    let three = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
    // The third line of the file is empty, and so are others behind it.
    assert_eq!(places("lines.jsonl"), three("line 1", "line 3", "line 5"));
    assert_eq!(places("array.json"), three("record 1", "record 2", "record 3"));
    assert_eq!(places("table.csv"), three("record 1", "record 2", "record 3"));
    assert_eq!(places("zstd.parquet"), three("row 1", "row 2", "row 3"));
}

#[test]
fn bytes_are_a_text_where_they_are_utf8_and_else_an_object() {
    let records = read(&golden("binary.parquet")).unwrap();
    assert_eq!(records[0].fields["text"], "as bytes");
    assert_eq!(records[1].fields["text"], serde_json::json!({ "bytes": 2 }));
    assert_eq!(records[1].fields["large"], "b");
}

#[test]
fn what_is_no_record_is_named_with_its_place() {
    for (name, content, expected) in [
        ("a.jsonl", &b"{\"text\": 1}\n[1]\n"[..], "a.jsonl: line 2: an array; expected an object"),
        ("a.jsonl", b"{}\n\n{\"a\": \"\xFF\"}\n", "line 3: not UTF-8 at byte 8"),
        ("a.jsonl", b"{\"a\": 1", "line 1: \"{\\\"a\\\": 1\": not JSON"),
        ("a.jsonl", b"{} {}", "line 1: \"{} {}\": not JSON (trailing"),
        ("a.jsonl", b"plain words\n", "line 1: \"plain words\": not JSON"),
        ("a.json", b"[{}, 7]", "a.json: record 2: a number; expected an object"),
        ("a.json", b"[{\"a\": 1}", "record 1: the array has no end; the file was cut short"),
        ("a.json", b"[{\"a\": ", "record 1: the file ends inside of a value"),
        ("a.json", b"[{}] x", "something follows behind the array"),
        ("a.json", b"[{} {}]", "no comma between two elements"),
        ("a.json", b"[{},]", "record 2"),
        ("a.json", b"{\"a\": [], \"b\": []}", "several arrays"),
        ("a.json", b"{\"a\": {}}", "an object without an array"),
        ("a.json", b"{\"a\"", "a field without a value"),
        ("a.json", b"\"text\"", "not an array of objects"),
        ("a.csv", b"a,b\n1,2\n3\n", "a.csv: record 2: 1 columns; expected the 2 of the first line"),
        ("a.csv", b"a,a\n1,2\n", "two columns are called \"a\""),
        ("a.csv", b"a,b\n1,\xFF\n", "record 1: column 2 is not UTF-8"),
        ("a.parquet", b"PAR1 and nothing else", "a.parquet: not a whole Parquet file"),
        ("a.parquet", b"", "not a whole Parquet file"),
        ("a.txt", b"text", "a.txt: a text; expected records"),
    ] {
        let (_folder, path) = file(name, content);
        let error = read(&path).unwrap_err();
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn a_bad_record_is_passed_over_and_a_file_that_ends_early_is_the_end() {
    let (_folder, path) = file("a.jsonl", b"{\"a\":1}\nbad\n{\"a\":3}\n");
    let inputs = Inputs::open(&[&path], None).unwrap();
    let found: Vec<bool> = records(&inputs).map(|record| record.is_ok()).collect();
    assert_eq!(found, [true, false, true]);

    let (_other, cut) = file("b.json", b"[{\"a\":1}, {\"a\"");
    let inputs = Inputs::open(&[&cut, &path], None).unwrap();
    let found: Vec<_> = records(&inputs).collect();
    assert_eq!(found.len(), 2);
    assert!(found[1].as_ref().unwrap_err().ends_file());
}

#[test]
fn what_is_compressed_and_cut_short_is_refused_with_its_name() {
    for name in ["members.jsonl.gz", "frame.jsonl.zst", "snappy.parquet"] {
        let whole = fs::read(golden(name)).unwrap();
        for left in [whole.len() / 2, whole.len() - 1] {
            let (_folder, path) = file(name, &whole[..left]);
            let error = read(&path).unwrap_err();
            assert!(error.contains(name), "{name} {left}: {error}");
        }
    }
}

/// Every byte of a Parquet file in turn: an error or other values, never the end of the program.
#[test]
fn a_damaged_parquet_file_is_an_error_or_other_values() {
    let whole = fs::read(golden("dictionary-v2.parquet")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xFF;
        fs::write(&path, &bytes).unwrap();
        let inputs = Inputs::open(&[&path], None).unwrap();
        let rows = records(&inputs).take(1000).count();
        assert!(rows <= 1000, "byte {at}");
    }
}

/// The tokens of a corpus as texts of its documents, without their ends.
fn documents(corpus: &Corpus, tokenizer: &Tokenizer) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.bin");
    encode_file(corpus, tokenizer, &path, false).unwrap();
    let file = TokenFile::open(&path).unwrap();
    file.verify().unwrap();
    assert!(file.has_documents() && !file.has_mask());
    let text = |range: std::ops::Range<usize>| {
        let tokens = file.get(range);
        let (end, text) = tokens.split_last().unwrap();
        assert_eq!(Some(*end), tokenizer.end_of_text());
        tokenizer.decode(text)
    };
    file.documents().map(text).collect()
}

#[test]
fn records_become_documents_in_every_format() {
    let tokenizer = Tokenizer::gpt2().unwrap();
    let expected: Map<String, Value> =
        serde_json::from_slice(&fs::read(golden("expected.json")).unwrap()).unwrap();
    for (name, rows) in expected {
        let corpus = Corpus::open(&golden(&name)).unwrap();
        let rows = rows.as_array().unwrap().clone();
        let texts: Vec<_> = rows.iter().map(|row| row["text"].as_str().unwrap()).collect();
        assert_eq!(documents(&corpus, &tokenizer), texts, "{name}");
    }
}

#[test]
fn tokens_do_not_depend_on_threads_or_batches() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    let mut lines = fs::File::create(&path).unwrap();
    let mut texts = Vec::new();
    for at in 0..30_000_usize {
        // From nothing to several segments, so that batches end everywhere.
        let length = if at % 5000 == 7 { 400_000 } else { at * 7919 % 300 };
        let text: String =
            "word, \u{4E2D} 12 ".chars().cycle().skip(at % 11).take(length).collect();
        writeln!(lines, "{}", serde_json::json!({ "other": at, "text": text })).unwrap();
        texts.push(text);
    }
    drop(lines);
    let tokenizer = Tokenizer::gpt2().unwrap();
    let corpus = Corpus::open(&path).unwrap();
    let hash = |threads: usize| {
        let output = folder.path().join(format!("{threads}.bin"));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| encode_file(&corpus, &tokenizer, &output, false).unwrap().tokens_blake3)
    };
    let one = hash(1);
    assert_eq!((hash(2), hash(5)), (one.clone(), one));
    let file = TokenFile::open(&folder.path().join("5.bin")).unwrap();
    assert_eq!(file.documents().len(), texts.len());
    for (range, text) in file.documents().zip(&texts) {
        let mut expected = tokenizer.encode(text).unwrap();
        expected.push(50_256);
        assert_eq!(file.get(range), expected);
    }
}

#[test]
fn a_record_without_a_text_stops_or_is_counted() {
    let lines = b"{\"text\": \"a\"}\n{\"txt\": \"b\"}\n{\"text\": null}\nbad\n{\"text\": \"e\"}\n";
    let (folder, path) = file("a.jsonl", lines);
    let tokenizer = Tokenizer::gpt2().unwrap();
    let corpus = |on_error| Corpus::new(Inputs::open(&[&path], None).unwrap(), "text", on_error);
    let output = folder.path().join("t.bin");
    let error = encode_file(&corpus(OnError::Stop), &tokenizer, &output, false).unwrap_err();
    let expected = "line 2: field \"text\" is missing; expected a string";
    assert!(error.to_string().contains(expected), "{error}");
    assert!(!output.exists());

    let report = encode_file(&corpus(OnError::Skip), &tokenizer, &output, false).unwrap();
    assert_eq!((report.read.documents, report.read.skipped), (2, 3));
    assert!(report.read.first_skipped[1].contains("line 3: field \"text\" is null"));
    assert!(report.to_string().contains("skipped     3 record(s)"), "{report}");
    assert_eq!(documents(&corpus(OnError::Skip), &tokenizer), ["a", "e"]);

    let inputs = Inputs::open(&[golden("numbers.parquet")], None).unwrap();
    for (field, expected) in [
        ("text", "numbers.parquet: row 1: field \"text\" is a number; expected a string"),
        ("body", "numbers.parquet: no column body; its columns are: text"),
    ] {
        let corpus = Corpus::new(inputs.clone(), field, OnError::Stop);
        let error = encode_file(&corpus, &tokenizer, &output, true).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let corpus = Corpus::new(inputs, "text", OnError::Skip);
    let error = encode_file(&corpus, &tokenizer, &output, true).unwrap_err().to_string();
    assert!(error.contains("no record with a text; the first that was left out is"), "{error}");
}

#[test]
fn several_texts_are_documents_and_one_is_its_tokens_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a.txt"), folder.path().join("b.txt"));
    fs::write(&a, "\u{FEFF}first\r\n").unwrap();
    fs::write(&b, "second\0").unwrap();
    let tokenizer = Tokenizer::gpt2().unwrap();
    let both = Corpus::open(folder.path()).unwrap();
    assert_eq!(documents(&both, &tokenizer), ["first\r\n", "second\0"]);

    let output = folder.path().join("t.bin");
    let report = encode_file(&Corpus::open(&a).unwrap(), &tokenizer, &output, false).unwrap();
    assert_eq!(report.read.byte_order_marks, 1);
    assert!(report.to_string().contains("1 byte-order mark"), "{report}");
    let file = TokenFile::open(&output).unwrap();
    assert_eq!(file.get(0..file.len()), tokenizer.encode("first\r\n").unwrap());
    assert_eq!((fs::read(&output).unwrap()[8], file.has_documents()), (1, false));
    assert_eq!((file.documents().len(), file.document(0)), (1, 0..file.len()));
}

#[test]
fn sources_are_read_as_often_as_their_weights_say() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a.jsonl"), folder.path().join("b.txt"));
    fs::write(&a, "{\"body\": \"a\"}\n{\"body\": \"b\"}\n").unwrap();
    fs::write(&b, "c").unwrap();
    let source = |path: &Path, weight, text_field: Option<&str>| config::DataSource {
        path: path.to_owned().into(),
        weight,
        text_field: text_field.map(str::to_owned),
    };
    let data = config::Data {
        source: vec![source(&a, 2, Some("body")), source(&b, 1, None)],
        ..config::Data::default()
    };
    let corpus = Corpus::of_run_file(&data).unwrap();
    let tokenizer = Tokenizer::gpt2().unwrap();
    assert_eq!(documents(&corpus, &tokenizer), ["a", "b", "a", "b", "c"]);
    assert_eq!(corpus.files().count(), 2);

    let from_stdin = config::Data { path: "-".into(), ..config::Data::default() };
    let error = format!("{:#}", Corpus::of_run_file(&from_stdin).unwrap_err());
    assert!(error.contains("standard input cannot be read again"), "{error}");
}

#[test]
fn a_format_that_is_named_replaces_the_ending() {
    for name in ["export.dat", "export.html", "export.jsonl"] {
        let (folder, _path) = file(name, b"a\tb\n1\t2\n");
        let inputs = Inputs::open(&[folder.path()], Some(Format::Tsv)).unwrap();
        let record = records(&inputs).next().unwrap().unwrap();
        assert_eq!(record.fields["b"], "2");
    }
}

#[test]
fn what_is_empty_is_no_document_and_what_is_not_utf8_is_named() {
    let tokenizer = Tokenizer::gpt2().unwrap();
    let encode = |name: &str, bytes: &[u8]| {
        let (folder, path) = file(name, bytes);
        let output = folder.path().join("t.bin");
        let corpus = Corpus::new(Inputs::open(&[&path], None).unwrap(), "text", OnError::Stop);
        let report = encode_file(&corpus, &tokenizer, &output, false);
        report.map(|report| report.tokens).map_err(|error| format!("{error:#}"))
    };
    for (name, bytes) in [("a.txt", &b""[..]), ("a.txt", b"\xEF\xBB\xBF")] {
        assert_eq!(encode(name, bytes), Ok(0), "{name}");
    }
    for (name, bytes) in [
        ("a.jsonl", &b""[..]),
        ("a.jsonl", b"\xEF\xBB\xBF\r\n\n"),
        ("a.csv", b"text\n"),
        ("a.json", b"[]"),
    ] {
        let error = encode(name, bytes).unwrap_err();
        assert!(error.contains(&format!("{name}: no record with a text")), "{error}");
    }
    // NUL and line ends stay as they are; JSON has them escaped.
    assert_eq!(
        encode("a.jsonl", b"{\"text\": \"a\\u0000\\r\\n\"}\r\n"),
        Ok(1 + tokenizer.encode("a\0\r\n").unwrap().len() as u64)
    );
    for (name, bytes, expected) in [
        (
            "a.jsonl",
            &b"{\"text\": \"a\"}\n{\"text\": \"\xFF\"}\n"[..],
            "line 2: not UTF-8 at byte 11",
        ),
        ("a.csv", b"text\na\n\xE4\n", "record 2: column 1 is not UTF-8"),
        ("a.txt", b"a \xC3", "not UTF-8 at byte 2"),
        ("a.jsonl", b"{\"text\": \"a\0\"}\n", "line 1: "),
    ] {
        let error = encode(name, bytes).unwrap_err();
        assert!(error.contains(expected), "{name}: {error}");
    }
}
