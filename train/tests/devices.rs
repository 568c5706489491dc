//! Other devices learn the same as the CPU: equal losses and gradient norms, step by step.
//!
//! Other devices use other operations than the CPU, so this tests both, including dropout: the
//! random numbers are the same everywhere. A device that was not compiled in, or is not present, is
//! skipped by name.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use crate::common::{Fixture, metrics, train};
use config::{Architecture, Device, Precision};

/// The allowed relative difference. Devices sum in different orders, in bf16 they also round
/// differently, and on NVIDIA's cards Burn multiplies f32 numbers as TF32, with 10 bits of
/// fraction.
fn tolerances(device: Device) -> &'static [(Precision, f64)] {
    match device {
        Device::Cuda => &[(Precision::F32, 2e-3), (Precision::Bf16, 4e-2)],
        _ => &[(Precision::F32, 2e-4)],
    }
}

#[test]
fn ndarray_learns_the_same() {
    compare("ndarray_learns_the_same", Device::Ndarray);
}

#[test]
fn wgpu_learns_the_same() {
    compare("wgpu_learns_the_same", Device::Wgpu);
}

#[test]
fn cuda_learns_the_same() {
    compare("cuda_learns_the_same", Device::Cuda);
}

fn compare(test: &str, device: Device) {
    if let Err(reason) = train::check_device(device) {
        eprintln!("{test} skipped: {reason}");
        return;
    }
    for &(precision, tolerance) in tolerances(device) {
        for architecture in Architecture::trained() {
            let mut fixture = Fixture::new();
            let settings = &mut fixture.run_file;
            settings.model.architecture = architecture;
            settings.model.dropout = 0.1;
            // Everything that the operations distinguish: shared key heads, a tied head,
            // accumulated gradients, recomputed blocks.
            settings.model.n_kv_head = architecture.is_gated().then_some(1);
            settings.model.tie_embeddings = architecture == Architecture::Gpt2;
            settings.train.gradient_accumulation = 2;
            settings.train.activation_checkpointing = architecture.is_gated();
            settings.train.precision = precision;
            let (mut cpu, mut other) = (fixture.other("cpu"), fixture.other("other"));
            (cpu.device, other.device) = (Device::Flex, device);
            train(&cpu);
            train(&other);
            assert_alike(&metrics(&cpu), &metrics(&other), tolerance, architecture.name());
        }
    }
}

/// All losses and gradient norms, step by step.
fn assert_alike(
    expected: &[serde_json::Value],
    found: &[serde_json::Value],
    tolerance: f64,
    name: &str,
) {
    assert_eq!(expected.len(), found.len());
    let (mut compared, mut furthest) = (0, 0.0_f64);
    for (step, (expected, found)) in expected.iter().zip(found).enumerate() {
        for key in ["train_loss", "val_loss", "grad_norm"] {
            let (Some(a), Some(b)) = (expected[key].as_f64(), found[key].as_f64()) else {
                continue;
            };
            compared += 1;
            let difference = (a - b).abs() / a.abs().max(1e-3);
            furthest = furthest.max(difference);
            assert!(difference < tolerance, "{name}, step {step}, {key}: {b}, on the CPU {a}");
        }
    }
    assert!(compared > 8, "only {compared} figures were compared");
    eprintln!("{name}: {compared} figures within {furthest:.1e} of the CPU's");
}
