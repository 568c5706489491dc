//! The results of a run, which do not depend on stopping or accumulation.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use std::fs;

use crate::common::{Fixture, assert_same_end, assert_same_figures, metrics, resume, train};
use checkpoint::{Checkpoint, TrainerState};
use config::{Architecture, Kernels, Precision, RunFile, ScheduleKind};

#[test]
fn a_small_model_learns_a_small_grammar() {
    let mut fixture = Fixture::new();
    let settings = &mut fixture.run_file;
    settings.train.epochs = 30;
    settings.train.max_steps = Some(60);
    settings.train.checkpoint_interval = 1000;
    settings.schedule.kind = ScheduleKind::Cosine;
    settings.schedule.warmup_steps = 5;
    let report = train(settings);
    let (before, after) = (report.before.train.unwrap(), report.after.train.unwrap());
    assert!(before > 2.0 && after < 0.75 * before, "{before} -> {after}");
    let validation = report.after.validation.unwrap();
    assert!((validation - after).abs() < 0.2, "{after}, validation {validation}");
    assert_eq!((report.steps, report.resumed_from), (60, None));
    assert_eq!(report.tokens, 60 * 4 * 16);
}

#[test]
fn four_passes_of_one_window_are_one_pass_of_four() {
    let mut fixture = Fixture::new();
    fixture.run_file.model.dropout = 0.0;
    fixture.run_file.train.precision = Precision::F32;
    fixture.run_file.optimizer.grad_clip = 0.0;
    let mut small = fixture.other("small");
    (small.train.batch_size, small.train.gradient_accumulation) = (1, 4);
    let mut large = fixture.other("large");
    (large.train.batch_size, large.train.gradient_accumulation) = (4, 1);
    let (a, b) = (train(&small), train(&large));
    assert_eq!((a.steps, a.tokens), (b.steps, b.tokens));
    assert_same_figures(&small, &large, 1e-3);
}

/// A fixture with dropout on for each number format of the matrix products.
fn in_each_precision() -> [Fixture; 2] {
    [Precision::F32, Precision::Bf16].map(|precision| {
        let mut fixture = Fixture::new();
        fixture.run_file.train.precision = precision;
        assert!(fixture.run_file.model.dropout > 0.0);
        fixture
    })
}

/// The fused operations against plain Burn ones on the same backend, through whole runs of every
/// family: values, gradients and optimizer steps.
#[test]
fn plain_operations_learn_the_same() {
    for architecture in Architecture::trained() {
        let mut fixture = Fixture::new();
        fixture.run_file.model.architecture = architecture;
        fixture.run_file.model.dropout = 0.0; // the implementations use different random numbers
        fixture.run_file.train.precision = Precision::F32;
        let (fused, mut plain) = (fixture.other("fused"), fixture.other("plain"));
        plain.train.kernels = Kernels::Plain;
        train(&fused);
        train(&plain);
        let (fused, plain) = (metrics(&fused), metrics(&plain));
        assert_eq!(fused.len(), plain.len());
        assert_ne!(fused, plain, "the same bits: one body ran twice");
        for (step, (fused, plain)) in fused.iter().zip(&plain).enumerate() {
            for key in ["train_loss", "val_loss", "grad_norm"] {
                let [a, b] = [fused, plain].map(|line| line[key].as_f64());
                assert_eq!(a.is_some(), b.is_some(), "{key}");
                let (Some(a), Some(b)) = (a, b) else { continue };
                assert!((a - b).abs() < 2e-4 * b, "{architecture:?}, step {step}, {key}: {a}, {b}");
            }
        }
    }
}

#[test]
fn the_same_run_gives_the_same_bits() {
    in_each_precision().iter().for_each(same_bits);
}

fn same_bits(fixture: &Fixture) {
    let (a, b) = (fixture.other("a"), fixture.other("b"));
    train(&a);
    train(&b);
    assert_eq!(metrics(&a), metrics(&b));
    assert_same_end(&a, &b);
    let mut other_seed = fixture.other("c");
    other_seed.run.seed += 1;
    train(&other_seed);
    assert_ne!(metrics(&a), metrics(&other_seed));
}

#[test]
fn blocks_that_are_computed_again_give_the_same_bits() {
    for fixture in in_each_precision() {
        let (kept, mut again) = (fixture.other("kept"), fixture.other("again"));
        again.train.activation_checkpointing = true;
        train(&kept);
        train(&again);
        assert_eq!(metrics(&kept), metrics(&again));
        assert_same_end(&kept, &again);
    }
}

#[test]
fn a_resumed_run_gives_the_same_bits_as_one_that_never_stopped() {
    in_each_precision().iter().for_each(same_bits_after_a_stop);
}

fn same_bits_after_a_stop(fixture: &Fixture) {
    let whole = fixture.other("whole");
    train(&whole);
    for stop in [1, 4, 7] {
        let parts = fixture.other(&format!("stopped-at-{stop}"));
        let mut first = parts.clone();
        first.train.max_steps = Some(stop);
        train(&first);
        let report = resume(&parts);
        assert_eq!((report.resumed_from, report.steps), (Some(stop as u64), 8));
        // The validation loss was measured after a step that was the last one; nothing else
        // differs.
        let [mut ours, theirs] = [metrics(&parts), metrics(&whole)];
        if theirs[stop].get("val_loss").is_none() {
            ours[stop].as_object_mut().unwrap().remove("val_loss");
        }
        assert_eq!(ours, theirs);
        // A sample was also written after the step that was the last one.
        let samples = |run: &RunFile| -> Vec<String> {
            let text = fs::read_to_string(run.run.dir.join("samples.txt")).unwrap();
            let extra = format!("step {stop}\n");
            let sections = text.split("=== ").map(str::to_owned);
            sections.filter(|section| !section.contains(&extra)).collect()
        };
        assert_eq!(samples(&parts), samples(&whole));
        let [ours, theirs] = [&parts, &whole].map(|run| {
            let dir = checkpoint::latest(&run.run.dir).unwrap();
            ["model.safetensors", "optimizer.safetensors"].map(|f| fs::read(dir.join(f)).unwrap())
        });
        assert!(ours == theirs, "weights or moments differ after a stop at {stop}");
    }
}

#[test]
fn a_run_folder_holds_what_other_stages_read() {
    let mut fixture = Fixture::new();
    fixture.run_file.train.precision = Precision::Bf16;
    let report = train(&fixture.run_file);
    let dir = &fixture.run_file.run.dir;
    for file in ["config.toml", "metrics.jsonl", "samples.txt", "loss.pdf", "latest"] {
        assert!(dir.join(file).metadata().unwrap().len() > 0, "{file}");
    }
    assert_eq!(checkpoint::latest(dir).unwrap(), report.checkpoint);
    let saved = RunFile::load(&dir.join("config.toml"), &[]).unwrap();
    assert_eq!(saved, fixture.run_file);

    let checkpoint = Checkpoint::open(&report.checkpoint).unwrap();
    assert_eq!(checkpoint.config().parameter_count(), report.parameters);
    assert!(checkpoint.tokenizer_json().unwrap().contains("WordLevel"));
    let golden = checkpoint.golden().unwrap().unwrap();
    assert_eq!((golden.windows, golden.context), (2, 16));
    assert_eq!(golden.vocab_size, checkpoint.config().vocab_size);
    let TrainerState { step, epoch, batch, seed, best_val_loss, precision, .. } =
        checkpoint.trainer().unwrap().unwrap();
    assert_eq!(precision, "bf16");
    assert_eq!((step, seed), (8, fixture.run_file.run.seed));
    assert_eq!((epoch, batch), (1, 2), "six steps in an epoch");
    assert!(best_val_loss.is_some());
    let moments = checkpoint.optimizer().unwrap().unwrap();
    assert_eq!(moments.shape("lm_head.weight.exp_avg").unwrap(), [golden.vocab_size, 16]);
    assert!(moments.contains("transformer.h.1.mlp.c_proj.weight.exp_avg_sq"));
    assert!(!moments.contains("transformer.h.1.attn.c_attn.bias.exp_avg"), "no such parameter");

    // Two checkpoints are kept: the last one, and the one before it.
    let kept = fs::read_dir(dir.join("checkpoints")).unwrap().flatten();
    let mut kept: Vec<String> =
        kept.map(|entry| entry.file_name().into_string().unwrap()).collect();
    kept.sort();
    assert_eq!(kept, ["step-000006", "step-000008"]);
}

#[test]
fn a_finished_run_gets_the_golden_windows_that_are_asked_for() {
    let mut fixture = Fixture::new();
    let golden = |fixture: &Fixture| {
        let report = train(&fixture.run_file);
        Checkpoint::open(&report.checkpoint).unwrap().golden().unwrap().unwrap()
    };
    let before = golden(&fixture);
    fixture.run_file.eval.golden_windows = 1;
    let after = golden(&fixture);
    assert_eq!((before.windows, after.windows), (2, 1));
    assert_eq!(after.logits, before.logits[..after.logits.len()]);
}

/// The head is `[V, C]` in a file and `[C, V]` in Burn: what is loaded is what was saved.
#[test]
fn a_finished_run_is_reported_again_with_the_same_losses() {
    let fixture = Fixture::new();
    let first = train(&fixture.run_file);
    let again = train(&fixture.run_file);
    assert_eq!((again.before, again.after), (first.before, first.after));
    assert_eq!((again.checkpoint, again.steps), (first.checkpoint, first.steps));
    assert_eq!((again.resumed_from, again.tokens_per_s), (Some(8), None));
}

/// Tokens that were encoded before, in several files, are read where they are.
#[test]
fn a_run_on_shards_is_the_run_on_their_text() {
    let mut fixture = Fixture::new();
    let text = fixture.path().join("long.txt");
    fs::write(&text, crate::common::text_of(2400)).unwrap();
    let words = data::Tokenizer::simple(&crate::common::text_of(120));
    let tokenizer = fixture.path().join("tokenizer.json");
    fs::write(&tokenizer, words.tokenizer_json().unwrap()).unwrap();
    fixture.run_file.data.tokenizer = config::TokenizerKind::HuggingFace;
    fixture.run_file.data.tokenizer_path = Some(tokenizer);
    fixture.run_file.data.path = text.clone().into();
    let whole = fixture.other("whole");
    train(&whole);

    let shards = fixture.path().join("tokens");
    let corpus = data::Corpus::open(&text).unwrap();
    let report = data::encode_shards(&corpus, &words, &shards, 4096, false).unwrap();
    assert!(report.shards > Some(3), "{report}");
    let mut parts = fixture.other("parts");
    parts.data.path = shards.clone().into();
    train(&parts);
    assert_same_figures(&whole, &parts, 0.0);
    // The run folder has a list of the shards, not a copy.
    assert!(fs::metadata(parts.run.dir.join("tokens.bin")).unwrap().len() < 4096);
    parts.train.epochs = 3;
    parts.train.max_steps = Some(12);
    assert_eq!(resume(&parts).resumed_from, Some(8));

    let mut other = fixture.other("other");
    other.data.path = shards.clone().into();
    other.data.tokenizer = config::TokenizerKind::Gpt2;
    let error = crate::common::failure(&other);
    assert!(error.contains("was made with another tokenizer"), "{error}");
    other.data.tokenizer = config::TokenizerKind::Simple;
    let error = crate::common::failure(&other);
    assert!(error.contains("tokens holds tokens, and texts are needed"), "{error}");
    other.data = parts.data.clone();
    other.data.path = serde_json::from_value(serde_json::json!([shards, text])).unwrap();
    let error = crate::common::failure(&other);
    assert!(error.contains("long.txt does not; expected tokens"), "{error}");

    // A token that is not of the vocabulary, in the first window that is read.
    let shard = shards.join("shard-00000.bin");
    let mut bytes = fs::read(&shard).unwrap();
    bytes[128..4000].fill(0xFF);
    fs::write(&shard, bytes).unwrap();
    let mut damaged = fixture.other("damaged");
    damaged.data = parts.data.clone();
    let error = crate::common::failure(&damaged);
    assert!(error.contains("token 65535 is outside of the vocabulary"), "{error}");
}
