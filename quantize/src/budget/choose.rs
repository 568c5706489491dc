//! Chooses the best type for each tensor within a number of bytes.
//!
//! Every tensor has several candidate types, each with a size and a damage. Choosing among them is
//! a knapsack problem. On the lower hull of a tensor's (size, damage) points it is solved greedily:
//! repeat the step that saves the most damage per byte. Steps that no longer fit are skipped in
//! favour of smaller ones, so little of the budget stays unused.

use anyhow::{Result, ensure};
use gguf::TensorType;

/// A type that a tensor could get.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    /// The type.
    pub tensor_type: TensorType,
    /// Bytes that the tensor takes in it, with padding.
    pub bytes: u64,
    /// KL divergence that it is expected to add, in nats.
    pub damage: f64,
}

/// Chooses one candidate for each tensor, in the order of `tensors`, so that the damage is small
/// and the bytes add up to at most `budget`.
///
/// # Errors
/// When even the smallest candidates exceed the budget.
pub(super) fn choose(tensors: &[Vec<Candidate>], budget: u64) -> Result<Vec<Candidate>> {
    let hulls: Vec<Vec<Candidate>> = tensors.iter().map(|all| lower_hull(all)).collect();
    let mut at = vec![0; hulls.len()];
    let mut used: u64 = hulls.iter().map(|hull| hull[0].bytes).sum();
    ensure!(
        used <= budget,
        "the smallest file possible has {used} bytes of matrices, and {budget} are asked for"
    );
    while let Some(tensor) = best_step(&hulls, &at, budget - used) {
        let hull = &hulls[tensor];
        used += hull[at[tensor] + 1].bytes - hull[at[tensor]].bytes;
        at[tensor] += 1;
    }
    Ok(hulls.iter().zip(at).map(|(hull, at)| hull[at]).collect())
}

/// The tensor whose next step saves the most damage per byte, among the steps that fit into `room`.
fn best_step(hulls: &[Vec<Candidate>], at: &[usize], room: u64) -> Option<usize> {
    let steps = hulls.iter().zip(at).enumerate().filter_map(|(tensor, (hull, &at))| {
        let (now, next) = (hull[at], hull.get(at + 1)?);
        let bytes = next.bytes - now.bytes;
        (bytes <= room).then(|| (tensor, (now.damage - next.damage) / bytes as f64))
    });
    steps.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(tensor, _)| tensor)
}

/// The candidates on the lower hull: each is the best for some price of a byte. Smallest first.
fn lower_hull(candidates: &[Candidate]) -> Vec<Candidate> {
    let mut sorted = candidates.to_vec();
    sorted.sort_by(|a, b| a.bytes.cmp(&b.bytes).then(a.damage.total_cmp(&b.damage)));
    let mut hull: Vec<Candidate> = Vec::new();
    for next in sorted {
        if hull.last().is_some_and(|last| next.bytes == last.bytes || next.damage >= last.damage) {
            continue;
        }
        while let [.., before, last] = hull[..]
            && slope(&before, &last) >= slope(&last, &next)
        {
            hull.pop();
        }
        hull.push(next);
    }
    hull
}

/// Damage per byte from one candidate to a larger one: negative, and increasing along a hull.
fn slope(from: &Candidate, to: &Candidate) -> f64 {
    (to.damage - from.damage) / (to.bytes - from.bytes) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidate(tensor_type: TensorType, bytes: u64, damage: f64) -> Candidate {
        Candidate { tensor_type, bytes, damage }
    }

    fn total(chosen: &[Candidate]) -> (u64, f64) {
        (chosen.iter().map(|c| c.bytes).sum(), chosen.iter().map(|c| c.damage).sum())
    }

    #[test]
    fn bytes_go_where_they_save_most() {
        let small = |damage| {
            vec![candidate(TensorType::Q4_K, 40, damage), candidate(TensorType::Q8_0, 80, 0.0)]
        };
        let tensors = [small(1.0), small(5.0), small(2.0)];
        let types = |budget| {
            let chosen = choose(&tensors, budget).unwrap();
            chosen.iter().map(|c| c.bytes).collect::<Vec<_>>()
        };
        assert_eq!(types(120), [40, 40, 40]);
        assert_eq!(types(199), [40, 80, 40]);
        assert_eq!(types(200), [40, 80, 80]);
        assert_eq!(types(10_000), [80, 80, 80]);
        let error = choose(&tensors, 119).unwrap_err().to_string();
        assert!(error.contains("120") && error.contains("119"), "{error}");
    }

    #[test]
    fn a_type_that_is_larger_and_no_better_is_never_chosen() {
        let tensors = [vec![
            candidate(TensorType::Q3_K, 30, 3.0),
            candidate(TensorType::Q4_0, 45, 3.5),
            candidate(TensorType::Q4_K, 45, 1.0),
            candidate(TensorType::Q5_K, 55, 0.99),
        ]];
        assert_eq!(choose(&tensors, 50).unwrap()[0].tensor_type, TensorType::Q4_K);
        assert_eq!(choose(&tensors, 44).unwrap()[0].tensor_type, TensorType::Q3_K);
    }

    /// The least damage, by exhaustive search.
    fn exhaustive(tensors: &[Vec<Candidate>], budget: u64) -> f64 {
        let Some((first, rest)) = tensors.split_first() else { return 0.0 };
        let fitting = first.iter().filter(|c| c.bytes <= budget);
        fitting.map(|c| c.damage + exhaustive(rest, budget - c.bytes)).fold(f64::INFINITY, f64::min)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Never over the budget, and at most one step of one tensor worse than the best.
        #[test]
        fn the_choice_is_within_one_step_of_the_best(
            damages in proptest::collection::vec((0.1..9.0_f64, 0.05..1.0_f64, 0.0..0.05_f64), 1..5),
            extra in 0..200_u64,
        ) {
            let tensors: Vec<Vec<Candidate>> = damages
                .iter()
                .map(|&(a, b, c)| vec![
                    candidate(TensorType::Q2_K, 26, a + b + c),
                    candidate(TensorType::Q4_K, 45, b + c),
                    candidate(TensorType::Q8_0, 85, c),
                ])
                .collect();
            let budget = 26 * tensors.len() as u64 + extra;
            let (bytes, damage) = total(&choose(&tensors, budget).unwrap());
            prop_assert!(bytes <= budget);
            let largest_step = damages.iter().map(|d| d.0.max(d.1)).fold(0.0, f64::max);
            prop_assert!(damage <= exhaustive(&tensors, budget) + largest_step);
        }
    }
}
