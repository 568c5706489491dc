//! Every family trains, stops and resumes; models of other tools are fine-tuned, fully or by LoRA.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use std::fs;
use std::path::PathBuf;

use crate::common::{Fixture, assert_same_end, failure, metrics, resume, train};
use checkpoint::lora::{Adapter, Merged};
use checkpoint::{Checkpoint, Tensors, names};
use config::{Architecture, LoraTarget, Model, Projections, RunFile, TokenizerKind, Window};

/// A fixture of a family; in LLaMA two heads share keys and values.
fn fixture(architecture: Architecture) -> Fixture {
    let mut fixture = Fixture::new();
    let model = &mut fixture.run_file.model;
    model.architecture = architecture;
    model.n_kv_head = architecture.is_gated().then_some(1);
    model.qkv_bias = None;
    model.tie_embeddings = architecture == Architecture::Qwen2;
    // Shorter than the training windows.
    model.attention.window = match architecture {
        Architecture::Gemma3 => Some(Window { size: 5, global_every: 2, rope_base: Some(50.0) }),
        Architecture::Phi3 => Some(Window { size: 5, global_every: 0, rope_base: None }),
        _ => None,
    };
    fixture
}

/// Stops a run half way and resumes it; both ways must end with the same bits.
fn assert_resumes(fixture: &Fixture, run_file: &RunFile, name: &str) {
    let in_folder = |suffix: &str| {
        let mut run_file = run_file.clone();
        run_file.run.dir = fixture.path().join(format!("{name}-{suffix}"));
        run_file
    };
    let (whole, parts) = (in_folder("whole"), in_folder("parts"));
    train(&whole);
    let mut first = parts.clone();
    first.train.max_steps = Some(3);
    train(&first);
    assert_eq!(resume(&parts).resumed_from, Some(3));
    assert_same_end(&whole, &parts);
}

fn open_latest(run_file: &RunFile) -> Checkpoint {
    Checkpoint::open(&checkpoint::latest(&run_file.run.dir).unwrap()).unwrap()
}

#[test]
fn every_family_learns_and_resumes_with_the_same_bits() {
    for architecture in Architecture::trained() {
        let mut fixture = fixture(architecture);
        fixture.run_file.train.max_steps = Some(6);
        fixture.run_file.train.checkpoint_interval = 1;
        let report = train(&fixture.run_file);
        let (before, after) = (report.before.train.unwrap(), report.after.train.unwrap());
        assert!(after < before, "{}: {before} -> {after}", architecture.name());
        let checkpoint = open_latest(&fixture.run_file);
        assert_eq!(checkpoint.config().architecture, architecture);
        assert_eq!(checkpoint.config().parameter_count(), report.parameters);
        assert_resumes(&fixture, &fixture.run_file, architecture.name());
    }
}

#[test]
fn muon_learns_resumes_with_the_same_bits_and_keeps_its_momentum() {
    for architecture in [Architecture::Gpt2, Architecture::Llama] {
        let mut fixture = fixture(architecture);
        fixture.run_file.train.max_steps = Some(6);
        fixture.run_file.train.checkpoint_interval = 1;
        fixture.run_file.optimizer.kind = config::OptimizerKind::Muon;
        let report = train(&fixture.run_file);
        let (before, after) = (report.before.train.unwrap(), report.after.train.unwrap());
        assert!(after < before, "{}: {before} -> {after}", architecture.name());
        assert_resumes(&fixture, &fixture.run_file, architecture.name());
        // Matrices of the blocks have Muon's momentum, embeddings and norms AdamW's moments.
        let state = open_latest(&fixture.run_file).optimizer().unwrap().unwrap();
        let names: Vec<&str> = state.names().collect();
        let momentum = |name: &&&str| name.ends_with(".momentum_buffer");
        assert!(
            names.iter().filter(momentum).all(|name| name.contains(".0.") || name.contains(".1."))
        );
        let count = names.iter().filter(momentum).count();
        assert!(count > 0 && names.iter().any(|name| name.ends_with(".exp_avg_sq")), "{names:?}");
    }
}

#[test]
fn a_tokenizer_is_trained_on_the_text_and_kept() {
    let mut fixture = fixture(Architecture::Llama);
    fixture.run_file.data.tokenizer = TokenizerKind::Trained;
    fixture.run_file.data.vocab_size = 300;
    train(&fixture.run_file);
    let checkpoint = open_latest(&fixture.run_file);
    assert!(checkpoint.config().vocab_size <= 300);
    let tokenizer =
        data::Tokenizer::from_tokenizer_json(&checkpoint.tokenizer_json().unwrap()).unwrap();
    assert_eq!(tokenizer.vocab_size(), checkpoint.config().vocab_size);
    assert_resumes(&fixture, &fixture.run_file, "trained");

    // The same file, read as a foreign tokenizer, makes the same run.
    let trained = open_latest(&fixture.run_file);
    let mut foreign = fixture.other("foreign");
    foreign.data.tokenizer = TokenizerKind::HuggingFace;
    foreign.data.tokenizer_path = Some(trained.dir().to_owned());
    train(&foreign);
    let [ours, theirs] = [trained.dir(), open_latest(&foreign).dir()]
        .map(|dir| fs::read(dir.join("model.safetensors")).unwrap());
    assert!(ours == theirs);
}

/// A trained base and a run file that continues from it and sets only dropout in `[model]`.
fn base(fixture: &Fixture, architecture: Architecture) -> (PathBuf, RunFile) {
    train(&fixture.run_file);
    let folder = open_latest(&fixture.run_file).dir().to_owned();
    let mut tuned = fixture.other(&format!("tuned-{}", architecture.name()));
    tuned.model = Model { dropout: 0.1, ..Model::default() };
    tuned.data.tokenizer = TokenizerKind::default();
    tuned.train.init_from = Some(folder.clone());
    (folder, tuned)
}

#[test]
fn a_run_goes_on_from_a_folder_where_the_folder_stopped() {
    for architecture in Architecture::trained() {
        let fixture = fixture(architecture);
        let (folder, tuned) = base(&fixture, architecture);
        let losses = train(&fixture.run_file).after;
        let report = train(&tuned);
        assert_eq!(report.before, losses, "{}", architecture.name());
        assert!(report.after.train < losses.train, "{}", architecture.name());
        let [ours, base] = [open_latest(&tuned), Checkpoint::open(&folder).unwrap()];
        assert_eq!(ours.tokenizer_json().unwrap(), base.tokenizer_json().unwrap());
        assert_eq!(ours.config().n_kv_head, base.config().n_kv_head);
        assert_resumes(&fixture, &tuned, &format!("tuned-{}", architecture.name()));
    }
}

#[test]
fn what_the_folder_decides_cannot_be_set_to_something_else() {
    let fixture = fixture(Architecture::Llama);
    let (_, tuned) = base(&fixture, Architecture::Llama);
    let refusal = |change: fn(&mut RunFile)| {
        let mut run_file = tuned.clone();
        change(&mut run_file);
        failure(&run_file)
    };
    let error = refusal(|run_file| run_file.model.n_layer = 3);
    assert!(error.contains("model.n_layer = 3, but it is 2 in"), "{error}");
    let error = refusal(|run_file| run_file.model.n_kv_head = Some(2));
    assert!(error.contains("model.n_kv_head = 2, but it is 1 in"), "{error}");
    let error = refusal(|run_file| run_file.data.context = 17);
    assert!(error.contains("data.context = 17: expected at most 16"), "{error}");
    let error = refusal(|run_file| run_file.data.tokenizer = TokenizerKind::Simple);
    assert!(error.contains("data.tokenizer") && error.contains("train.init_from"), "{error}");
    let error = refusal(|run_file| run_file.train.init_from = Some("no/such/folder".into()));
    assert!(error.contains("no/such/folder"), "{error}");

    let mut agreeing = tuned.clone();
    agreeing.model = fixture.run_file.model.clone();
    assert_eq!(train(&agreeing).steps, 8);
}

fn weights(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    checkpoint.weights().read_f32(name).unwrap()
}

#[test]
fn lora_trains_adapters_only_and_leaves_a_merged_model_and_a_peft_folder() {
    for architecture in Architecture::trained() {
        let fixture = fixture(architecture);
        let (folder, mut tuned) = base(&fixture, architecture);
        tuned.lora.rank = 3;
        tuned.lora.alpha = 6.0;
        tuned.lora.targets = vec![LoraTarget::Query, LoraTarget::Key, LoraTarget::Down];
        let losses = train(&fixture.run_file).after;
        let report = train(&tuned);
        assert_eq!(report.before, losses, "{}", architecture.name());
        assert!(report.after.train < losses.train, "{}", architecture.name());

        let [ours, base] = [open_latest(&tuned), Checkpoint::open(&folder).unwrap()];
        let adapter = Adapter::open(&ours.dir().join("adapter"), ours.config()).unwrap();
        assert_eq!((adapter.settings().rank, adapter.settings().alpha), (3, 6.0));
        assert_eq!(adapter.settings().base_model, folder.display().to_string());
        let merged = Merged::new(&base, &adapter);
        let (mut changed, mut same) = (0, 0);
        for row in names::tensors(base.config()).into_iter().filter(|row| row.in_model()) {
            let name = &row.hugging_face;
            let (before, after) = (weights(&base, name), weights(&ours, name));
            if before == after {
                same += 1;
                continue;
            }
            changed += 1;
            let merged = merged.data(name).unwrap();
            for (merged, after) in merged.iter().zip(&after) {
                assert!((merged - after).abs() < 1e-6, "{name}: {merged}, {after}");
            }
        }
        let expected = match architecture.block().projections {
            Projections::Separate => 6,
            Projections::Joined => 4,
        };
        assert_eq!(changed, expected, "{}: {same} the same", architecture.name());
        let moments = ours.optimizer().unwrap().unwrap();
        assert_eq!(moments.names().len(), 4 * expected, "two factors with two moments each");
        assert_resumes(&fixture, &tuned, &format!("lora-{}", architecture.name()));
    }
}

/// Nothing before the first adapter needs a gradient. A recomputed block must not conclude that no
/// parameter needs one.
#[test]
fn lora_learns_the_same_with_activation_checkpointing() {
    for architecture in Architecture::trained() {
        let fixture = fixture(architecture);
        let (_, mut tuned) = base(&fixture, architecture);
        tuned.lora.rank = 2;
        tuned.train.max_steps = Some(4);
        train(&tuned);
        let mut again = tuned.clone();
        again.run.dir = fixture.path().join("again");
        again.train.activation_checkpointing = true;
        train(&again);
        // The graph adds the gradients of a block's input in another order.
        let [whole, again] = [&tuned, &again].map(metrics);
        assert_eq!((whole.len(), again.len()), (5, 5), "{}", architecture.name());
        for (step, (a, b)) in whole.iter().zip(&again).enumerate() {
            let [a, b] = [a, b].map(|line| line["train_loss"].as_f64());
            let (a, b) = (a.unwrap_or_default(), b.unwrap_or_default());
            let name = architecture.name();
            assert!((a - b).abs() <= 1e-5 * a.abs(), "{name}, step {step}: {a}, {b}");
        }
    }
}

#[test]
fn adapters_go_on_only_with_the_weights_that_they_were_trained_for() {
    let fixture = fixture(Architecture::Gpt2);
    let (folder, mut tuned) = base(&fixture, Architecture::Gpt2);
    tuned.lora.rank = 2;
    tuned.train.max_steps = Some(2);
    train(&tuned);
    let mut other = fixture.other("other");
    other.run.seed += 1;
    let report = train(&other);
    let weights = "model.safetensors";
    fs::copy(report.checkpoint.join(weights), folder.join(weights)).unwrap();
    tuned.train.max_steps = Some(4);
    let options = train::Options { resume: true, ..train::Options::default() };
    let error = train::train(&tuned, &options).unwrap_err().to_string();
    assert!(error.contains("train.init_from") && error.contains("--force"), "{error}");
}
