//! The random numbers of dropout, computed on the device. They are those of [`crate::random`] and
//! of the CPU's attention, so that a run drops the same elements on every device.

use burn::tensor::{Device, Int, IntDType, Tensor, TensorData};

use super::raw;
use crate::cpu::attention::ScoreDropout;
use crate::graph::{KernelBackend, Operand, join};
use crate::random;

/// Shapes as in [`crate::dropout()`].
pub(crate) fn dropout<B: KernelBackend, const RANK: usize>(
    x: Tensor<RANK>,
    probability: f32,
    key: u64,
) -> Tensor<RANK> {
    let x = Operand::<B>::new(x);
    let input = x.tensor::<RANK>();
    let (shape, device) = (input.dims(), input.device());
    let factors = move || keep_factors(key, shape, probability, &device);
    let y = input * factors();
    join([&x], y, move |dy, _| [Some(raw::<B, RANK>(dy * factors()))])
}

/// [`random::keep_factors`], computed on a device with 64-bit integers; for other devices the
/// factors are computed on the CPU and copied.
fn keep_factors<const RANK: usize>(
    key: u64,
    shape: [usize; RANK],
    probability: f32,
    device: &Device,
) -> Tensor<RANK> {
    let len: usize = shape.iter().product();
    if !device.supports_dtype(IntDType::I64) {
        let factors = random::keep_factors(key, len, probability);
        return Tensor::from_data(TensorData::new(factors, shape), device);
    }
    let positions = Tensor::<1, Int>::arange(0..len as i64, device).cast(IntDType::I64);
    // One draw of 64 bits decides two factors; the lower half decides the first one.
    let draws = mix(positions.clone().bitwise_right_shift_scalar(1).add_scalar(1)
        * splitmix::GOLDEN_GAMMA as i64
        + key as i64);
    let high = logical_shift(draws.clone(), 32);
    let odd = positions.bitwise_and_scalar(1).equal_elem(1);
    let halves = draws.bitwise_and_scalar(0xFFFF_FFFF_i64).mask_where(odd, high);
    let threshold = (f64::from(probability) * 2_f64.powi(32)) as i64;
    let kept = halves.greater_equal_elem(threshold).float();
    (kept / (1.0 - probability)).reshape(shape)
}

/// [`splitmix::mix`]: products of signed numbers keep the same lower bits.
fn mix(z: Tensor<1, Int>) -> Tensor<1, Int> {
    let z = (z.clone().bitwise_xor(logical_shift(z, 30))) * 0xBF58_476D_1CE4_E5B9_u64 as i64;
    let z = (z.clone().bitwise_xor(logical_shift(z, 27))) * 0x94D0_49BB_1331_11EB_u64 as i64;
    z.clone().bitwise_xor(logical_shift(z, 31))
}

/// A right shift that fills with zeros; the shift of signed numbers fills with the sign bit.
fn logical_shift(z: Tensor<1, Int>, bits: u32) -> Tensor<1, Int> {
    z.bitwise_right_shift_scalar(i64::from(bits)).bitwise_and_scalar((1_i64 << (64 - bits)) - 1)
}

/// The factors of attention's probabilities for queries `rows` over keys `keys`,
/// `[B * H, rows, keys]`, or `[B * H, keys, rows]` if `transposed`, as `drop_scores` of the CPU's
/// attention draws them.
pub(super) fn score_factors(
    heads: usize,
    rows: std::ops::Range<usize>,
    keys: std::ops::Range<usize>,
    transposed: bool,
    dropout: ScoreDropout,
    device: &Device,
) -> Tensor<3> {
    let lay = |x: Tensor<3, Int>| if transposed { x.swap_dims(1, 2) } else { x };
    let shape = [heads, rows.len(), 1];
    // The two halves of each row's key.
    let mut halves = [Vec::new(), Vec::new()];
    for head in 0..heads as u64 {
        let key = random::derive(dropout.key, head);
        for query in rows.clone() {
            let key = random::derive(key, query as u64);
            halves[0].push(key as u32 as i32);
            halves[1].push((key >> 32) as u32 as i32);
        }
    }
    let [low, high] = halves.map(|half| {
        let half = Tensor::<3, Int>::from_data(TensorData::new(half, shape), device);
        lay(half.cast(IntDType::I32))
    });
    let positions =
        Tensor::<1, Int>::arange(keys.start as i64..keys.end as i64, device).cast(IntDType::I32);
    let drawn = hash(lay(positions.unsqueeze::<3>()).bitwise_xor(low)) + high;
    // Compares unsigned numbers: with the sign bit flipped, signed numbers have the same order.
    let threshold = (f64::from(dropout.probability) * 4_294_967_296.0) as u32;
    let signed = hash(drawn).bitwise_xor_scalar(i32::MIN);
    let kept = signed.greater_equal_elem((threshold ^ (1 << 31)) as i32);
    kept.float() / (1.0 - dropout.probability)
}

/// The same function as `hash` of the CPU's attention.
fn hash(x: Tensor<3, Int>) -> Tensor<3, Int> {
    let shift = |x: Tensor<3, Int>, bits: i32| {
        x.bitwise_right_shift_scalar(bits).bitwise_and_scalar(((1_u32 << (32 - bits)) - 1) as i32)
    };
    let x = x.clone().bitwise_xor(shift(x, 16)) * 0x7feb_352d;
    let x = x.clone().bitwise_xor(shift(x, 15)) * (0x846c_a68b_u32 as i32);
    x.clone().bitwise_xor(shift(x, 16))
}
