//! The logits of one position, stored with 16 bits each.
//!
//! Only differences of logits affect a distribution, so a row stores the distance of each logit
//! below the largest one, with finer steps for likelier tokens. With `d` the distance in nats and
//! `R` the largest distance of the row, at most [`FARTHEST`],
//!
//! ```text
//! code = round(65535 sqrt(d / R))        d = R (code / 65535)^2
//! row  = R as f32, then V codes as u16, little-endian
//! ```
//!
//! so a token is restored within `sqrt(R d) / 65535` nats: 7e-5 for a token with 1/e of the largest
//! probability if `R` is 21. Tokens beyond [`FARTHEST`] are moved to that distance. It would take
//! 10^28 of them to reach the probability of the likeliest token, so they do not affect any
//! measure.
//!
//! Rounding adds `a = sum P e^2 / 2` to a divergence, with errors `e` that are uniform over that
//! width; on average this is `R E[d] / (6 * 65535^2)`, `E[d]` being the mean distance under `P`:
//! 2e-9 nats for R = 21 and `E[d]` = 3. In addition, each position's divergence has an error of
//! either sign, at most `2 sqrt(a KL)` (Cauchy and Schwarz): 3 % of 1e-5 nats at one position, 0.03
//! % of the mean over 10,000 of them. (16 bits spread evenly over 16 nats, as llama-perplexity
//! stores them, have a similar `a`, but cut off everything below, and their sum is not 1.)

/// Nats below the likeliest token from which tokens are no longer distinguished: `e^-64` is
/// 1.6e-28.
pub const FARTHEST: f32 = 64.0;

/// Bytes before the codes.
const HEAD: usize = 4;
const LARGEST_CODE: f32 = u16::MAX as f32;

/// Bytes of a row over a vocabulary of `vocab_size` tokens.
pub const fn row_bytes(vocab_size: usize) -> usize {
    HEAD + 2 * vocab_size
}

/// Stores the logits `[V]` of one position, all of them finite, in [`row_bytes`] of `out`.
pub fn encode(logits: &[f32], out: &mut [u8]) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let smallest = logits.iter().copied().fold(f32::INFINITY, f32::min);
    let range = (largest - smallest).min(FARTHEST);
    let (head, codes) = out.split_at_mut(HEAD);
    head.copy_from_slice(&range.to_le_bytes());
    // In a row of equal logits all codes are 0.
    let scale = if range > 0.0 { LARGEST_CODE / range.sqrt() } else { 0.0 };
    for (code, &logit) in codes.chunks_exact_mut(2).zip(logits) {
        let distance = (largest - logit).min(range);
        let rounded = (scale * distance.sqrt()).round() as u16;
        code.copy_from_slice(&rounded.to_le_bytes());
    }
}

/// Decodes a row: logits `[V]`, of which the largest is 0.
pub fn decode(row: &[u8], logits: &mut [f32]) {
    let Some((head, codes)) = row.split_first_chunk::<HEAD>() else { return };
    let scale = -f32::from_le_bytes(*head) / (LARGEST_CODE * LARGEST_CODE);
    for (logit, code) in logits.iter_mut().zip(codes.chunks_exact(2)) {
        let code = f32::from(u16::from_le_bytes([code[0], code[1]]));
        *logit = scale * (code * code);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Divergence;

    fn through(logits: &[f32]) -> Vec<f32> {
        let mut row = vec![0; row_bytes(logits.len())];
        encode(logits, &mut row);
        let mut back = vec![f32::NAN; logits.len()];
        decode(&row, &mut back);
        back
    }

    /// xorshift64*; two of its numbers give a normally distributed one (Box and Muller, 1958).
    fn normal(count: usize, seed: u64) -> Vec<f64> {
        let mut state = seed | 1;
        let mut uniform = || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            ((state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
        };
        (0..count)
            .map(|_| (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos())
            .collect()
    }

    /// Logits similar to those of a trained model: most are low, and some are far above them.
    fn logits(vocab_size: usize, spread: f64, seed: u64) -> Vec<f32> {
        let bulk = normal(vocab_size, seed);
        let lift = normal(vocab_size, seed ^ 0xABCD);
        bulk.iter()
            .zip(lift)
            .map(|(x, y)| (spread * x + if y > 3.0 { 4.0 * spread } else { 0.0 } - 100.0) as f32)
            .collect()
    }

    #[test]
    fn a_logit_comes_back_within_the_bound() {
        for spread in [0.01, 1.0, 2.5, 8.0, 40.0] {
            let exact = logits(5000, spread, 7);
            let largest = exact.iter().copied().fold(f32::MIN, f32::max);
            let smallest = exact.iter().copied().fold(f32::MAX, f32::min);
            let range = f64::from((largest - smallest).min(FARTHEST));
            for (exact, back) in exact.iter().zip(through(&exact)) {
                let distance = f64::from(largest - exact).min(range);
                let bound = (range * distance).sqrt() / 65535.0 + range / (4.0 * 65535.0 * 65535.0);
                let error = (distance + f64::from(back)).abs();
                // The rounding of f32 is added.
                assert!(error <= bound * 1.001 + distance * 2.4e-7, "{distance}: {error:e}");
            }
        }
    }

    #[test]
    fn odd_rows_come_back() {
        assert_eq!(through(&[-3.0, -3.0, -3.0]), [0.0; 3]);
        assert_eq!(through(&[5.0]), [0.0]);
        assert_eq!(through(&[3e38, -3e38, 3e38]), [0.0, -FARTHEST, 0.0]);
        assert_eq!(through(&[0.0, -FARTHEST])[1], -FARTHEST);
        // The order is kept, and the likeliest token is the same.
        let exact = logits(1000, 3.0, 3);
        let back = through(&exact);
        let mut order: Vec<usize> = (0..1000).collect();
        order.sort_by(|&a, &b| exact[b].total_cmp(&exact[a]));
        assert!(order.windows(2).all(|pair| back[pair[0]] >= back[pair[1]]));
    }

    /// The figures in the module's comment: the base against its own stored form, and the effect of
    /// a stored base on a divergence.
    #[test]
    fn what_rounding_adds_to_a_divergence_is_what_the_head_says() {
        const VOCABULARY: usize = 50257;
        let kl = |base: &[f32], candidates: &[Vec<f32>]| {
            let mut divergence = Divergence::new();
            for candidate in candidates {
                let row = |_: usize, row: &mut [f32]| row.copy_from_slice(base);
                divergence.add(&[0], candidate, row).unwrap();
            }
            divergence.finish().unwrap().kl.mean
        };
        for spread in [0.5, 1.0, 2.0] {
            let exact = logits(VOCABULARY, spread, 11);
            let stored = through(&exact);
            let added = kl(&stored, std::slice::from_ref(&exact));
            let said = expected(&exact);
            assert!(added > said / 2.0 && added < said * 2.0, "{spread}: {added:e}, {said:e}");
            assert!(added < 5e-9, "{added:e}");

            // Noise similar to that of quantization, for divergences from 1e-7 to 1e-2.
            for noise in [1e-3, 1e-2, 1e-1] {
                let candidate = |seed: u64| {
                    let shift = normal(VOCABULARY, 100 + seed);
                    exact.iter().zip(shift).map(|(x, e)| x + (noise * e) as f32).collect()
                };
                let candidates: Vec<Vec<f32>> = (0..8).map(candidate).collect();
                let (exact, stored) = (kl(&exact, &candidates), kl(&stored, &candidates));
                let bound = 1.01 * (added + 2.0 * (added * exact).sqrt());
                assert!((stored - exact).abs() <= bound, "{exact:e} became {stored:e}");
            }
        }
    }

    /// `R E[d] / (6 * 65535^2)`
    fn expected(logits: &[f32]) -> f64 {
        let largest = f64::from(logits.iter().copied().fold(f32::MIN, f32::max));
        let distances: Vec<f64> = logits.iter().map(|&x| largest - f64::from(x)).collect();
        let range = distances.iter().copied().fold(0.0, f64::max);
        let sum: f64 = distances.iter().map(|d| (-d).exp()).sum();
        let mean = distances.iter().map(|d| d * (-d).exp()).sum::<f64>() / sum;
        range * mean / (6.0 * 65535.0 * 65535.0)
    }
}
