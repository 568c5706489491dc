//! Other devices learn what the CPU learns: the same losses and gradient norms, step by step.
//!
//! Plain Burn operations run there, so this is also a test of the fused ones on the CPU. A device
//! that was not compiled in, or is not present, is skipped by name.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod common;

use common::{Fixture, metrics, train};
use config::{Architecture, Device, Precision};

/// The order of sums differs between devices.
const TOLERANCE: f64 = 2e-4;

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
    for architecture in Architecture::ALL {
        let mut fixture = Fixture::new();
        let settings = &mut fixture.run_file;
        settings.model.architecture = architecture;
        settings.model.dropout = 0.0;
        settings.train.precision = Precision::F32;
        let (mut cpu, mut other) = (fixture.other("cpu"), fixture.other("other"));
        (cpu.device, other.device) = (Device::Flex, device);
        train(&cpu);
        train(&other);
        let (expected, found) = (metrics(&cpu), metrics(&other));
        assert_eq!(expected.len(), found.len());
        let mut compared = 0;
        for (step, (expected, found)) in expected.iter().zip(&found).enumerate() {
            for key in ["train_loss", "val_loss", "grad_norm"] {
                let (Some(a), Some(b)) = (expected[key].as_f64(), found[key].as_f64()) else {
                    continue;
                };
                compared += 1;
                let difference = (a - b).abs() / a.abs().max(1e-3);
                assert!(
                    difference < TOLERANCE,
                    "{} on {device:?}, step {step}, {key}: {b}, on the CPU {a}",
                    architecture.name()
                );
            }
        }
        assert!(compared > 8, "only {compared} figures were compared");
    }
}
