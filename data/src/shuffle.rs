//! A new random order of the windows for each epoch, which knows where it is.
//!
//! The order is not a list that is shuffled but a function from place to window: a Feistel
//! network over the next power of four, walked along its cycle until it lands inside (Black
//! and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002). So a text of any size takes no
//! memory, any place can be asked for at once, and the whole state is four numbers.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// Four are enough for a pseudorandom permutation (Luby and Rackoff, 1988); small domains, where
/// the halves have few bits, mix better with more.
const ROUNDS: u64 = 8;

/// Where training stands in the windows; saved in a checkpoint, it goes on from there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shuffle {
    /// What the orders follow from.
    pub seed: u64,
    /// Windows in an epoch.
    pub windows: usize,
    /// Epochs completed.
    pub epoch: u64,
    /// Windows of this epoch that were handed out.
    pub position: usize,
}

impl Shuffle {
    /// The beginning of the first epoch over `windows` windows.
    pub fn new(seed: u64, windows: usize) -> Self {
        Shuffle { seed, windows, epoch: 0, position: 0 }
    }

    /// Batches of `batch_size` in an epoch. Windows that do not fill the last one are dropped; as
    /// the order changes, they are others in each epoch.
    ///
    /// # Errors
    /// When the windows do not fill a single batch; with the numbers.
    pub fn batches(&self, batch_size: usize) -> Result<usize> {
        let batches = self.windows.checked_div(batch_size).unwrap_or(0);
        ensure!(
            batches > 0,
            "{} windows do not fill one batch of {batch_size}; \
             take a longer text, a smaller train.batch_size or a smaller data.stride",
            self.windows
        );
        Ok(batches)
    }

    /// The next `batch_size` windows of this epoch; `None` at its end.
    pub fn next_batch(&mut self, batch_size: usize) -> Option<Vec<usize>> {
        let end = self.position.checked_add(batch_size).filter(|&end| end <= self.windows)?;
        let batch = (self.position..end).map(|place| self.window_at(place)).collect();
        self.position = end;
        Some(batch)
    }

    /// Goes to the beginning of the next epoch.
    pub fn next_epoch(&mut self) {
        self.epoch += 1;
        self.position = 0;
    }

    /// The window at `place` in the order of the current epoch; `place` is below `windows`.
    pub fn window_at(&self, place: usize) -> usize {
        let key = mix(self.seed ^ mix(self.epoch));
        let half_bits = (usize::BITS - self.windows.saturating_sub(1).leading_zeros()).div_ceil(2);
        let mut at = place as u64;
        loop {
            at = feistel(at, half_bits.max(1), key);
            if at < self.windows as u64 {
                return at as usize;
            }
        }
    }
}

/// A permutation of the numbers below `2^(2 * half_bits)`.
fn feistel(value: u64, half_bits: u32, key: u64) -> u64 {
    let mask = (1_u64 << half_bits) - 1;
    let (mut left, mut right) = (value >> half_bits, value & mask);
    for round in 0..ROUNDS {
        let scrambled = mix(key ^ mix(right ^ (round << 48))) & mask;
        (left, right) = (right, left ^ scrambled);
    }
    left << half_bits | right
}

/// The output function of SplitMix64 (Steele, Lea and Flood, 2014).
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_epoch_has_every_window_once(seed: u64, epoch: u64, windows in 1_usize..2000) {
            let shuffle = Shuffle { epoch, ..Shuffle::new(seed, windows) };
            let mut order: Vec<usize> = (0..windows).map(|i| shuffle.window_at(i)).collect();
            order.sort_unstable();
            prop_assert!(order.into_iter().eq(0..windows));
        }

        #[test]
        fn what_was_saved_goes_on_as_if_nothing_happened(
            seed: u64, windows in 4_usize..200, batch in 1_usize..4, stop in 0_usize..300,
        ) {
            let step = |shuffle: &mut Shuffle| {
                shuffle.next_batch(batch).unwrap_or_else(|| {
                    shuffle.next_epoch();
                    shuffle.next_batch(batch).unwrap()
                })
            };
            let mut whole = Shuffle::new(seed, windows);
            for _ in 0..stop {
                step(&mut whole);
            }
            let saved = serde_json::to_string(&whole).unwrap();
            let mut resumed: Shuffle = serde_json::from_str(&saved).unwrap();
            for _ in 0..50 {
                prop_assert_eq!(step(&mut whole), step(&mut resumed));
            }
        }
    }

    #[test]
    fn every_window_is_as_likely_at_every_place() {
        const WINDOWS: usize = 18;
        const ORDERS: usize = 18_000;
        let mut counts = [[0_f64; WINDOWS]; WINDOWS];
        for seed in 0..ORDERS as u64 {
            let shuffle = Shuffle { epoch: seed % 7, ..Shuffle::new(seed, WINDOWS) };
            for (place, row) in counts.iter_mut().enumerate() {
                row[shuffle.window_at(place)] += 1.0;
            }
        }
        let expected = (ORDERS / WINDOWS) as f64;
        let chi_square: f64 =
            counts.iter().flatten().map(|count| (count - expected).powi(2) / expected).sum();
        // 17 * 17 = 289 degrees of freedom: mean 289, standard deviation 24.
        assert!((200.0..390.0).contains(&chi_square), "chi square {chi_square}");
    }

    #[test]
    fn epochs_and_seeds_have_orders_of_their_own() {
        let order = |seed, epoch| {
            let shuffle = Shuffle { epoch, ..Shuffle::new(seed, 50) };
            (0..50).map(|place| shuffle.window_at(place)).collect::<Vec<_>>()
        };
        assert_ne!(order(123, 0), order(123, 1));
        assert_ne!(order(123, 0), order(124, 0));
        assert_eq!(order(123, 4), order(123, 4));
    }

    #[test]
    fn an_epoch_drops_what_fills_no_batch() {
        let mut shuffle = Shuffle::new(1, 7);
        assert_eq!(shuffle.batches(3).unwrap(), 2);
        assert!(shuffle.next_batch(3).is_some() && shuffle.next_batch(3).is_some());
        assert_eq!(shuffle.next_batch(3), None);
        let error = shuffle.batches(8).unwrap_err().to_string();
        assert!(error.contains("7 windows") && error.contains("batch of 8"), "{error}");
        assert!(shuffle.batches(0).is_err());
    }
}
