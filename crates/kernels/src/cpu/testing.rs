//! Helpers of the kernels' tests: pseudo-random numbers, and gradients by finite differences.
//!
//! Each kernel runs on every instruction set of the machine (`Isa::available`), at shapes of 1, 3,
//! 17, 33, and is compared with its definition in f64 and with finite differences of that. Allowed
//! errors, relative to the largest number of the tensor:
//!
//! | kernel | values, f32 | gradients, f32 | values and gradients, bf16 |
//! |---|---|---|---|
//! | product of matrices | 1e-6 (K + 1), absolute | | the same, of rounded operands |
//! | product in f32 in bf16 parts | twice the `gemm` crate's error | | |
//! | linear | 1e-5 | 1e-5 | 1e-2 |
//! | causal attention | 1e-4 | 1e-4 | 2e-2 |
//! | head with its loss | 2e-5 | 2e-5 | 2e-2 |
//! | distillation, where two predictions nearly cancel | 2e-5 | 2e-5 | 0.1 |
//! | LayerNorm, RMSNorm | 1e-5 | 1e-4 of `x`, 1e-5 of the parameters | |
//! | GELU | 1e-6, absolute | 2e-6, absolute | |
//! | SwiGLU | 1e-6 | 1e-5 | |
//! | rotary positions | 1e-6 | 1e-6 | |
//! | sum of rows, dropout | exact | exact | |
//! | AdamW | 1e-5 after three steps, the same bits everywhere | | |
//!
//! In addition, tests next to each public function compare it with plain Burn operations.

/// Numbers between -1 and 1 (Knuth's multiplicative hash).
pub fn noise(len: usize, seed: u32) -> Vec<f32> {
    let draw = |i: u32| (i.wrapping_add(seed << 20).wrapping_mul(2_654_435_761) >> 8) as f32;
    (0..len as u32).map(|i| draw(i) / (1 << 23) as f32 - 1.0).collect()
}

/// The gradient of `sum dy f(x)` by central differences in f64.
pub fn gradient(x: &[f64], dy: &[f32], f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    const STEP: f64 = 1e-5;
    let mut x = x.to_vec();
    let weighted =
        |x: &[f64]| -> f64 { f(x).iter().zip(dy).map(|(y, &dy)| y * f64::from(dy)).sum() };
    (0..x.len())
        .map(|i| {
            let at = x[i];
            x[i] = at + STEP;
            let above = weighted(&x);
            x[i] = at - STEP;
            let below = weighted(&x);
            x[i] = at;
            (above - below) / (2.0 * STEP)
        })
        .collect()
}

/// Fails unless every number is within `tolerance` of the expected one, relative to the largest.
pub fn assert_close(found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1e-3_f64, |most, x| most.max(x.abs()));
    for (i, (&x, &y)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(x) - y).abs() / largest;
        assert!(error <= tolerance, "number {i}: {x}, expected {y}: off by {error:e} of {largest}");
    }
}
