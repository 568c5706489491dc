//! Invalid input and failures: one clear line, no data lost.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use std::fs;

use crate::common::{Fixture, failure, metrics, resume, text_of, train, visible};
use checkpoint::{HuggingFaceFiles, NamedTensor, names};
use config::Device;
use train::Options;

#[test]
fn a_text_shorter_than_one_step_is_refused_with_the_numbers() {
    let mut fixture = Fixture::new();
    fs::write(&fixture.run_file.data.path.as_slice()[0], text_of(10)).unwrap();
    let error = failure(&fixture.run_file);
    assert!(error.contains("too short") && error.contains("16 tokens"), "{error}");
    assert_eq!(visible(&fixture.run_file.run.dir), [""; 0]);
    // The next attempt, with a setting changed as advised, does not conflict with an earlier run.
    fixture.run_file.train.batch_size = 1;
    assert_eq!(train(&fixture.run_file).resumed_from, None);
}

#[test]
fn a_missing_text_is_named() {
    let mut fixture = Fixture::new();
    fixture.run_file.data.path = "no/such/text.txt".into();
    let error = failure(&fixture.run_file);
    assert!(error.contains("no/such/text.txt"), "{error}");
}

#[test]
fn a_run_folder_that_cannot_be_made_is_named() {
    let mut fixture = Fixture::new();
    fixture.run_file.run.dir = fixture.run_file.data.path.as_slice()[0].join("run");
    let error = failure(&fixture.run_file);
    assert!(error.contains("text.txt/run") && error.contains("run.dir"), "{error}");
}

#[cfg(not(feature = "ndarray"))]
#[test]
fn a_device_that_was_not_compiled_in_is_refused_before_anything_is_written() {
    let mut fixture = Fixture::new();
    fixture.run_file.device = Device::Ndarray;
    let error = failure(&fixture.run_file);
    assert!(error.contains("--features ndarray"), "{error}");
    assert!(!fixture.run_file.run.dir.exists());
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_and_names_the_last_checkpoint() {
    let mut fixture = Fixture::new();
    train(&fixture.run_file);
    fixture.run_file.optimizer.learning_rate = 1e30;
    fixture.run_file.optimizer.grad_clip = 0.0;
    fixture.run_file.train.max_steps = Some(20);
    fixture.run_file.train.epochs = 20;
    fixture.run_file.train.checkpoint_interval = 1000;
    let options = Options { resume: true, ..Options::default() };
    let error = train::train(&fixture.run_file, &options).unwrap_err().to_string();
    assert!(error.contains("at step 9") && error.contains("learning rate 1e30"), "{error}");
    assert!(error.contains("step-000008"), "{error}");
    assert!(checkpoint::latest(&fixture.run_file.run.dir).unwrap().ends_with("step-000008"));
}

/// A step whose own loss was finite can ruin the weights: the checkpoint after it can be read, and
/// a run never succeeds with them.
#[test]
fn weights_that_are_no_numbers_end_a_run_wherever_they_are_seen() {
    for (interval, steps, saves) in [(1, 20, false), (1000, 1, false), (1000, 20, true)] {
        let mut fixture = Fixture::new();
        let settings = &mut fixture.run_file;
        (settings.optimizer.learning_rate, settings.optimizer.grad_clip) = (1e30, 0.0);
        settings.train.max_steps = Some(steps);
        (settings.train.checkpoint_interval, settings.train.keep_checkpoints) = (1, 1);
        settings.train.eval_interval = interval;
        let error = failure(settings);
        assert!(error.contains("loss is") && error.contains("at step"), "{error}");
        let latest = checkpoint::latest(&settings.run.dir);
        assert_eq!(latest.is_ok(), saves, "{error}");
        if let Ok(latest) = latest {
            checkpoint::Checkpoint::open(&latest).unwrap().trainer().unwrap().unwrap();
        }
    }
}

#[test]
fn a_run_without_a_checkpoint_begins_again_with_whatever_settings() {
    let mut fixture = Fixture::new();
    let settings = &mut fixture.run_file;
    settings.optimizer.learning_rate = 1e30;
    settings.train.checkpoint_interval = 1000;
    failure(settings);
    assert!(settings.run.dir.join("metrics.jsonl").exists());
    settings.optimizer.learning_rate = 1e-2;
    let report = train(settings);
    assert_eq!((report.resumed_from, report.steps), (None, 8));
    assert_eq!(metrics(settings).len(), 9);
}

#[test]
fn another_run_is_not_overwritten_without_force() {
    let mut fixture = Fixture::new();
    train(&fixture.run_file);
    fixture.run_file.optimizer.learning_rate = 2e-2;
    let error = failure(&fixture.run_file);
    assert!(error.contains("--resume") && error.contains("--force"), "{error}");
    assert!(error.contains("optimizer.learning_rate is 0.01 there and 0.02 now"), "{error}");
    assert_eq!(metrics(&fixture.run_file).len(), 9);

    fs::write(fixture.run_file.run.dir.join("notes.txt"), "mine").unwrap();
    let options = Options { overwrite: true, ..Options::default() };
    let report = train::train(&fixture.run_file, &options).unwrap();
    assert_eq!((report.resumed_from, report.steps), (None, 8));
    assert_eq!(metrics(&fixture.run_file).len(), 9);
    assert!(fixture.run_file.run.dir.join("notes.txt").exists(), "only our own files are removed");
}

#[test]
fn an_old_run_goes_only_once_the_new_one_can_begin() {
    let mut fixture = Fixture::new();
    let report = train(&fixture.run_file);
    let old = fixture.run_file.clone();
    let tokens = fs::read(old.run.dir.join("tokens.bin")).unwrap();
    let force = Options { overwrite: true, ..Options::default() };
    let whole_text = fs::read(&old.data.path.as_slice()[0]).unwrap();

    fs::write(&old.data.path.as_slice()[0], text_of(10)).unwrap();
    let error = train::train(&old, &force).unwrap_err().to_string();
    assert!(error.contains("too short"), "{error}");
    fixture.run_file.data.path = "no/such/text.txt".into();
    train::train(&fixture.run_file, &force).unwrap_err();

    assert_eq!(checkpoint::latest(&old.run.dir).unwrap(), report.checkpoint);
    assert_eq!(metrics(&old).len(), 9);
    assert_eq!(fs::read(old.run.dir.join("tokens.bin")).unwrap(), tokens);
    fs::write(&old.data.path.as_slice()[0], whole_text).unwrap();
    assert_eq!(train(&old).resumed_from, Some(8));
}

#[test]
fn a_folder_that_is_somebody_elses_is_left_alone() {
    let fixture = Fixture::new();
    let dir = &fixture.run_file.run.dir;
    fs::create_dir_all(dir).unwrap();
    let (name, text) = ("config.toml", "[server]\nport = 80\n");
    fs::write(dir.join(name), text).unwrap();
    for overwrite in [false, true] {
        let options = Options { overwrite, ..Options::default() };
        let error = train::train(&fixture.run_file, &options).unwrap_err().to_string();
        assert!(error.contains("config.toml") && error.contains("run.dir"), "{error}");
    }
    assert_eq!(fs::read_to_string(dir.join(name)).unwrap(), text);
    assert_eq!(fs::read_dir(dir).unwrap().count(), 1);
    fs::rename(dir.join(name), dir.join("thesis.tex")).unwrap();
    assert!(failure(&fixture.run_file).contains("thesis.tex"));
}

#[test]
fn checkpoints_that_nothing_points_at_are_not_trained_over() {
    let fixture = Fixture::new();
    train(&fixture.run_file);
    let latest = fixture.run_file.run.dir.join("latest");
    fs::remove_file(&latest).unwrap();
    let error = failure(&fixture.run_file);
    assert!(error.contains("echo step-000008 >") && error.contains("--force"), "{error}");
    fs::write(&latest, "step-000008").unwrap();
    assert_eq!(train(&fixture.run_file).resumed_from, Some(8));
}

#[test]
fn there_must_be_a_run_to_resume() {
    let fixture = Fixture::new();
    let options = Options { resume: true, ..Options::default() };
    let error = train::train(&fixture.run_file, &options).unwrap_err().to_string();
    assert!(error.contains("leave --resume out"), "{error}");
}

#[test]
fn a_resumed_run_may_go_on_longer_but_not_be_another() {
    let mut fixture = Fixture::new();
    train(&fixture.run_file);
    let mut other = fixture.run_file.clone();
    other.model.n_embd = 32;
    let options = Options { resume: true, ..Options::default() };
    let error = train::train(&other, &options).unwrap_err().to_string();
    assert!(error.contains("model.n_embd is 16 there and 32 now"), "{error}");
    assert!(error.contains("--force") && !error.contains("--resume"), "{error}");
    // Without --resume the message is the same: --resume would not help.
    let plain = train::train(&other, &Options::default()).unwrap_err().to_string();
    assert_eq!(plain, error);

    fixture.run_file.train.max_steps = Some(10);
    let report = resume(&fixture.run_file);
    assert_eq!((report.resumed_from, report.steps), (Some(8), 10));
    let steps: Vec<u64> =
        metrics(&fixture.run_file).iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, (0..=10).collect::<Vec<_>>());
}

/// Its run file would describe another training than the one that took place.
#[test]
fn a_finished_run_does_not_take_over_settings_that_it_has_no_steps_for() {
    let fixture = Fixture::new();
    train(&fixture.run_file);
    let mut other = fixture.run_file.clone();
    other.optimizer.learning_rate = 2e-2;
    let options = Options { resume: true, ..Options::default() };
    let error = train::train(&other, &options).unwrap_err().to_string();
    assert!(error.contains("finished run of 8 steps"), "{error}");
    assert!(error.contains("optimizer.learning_rate is 0.01 there and 0.02 now"), "{error}");
    let saved = fs::read_to_string(fixture.run_file.run.dir.join("config.toml")).unwrap();
    assert_eq!(saved, fixture.run_file.to_toml().unwrap());
    // Other golden windows do not need a step.
    other = fixture.run_file.clone();
    other.eval.golden_windows = 1;
    assert_eq!(train(&other).resumed_from, Some(8));
}

#[test]
fn a_run_that_rounds_cannot_change_what_it_rounds_from() {
    let mut fixture = Fixture::new();
    fixture.run_file.model.n_embd = 32;
    fixture.run_file.train.qat = Some(config::Qat { format: "Q4_0".to_owned(), start: None });
    train(&fixture.run_file);
    fixture.run_file.export.tensor_type = "F16".to_owned();
    for resume in [false, true] {
        let options = Options { resume, ..Options::default() };
        let error = train::train(&fixture.run_file, &options).unwrap_err().to_string();
        assert!(error.contains("export.tensor_type is \"F32\" there and \"F16\" now"), "{error}");
    }
    // Without rounding, training does not depend on export.
    let mut plain = fixture.other("plain");
    plain.train.qat = None;
    train(&plain);
    plain.export.tensor_type = "F32".to_owned();
    assert_eq!(train(&plain).resumed_from, Some(8));
}

#[test]
fn a_text_that_changed_is_noticed() {
    let mut fixture = Fixture::new();
    train(&fixture.run_file);
    fs::write(&fixture.run_file.data.path.as_slice()[0], text_of(500)).unwrap();
    fixture.run_file.train.max_steps = Some(9);
    let options = Options { resume: true, ..Options::default() };
    let error = train::train(&fixture.run_file, &options).unwrap_err().to_string();
    assert!(error.contains("data.path") && error.contains("has changed since"), "{error}");
}

/// Whatever prevents a checkpoint from being written, the state in memory is kept.
#[test]
fn a_checkpoint_that_cannot_be_written_is_tried_again_later() {
    let fixture = Fixture::new();
    let checkpoints = fixture.run_file.run.dir.join("checkpoints");
    fs::create_dir_all(&checkpoints).unwrap();
    fs::write(checkpoints.join("step-000004"), "a file in the way").unwrap();
    let report = train(&fixture.run_file);
    assert_eq!(report.steps, 8);
    assert!(report.checkpoint.ends_with("step-000008"));
}

#[test]
fn what_the_caller_requires_is_asked_before_the_first_step() {
    let fixture = Fixture::new();
    let options = Options {
        requirement: Some(|prospect| anyhow::bail!("{} is too wide", prospect.config.n_embd)),
        ..Options::default()
    };
    let error = train::train(&fixture.run_file, &options).unwrap_err().to_string();
    assert_eq!(error, "16 is too wide");
    assert_eq!(visible(&fixture.run_file.run.dir), [""; 0]);
    train(&fixture.run_file);
    let report = train::train(&fixture.run_file, &options).unwrap();
    assert_eq!(report.resumed_from, Some(8), "there is no first step any more");
}

#[cfg(unix)]
#[test]
fn a_run_that_could_not_be_saved_does_not_begin() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::new();
    let dir = &fixture.run_file.run.dir;
    fs::create_dir_all(dir).unwrap();
    // File permissions do not restrict the superuser.
    let folder = fixture.path().join("locked");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(folder.join("probe"), "").is_ok() {
        println!("a_run_that_could_not_be_saved_does_not_begin skipped: run by the superuser");
        return;
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o555)).unwrap();
    let error = failure(&fixture.run_file);
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(error.contains("run") && error.to_lowercase().contains("permission"), "{error}");
}

#[test]
fn a_model_with_experts_is_refused_with_what_can_be_done() {
    let mut fixture = Fixture::new();
    let folder = fixture.path().join("mixtral");
    let config = config::ModelConfig {
        vocab_size: 8,
        context_length: 16,
        n_layer: 1,
        n_head: 2,
        n_kv_head: 1,
        n_embd: 8,
        n_inner: 6,
        experts: Some(config::Experts { count: 3, used: 2 }),
        ..config::ModelConfig::tinyllama_1_1b()
    };
    let zeros = |row: names::TensorName| NamedTensor {
        data: vec![0.0; row.elements()],
        name: row.hugging_face,
        shape: row.shape,
    };
    let weights: Vec<NamedTensor> = names::tensors(&config).into_iter().map(zeros).collect();
    let (weights, config) = (&weights, &config);
    let files = HuggingFaceFiles { config, weights, tokenizer_json: None, tokenizer_folder: None };
    checkpoint::save_hugging_face(&folder, false, files).unwrap();
    let tokenizer = std::mem::take(&mut fixture.run_file.data.tokenizer);
    fixture.run_file.train.init_from = Some(folder);
    let error = failure(&fixture.run_file);
    assert!(error.contains("3 experts in each layer, which are not trained here"), "{error}");
    assert!(error.contains("quantize"), "{error}");
    fixture.run_file.data.tokenizer = tokenizer;
    fixture.run_file.train.init_from = None;
    fixture.run_file.model.architecture = config::Architecture::Qwen3Moe;
    let error = fixture.run_file.validate().unwrap_err().to_string();
    assert!(error.contains("model.architecture") && error.contains("experts"), "{error}");
}
