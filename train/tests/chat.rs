//! Training on conversations: a base model becomes a chat model.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::PathBuf;

use crate::common::{Fixture, assert_same_figures, failure, metrics, resume, train};
use checkpoint::Checkpoint;
use config::{DataFormat, DocumentMask, RunFile, TokenizerKind, TooLong, TrainOn};
use data::Tokenizer;
use serde_json::{Value, json};

/// A base model that was trained on a text, and a run that is to make a chat model of it.
fn base() -> (Fixture, RunFile) {
    let mut fixture = Fixture::new();
    fixture.run_file.data.tokenizer = TokenizerKind::Trained;
    fixture.run_file.data.vocab_size = 270;
    fixture.run_file.data.context = 160;
    fixture.run_file.model.context_length = 160;
    fixture.run_file.train.batch_size = 2;
    fixture.run_file.train.max_steps = Some(2);
    train(&fixture.run_file);
    let mut run_file = fixture.other("chat");
    run_file.model = config::Model { dropout: 0.1, ..config::Model::default() };
    run_file.train.init_from = Some(fixture.run_file.run.dir.clone());
    run_file.train.max_steps = Some(8);
    run_file.train.eval_interval = 4;
    run_file.train.epochs = 8;
    run_file.data = config::Data {
        path: chats(&fixture, 12).into(),
        format: DataFormat::Chat,
        chat_template: Some("chatml".into()),
        context: 160,
        train_fraction: 0.8,
        ..config::Data::default()
    };
    (fixture, run_file)
}

fn chats(fixture: &Fixture, count: usize) -> PathBuf {
    let turn = |role: &str, content: String| json!({ "role": role, "content": content });
    let chat = |at: usize| {
        let mut messages = Vec::new();
        for _ in 0..1 + at % 2 {
            messages.push(turn("user", format!("the {at} .")));
            messages.push(turn("assistant", "sea waits .".repeat(1 + at % 3)));
        }
        json!({ "messages": messages }).to_string() + "\n"
    };
    let path = fixture.path().join("chats.jsonl");
    fs::write(&path, (0..count).map(chat).collect::<String>()).unwrap();
    path
}

fn losses(run_file: &RunFile) -> [f64; 2] {
    let lines = metrics(run_file);
    let loss = |line: &Value| line["train_loss"].as_f64().unwrap();
    [loss(&lines[0]), loss(lines.last().unwrap())]
}

#[test]
fn a_base_model_gets_a_template_and_rows_for_its_tokens() {
    let (fixture, run_file) = base();
    let report = train(&run_file);
    let before = Checkpoint::open(&checkpoint::locate(&fixture.run_file.run.dir).unwrap()).unwrap();
    let after = Checkpoint::open(&checkpoint::locate(&run_file.run.dir).unwrap()).unwrap();
    assert_eq!(after.config().vocab_size, before.config().vocab_size + 2);
    let tokenizer = Tokenizer::from_folder(after.dir()).unwrap();
    assert!(tokenizer.chat_template().unwrap().contains("<|im_start|>"));
    let end = tokenizer.special("<|im_end|>").unwrap();
    assert_eq!(tokenizer.end_of_text(), Some(end));
    let [first, last] = losses(&run_file);
    assert!(last < first, "{first} -> {last}, {report}");
    let samples = fs::read_to_string(run_file.run.dir.join("samples.txt")).unwrap();
    assert!(samples.contains("<|im_start|>user\nthe sea<|im_end|>\n<|im_start|>assistant\n"));

    // What trained goes on training: the template and its tokens are there already.
    let mut again = fixture.other("again");
    again.train =
        config::Train { init_from: Some(run_file.run.dir.clone()), ..run_file.train.clone() };
    again.model = run_file.model.clone();
    again.data = config::Data { chat_template: None, ..run_file.data.clone() };
    train(&again);
    let again = Checkpoint::open(&checkpoint::locate(&again.run.dir).unwrap()).unwrap();
    assert_eq!(again.config().vocab_size, after.config().vocab_size);
    assert_eq!(
        fs::read(again.dir().join("chat_template.jinja")).unwrap(),
        fs::read(after.dir().join("chat_template.jinja")).unwrap()
    );
}

#[test]
fn new_rows_are_the_mean_of_the_others() {
    let (fixture, mut run_file) = base();
    // A step that changes nothing.
    run_file.train.max_steps = Some(1);
    run_file.optimizer.learning_rate = 1e-30;
    run_file.optimizer.weight_decay = 0.0;
    train(&run_file);
    let open = |dir| Checkpoint::open(&checkpoint::locate(dir).unwrap()).unwrap();
    let [before, after] = [&fixture.run_file.run.dir, &run_file.run.dir].map(|dir| open(dir));
    for name in ["transformer.wte.weight", "lm_head.weight"] {
        let [old, new] = [&before, &after].map(|folder| folder.weights().read_f32(name).unwrap());
        let width = before.config().n_embd;
        assert_eq!(new[..old.len()], old, "{name}");
        for row in new[old.len()..].chunks_exact(width) {
            for (column, &value) in row.iter().enumerate() {
                let values = old.iter().skip(column).step_by(width);
                let mean = values.map(|&x| f64::from(x)).sum::<f64>() / (old.len() / width) as f64;
                assert!((f64::from(value) - mean).abs() < 1e-6, "{name}: {value}, expected {mean}");
            }
        }
    }
}

#[test]
fn a_run_that_goes_on_learns_the_same() {
    let (fixture, run_file) = base();
    train(&run_file);
    let mut halves = run_file.clone();
    halves.run.dir = fixture.path().join("halves");
    halves.train.max_steps = Some(4);
    train(&halves);
    halves.train.max_steps = run_file.train.max_steps;
    resume(&halves);
    assert_same_figures(&run_file, &halves, 0.0);
}

#[test]
fn what_trains_and_what_is_seen_can_be_chosen() {
    let (fixture, run_file) = base();
    let mut first_losses = Vec::new();
    for (name, train_on, documents) in [
        ("answers", TrainOn::Answers, None),
        ("last", TrainOn::Last, None),
        ("all", TrainOn::All, None),
        ("packed", TrainOn::Answers, Some(DocumentMask::Packed)),
    ] {
        let mut run_file = run_file.clone();
        run_file.run.dir = fixture.path().join(name);
        run_file.data.train_on = train_on;
        run_file.data.documents = documents;
        train(&run_file);
        let [first, last] = losses(&run_file);
        assert!(last < first, "{name}: {first} -> {last}");
        assert!(!first_losses.contains(&first), "{name} has the losses of another choice");
        first_losses.push(first);
    }
}

#[test]
fn documents_of_a_text_can_be_read_one_by_one() {
    let mut fixture = Fixture::new();
    let line =
        |at: usize| json!({ "text": "the sea waits . ".repeat(1 + at % 4) }).to_string() + "\n";
    let path = fixture.path().join("texts.jsonl");
    fs::write(&path, (0..60).map(line).collect::<String>()).unwrap();
    fixture.run_file.data.path = path.into();
    fixture.run_file.data.tokenizer = TokenizerKind::Gpt2;
    let mut separate = fixture.other("separate");
    separate.data.documents = Some(DocumentMask::Separate);
    let [packed, separate] = [&fixture.run_file, &separate].map(|run_file| {
        train(run_file);
        losses(run_file)
    });
    assert!(packed[1] < packed[0] && separate[1] < separate[0]);
    assert_ne!(packed[0], separate[0]);
}

#[test]
fn what_cannot_train_is_refused_with_its_place() {
    let (fixture, run_file) = base();
    let path = fixture.path().join("chats.jsonl");
    let good = fs::read_to_string(&path).unwrap();
    let with = |line: &str, change: &dyn Fn(&mut RunFile)| {
        fs::write(&path, format!("{good}{line}\n")).unwrap();
        let mut run_file = run_file.clone();
        change(&mut run_file);
        failure(&run_file)
    };
    let error = with(r#"{"text": "a"}"#, &|_| ());
    assert!(
        error.contains("chats.jsonl: line 13: not a conversation: the keys are `text`"),
        "{error}"
    );
    let error = with("{", &|_| ());
    assert!(error.contains("chats.jsonl: line 13"), "{error}");
    let error = with("", &|run_file| run_file.data.chat_template = None);
    assert!(error.contains("no chat template") && error.contains("chatml"), "{error}");
    let error = with("", &|run_file| run_file.lora.rank = 2);
    assert!(error.contains("lora.rank = 0"), "{error}");
    let error = with("", &|run_file| {
        run_file.data.context = 5;
        run_file.data.too_long = TooLong::Drop;
    });
    assert!(error.contains("12 left out as too long for data.context = 5"), "{error}");
    let error = with("", &|run_file| run_file.data.stride = Some(3));
    assert!(error.contains("data.stride"), "{error}");
    assert!(!run_file.run.dir.join("tokens.bin").exists(), "a refused run leaves no tokens");
}
