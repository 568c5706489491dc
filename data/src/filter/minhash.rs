//! Near-duplicates by MinHash (Broder, 1997) and locality-sensitive hashing, with the settings of
//! FineWeb (Penedo et al., 2024): shingles of five words, 14 bands of 8 hashes.
//!
//! A hash function's least value over the shingles of a text is the same for two texts with a
//! probability of their Jaccard similarity s. Two texts are near-duplicates if all 8 values of a band are
//! the same, so with a probability of `1 - (1 - s^8)^14`: 0.05 for s = 0.5, 0.56 for 0.7, 0.77 for 0.75,
//! 0.92 for 0.8, 0.99 for 0.85.

use std::collections::HashSet;

use rustc_hash::FxBuildHasher;

use super::words::{combine, hash, words};

const SHINGLE: usize = 5;
const BANDS: usize = 14;
const ROWS: usize = 8;

/// What is compared of a text: one key for each band.
pub(super) type Bands = [u64; BANDS];

/// The bands of the texts that were kept: 14 numbers of 8 bytes a text, in tables that are half empty.
#[derive(Debug, Default)]
pub(super) struct Kept([HashSet<u64, FxBuildHasher>; BANDS]);

impl Kept {
    /// Adds a text; false, and nothing is added, if it is a near-duplicate of one that was added.
    pub fn insert(&mut self, bands: &Bands) -> bool {
        if self.0.iter().zip(bands).any(|(kept, band)| kept.contains(band)) {
            return false;
        }
        self.0.iter_mut().zip(bands).for_each(|(kept, band)| {
            kept.insert(*band);
        });
        true
    }
}

/// The bands of a text; none if it has no words. Words are compared without marks and in lower case.
pub(super) fn bands(text: &str) -> Option<Bands> {
    let mut plain = String::new();
    let mut hashes = Vec::new();
    for word in words(text) {
        plain.clear();
        plain.extend(word.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase));
        if !plain.is_empty() {
            hashes.push(hash(plain.as_bytes()));
        }
    }
    if hashes.is_empty() {
        return None;
    }
    let mut least = [u32::MAX; BANDS * ROWS];
    for shingle in hashes.windows(SHINGLE.min(hashes.len())) {
        let shingle = shingle.iter().fold(0, |state, &word| combine(state, word));
        for (least, (factor, term)) in least.iter_mut().zip(FUNCTIONS) {
            // Multiply and add, of which the upper half is taken (Dietzfelbinger, 1996).
            let value = (factor.wrapping_mul(shingle).wrapping_add(term) >> 32) as u32;
            *least = value.min(*least);
        }
    }
    let band = |rows: &[u32]| rows.iter().fold(0, |state, &row| combine(state, u64::from(row)));
    let mut bands = [0; BANDS];
    bands.iter_mut().zip(least.chunks_exact(ROWS)).for_each(|(key, rows)| *key = band(rows));
    Some(bands)
}

/// An odd factor and a term for each hash function.
const FUNCTIONS: [(u64, u64); BANDS * ROWS] = {
    let mut functions = [(0, 0); BANDS * ROWS];
    let mut at = 0;
    while at < functions.len() {
        functions[at] = (pseudo_random(2 * at as u64) | 1, pseudo_random(2 * at as u64 + 1));
        at += 1;
    }
    functions
};

/// SplitMix64's number `at`.
const fn pseudo_random(at: u64) -> u64 {
    let mut mixed = (at + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pairs of texts whose shingles have a known similarity are found as often as the formula says.
    #[test]
    fn pairs_are_found_with_the_probability_of_the_formula() {
        let text = |pair: usize, from: usize, to: usize| {
            let words: Vec<String> = (from..to).map(|at| format!("w{pair}x{at}")).collect();
            words.join(" ")
        };
        // 200 shingles each, of which `shared` are the same.
        for shared in [100_f64, 150.0, 160.0, 170.0, 180.0, 190.0] {
            let similarity = shared / (400.0 - shared);
            let formula = 1.0 - (1.0 - f64::powi(similarity, 8)).powi(14);
            let pairs = 400;
            let mut found = 0;
            for pair in 0..pairs {
                let mut kept = Kept::default();
                let first = 200 - shared as usize;
                assert!(kept.insert(&bands(&text(pair, 0, 204)).unwrap()));
                found +=
                    usize::from(!kept.insert(&bands(&text(pair, first, first + 204)).unwrap()));
            }
            let share = found as f64 / f64::from(pairs as u32);
            // Four standard deviations of 400 trials are at most 0.1.
            assert!((share - formula).abs() < 0.1, "{similarity}: {share}, expected {formula}");
        }
    }

    #[test]
    fn marks_and_capitals_make_no_difference() {
        let same = |a: &str, b: &str| bands(a) == bands(b);
        assert!(same("The sea, the blue sea!", "the sea  the BLUE sea"));
        assert!(!same("the sea", "the see"));
        assert_eq!(bands(" ... "), None);
    }
}
