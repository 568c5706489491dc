//! The loss of preference training: DPO (Rafailov et al., 2023, equation 7).
//!
//! ```text
//! r(y)  = beta (log pi(y | x) - log ref(y | x))          the reward of an answer y to x
//! m     = r(chosen) - r(rejected)                        the margin of a pair
//! loss  = -(1 - e) log sigmoid(m) - e log sigmoid(-m)    mean over pairs
//! ```
//!
//! `e` is the label smoothing, the share of pairs that are labelled the wrong way round; 0 is the
//! loss of the paper (TRL: `loss_type="sigmoid"`). Log-probabilities are sums over the tokens of an
//! answer, in nats.

use std::ops::Range;

use burn::tensor::{Tensor, activation};
use kernels::{OutputHead, Pass};

use crate::{Batch, Model};

/// The settings of the loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preference {
    /// The scale of rewards: the larger, the closer the model stays to the reference.
    pub beta: f32,
    /// The share of pairs that are labelled the wrong way round, 0 to 0.5.
    pub label_smoothing: f32,
}

/// The loss of a batch of pairs.
#[derive(Debug, Clone)]
pub struct PreferenceLoss {
    /// Mean over the pairs, `[1]`, in the graph of the log-probabilities.
    pub loss: Tensor<1>,
    /// The rewards of the chosen answers, `[P]`, outside of any graph.
    pub chosen_rewards: Vec<f32>,
    /// The rewards of the rejected answers, `[P]`, outside of any graph.
    pub rejected_rewards: Vec<f32>,
}

impl PreferenceLoss {
    /// Mean margin between the rewards of a pair (TRL: `rewards/margins`).
    pub fn margin(&self) -> f64 {
        self.mean_of_pairs(|chosen, rejected| chosen - rejected)
    }

    /// The share of pairs whose chosen answer has the larger reward (TRL: `rewards/accuracies`).
    pub fn accuracy(&self) -> f64 {
        self.mean_of_pairs(|chosen, rejected| f64::from(u8::from(chosen > rejected)))
    }

    fn mean_of_pairs(&self, value: impl Fn(f64, f64) -> f64) -> f64 {
        let pairs = self.chosen_rewards.iter().zip(&self.rejected_rewards);
        let sum: f64 = pairs.map(|(&c, &r)| value(f64::from(c), f64::from(r))).sum();
        sum / self.chosen_rewards.len() as f64
    }
}

impl Preference {
    /// The loss of `P` pairs, whose rows alternate: chosen, rejected.
    ///
    /// # Shapes
    /// `log_probabilities [2 P]`, in a graph or not; `reference [2 P]`, those of the frozen start.
    ///
    /// # Panics
    /// When there is no pair, a row without its partner, or another number of references.
    pub fn loss(&self, log_probabilities: Tensor<1>, reference: &[f32]) -> PreferenceLoss {
        let [rows] = log_probabilities.dims();
        assert!(rows > 0 && rows.is_multiple_of(2), "{rows} rows; expected two for each pair");
        assert_eq!(reference.len(), rows, "a reference for each row");
        let reference = Tensor::<1>::from_floats(reference, &log_probabilities.device());
        let rewards = ((log_probabilities - reference) * self.beta).reshape([rows / 2, 2]);
        let margins =
            rewards.clone().slice([0..rows / 2, 0..1]) - rewards.clone().slice([0..rows / 2, 1..2]); // [P, 1]
        let right = -activation::log_sigmoid(margins.clone()).mean();
        let loss = match self.label_smoothing {
            0.0 => right,
            wrong => right * (1.0 - wrong) - activation::log_sigmoid(-margins).mean() * wrong,
        };
        let rewards: Vec<f32> = rewards.into_data().iter::<f32>().collect();
        let every_second = |first: usize| rewards.iter().skip(first).step_by(2).copied().collect();
        PreferenceLoss { loss, chosen_rewards: every_second(0), rejected_rewards: every_second(1) }
    }
}

impl Model {
    /// The log-probability of each row's targets, summed over the positions that train, in nats.
    ///
    /// The head is computed row by row without storing all logits at once.
    ///
    /// # Shapes
    /// `trained[b]` is the number of positions of row `b` that train; `batch.trained` and
    /// `batch.targets` hold those of each row behind those of the row before it. -> `[B]`
    ///
    /// # Panics
    /// When a row has no position that trains, or the numbers do not add up to the batch's.
    pub fn log_probabilities(&self, batch: Batch, trained: &[usize], pass: Pass) -> Tensor<1> {
        let targets = batch.targets.clone();
        assert_eq!(batch.tokens.dims()[0], trained.len(), "a number of positions for each row");
        assert_eq!(targets.dims()[0], trained.iter().sum::<usize>(), "the positions of all rows");
        assert!(!trained.contains(&0), "a position that trains in each row");
        let OutputHead { x, weight, tied } = self.before_head(batch, pass);
        let [_, channels] = x.dims();
        let rows = spans(trained).map(|row| {
            let count = row.len() as f32;
            let (x, targets) =
                (x.clone().slice([row.clone(), 0..channels]), targets.clone().slice([row]));
            kernels::head_loss(x, weight.clone(), tied, targets, pass.precision) * -count
        });
        Tensor::cat(rows.collect(), 0)
    }
}

/// Ranges of the given lengths, one behind the other.
fn spans(lengths: &[usize]) -> impl Iterator<Item = Range<usize>> {
    lengths.iter().scan(0, |start, length| {
        let span = *start..*start + length;
        *start = span.end;
        Some(span)
    })
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData, Tolerance};

    use super::*;

    const REFERENCE: [f32; 4] = [-3.0, -4.0, -2.0, -1.0];
    const POLICY: [f32; 4] = [-2.0, -5.0, -2.5, -1.5];

    fn loss(label_smoothing: f32) -> (Tensor<1>, PreferenceLoss) {
        let device = Device::flex().autodiff();
        let policy = Tensor::<1>::from_floats(POLICY, &device).require_grad();
        let preference = Preference { beta: 0.5, label_smoothing };
        (policy.clone(), preference.loss(policy, &REFERENCE))
    }

    /// By hand: the rewards are 0.5 and -0.5, then -0.25 and -0.25, so the margins are 1 and 0, and
    /// `-log sigmoid` of them is 0.313262 (`log(1 + 1/e)`) and 0.693147 (`log 2`).
    #[test]
    fn the_loss_and_the_rewards_are_those_of_the_formula() {
        let (_, found) = loss(0.0);
        assert_eq!(found.chosen_rewards, [0.5, -0.25]);
        assert_eq!(found.rejected_rewards, [-0.5, -0.25]);
        assert_eq!((found.margin(), found.accuracy()), (0.5, 0.5), "equal rewards are not right");
        let value = found.loss.inner().into_scalar::<f32>();
        assert!((value - (0.313_262 + 0.693_147) / 2.0).abs() < 1e-6, "{value}");
        // -log sigmoid(-1) is 1.313262.
        let value = loss(0.1).1.loss.inner().into_scalar::<f32>();
        let expected = (0.9 * 0.313_262 + 0.1 * 1.313_262 + 0.693_147) / 2.0;
        assert!((value - expected).abs() < 1e-6, "{value}");
    }

    /// Equation 7's gradient: `-beta sigmoid(-m) / P` for the chosen answer, its negative for the
    /// rejected one; `sigmoid(-1)` is 0.268941.
    #[test]
    fn the_gradient_is_that_of_the_paper() {
        let (policy, found) = loss(0.0);
        let gradient = policy.grad(&found.loss.backward()).unwrap().into_data();
        let expected = vec![-0.067_235_3_f32, 0.067_235_3, -0.125, 0.125];
        gradient
            .assert_approx_eq::<f32>(&TensorData::new(expected, [4]), Tolerance::absolute(1e-6));
    }

    #[test]
    fn large_margins_do_not_overflow() {
        let preference = Preference { beta: 1.0, label_smoothing: 0.0 };
        let policy = Tensor::<1>::from_floats([-1e4, 0.0, 0.0, -1e4], &Device::flex());
        let value = preference.loss(policy, &[0.0; 4]).loss.into_scalar::<f32>();
        assert!((value - 5e3).abs() < 1.0, "{value}");
    }

    #[test]
    #[should_panic(expected = "3 rows; expected two for each pair")]
    fn a_row_without_its_partner_is_refused() {
        let preference = Preference { beta: 1.0, label_smoothing: 0.0 };
        preference.loss(Tensor::from_floats([0.0; 3], &Device::flex()), &[0.0; 3]);
    }
}
