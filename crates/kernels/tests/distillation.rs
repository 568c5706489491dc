//! The loss of a student beside PyTorch's formula.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use burn::tensor::{Device, Int, Tensor};
use kernels::{
    Distillation, OutputHead, Precision, Predictions, distilled_head_loss, with_plain_operations,
};

const STUDENT: [[f32; 5]; 2] = [[0.5, -1.0, 2.0, 0.0, 1.5], [1.0, 0.0, -2.0, 3.0, 0.5]];
const TEACHER: [[f32; 5]; 2] = [[1.0, 0.0, 1.5, -0.5, 2.5], [0.0, 1.0, -1.0, 2.0, 2.0]];
const SETTINGS: Distillation = Distillation { share: 0.7, temperature: 2.0 };

/// A head whose logits are its input.
fn head(logits: [[f32; 5]; 2], device: &Device) -> OutputHead {
    OutputHead {
        x: Tensor::from_floats(logits, device),
        weight: Tensor::eye(5, device),
        tied: false,
    }
}

fn check(teacher: impl Fn(&Device) -> Predictions, expected: [f64; 3], gradient: [[f64; 5]; 2]) {
    let device = Device::flex().autodiff();
    let run = || {
        let mut student = head(STUDENT, &device);
        student.x = student.x.require_grad();
        let x = student.x.clone();
        let targets = Tensor::<1, Int>::from_ints([2, 3], &device);
        let teacher = teacher(&Device::flex());
        let found = distilled_head_loss(student, teacher, targets, SETTINGS, Precision::F32);
        let loss = f64::from(found.loss.clone().inner().into_scalar::<f32>());
        for (found, expected) in [found.divergence, found.entropy, loss].into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found}, expected {expected}");
        }
        let found = x.grad(&found.loss.backward()).unwrap().into_data();
        for (found, expected) in found.iter::<f64>().zip(gradient.into_iter().flatten()) {
            assert!((found - expected).abs() < 1e-6, "{found}, expected {expected}");
        }
    };
    run();
    with_plain_operations(run);
}

/// `T * T * kl_div(log_softmax(z / T), log_softmax(u / T), reduction="batchmean", log_target=True)`,
/// `cross_entropy(z, targets)`, and 0.7 of the one with 0.3 of the other; PyTorch 2.15 in f64.
#[test]
fn a_model_as_teacher() {
    check(
        |device| Predictions::Head(head(TEACHER, device)),
        [0.436_449_747, 0.471_315_100, 0.446_909_353],
        [
            [0.005_212_1, -0.018_816_3, 0.006_719_6, 0.040_341_1, -0.033_456_6],
            [0.066_811_8, -0.047_212_9, -0.018_731_8, 0.106_042_1, -0.106_909_2],
        ],
    );
}

/// The same with the probabilities of the two likeliest tokens and one minus their sum in place of all,
/// of the student's too.
#[test]
fn recorded_predictions() {
    check(
        |device| Predictions::Recorded {
            ids: Tensor::from_ints([[4, 2], [4, 3]], device),
            log_probabilities: Tensor::from_floats(
                [[-0.951_091, -1.451_091], [-1.162_381_8, -1.162_381_8]],
                device,
            ),
        },
        [0.319_517_776, 0.471_315_100, 0.365_056_973],
        [
            [0.014_987_3, 0.002_939_2, 0.006_719_6, 0.008_810_4, -0.033_456_6],
            [0.004_062_1, -0.001_339_1, -0.001_855_8, 0.106_042_1, -0.106_909_2],
        ],
    );
}
