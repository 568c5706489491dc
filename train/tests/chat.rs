//! Training on conversations: a base model becomes a chat model.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::PathBuf;

use crate::common::{
    Fixture, assert_same_end, assert_same_figures, failure, metrics, resume, train,
};
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

/// The model, the pairs and TRL's figures of `tests/peers/dpo.py`, which made the folder.
const TRL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/dpo");

/// A run of DPO as `tests/peers/dpo.py` has it: four pairs in each of six steps, one pair validates.
fn dpo(folder: &std::path::Path) -> RunFile {
    let mut run_file = RunFile::default();
    run_file.run.dir = folder.join("dpo");
    run_file.data.path = PathBuf::from(TRL).join("pairs.jsonl").into();
    run_file.data.format = DataFormat::Chat;
    run_file.data.context = 128;
    run_file.data.train_fraction = 0.8;
    run_file.train.init_from = Some(TRL.into());
    run_file.train.dpo_beta = 0.3;
    run_file.train.batch_size = 4;
    run_file.train.epochs = 6;
    run_file.train.eval_interval = 2;
    run_file.train.checkpoint_interval = 1;
    run_file.train.keep_checkpoints = 9;
    run_file.train.sample_tokens = 3;
    run_file.train.precision = config::Precision::F32;
    run_file.optimizer.learning_rate = 3e-3;
    run_file.optimizer.weight_decay = 0.0;
    run_file.eval.golden_windows = 2;
    run_file
}

fn assert_near(found: &Value, expected: &Value, what: &str) {
    let [found, expected] = [found, expected].map(|x| x.as_f64().unwrap());
    assert!((found - expected).abs() < 1e-4, "{what}: {found}, expected {expected}");
}

const REWARDS: [&str; 4] =
    ["rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"];

#[test]
fn dpo_has_the_figures_of_trl() {
    let folder = tempfile::tempdir().unwrap();
    let run_file = dpo(folder.path());
    let expected = fs::read_to_string(PathBuf::from(TRL).join("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    let report = train(&run_file);
    let weights = checkpoint::Weights::open(&run_file.run.dir.join("reference.safetensors"));
    let sums = weights.unwrap().read_f32("log_probabilities").unwrap();
    let wanted = expected["reference"].as_array().unwrap().iter();
    let wanted = wanted.flat_map(|pair| pair.as_array().unwrap());
    for (at, (found, wanted)) in sums.iter().zip(wanted).enumerate() {
        assert_near(&json!(found), wanted, &format!("log-probability {at}"));
    }
    let lines = metrics(&run_file);
    assert_eq!(lines.len(), 7);
    // Before the first step the model is its own reference.
    assert_near(&lines[0]["train_loss"], &json!(2.0_f64.ln()), "the first loss");
    for (at, step) in expected["steps"].as_array().unwrap().iter().enumerate() {
        let line = &lines[at + 1];
        assert_near(&line["train_loss"], &step["loss"], &format!("the loss of step {at}"));
        for name in REWARDS {
            // At the start chosen and rejected answers differ by rounding only: no accuracy is right.
            if at > 0 || name != "rewards/accuracies" {
                assert_near(&line[name], &step[name], &format!("{name} of step {at}"));
            }
        }
    }
    let evaluation = &expected["evaluation"];
    assert_near(&lines[6]["val_loss"], &evaluation["eval_loss"], "the last validation loss");
    for name in REWARDS {
        let (found, wanted) =
            (&lines[6][format!("val_{name}")], &evaluation[format!("eval_{name}")]);
        assert_near(found, wanted, name);
    }
    let rewards = report.rewards.unwrap();
    assert_near(&json!(rewards.margins), &evaluation["eval_rewards/margins"], "the report");
    assert!(report.to_string().contains("right"), "{report}");
}

/// Stopped after a step, with all of the model trained and with adapters; passes that add up learn the
/// same.
#[test]
fn dpo_that_goes_on_ends_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    for rank in [0, 2] {
        let mut whole = dpo(folder.path());
        whole.run.dir = folder.path().join(format!("whole-{rank}"));
        whole.lora.rank = rank;
        whole.train.activation_checkpointing = rank == 0;
        train(&whole);
        let lines = metrics(&whole);
        let margin = |line: &Value| line["rewards/margins"].as_f64().unwrap();
        assert!(margin(&lines[1]).abs() < 1e-5, "rank {rank}: {}", lines[1]);
        assert!(margin(&lines[6]) > 0.01, "rank {rank}: {}", lines[6]);
        for stop in [1, 4] {
            let mut halves = whole.clone();
            halves.run.dir = folder.path().join(format!("stopped-{rank}-{stop}"));
            halves.train.max_steps = Some(stop);
            train(&halves);
            halves.train.max_steps = None;
            assert_eq!(resume(&halves).resumed_from, Some(stop as u64));
            assert_same_end(&whole, &halves);
            // The end of the first half is also evaluated.
            let found = metrics(&halves);
            assert_eq!(found.len(), lines.len());
            for (found, expected) in found.iter().zip(&lines) {
                for name in ["step", "train_loss", "grad_norm"].iter().chain(&REWARDS) {
                    assert_eq!(found[name], expected[name], "{name}: {found}, expected {expected}");
                }
            }
        }
        let mut parts = whole.clone();
        parts.run.dir = folder.path().join(format!("parts-{rank}"));
        (parts.train.batch_size, parts.train.gradient_accumulation) = (1, 4);
        parts.train.devices = 2;
        train(&parts);
        assert_same_figures(&whole, &parts, 1e-3);
    }
}

#[test]
fn dpo_goes_on_with_the_reference_that_it_began_with() {
    let folder = tempfile::tempdir().unwrap();
    let mut run_file = dpo(folder.path());
    run_file.train.max_steps = Some(2);
    train(&run_file);
    run_file.train.max_steps = Some(3);
    let file = run_file.run.dir.join("reference.safetensors");
    let kept = fs::read(&file).unwrap();
    let error = || {
        let options = train::Options { resume: true, ..Default::default() };
        cli::one_line(&train::train(&run_file, &options).unwrap_err())
    };
    fs::remove_file(&file).unwrap();
    let found = error();
    assert!(found.contains("reference.safetensors") && found.contains("--force"), "{found}");
    let mut other = kept.clone();
    *other.last_mut().unwrap() ^= 1;
    fs::write(&file, &other).unwrap();
    let found = error();
    assert!(found.contains("is not the file that this run began with"), "{found}");
    fs::write(&file, &kept).unwrap();
    resume(&run_file);
}

#[test]
fn the_objective_follows_from_the_data_or_is_refused_with_the_way_out() {
    let (fixture, run_file) = base();
    let records = |lines: &[Value]| {
        let text: String = lines.iter().map(|line| line.to_string() + "\n").collect();
        fs::write(fixture.path().join("chats.jsonl"), text).unwrap();
    };
    let pair = json!({ "prompt": "the sea", "chosen": "waits .", "rejected": "burns ." });
    let chat = json!({ "prompt": "the sea", "completion": "waits ." });
    let mut dpo = run_file.clone();
    dpo.train.objective = Some(config::Objective::Dpo);

    records(&[chat.clone(), pair.clone()]);
    let error = failure(&run_file);
    assert!(error.contains("line 2: a pair of answers") && error.contains("dpo"), "{error}");
    records(&[pair.clone(), chat.clone()]);
    let error = failure(&run_file);
    assert!(error.contains("line 2: not a pair of answers: `chosen` is missing"), "{error}");
    let mut without_start = run_file.clone();
    without_start.train.init_from = None;
    let error = failure(&without_start);
    assert!(error.contains("train.init_from") && error.contains("pairs of answers"), "{error}");
    let mut next_token = run_file.clone();
    next_token.train.objective = Some(config::Objective::NextToken);
    let error = failure(&next_token);
    assert!(error.contains("line 1: a pair of answers"), "{error}");
    records(&[chat]);
    let error = failure(&dpo);
    assert!(error.contains("line 1: not a pair of answers"), "{error}");
    let mut short = dpo.clone();
    short.data.context = 5;
    records(&vec![pair.clone(); 3]);
    let error = failure(&short);
    assert!(error.contains("3 left out as too long for data.context = 5"), "{error}");

    // A record may have conversations beside the pair: what is asked for is learned.
    let mut both = pair.clone();
    both["messages"] = json!([{ "role": "user", "content": "the" }, { "role": "assistant",
        "content": "sea ." }]);
    // Several short conversations share a window.
    records(&vec![both; 40]);
    dpo.train.max_steps = Some(2);
    dpo.run.dir = fixture.path().join("both");
    train(&dpo);
    assert!(metrics(&dpo)[1].get("rewards/margins").is_some());
    let mut next_token = run_file.clone();
    next_token.train.max_steps = Some(2);
    next_token.run.dir = fixture.path().join("next-token");
    train(&next_token);
    assert!(metrics(&next_token)[1].get("rewards/margins").is_none());
}
