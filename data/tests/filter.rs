//! `data filter`: the verdicts of another program, what stays, what is said of the rest.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::fs;
use std::path::Path;

use config::OnError;
use data::{BUILTIN_STORY, Corpus, FilterJob, FilterReport, Inputs, Limits, Rule, filter};
use serde_json::{Value, json};

const REPETITION: [Rule; 4] =
    [Rule::RepeatedParagraphs, Rule::RepeatedLines, Rule::FrequentWords, Rule::RepeatedWords];
const QUALITY: [Rule; 9] = [
    Rule::TooShort,
    Rule::TooLong,
    Rule::HashSigns,
    Rule::Ellipses,
    Rule::BulletLines,
    Rule::EllipsisLines,
    Rule::NonAlphabetic,
    Rule::LongWord,
    Rule::LoremIpsum,
];

fn limits(without: &[Rule]) -> Limits {
    Limits { min_words: 50, max_words: 100_000, without: without.to_vec() }
}

/// The verdicts were written by `golden/make_filters.py`, with datatrove's filters.
#[test]
fn the_rules_of_gopher_say_what_datatrove_says() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("golden/filters.json")).unwrap();
    for (kind, others) in [("quality", &REPETITION[..]), ("repetition", &QUALITY)] {
        let limits = limits(others);
        for case in &cases {
            let text = case["text"].as_str().unwrap();
            let found = limits.judge(text).map(|finding| finding.rule.to_string());
            assert_eq!(found.as_deref(), case[kind].as_str(), "{kind} of {text:?}");
        }
    }
}

#[test]
fn what_c4_leaves_out_is_left_out() {
    let rule = |text: String| limits(&[]).judge(&text).map(|finding| finding.rule);
    let story = &BUILTIN_STORY[..2000];
    assert_eq!(rule(story.to_owned()), None);
    assert_eq!(rule(format!("{story} Lorem Ipsum dolor")), Some(Rule::LoremIpsum));
    assert_eq!(rule(format!("{story} {}", "x".repeat(1000))), None);
    assert_eq!(rule(format!("{story} {}", "x".repeat(1001))), Some(Rule::LongWord));
}

fn run(input: &Path, output: &Path, near_duplicates: bool, without: &[Rule]) -> FilterReport {
    let inputs = Inputs::open(&[input], None).unwrap();
    let corpus = Corpus::new(inputs, "text", OnError::Skip);
    let limits = limits(without);
    let (text_field, show, force) = ("text", 2, false);
    filter(&FilterJob { corpus: &corpus, text_field, output, limits, near_duplicates, show, force })
        .unwrap()
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn duplicates_go_and_the_first_of_them_stays_with_its_fields() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("a.jsonl");
    let (first, second) = (&BUILTIN_STORY[..3000], &BUILTIN_STORY[4000..7000]);
    let near = first.replacen("the", "a", 1);
    let records = [
        json!({ "id": 1, "text": first, "tags": ["a", null] }),
        json!({ "id": 2, "text": "too short" }),
        json!({ "id": 3, "text": second }),
        json!({ "id": 4, "text": first }),
        json!({ "id": 5, "text": near }),
        json!({ "id": 6 }),
        json!({ "id": 7, "text": first }),
        json!({ "id": 8, "text": first }),
    ];
    let text: String = records.iter().map(|record| record.to_string() + "\n").collect();
    fs::write(&input, text).unwrap();

    let output = folder.path().join("exact.jsonl");
    let report = run(&input, &output, false, &[]);
    assert_eq!(lines(&output), [records[0].clone(), records[2].clone(), records[4].clone()]);
    assert_eq!((report.documents, report.kept, report.skipped.count()), (7, 3, 1));
    assert_eq!(report.text_bytes, (4 * first.len() + second.len() + near.len() + 9) as u64);
    assert_eq!(report.kept_bytes, (first.len() + second.len() + near.len()) as u64);
    let counts: Vec<(Rule, u64)> =
        report.dropped.iter().map(|(rule, dropped)| (*rule, dropped.documents)).collect();
    assert_eq!(counts, [(Rule::TooShort, 1), (Rule::Duplicate, 3)]);
    let examples = &report.dropped[&Rule::Duplicate].examples;
    assert_eq!(examples.len(), 2);
    assert!(examples[0].place.ends_with("a.jsonl: line 4"), "{}", examples[0].place);
    let shown = report.to_string();
    assert!(
        shown.contains("too-short") && shown.contains("\"too short\" (2.0000, limit 50)"),
        "{shown}"
    );
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["dropped"]["duplicate"]["documents"], 3);
    assert_eq!(json["dropped"]["too-short"]["examples"][0]["measured"]["found"], 2.0);

    let output = folder.path().join("near.jsonl.zst");
    let report = run(&input, &output, true, &[]);
    assert_eq!((report.kept, report.dropped[&Rule::NearDuplicate].documents), (2, 1));
    // What is compressed is read again.
    let again = folder.path().join("again.jsonl");
    let report = run(&output, &again, true, &[]);
    assert_eq!((report.documents, report.kept), (2, 2));
    assert_eq!(lines(&again), [records[0].clone(), records[2].clone()]);

    let output = folder.path().join("without.jsonl");
    // Two words are one pair, which is then the most frequent.
    let without = [Rule::TooShort, Rule::FrequentWords, Rule::Duplicate];
    assert_eq!(run(&input, &output, false, &without).kept, 7);
}

#[test]
fn texts_become_records_in_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let texts = folder.path().join("texts");
    fs::create_dir(&texts).unwrap();
    for at in 0..40_usize {
        let text = &BUILTIN_STORY[at % 20 * 500..at % 20 * 500 + 900];
        fs::write(texts.join(format!("{at:02}.txt")), format!("\u{FEFF}{text}")).unwrap();
    }
    let kept = |threads: usize| {
        let output = folder.path().join(format!("{threads}.jsonl"));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| run(&texts, &output, true, &[])).kept, 20);
        lines(&output)
    };
    let one = kept(1);
    assert_eq!(one[3]["text"], BUILTIN_STORY[1500..2400]);
    assert!(one[3]["source"].as_str().unwrap().ends_with("03.txt"));
    assert_eq!(one, kept(5));
}
