//! A step learns the same on any number of devices that share its passes.
//!
//! The CPU is one device. A run on several of it takes the same code path as a run on several
//! cards: copies of the weights, parallel passes, gradients summed on the first.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use crate::common::{Fixture, assert_same_end, assert_same_figures, failure, resume, train};
use config::{Architecture, Kernels, Precision, Qat, QatStart, RunFile};

/// Four passes in a step; the same run on one device and on `devices`.
fn pair(fixture: &Fixture, devices: usize) -> [RunFile; 2] {
    let mut one = fixture.other("one");
    one.train.batch_size = 1;
    one.train.gradient_accumulation = 4;
    one.train.precision = Precision::F32;
    let mut several = one.clone();
    several.run.dir = fixture.path().join("several");
    several.train.devices = devices;
    [one, several]
}

#[test]
fn two_and_four_devices_learn_what_one_does() {
    for architecture in [Architecture::Gpt2, Architecture::Llama] {
        for devices in [2, 4] {
            let mut fixture = Fixture::new();
            fixture.run_file.model.architecture = architecture;
            let runs = pair(&fixture, devices);
            runs.iter().for_each(|run_file| drop(train(run_file)));
            assert_same_figures(&runs[0], &runs[1], 1e-4); // another order of sums
        }
    }
}

#[test]
fn plain_operations_are_plain_on_every_device() {
    let fixture = Fixture::new();
    let mut runs = pair(&fixture, 2);
    for run_file in &mut runs {
        run_file.train.kernels = Kernels::Plain;
        train(run_file);
    }
    assert_same_figures(&runs[0], &runs[1], 1e-4); // another order of sums
}

#[test]
fn a_teacher_is_heard_on_every_device() {
    let mut fixture = Fixture::new();
    fixture.run_file.model.n_embd = 32; // a block of Q8_0
    let teacher = fixture.other("teacher");
    train(&teacher);
    let mut runs = pair(&fixture, 2);
    for run_file in &mut runs {
        run_file.train.qat =
            Some(Qat { format: "Q8_0".to_owned(), start: Some(QatStart::Step(2)) });
        run_file.train.teacher = Some(config::Teacher {
            model: Some(teacher.run.dir.clone()),
            share: 0.5,
            ..Default::default()
        });
        train(run_file);
    }
    // A weight in the middle between two codes may be rounded either way.
    assert_same_figures(&runs[0], &runs[1], 1e-2);
}

#[test]
fn a_run_on_several_devices_that_was_stopped_ends_with_the_same_bits() {
    let fixture = Fixture::new();
    let [_, whole] = pair(&fixture, 2);
    let mut stopped = whole.clone();
    stopped.run.dir = fixture.path().join("stopped");
    train(&whole);
    let all_steps = stopped.train.max_steps.replace(4);
    train(&stopped);
    stopped.train.max_steps = all_steps;
    resume(&stopped);
    assert_same_end(&whole, &stopped);
}

#[test]
fn passes_that_cannot_be_shared_evenly_are_refused() {
    let fixture = Fixture::new();
    let [_, uneven] = pair(&fixture, 3);
    let error = failure(&uneven);
    assert!(error.contains("train.devices") && error.contains("divisor"), "{error}");
}
