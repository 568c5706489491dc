//! `eval tasks` on tiny models with random weights: likelihoods against plain passes, what is
//! refused, and the gates of `[[eval.task]]`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "the judge's tests use the rest of the fixture")]
use std::path::{Path, PathBuf};

use super::common::{Fixture, eval, stderr, stdout};
use eval::TasksReport;
use gguf::{GgufFile, TensorType};
use llama_cpp::{Arithmetic, BranchRow, Llama, Settings};
use reference::Model;
use serde_json::{Value, json};

const QUESTIONS: &str = r#"
{"query": "the bee", "choices": ["a", "the sea", "b c"], "gold": 0}
{"query": "the bee ", "choices": ["sees", "s"], "gold": 1}
{"query": "", "choices": ["the", "a the"], "gold": 0}
{"query": "a long query of many letters", "choices": ["a", "the"], "gold": 1}
"#;

fn write(fixture: &Fixture, name: &str, text: &str) -> PathBuf {
    let path = fixture.path(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// The samples of a run.
fn samples(fixture: &Fixture, model: &Path, engine: &str, shots: &str) -> Vec<Value> {
    let (questions, log) = (fixture.path("q.jsonl"), fixture.path("log.jsonl"));
    let output = eval(&[
        &"tasks",
        &"--model",
        &model,
        &questions,
        &"--engine",
        &engine,
        &"--shots",
        &shots,
        &"--log-samples",
        &log,
        &"--force",
        &"--threads",
        &"1",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let log = std::fs::read_to_string(log).unwrap();
    log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The log-likelihood of the last tokens by one whole pass for each choice.
fn plainly(model: &Model, tokenizer: &data::Tokenizer, context: &str, choice: &str) -> f64 {
    let whole = tokenizer.encode(&format!("{context} {choice}")).unwrap();
    let before = tokenizer.encode(context.trim_end()).unwrap();
    let own = whole.len() - before.len();
    let mut tokens = whole;
    if before.is_empty() {
        tokens.insert(0, tokenizer.end_of_text().unwrap());
    }
    let limit = model.config().context_length + 1;
    let tokens = &tokens[tokens.len().saturating_sub(limit)..];
    let logits = model.logits(&tokens[..tokens.len() - 1]).unwrap();
    let vocab_size = model.config().vocab_size;
    let rows = logits.chunks(vocab_size).zip(&tokens[1..]);
    rows.skip(tokens.len() - 1 - own)
        .map(|(row, &token)| {
            let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
            f64::from(row[token as usize]) - sum.ln()
        })
        .sum()
}

#[test]
fn likelihoods_are_those_of_one_pass_for_each_choice() {
    let fixture = Fixture::new();
    write(&fixture, "q.jsonl", QUESTIONS);
    let file = GgufFile::open(&fixture.f32()).unwrap();
    let model = Model::load(&file).unwrap();
    let tokenizer = data::Tokenizer::from_folder(&fixture.checkpoint()).unwrap();
    for shots in ["0", "1", "3"] {
        for (path, engine, tolerance) in [
            (fixture.checkpoint(), "reference", 1e-5),
            (fixture.f32(), "reference", 1e-5),
            // Its GELU is a table in f16.
            (fixture.f32(), "llama", 1e-2),
        ] {
            for sample in samples(&fixture, &path, engine, shots) {
                let context = sample["context"].as_str().unwrap();
                let choices = sample["choices"].as_array().unwrap();
                for (choice, found) in
                    choices.iter().zip(sample["log_likelihoods"].as_array().unwrap())
                {
                    let choice = choice.as_str().unwrap();
                    let (found, expected) =
                        (found.as_f64().unwrap(), plainly(&model, &tokenizer, context, choice));
                    assert!(
                        (found - expected).abs() < tolerance,
                        "{engine}, {shots} shots, {context:?} {choice:?}: {found}, not {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn examples_are_the_first_others_of_the_file() {
    let fixture = Fixture::new();
    write(&fixture, "q.jsonl", QUESTIONS);
    let samples = samples(&fixture, &fixture.f32(), "llama", "2");
    let contexts: Vec<&str> =
        samples.iter().map(|sample| sample["context"].as_str().unwrap()).collect();
    assert_eq!(contexts[0], "the bee  s\n\n the\n\nthe bee");
    assert_eq!(contexts[1], "the bee a\n\n the\n\nthe bee ");
    assert_eq!(contexts[3], "the bee a\n\nthe bee  s\n\na long query of many letters");
}

/// A prefix, the first place whose logits are wanted, and what follows.
type Text<'a> = (&'a [u32], usize, &'a [&'a [u32]]);

#[test]
fn branches_read_what_sessions_read() {
    let fixture = Fixture::new();
    let llama = Llama::load(&fixture.f32()).unwrap();
    let settings = Settings { context: 32, threads: 1, arithmetic: Arithmetic::Plain };
    let mut branches = llama.branches(settings).unwrap();
    let mut session = llama.session(settings).unwrap();
    let texts: [Text<'_>; 4] = [
        (&[1, 2, 3, 4, 5], 4, &[&[6, 7], &[8], &[9, 10, 11]]),
        // The first three are kept; fewer branches.
        (&[1, 2, 3, 20], 2, &[&[6]]),
        // All are kept but the last, whose logits are wanted; no branch.
        (&[1, 2, 3, 20], 3, &[]),
        // None are.
        (&[], 0, &[&[30, 31], &[1, 2, 3, 20, 5]]),
    ];
    for (prefix, first, others) in texts {
        assert_eq!(branches.fitting(prefix.len(), others), others.len());
        let mut rows = 0;
        let mut check = |found: &[BranchRow<'_>]| {
            for row in found {
                let own = row.branch.map_or(&[][..], |branch| others[branch]);
                let text = [prefix, own].concat();
                session.clear();
                let expected = session.push(&text[..=row.place]).unwrap();
                let furthest = expected.iter().zip(row.logits).map(|(a, b)| (a - b).abs());
                assert!(furthest.fold(0.0, f32::max) < 1e-4, "{prefix:?}, {:?}", row.branch);
                rows += 1;
            }
        };
        branches.read(prefix, first, others, &mut check).unwrap();
        assert_eq!(rows, prefix.len() - first + others.concat().len());
    }
    let long: &[&[u32]] = &[&[1; 20], &[1; 20], &[1; 12]];
    assert_eq!(branches.fitting(12, long), 1, "20 and 12 of 32");
    assert!(branches.read(&[1; 12], 12, long, &mut |_| {}).is_err());
    assert!(branches.read(&[], 0, &[], &mut |_| {}).is_err());
    assert!(branches.read(&[260], 0, &[], &mut |_| {}).is_err());
}

#[test]
fn a_session_goes_back() {
    let fixture = Fixture::new();
    let model = Model::load(&GgufFile::open(&fixture.f32()).unwrap()).unwrap();
    let llama = Llama::load(&fixture.f32()).unwrap();
    let settings = Settings { context: 32, threads: 1, arithmetic: Arithmetic::Plain };
    let (mut ours, mut theirs) = (model.session(), llama.session(settings).unwrap());
    let first: [u32; 6] = [1, 2, 3, 4, 5, 6];
    ours.push(&first).unwrap();
    theirs.push(&first).unwrap();
    for kept in [4, 9, 2, 0] {
        ours.truncate(kept);
        theirs.truncate(kept).unwrap();
        let kept = kept.min(ours.position());
        assert_eq!((ours.position(), theirs.position()), (kept, kept));
        let expected = model.logits(&[&first[..kept], &[9, 8]].concat()).unwrap();
        let rows = ours.logits_from(&[9, 8], 1).unwrap();
        assert_eq!(rows, expected[expected.len() - rows.len()..], "{kept}");
        let llama = theirs.push(&[9, 8]).unwrap();
        assert!(llama.iter().zip(&rows).all(|(a, b)| (a - b).abs() < 1e-3), "{kept}");
        ours.truncate(kept);
        theirs.truncate(kept).unwrap();
    }
}

#[test]
fn several_models_stand_in_one_table_and_report() {
    let fixture = Fixture::new();
    let questions = write(&fixture, "q.jsonl", QUESTIONS);
    let small = fixture.quantized("small.gguf", TensorType::Q8_0);
    let labelled = format!("little={}", small.display());
    let report = fixture.path("tasks.json");
    let arguments: [&dyn AsRef<std::ffi::OsStr>; 11] = [
        &"tasks",
        &"--model",
        &fixture.f32(),
        &"--model",
        &labelled,
        &questions,
        &"--limit",
        &"3",
        &"--report",
        &report,
        &"--threads=1",
    ];
    let output = eval(&arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    let head = text.lines().next().unwrap();
    let columns: Vec<&str> = head.split_whitespace().collect();
    assert_eq!(
        columns,
        ["task", "file", "questions", "shots", "metric", "tiny-F32.gguf", "little"]
    );
    let saved: TasksReport = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!(saved.results.len(), 2);
    assert_eq!(saved.results[1].model, "little");
    assert_eq!(saved.results[1].questions, 3);
    let error = stderr(&eval(&arguments));
    assert!(error.contains("tasks.json exists: --force replaces it"), "{error}");
}

#[test]
fn generated_answers_are_greedy_and_end_at_a_stop() {
    let fixture = Fixture::new();
    let model = Model::load(&GgufFile::open(&fixture.f32()).unwrap()).unwrap();
    let tokenizer = data::Tokenizer::from_folder(&fixture.checkpoint()).unwrap();
    let mut tokens = tokenizer.encode("the bee").unwrap();
    let prompt = tokens.len();
    for _ in 0..6 {
        let logits = model.logits(&tokens).unwrap();
        let last = &logits[logits.len() - model.config().vocab_size..];
        tokens.push(reference::ops::argmax(last) as u32);
    }
    let expected = tokenizer.decode(&tokens[prompt..]);
    let answer = expected.trim();
    let record = |prompt: &str, answer: &str| json!({"prompt": prompt, "answer": answer});
    let questions = [record("the bee", answer), record("the bee", "x"), record("the", "x")];
    let questions = questions.map(|question| question.to_string()).join("\n");
    write(&fixture, "q.jsonl", &questions);
    for (path, engine) in [(fixture.checkpoint(), "reference"), (fixture.f32(), "llama")] {
        let log = fixture.path("log.jsonl");
        let run = |stop: &str| {
            let output = eval(&[
                &"tasks",
                &"--model",
                &path,
                &fixture.path("q.jsonl"),
                &"--engine",
                &engine,
                &"--max-tokens",
                &"6",
                &"--stop",
                &stop,
                &"--log-samples",
                &log,
                &"--force",
                &"--json",
                &"--threads",
                &"1",
            ]);
            assert!(output.status.success(), "{}", stderr(&output));
            let report: TasksReport = serde_json::from_slice(&output.stdout).unwrap();
            let text = std::fs::read_to_string(&log).unwrap();
            let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
            (report, first["generated"].as_str().unwrap().to_owned())
        };
        let (report, generated) = run("no such text");
        assert_eq!(generated, expected, "{engine}");
        let metric = &report.results[0].metrics[0];
        assert_eq!((&*metric.name, metric.value), ("exact_match,remove_whitespace", 1.0 / 3.0));
        // A stop in the middle of it.
        let (middle, letter) = expected.char_indices().nth(2).unwrap();
        let cut = expected.find(letter).unwrap().min(middle);
        assert_eq!(run(&letter.to_string()).1, expected[..cut], "{engine}");
    }
}

#[test]
fn what_cannot_be_asked_is_refused_in_one_line() {
    let fixture = Fixture::new();
    let good = r#"{"query": "the", "choices": ["a", "b"], "gold": 0}"#;
    let long = json!({"query": "q", "choices": ["a", "xz".repeat(20)], "gold": 0}).to_string();
    let spaces =
        json!({"messages": [{"role": "user", "content": "hi"}], "answer": "x"}).to_string();
    for (records, extra, expected) in [
        (
            format!("{good}\n{long}"),
            &[][..],
            "q.jsonl: line 2: choice 1 (from 0) has 41 tokens; expected at most the context of 32",
        ),
        (spaces, &[], "has no chat template"),
        (good.to_owned(), &["--shots", "1"], "q.jsonl: line 1: "),
        (good.to_owned(), &["--task", "piqa"], "q.jsonl: line 1: no field `goal`"),
        (good.to_owned(), &["--task", "winogrande"], "is not a task"),
        (good.to_owned(), &["--context", "33"], "expected from 1 to the model's context of 32"),
        (good.to_owned(), &["--chat"], "has no chat template"),
        ("{".to_owned(), &[], "q.jsonl: line 1: \"{\": not JSON"),
    ] {
        let questions = write(&fixture, "q.jsonl", &records);
        let file = fixture.f32();
        let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> =
            vec![&"tasks", &"--model", &file, &questions];
        arguments.extend(extra.iter().map(|it| it as &dyn AsRef<std::ffi::OsStr>));
        let output = eval(&arguments);
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{error}");
        let line = error.lines().find(|line| line.contains("error: ")).unwrap();
        assert!(line.contains(expected), "{error}");
    }
}

#[test]
fn a_variant_that_lost_its_skill_fails_the_gates() {
    let fixture = Fixture::new();
    // What the F32 file says is right; a file with its logits negated says the opposite.
    write(&fixture, "q.jsonl", &skill(&fixture));
    let negated = fixture.changed("negated-Q4_0.gguf", |name, weights| {
        if name.starts_with("output_norm") {
            weights.iter_mut().for_each(|weight| *weight = -*weight);
        }
    });
    let settings = |gates: &str| {
        let file = fixture.path("q.jsonl");
        let text = format!(
            "[eval.gates]\nllama_vs_reference_mean_kl = 1.0\nllama_vs_reference_top1 = 0.0\n\
             [eval.gates.mean_kl]\nQ4_0 = 1e3\nQ8_0 = 1e3\n\
             [[eval.task]]\npath = {:?}\n{gates}\n",
            file.display().to_string()
        );
        write(&fixture, "run.toml", &text)
    };
    let judged = |config: &Path, variant: &Path| {
        let report = fixture.path("report.json");
        let output = eval(&[
            &"--checkpoint",
            &fixture.checkpoint(),
            &"--f32",
            &fixture.f32(),
            &"--quantized",
            &variant,
            &"--config",
            &config,
            &"--output",
            &report,
            &"--force",
        ]);
        let report: eval::Report = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
        (output.status.code(), stderr(&output), report)
    };
    let good = fixture.quantized("good-Q8_0.gguf", TensorType::Q8_0);
    let gates = settings("metric = \"acc\"\nminimum = 0.9\nlargest_loss = 0.1");
    let (code, error, report) = judged(&gates, &good);
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(report.tasks.len(), 2);
    assert_eq!(report.tasks[0].metrics[0].value, 1.0);
    let names: Vec<&str> = report.gates.iter().map(|gate| gate.name.as_str()).collect();
    assert!(
        names.iter().any(|name| name.contains("multiple-choice acc lost against F32")),
        "{names:?}"
    );

    let (code, error, report) = judged(&gates, &negated);
    assert_eq!(code, Some(1), "{error} {:?}", report.tasks);
    let missed: Vec<&str> = report
        .gates
        .iter()
        .filter(|gate| !gate.passed && gate.name.contains("multiple-choice"))
        .map(|gate| gate.name.as_str())
        .collect();
    assert_eq!(missed.len(), 2, "{:?}", report.gates);
    assert!(error.contains("multiple-choice acc"), "{error}");

    let unknown = settings("metric = \"f1\"");
    let output = eval(&[
        &"--f32",
        &fixture.f32(),
        &"--checkpoint",
        &fixture.checkpoint(),
        &"--config",
        &unknown,
    ]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("has no metric \"f1\"; expected one of acc acc_norm acc_bytes")
    );
}

/// Questions whose right choice is the one that the F32 file finds likeliest.
fn skill(fixture: &Fixture) -> String {
    let words = ["the", "a", "sea", "bee", "b c", "zz", "x y", "q", "then", "ab"];
    let record = |query: usize, gold: usize| {
        let choices: Vec<String> =
            (0..4).map(|i| format!("{}{i}", words[(query * 3 + i) % 10])).collect();
        json!({"query": format!("{} {}", words[query], query), "choices": choices, "gold": gold})
    };
    let lines = |gold: &dyn Fn(usize) -> usize| {
        let all: Vec<String> =
            (0..10).map(|query| record(query, gold(query)).to_string()).collect();
        all.join("\n")
    };
    write(fixture, "q.jsonl", &lines(&|_| 0));
    let said = samples(fixture, &fixture.f32(), "reference", "0");
    lines(&|query| said[query]["chosen"].as_u64().unwrap() as usize)
}
