//! A new random order of the windows for each epoch.
//!
//! The order is not a shuffled list but a function from place to window: a Feistel network over the
//! next power of four, applied repeatedly until the result is in range (cycle walking; Black and
//! Rogaway, "Ciphers with Arbitrary Finite Domains", 2002). The order therefore takes no memory for
//! any size of text, any place can be computed directly, and a run resumes from any step without
//! additional state: the step determines the next epoch and place.

/// Four are enough for a pseudorandom permutation (Luby and Rackoff, 1988); small domains, whose
/// halves have few bits, are mixed better with more.
const ROUNDS: u64 = 8;

/// The order of the windows in one epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shuffle {
    key: u64,
    windows: usize,
}

impl Shuffle {
    /// The order of `windows` windows in epoch `epoch`, counted from 0; another `seed` gives other
    /// orders.
    pub fn new(seed: u64, epoch: u64, windows: usize) -> Self {
        Shuffle { key: mix(seed ^ mix(epoch)), windows }
    }

    /// The window at `place` of the order; `place` is below the number of windows.
    pub fn window_at(&self, place: usize) -> usize {
        let half_bits = (usize::BITS - self.windows.saturating_sub(1).leading_zeros()).div_ceil(2);
        let mut at = place as u64;
        loop {
            at = feistel(at, half_bits.max(1), self.key);
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

/// The first number of SplitMix64's sequence from `value`.
fn mix(value: u64) -> u64 {
    splitmix::mix(value.wrapping_add(splitmix::GOLDEN_GAMMA))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_epoch_has_every_window_once(seed: u64, epoch: u64, windows in 1_usize..2000) {
            let shuffle = Shuffle::new(seed, epoch, windows);
            let mut order: Vec<usize> = (0..windows).map(|i| shuffle.window_at(i)).collect();
            order.sort_unstable();
            prop_assert!(order.into_iter().eq(0..windows));
        }
    }

    #[test]
    fn every_window_is_as_likely_at_every_place() {
        const WINDOWS: usize = 18;
        const ORDERS: usize = 18_000;
        let mut counts = [[0_f64; WINDOWS]; WINDOWS];
        for seed in 0..ORDERS as u64 {
            let shuffle = Shuffle::new(seed, seed % 7, WINDOWS);
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
            let shuffle = Shuffle::new(seed, epoch, 50);
            (0..50).map(|place| shuffle.window_at(place)).collect::<Vec<_>>()
        };
        assert_ne!(order(123, 0), order(123, 1));
        assert_ne!(order(123, 0), order(124, 0));
        assert_eq!(order(123, 4), order(123, 4));
    }

    /// Checkpoints of older programs resume in the same order.
    #[test]
    fn orders_are_the_same_in_every_version() {
        let shuffle = Shuffle::new(123, 4, 50);
        let first: Vec<usize> = (0..8).map(|place| shuffle.window_at(place)).collect();
        assert_eq!(first, [34, 36, 4, 10, 15, 45, 0, 33]);
    }
}
