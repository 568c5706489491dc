//! Measures of repetition in a text.

use std::collections::HashSet;

use serde::Serialize;

/// Figures about the tokens of one text.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Repetition {
    /// Number of different tokens divided by the number of tokens.
    pub distinct_1: f64,
    /// Number of different pairs divided by the number of pairs.
    pub distinct_2: f64,
    /// Number of different triples divided by the number of triples.
    pub distinct_3: f64,
    /// Share of the sequences of four tokens that occurred before.
    pub repeated_4: f64,
}

impl Repetition {
    /// Counts n-grams. Texts too short for an n-gram have no repetition: distinct 1, repeated 0.
    pub fn of(tokens: &[u32]) -> Self {
        Repetition {
            distinct_1: distinct(tokens, 1),
            distinct_2: distinct(tokens, 2),
            distinct_3: distinct(tokens, 3),
            repeated_4: 1.0 - distinct(tokens, 4),
        }
    }
}

/// distinct-n (Li et al., 2016): different n-grams divided by all n-grams. `1 - distinct` is
/// seq-rep-n of Welleck et al. (2020).
fn distinct(tokens: &[u32], n: usize) -> f64 {
    let all = tokens.windows(n).count();
    if all == 0 {
        return 1.0;
    }
    tokens.windows(n).collect::<HashSet<_>>().len() as f64 / all as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_seen_at_every_length() {
        let figures = Repetition::of(&[1, 2, 1, 2, 1, 2]);
        assert_eq!(figures.distinct_1, 2.0 / 6.0);
        assert_eq!(figures.distinct_2, 2.0 / 5.0);
        assert_eq!(figures.distinct_3, 2.0 / 4.0);
        assert!((figures.repeated_4 - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn short_texts_repeat_nothing() {
        let none =
            Repetition { distinct_1: 1.0, distinct_2: 1.0, distinct_3: 1.0, repeated_4: 0.0 };
        assert_eq!(Repetition::of(&[]), none);
        assert_eq!(Repetition::of(&[5]), none);
    }
}
