//! Random numbers without a state: each is a function of a key and a position.
//!
//! Each number is one of [`splitmix`]'s sequence. A key is derived from the run's seed and from
//! what the numbers are for, so no two sites share a sequence.

use rayon::prelude::*;
use splitmix::{GOLDEN_GAMMA, mix};

use isa::{Isa, vectorised};

/// Values that one task fills: enough to make the cost of starting a task negligible.
const CHUNK: usize = 1 << 14;

/// A new key from a key and a number: `derive(derive(seed, step), layer)`.
#[inline]
pub fn derive(key: u64, number: u64) -> u64 {
    mix(key.wrapping_add(GOLDEN_GAMMA) ^ mix(number.wrapping_add(1).wrapping_mul(GOLDEN_GAMMA)))
}

/// A new key from a key and a name, for sites that are identified by a path.
pub fn derive_named(key: u64, name: &str) -> u64 {
    // FNV-1a hashes the name to 64 bits; `derive` mixes the bits.
    let folded = name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    derive(key, folded)
}

/// The `position`-th 64 bits of a key's sequence.
#[inline(always)]
pub fn bits(key: u64, position: u64) -> u64 {
    mix(key.wrapping_add(position.wrapping_add(1).wrapping_mul(GOLDEN_GAMMA)))
}

/// The `position`-th number of a key's sequence, uniform in `[0, 1)` with 53 bits.
#[inline]
pub fn uniform(key: u64, position: u64) -> f64 {
    (bits(key, position) >> 11) as f64 / (1_u64 << 53) as f64
}

/// `len` draws from a normal distribution with mean 0 (Box and Muller, 1958).
pub fn normal(key: u64, len: usize, standard_deviation: f32) -> Vec<f32> {
    let mut values = vec![0.0; len];
    values.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, values)| {
        let first = (chunk * CHUNK) as u64;
        for (pair, values) in (0_u64..).zip(values.chunks_mut(2)) {
            let position = first + 2 * pair;
            // 1 - u lies in (0, 1], so the logarithm is finite.
            let radius = (-2.0 * (1.0 - uniform(key, position)).ln()).sqrt();
            let (sin, cos) = (std::f64::consts::TAU * uniform(key, position + 1)).sin_cos();
            for (value, part) in values.iter_mut().zip([cos, sin]) {
                *value = (radius * part) as f32 * standard_deviation;
            }
        }
    });
    values
}

/// `len` draws from the uniform distribution on `[-limit, limit)`.
pub fn uniform_within(key: u64, len: usize, limit: f32) -> Vec<f32> {
    let mut values = vec![0.0; len];
    values.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, values)| {
        for (position, value) in ((chunk * CHUNK) as u64..).zip(values) {
            *value = ((2.0 * uniform(key, position) - 1.0) * f64::from(limit)) as f32;
        }
    });
    values
}

/// `len` factors that are 0 with `probability` and `1 / (1 - probability)` otherwise.
pub fn keep_factors(key: u64, len: usize, probability: f32) -> Vec<f32> {
    let threshold = (f64::from(probability) * 2_f64.powi(32)) as u32;
    let kept = 1.0 / (1.0 - probability);
    let factor = |draw: u32| if draw >= threshold { kept } else { 0.0 };
    let mut values = vec![0.0; len];
    values.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, values)| {
        let first = (chunk * CHUNK / 2) as u64;
        // One draw of 64 bits decides two factors.
        for (pair, values) in (0_u64..).zip(values.chunks_mut(2)) {
            let draw = bits(key, first + pair);
            for (value, half) in values.iter_mut().zip([draw as u32, (draw >> 32) as u32]) {
                *value = factor(half);
            }
        }
    });
    values
}

/// Multiplies `values` by the factors that [`keep_factors`] returns, without storing them.
pub fn apply_keep_factors(isa: Isa, key: u64, probability: f32, values: &mut [f32]) {
    let threshold = (f64::from(probability) * 2_f64.powi(32)) as u32;
    let kept = 1.0 / (1.0 - probability);
    values.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, values)| {
        let first = (chunk * CHUNK / 2) as u64;
        apply_to_chunk(isa, key, first, threshold, kept, values);
    });
}

vectorised! {
    fn apply_to_chunk(key: u64, first: u64, threshold: u32, kept: f32, values: &mut [f32]) {
        let factor = |draw: u64| if draw as u32 >= threshold { kept } else { 0.0 };
        let (pairs, rest) = values.as_chunks_mut::<2>();
        for (pair, [even, odd]) in (first..).zip(pairs.iter_mut()) {
            let draw = bits(key, pair);
            *even *= factor(draw);
            *odd *= factor(draw >> 32);
        }
        if let [value] = rest {
            *value *= factor(bits(key, first + pairs.len() as u64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix64_gives_the_published_sequence() {
        // First outputs for seed 1234567, from the reference implementation in C.
        let expected = [6457827717110365317, 3203168211198807973, 9817491932198370423];
        for (position, expected) in (0..).zip(expected) {
            assert_eq!(bits(1234567, position), expected);
        }
    }

    #[test]
    fn normal_draws_have_the_moments_asked_for() {
        let values = normal(derive_named(123, "wte"), 200_001, 0.02);
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 2e-4, "{mean}");
        assert!((variance.sqrt() - 0.02).abs() < 2e-4, "{}", variance.sqrt());
    }

    #[test]
    fn uniform_draws_fill_their_range() {
        let values = uniform_within(derive_named(123, "lm_head"), 200_001, 0.5);
        let n = values.len() as f64;
        assert!(values.iter().all(|v| (-0.5..=0.5).contains(v)));
        let variance = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n;
        assert!((variance - 1.0 / 12.0).abs() < 1e-3, "{variance}");
    }

    #[test]
    fn keep_factors_drop_the_share_asked_for_and_keep_the_mean() {
        let factors = keep_factors(7, 100_001, 0.1);
        let dropped = factors.iter().filter(|&&f| f == 0.0).count() as f64 / 100_001.0;
        assert!((dropped - 0.1).abs() < 0.005, "{dropped}");
        assert!(factors.iter().all(|&f| f == 0.0 || f == 1.0 / 0.9));
    }

    #[test]
    fn factors_applied_are_the_factors_given() {
        for len in [1, 3, 17, 33, 3 * CHUNK + 1] {
            let factors = keep_factors(7, len, 0.3);
            for &isa in Isa::available() {
                let mut values = vec![2.0; len];
                apply_keep_factors(isa, 7, 0.3, &mut values);
                assert!(values.iter().zip(&factors).all(|(value, factor)| *value == 2.0 * factor));
            }
        }
    }

    #[test]
    fn keys_do_not_collide_between_neighbours() {
        let mut keys: Vec<u64> =
            (0..100).flat_map(|a| (0..100).map(move |b| derive(derive(123, a), b))).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 10_000);
    }
}
