use std::collections::BTreeMap;

use config::OnError;

use super::*;
use crate::Inputs;

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Names and contents of a folder.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let named = |entry: fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    };
    entries.map(named).collect()
}

/// Texts of all lengths, with letters of several bytes.
fn texts(count: usize) -> Vec<String> {
    let text = |at: usize| "word, \u{4E2D} 12 sea'll ".chars().cycle().skip(at % 11);
    (0..count).map(|at| text(at).take(at * 7919 % 900).collect()).collect()
}

fn lines(texts: &[String], unit: usize) -> String {
    let mut lines = String::from("\u{FEFF}");
    for (at, text) in texts.iter().enumerate() {
        // Blank lines and lines without a text lie between them.
        if at % unit == 2 {
            lines += "\n{\"no\": 1}\n\r\n";
        }
        lines += &format!("{}\n", serde_json::json!({ "id": at, "text": text }));
    }
    lines
}

fn zstd(path: &Path, text: &str) {
    fs::write(path, zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap();
}

/// Every kind of inputs, as a corpus and the least number of shards that it should become.
fn corpora(folder: &Path) -> Vec<(&'static str, Corpus)> {
    let texts = texts(400);
    let at = |name: &str| folder.join(name);
    write(&at("lines/a.jsonl"), &lines(&texts[..150], 7));
    write(&at("lines/b.jsonl"), &lines(&texts[150..151], 7));
    write(&at("lines/c.jsonl"), "\n");
    zstd(&at("lines/d.jsonl.zst"), &lines(&texts[151..], 5));
    let records: Vec<_> =
        texts.iter().map(|text| serde_json::json!({ "text": text, "other": 1 })).collect();
    write(&at("array.json"), &serde_json::to_string(&records).unwrap());
    let mut csv = csv::Writer::from_path(at("table.csv")).unwrap();
    csv.write_record(["text", "n"]).unwrap();
    texts.iter().for_each(|text| csv.write_record([text, "1"]).unwrap());
    csv.flush().unwrap();
    // More than a part of 4 MiB, behind a byte-order mark.
    write(&at("one.txt"), &format!("\u{FEFF}{}", texts.concat().repeat(40)));
    write(&at("texts/a.txt"), &texts[..200].concat());
    write(&at("texts/b.txt"), "");
    zstd(&at("texts/c.txt.zst"), &format!("\u{FEFF}{}", texts[200..].concat()));
    let open = |name: &str| {
        let inputs = Inputs::open(&[at(name)], None).unwrap();
        Corpus::new(inputs, "text", OnError::Skip)
    };
    let weighted = |file: &str| config::DataSource {
        path: at(file).to_str().unwrap().into(),
        weight: 2,
        text_field: None,
    };
    let several = config::Data {
        source: vec![weighted("lines"), weighted("texts"), weighted("array.json")],
        on_error: OnError::Skip,
        ..config::Data::default()
    };
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/records/snappy.parquet");
    vec![
        ("lines", open("lines")),
        ("array", open("array.json")),
        ("csv", open("table.csv")),
        ("one text", open("one.txt")),
        ("texts", open("texts")),
        ("parquet", Corpus::open(&golden).unwrap()),
        ("sources", Corpus::of_run_file(&several).unwrap()),
    ]
}

/// An encoding that was stopped behind each shard goes on to the same bytes, which are those of one file.
#[test]
fn going_on_behind_any_shard_gives_the_same_shards() {
    let tokenizer = Tokenizer::gpt2().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (name, corpus) in corpora(folder.path()) {
        let size = match name {
            "one text" => 600_000,
            "sources" => 60_000,
            _ => 12_000,
        };
        let output = folder.path().join(format!("{name}.tokens"));
        let settings = Settings::of(&corpus, &tokenizer, size).unwrap();
        let whole = folder.path().join(format!("{name}.whole"));
        fs::create_dir(&whole).unwrap();
        let mut work = Work::open(whole.clone(), settings, &corpus, false).unwrap();
        let end = end_of_document(&corpus, &tokenizer).unwrap();
        let read = work.encode(&corpus, &tokenizer, end).unwrap();
        let journal = fs::read_to_string(whole.join(journal::FILE)).unwrap();
        fs::remove_file(whole.join(journal::FILE)).unwrap();
        let expected = contents(&whole);
        let shards = expected.len() - 1;
        let least = if name == "parquet" { 1 } else { 5 };
        assert!(shards >= least, "{name}: {shards} shards");
        assert!(expected.values().all(|bytes| bytes.len() <= size as usize || bytes[0] == b'{'));
        assert_eq!(journal.lines().count(), shards, "{name}");

        let one = folder.path().join(format!("{name}.bin"));
        let report = crate::encode_file(&corpus, &tokenizer, &one, false).unwrap();
        assert_eq!(report.read, read, "{name}");
        same(name, &TokenFile::open(&whole).unwrap(), &TokenFile::open(&one).unwrap());

        for kept in 0..shards {
            let partial = folder.path().join(format!("{name}.tokens.partial"));
            fs::create_dir(&partial).unwrap();
            // The shard that was being finished is there too, and a line of the journal that was cut.
            for shard in 0..=kept {
                let file = format!("shard-{shard:05}.bin");
                fs::write(partial.join(&file), &expected[&file]).unwrap();
            }
            let lines: Vec<&str> = journal.lines().collect();
            let mut text = lines[..=kept].join("\n") + "\n";
            text += lines.get(kept + 1).map_or("", |line| &line[..line.len() / 2]);
            fs::write(partial.join(journal::FILE), text).unwrap();
            let report = encode_shards(&corpus, &tokenizer, &output, size, false).unwrap();
            assert!(contents(&output) == expected, "{name}: behind shard {kept}");
            assert_eq!(report.read, read, "{name}: behind shard {kept}");
            assert!(!partial.exists() && (report.resumed_tokens > 0) == (kept > 0));
            fs::remove_dir_all(&output).unwrap();
        }
    }
}

/// Shards say what one file of the same corpus says.
fn same(name: &str, shards: &TokenFile, one: &TokenFile) {
    shards.verify().unwrap();
    let len = one.len();
    assert_eq!(shards.len(), len, "{name}");
    assert!(shards.get(0..len) == one.get(0..len), "{name}");
    for at in (0..len).step_by(617) {
        let range = at..(at + 5000).min(len);
        assert!(shards.get(range.clone()) == one.get(range.clone()), "{name}");
        assert_eq!(shards.document_at(at), one.document_at(at), "{name}: token {at}");
    }
    assert_eq!(shards.has_documents(), one.has_documents(), "{name}");
    assert_eq!(shards.text_bytes(), one.text_bytes(), "{name}");
    let ranges = |file: &TokenFile| file.documents().collect::<Vec<_>>();
    assert_eq!(ranges(shards), ranges(one), "{name}");
    assert_eq!(shards.get(len..len), [0_u32; 0]);
}

#[test]
fn what_has_changed_is_named_and_force_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("a.jsonl");
    // Several batches, so that shards are finished before the bad line is read.
    let good =
        lines(&texts(100), 1000).replace('\u{FEFF}', "").replace("{\"no\": 1}", "").repeat(200);
    write(&input, &(good.clone() + "bad\n"));
    let output = folder.path().join("tokens");
    let tokenizer = Tokenizer::gpt2().unwrap();
    let encode = |size: u64, tokenizer: &Tokenizer, force: bool| {
        let corpus = Corpus::open(&input).unwrap();
        let report = encode_shards(&corpus, tokenizer, &output, size, force);
        report.map_err(|error| format!("{error:#}"))
    };
    let bad = encode(400_000, &tokenizer, false).unwrap_err();
    assert!(bad.contains("\"bad\": not JSON"), "{bad}");
    assert!(!output.exists());
    let shards = contents(&folder.path().join("tokens.partial")).len() - 2;
    assert!(shards > 3, "{shards}");
    // The same again: it goes on, and finds the same.
    assert_eq!(encode(400_000, &tokenizer, false).unwrap_err(), bad);
    let error = encode(500_000, &tokenizer, false).unwrap_err();
    assert!(
        error.contains("shards of 500000 bytes, and it began with 400000; add --force"),
        "{error}"
    );
    let error = encode(400_000, &Tokenizer::simple("a b"), false).unwrap_err();
    assert!(error.contains("the tokenizer is another one"), "{error}");
    let damaged = folder.path().join("tokens.partial/shard-00001.bin");
    let shard = fs::read(&damaged).unwrap();
    fs::write(&damaged, &shard[..shard.len() - 8]).unwrap();
    let error = encode(400_000, &tokenizer, false).unwrap_err();
    assert!(error.contains("cannot go on; add --force") && error.contains("00001"), "{error}");
    fs::write(&damaged, &shard).unwrap();
    write(&input, &good);
    let error = encode(400_000, &tokenizer, false).unwrap_err();
    assert!(error.contains("a.jsonl has changed (") && error.contains("--force"), "{error}");
    write(&folder.path().join("tokens.partial/mine"), "");
    let error = encode(400_000, &tokenizer, true).unwrap_err();
    assert!(error.contains("mine is not of an encoding"), "{error}");
    fs::remove_file(folder.path().join("tokens.partial/mine")).unwrap();
    let report = encode(400_000, &tokenizer, true).unwrap();
    assert_eq!(report.resumed_tokens, 0);
    let error = encode(400_000, &tokenizer, false).unwrap_err();
    assert!(error.contains("tokens exists already; use --force"), "{error}");
    let before = contents(&output);
    encode(400_000, &tokenizer, true).unwrap();
    assert!(contents(&output) == before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn nothing_but_shards_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = Corpus::open(Path::new("builtin")).unwrap();
    let tokenizer = Tokenizer::gpt2().unwrap();
    let photos = folder.path().join("photos");
    write(&photos.join("a.jpg"), "a");
    let error = encode_shards(&corpus, &tokenizer, &photos, 4096, true).unwrap_err().to_string();
    assert!(error.contains("photos holds something else than shards of tokens"), "{error}");
    let error = encode_shards(&corpus, &tokenizer, &photos.join("a.jpg"), 4096, true).unwrap_err();
    assert!(error.to_string().contains("is a file; name a folder"), "{error}");
    assert_eq!(contents(&photos).len(), 1);
}

/// A shard that was replaced, and shards of different tokenizers.
#[test]
fn shards_that_do_not_belong_together_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = Corpus::open(Path::new("builtin")).unwrap();
    let encode = |name: &str, tokenizer: &Tokenizer| {
        let output = folder.path().join(name);
        encode_shards(&corpus, tokenizer, &output, 4096, false).unwrap();
        output
    };
    let gpt2 = encode("gpt2", &Tokenizer::gpt2().unwrap());
    let words = encode("words", &Tokenizer::simple(crate::BUILTIN_STORY));
    let open = |paths: &[&Path]| TokenFile::open_all(paths).unwrap_err().to_string();
    let error = open(&[&gpt2, &words]);
    assert!(error.contains("made with different tokenizers"), "{error}");
    let error = check_inputs(&Corpus::open(&gpt2.join("shard-00000.bin")).unwrap(), &words);
    assert!(error.unwrap_err().to_string().contains("is a token file already"));

    let twice = TokenFile::open_all(&[&gpt2, &gpt2]).unwrap();
    let once = TokenFile::open(&gpt2).unwrap();
    assert_eq!((twice.len(), twice.documents().len()), (2 * once.len(), 2));
    let list = folder.path().join("elsewhere/tokens.bin");
    fs::create_dir(list.parent().unwrap()).unwrap();
    twice.write_list(&list).unwrap();
    assert!(TokenFile::is_token_file(&list) && TokenFile::is_token_file(&gpt2));
    let listed = TokenFile::open(&list).unwrap();
    assert_eq!(listed.hash(), twice.hash());
    assert_eq!(listed.get(0..listed.len()), twice.get(0..twice.len()));

    let shard = |number: usize| gpt2.join(format!("shard-{number:05}.bin"));
    fs::copy(shard(0), shard(1)).unwrap();
    let error = open(&[&gpt2]);
    assert!(
        error.contains("shard-00001.bin is not the file that this list was written"),
        "{error}"
    );
    fs::write(gpt2.join(LIST_FILE), "{\"format\":\"pocketgpt-token-shards\",").unwrap();
    let error = open(&[&gpt2]);
    assert!(error.contains("not a list of shards"), "{error}");
}
