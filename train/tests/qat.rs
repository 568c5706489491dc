//! Quantization-aware training: a run whose final weights are meant for a quantized file.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use std::fs;

use crate::common::{
    Fixture, assert_same_end, assert_same_figures, failure, metrics, resume, train,
};
use checkpoint::Checkpoint;
use config::{Architecture, Initialization, Precision, Qat, QatStart, RunFile, TokenizerKind};
use data::{Split, TokenFile, Window, Windows};
use gguf::GgufFile;
use quantize::{QuantizeJob, Recipe, quantize_file};

const START: u64 = 4;

fn qat(format: &str) -> Qat {
    let format = format.to_owned();
    Qat { format, start: Some(QatStart::Step(START)) }
}

/// Eight steps, of which the last four use weights in Q4_0.
fn fixture() -> Fixture {
    let mut fixture = Fixture::new();
    // Rows of whole blocks; otherwise all tensors would become F16.
    fixture.run_file.model.n_embd = 32;
    // Large enough that rounding changes a loss.
    fixture.run_file.train.initialization = Initialization::Pytorch;
    fixture.run_file.train.qat = Some(qat("Q4_0"));
    fixture
}

fn latest(run_file: &RunFile) -> Checkpoint {
    Checkpoint::open(&checkpoint::latest(&run_file.run.dir).unwrap()).unwrap()
}

/// A trained model that can be the teacher of the other runs of the fixture.
fn with_teacher(fixture: &Fixture) -> RunFile {
    let mut base = fixture.other("teacher");
    base.train.qat = None;
    base.run.seed += 1;
    train(&base);
    let mut taught = fixture.other("taught");
    taught.train.teacher =
        Some(config::Teacher { model: Some(base.run.dir), share: 0.75, ..Default::default() });
    taught
}

/// The mean loss over the validation split of a run, by the reference.
fn reference_loss(run_file: &RunFile, model: &reference::Model) -> f64 {
    let tokens = TokenFile::open(&run_file.run.dir.join("tokens.bin")).unwrap();
    let range = Split::new(tokens.len(), run_file.data.train_fraction).validation;
    let (context, stride) = (run_file.data.context, run_file.data.stride());
    let windows = Windows::new(&tokens, range, context, stride).unwrap();
    let mut sum = 0.0;
    for index in 0..windows.len() {
        let Window { inputs, targets, .. } = windows.get(index);
        let logits = model.logits(&inputs).unwrap();
        let rows = logits.chunks_exact(model.config().vocab_size).zip(targets);
        sum += rows
            .map(|(row, target)| {
                let total: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
                total.ln() - f64::from(row[target as usize])
            })
            .sum::<f64>();
    }
    sum / (windows.len() * context) as f64
}

/// Validation loss and golden logits belong to the quantized file and the exported one.
#[test]
fn the_loss_is_that_of_the_file_and_golden_logits_are_those_of_the_weights() {
    for architecture in Architecture::trained() {
        for tied in [true, false] {
            let mut fixture = fixture();
            let model = &mut fixture.run_file.model;
            model.architecture = architecture;
            model.n_kv_head = architecture.is_gated().then_some(1);
            model.qkv_bias = None;
            model.tie_embeddings = tied;
            fixture.run_file.train.precision = Precision::F32;
            let report = train(&fixture.run_file);
            let checkpoint = latest(&fixture.run_file);
            let job = QuantizeJob::new(checkpoint.dir(), Recipe::Q4_0);
            let file = GgufFile::open(&quantize_file(&job).unwrap().output).unwrap();
            let loss = reference_loss(&fixture.run_file, &reference::Model::load(&file).unwrap());
            let found = report.after.validation.unwrap();
            let name = architecture.name();
            assert!((found - loss).abs() < 2e-6 * loss, "{name}, tied {tied}: {found}, {loss}");

            let weights = checkpoint::open_source(checkpoint.dir()).unwrap();
            let weights = reference::Model::load(weights.as_ref()).unwrap();
            assert!((reference_loss(&fixture.run_file, &weights) - loss).abs() > 1e-4, "{name}");
            let golden = checkpoint.golden().unwrap().unwrap();
            let tokens = golden.tokens.chunks_exact(golden.context);
            for (tokens, stored) in
                tokens.zip(golden.logits.chunks_exact(golden.context * golden.vocab_size))
            {
                for (a, b) in weights.logits(tokens).unwrap().iter().zip(stored) {
                    assert!((a - b).abs() < 1e-5, "{name}, tied {tied}: {a}, {b}");
                }
            }
        }
    }
}

#[test]
fn steps_before_the_start_are_those_of_a_run_without() {
    let fixture = fixture();
    let (with, mut without) = (fixture.other("with"), fixture.other("without"));
    without.train.qat = None;
    train(&with);
    train(&without);
    let (with, without) = (metrics(&with), metrics(&without));
    let start = START as usize;
    assert_eq!(with[..=start], without[..=start]);
    for (a, b) in with.iter().zip(&without).skip(start + 1) {
        assert_ne!(a["train_loss"], b["train_loss"]);
    }
}

#[test]
fn a_run_learns_through_the_rounding() {
    let mut fixture = fixture();
    fixture.run_file.train.qat.as_mut().unwrap().start = Some(QatStart::Step(0));
    fixture.run_file.train.epochs = 30;
    fixture.run_file.train.max_steps = Some(60);
    let report = train(&fixture.run_file);
    let (before, after) = (report.before.train.unwrap(), report.after.train.unwrap());
    assert!(before > 2.0 && after < 0.75 * before, "{before} -> {after}");
}

#[test]
fn a_student_comes_nearer_to_its_teacher() {
    let mut fixture = fixture();
    fixture.run_file.model.dropout = 0.0;
    fixture.run_file.train.epochs = 30;
    fixture.run_file.train.max_steps = Some(60);
    let mut taught = with_teacher(&fixture);
    taught.train.qat.as_mut().unwrap().start = Some(QatStart::Step(0));
    taught.train.teacher.as_mut().unwrap().share = 1.0;
    train(&taught);
    let apart: Vec<f64> =
        metrics(&taught)[1..].iter().map(|m| m["teacher_divergence"].as_f64().unwrap()).collect();
    assert!(apart[59] < 0.3 * apart[0], "{} -> {}", apart[0], apart[59]);
}

#[test]
fn stopped_anywhere_a_run_ends_with_the_same_bits() {
    for precision in [Precision::F32, Precision::Bf16] {
        let mut fixture = fixture();
        fixture.run_file.train.precision = precision;
        for run_file in [fixture.run_file.clone(), with_teacher(&fixture)] {
            let name = run_file.run.dir.file_name().unwrap().to_str().unwrap().to_owned();
            train(&run_file);
            for stop in [1, START, START + 1, 7] {
                let mut parts = run_file.clone();
                parts.run.dir = fixture.path().join(format!("{name}-stopped-at-{stop}"));
                // With another run length, a start given as a share would move; one given as a step
                // does not.
                let mut first = parts.clone();
                first.train.max_steps = Some(stop as usize);
                if stop <= START {
                    first.train.qat = None;
                }
                train(&first);
                assert_eq!(resume(&parts).resumed_from, Some(stop));
                assert_same_end(&run_file, &parts);
                assert_eq!(latest(&parts).trainer().unwrap().unwrap().qat_start, Some(START));
            }
        }
    }
}

#[test]
fn blocks_that_are_computed_again_and_passes_that_add_up_change_nothing() {
    let mut fixture = fixture();
    fixture.run_file.train.precision = Precision::F32;
    fixture.run_file.model.tie_embeddings = true;
    fixture.run_file.model.architecture = Architecture::GptNeox;
    let (kept, mut again) = (fixture.other("kept"), fixture.other("again"));
    again.train.activation_checkpointing = true;
    train(&kept);
    train(&again);
    assert_eq!(metrics(&kept), metrics(&again));
    assert_same_end(&kept, &again);

    let mut small = fixture.other("small");
    (small.model.dropout, small.optimizer.grad_clip) = (0.0, 0.0);
    let mut large = small.clone();
    large.run.dir = fixture.path().join("large");
    (small.train.batch_size, small.train.gradient_accumulation) = (1, 4);
    train(&small);
    train(&large);
    assert_same_figures(&small, &large, 2e-3);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let fixture = fixture();
    let refusal = |change: &dyn Fn(&mut RunFile)| {
        let mut run_file = fixture.other("refused");
        change(&mut run_file);
        let error = failure(&run_file);
        assert!(!run_file.run.dir.join("config.toml").exists(), "{error}");
        error
    };
    let error = refusal(&|run_file| run_file.train.qat = Some(qat("Q3_Z")));
    assert!(error.contains("train.qat.format = \"Q3_Z\": expected one of Q8_0"), "{error}");
    let late = |run_file: &mut RunFile| {
        run_file.train.qat.as_mut().unwrap().start = Some(QatStart::Step(8));
    };
    let error = refusal(&late);
    assert!(error.contains("train.qat.start") && error.contains("8 steps"), "{error}");
    let error = refusal(&|run_file| {
        run_file.data.tokenizer = TokenizerKind::default();
        (run_file.lora.rank, run_file.train.init_from) = (2, Some("base".into()));
    });
    assert!(error.contains("lora.rank") && error.contains("train.qat"), "{error}");
    let taught = with_teacher(&fixture);
    let error = refusal(&|run_file| {
        run_file.train.teacher = taught.train.teacher.clone();
        fs::write(
            &run_file.data.path.as_slice()[0],
            "other words , in another text .\n".repeat(90),
        )
        .unwrap();
    });
    assert!(error.contains("train.teacher.model") && error.contains("vocabulary"), "{error}");
}

#[test]
fn another_teacher_is_noticed() {
    let fixture = fixture();
    let taught = with_teacher(&fixture);
    train(&taught);
    let mut other = fixture.other("teacher");
    other.train.qat = None;
    other.run.seed += 7;
    let force = train::Options { overwrite: true, ..Default::default() };
    train::train(&other, &force).unwrap();
    let mut longer = taught.clone();
    longer.train.max_steps = Some(9);
    let options = train::Options { resume: true, ..Default::default() };
    let error = cli::one_line(&train::train(&longer, &options).unwrap_err());
    assert!(error.contains("train.teacher") && error.contains("put that one back"), "{error}");
}

fn taught_by(fixture: &Fixture, name: &str, model: std::path::PathBuf) -> RunFile {
    let mut taught = fixture.other(name);
    taught.train.qat = None;
    taught.train.teacher = Some(config::Teacher { model: Some(model), ..Default::default() });
    taught
}

fn divergences(run_file: &RunFile) -> Vec<f64> {
    let lines = metrics(run_file);
    lines[1..].iter().map(|line| line["teacher_divergence"].as_f64().unwrap()).collect()
}

/// A model that begins as its teacher has nothing to learn in its first step, whatever file the
/// teacher's weights are read from and however its family orders them.
#[test]
fn a_teacher_is_the_model_that_its_file_holds() {
    for architecture in Architecture::trained() {
        let mut fixture = fixture();
        let model = &mut fixture.run_file.model;
        model.architecture = architecture;
        model.n_kv_head = architecture.is_gated().then_some(1);
        (model.qkv_bias, model.dropout) = (None, 0.0);
        fixture.run_file.train.precision = Precision::F32;
        let mut base = fixture.other("base");
        base.train.qat = None;
        train(&base);
        let file =
            quantize_file(&QuantizeJob::new(latest(&base).dir(), Recipe::Q8_0)).unwrap().output;
        for (name, model, most) in [("folder", base.run.dir.clone(), 1e-6), ("gguf", file, 1e-2)] {
            let mut taught = taught_by(&fixture, name, model);
            taught.model = config::Model { dropout: 0.0, ..Default::default() };
            taught.data.tokenizer = TokenizerKind::default();
            taught.train.init_from = Some(base.run.dir.clone());
            taught.train.max_steps = Some(1);
            train(&taught);
            let found = divergences(&taught)[0];
            assert!(found.abs() < most, "{}, {name}: {found}", architecture.name());
        }
    }
}

#[test]
fn a_temperature_and_a_share_are_heard_and_a_run_goes_on_with_the_same_bits() {
    let fixture = fixture();
    let teacher = with_teacher(&fixture).train.teacher.unwrap().model.unwrap();
    let mut whole = taught_by(&fixture, "whole", teacher);
    let settings = whole.train.teacher.as_mut().unwrap();
    (settings.temperature, settings.share) = (2.0, 0.5);
    train(&whole);
    let mut plain = whole.clone();
    plain.run.dir = fixture.path().join("plain");
    plain.train.teacher.as_mut().unwrap().temperature = 1.0;
    train(&plain);
    assert_ne!(divergences(&whole)[0], divergences(&plain)[0]);
    let mut halves = whole.clone();
    halves.run.dir = fixture.path().join("halves");
    halves.train.max_steps = Some(3);
    train(&halves);
    halves.train.max_steps = whole.train.max_steps;
    resume(&halves);
    assert_same_end(&whole, &halves);
}

#[test]
fn what_a_teacher_said_once_is_learned_without_it() {
    let mut fixture = fixture();
    fixture.run_file.train.precision = Precision::F32;
    let teacher = with_teacher(&fixture).train.teacher.unwrap().model.unwrap();
    let mut live = taught_by(&fixture, "live", teacher);
    live.train.teacher.as_mut().unwrap().temperature = 2.0;
    train(&live);
    let recorded = |name: &str, tokens: usize| {
        let mut run_file = live.clone();
        run_file.run.dir = fixture.path().join(name);
        let settings = run_file.train.teacher.as_mut().unwrap();
        settings.recorded = Some(fixture.path().join(format!("{name}.predictions")));
        settings.recorded_tokens = tokens;
        let report = train::record(&run_file, &train::Options::default()).unwrap();
        assert!(report.probability > 0.5 && report.probability < 1.0 + 1e-6, "{report}");
        let error = train::record(&run_file, &train::Options::default()).unwrap_err().to_string();
        assert!(error.contains("exists; add --force"), "{error}");
        run_file.train.teacher.as_mut().unwrap().model = None;
        run_file
    };
    // Of a small vocabulary all tokens: the same lessons.
    let all = recorded("all", 4096);
    train(&all);
    assert_same_figures(&live, &all, 1e-4);
    let some = recorded("some", 4);
    train(&some);
    for (some, all) in divergences(&some).into_iter().zip(divergences(&all)).take(1) {
        assert!(some > 0.0 && some < all, "{some}, {all}");
    }

    let refusal = |change: &dyn Fn(&mut RunFile)| {
        let mut other = some.clone();
        other.run.dir = fixture.path().join("refused");
        change(&mut other);
        failure(&other)
    };
    let error = refusal(&|run_file| run_file.train.teacher.as_mut().unwrap().temperature = 1.0);
    assert!(error.contains("train.teacher.temperature is 2 there and 1 here"), "{error}");
    let error = refusal(&|run_file| run_file.data.context = 8);
    assert!(error.contains("data.context is 16 there and 8 here"), "{error}");
    let path = fixture.path().join("some.predictions");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let error = refusal(&|_| ());
    assert!(error.contains("some.predictions has") && error.contains("record again"), "{error}");
    let mut damaged = bytes.clone();
    // Of more than half of the windows.
    let rows = damaged.len() / 8 * 4;
    let end = damaged.len();
    damaged[end - rows..].fill(0x40);
    fs::write(&path, &damaged).unwrap();
    let error = refusal(&|_| ());
    assert!(error.contains("is damaged") && error.contains("probability above 1"), "{error}");
    fs::write(&path, "PGPTOKEN").unwrap();
    let error = refusal(&|_| ());
    assert!(error.contains("too short to be a recording"), "{error}");
}
