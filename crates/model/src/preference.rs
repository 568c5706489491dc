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

use kernels::{Pass, head_losses, weighted_head_loss};

use burn::tensor::Tensor;

use crate::{Batch, Model};

/// The settings of the loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preference {
    /// The scale of rewards: the larger, the closer the model stays to the reference.
    pub beta: f64,
    /// The share of pairs that are labelled the wrong way round, 0 to below 0.5.
    pub label_smoothing: f64,
}

/// The loss of some pairs.
#[derive(Debug, Clone, PartialEq)]
pub struct PreferenceLoss {
    /// Mean over the pairs, in nats.
    pub loss: f64,
    /// The rewards of the chosen answers, `[P]`.
    pub chosen_rewards: Vec<f64>,
    /// The rewards of the rejected answers, `[P]`.
    pub rejected_rewards: Vec<f64>,
    /// The derivative of the loss by the log-probability of each row, `[2 P]`.
    pub derivatives: Vec<f64>,
}

/// The rows of a batch of pairs, which alternate: chosen, rejected.
#[derive(Debug, Clone, Copy)]
pub struct PairRows<'a> {
    /// Positions of each row that train, `[2 P]`; `trained` and `targets` of the batch hold those of
    /// each row behind those of the row before it.
    pub trained: &'a [usize],
    /// The log-probability of each row's answer under the frozen start, `[2 P]`.
    pub reference: &'a [f32],
}

impl PreferenceLoss {
    /// The share of pairs whose chosen answer has the larger reward (TRL: `rewards/accuracies`).
    pub fn accuracy(&self) -> f64 {
        let pairs = self.chosen_rewards.iter().zip(&self.rejected_rewards);
        let right = pairs.filter(|(chosen, rejected)| chosen > rejected).count();
        right as f64 / self.chosen_rewards.len() as f64
    }
}

impl Preference {
    /// The loss of `P` pairs, whose rows alternate: chosen, rejected. Its derivative by the
    /// log-probability of a chosen answer is
    /// `-beta ((1 - e) sigmoid(-m) - e sigmoid(m)) / P`, by that of a rejected one the negative.
    ///
    /// # Shapes
    /// `log_probabilities [2 P]`, `reference [2 P]`: those of the frozen start.
    ///
    /// # Panics
    /// When there is no pair, a row without its partner, or another number of references.
    pub fn loss(&self, log_probabilities: &[f64], reference: &[f32]) -> PreferenceLoss {
        let rows = log_probabilities.len();
        assert!(rows > 0 && rows.is_multiple_of(2), "{rows} rows; expected two for each pair");
        assert_eq!(reference.len(), rows, "a reference for each row");
        let (beta, wrong) = (self.beta, self.label_smoothing);
        let pairs = rows / 2;
        let mut found = PreferenceLoss {
            loss: 0.0,
            chosen_rewards: Vec::with_capacity(pairs),
            rejected_rewards: Vec::with_capacity(pairs),
            derivatives: Vec::with_capacity(rows),
        };
        for (of, from) in
            log_probabilities.as_chunks::<2>().0.iter().zip(reference.as_chunks::<2>().0)
        {
            let [chosen, rejected] = [0, 1].map(|side| beta * (of[side] - f64::from(from[side])));
            let margin = chosen - rejected;
            let loss =
                (1.0 - wrong) * minus_log_sigmoid(margin) + wrong * minus_log_sigmoid(-margin);
            let slope = beta * ((1.0 - wrong) * sigmoid(-margin) - wrong * sigmoid(margin));
            found.loss += loss / pairs as f64;
            found.chosen_rewards.push(chosen);
            found.rejected_rewards.push(rejected);
            found.derivatives.extend([-slope / pairs as f64, slope / pairs as f64]);
        }
        found
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `log(1 + e^-x)` without overflow.
fn minus_log_sigmoid(x: f64) -> f64 {
    (-x).max(0.0) + (-x.abs()).exp().ln_1p()
}

impl Model {
    /// The log-probability of each row's targets, summed over the positions that train, in nats. The
    /// model is outside of any graph.
    ///
    /// # Shapes
    /// `trained [B]`: the number of positions of each row that train, as in [`PairRows`] -> `[B]`.
    ///
    /// # Panics
    /// When the model is in a graph, a row has no position that trains, or the numbers do not add up
    /// to the batch's.
    pub fn log_probabilities(&self, batch: Batch, trained: &[usize], pass: Pass) -> Vec<f64> {
        check_rows(&batch, trained);
        let targets = batch.targets.clone();
        let losses = head_losses(self.before_head(batch, pass), targets, pass.precision);
        row_sums(losses, trained)
    }

    /// The loss of a batch of pairs, and `[1]` in the model's graph whose backward pass gives the
    /// gradients of that loss. Its own value has no meaning.
    ///
    /// The head is computed twice: the derivative by a row's log-probability follows from those of
    /// all rows of its pair, and is then the weight of the row's positions. So there is one gradient of
    /// the head, however many rows there are.
    ///
    /// # Panics
    /// As [`Model::log_probabilities`] and [`Preference::loss`].
    pub fn preference_loss(
        &self,
        batch: Batch,
        rows: PairRows<'_>,
        preference: Preference,
        pass: Pass,
    ) -> (PreferenceLoss, Tensor<1>) {
        check_rows(&batch, rows.trained);
        let targets = batch.targets.clone();
        let head = self.before_head(batch, pass);
        let losses = head_losses(head.clone().inner(), targets.clone().inner(), pass.precision);
        let found = preference.loss(&row_sums(losses, rows.trained), rows.reference);
        // A position's loss is the negative of its log-probability.
        let weights: Vec<f32> = rows
            .trained
            .iter()
            .zip(&found.derivatives)
            .flat_map(|(&count, &derivative)| std::iter::repeat_n(-derivative as f32, count))
            .collect();
        (found, weighted_head_loss(head, targets, &weights, pass.precision))
    }
}

fn check_rows(batch: &Batch, trained: &[usize]) {
    assert_eq!(batch.tokens.dims()[0], trained.len(), "a number of positions for each row");
    assert_eq!(batch.targets.dims()[0], trained.iter().sum::<usize>(), "the positions of all rows");
    assert!(!trained.contains(&0), "a position that trains in each row");
}

/// The log-probability of each row from the losses of its positions.
fn row_sums(losses: Tensor<1>, trained: &[usize]) -> Vec<f64> {
    let mut losses = losses.into_data().iter::<f64>().collect::<Vec<_>>().into_iter();
    trained.iter().map(|&count| -losses.by_ref().take(count).sum::<f64>()).collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, activation};

    use super::*;

    const REFERENCE: [f32; 4] = [-3.0, -4.0, -2.0, -1.0];
    const POLICY: [f64; 4] = [-2.0, -5.0, -2.5, -1.5];

    fn loss(label_smoothing: f64) -> PreferenceLoss {
        Preference { beta: 0.5, label_smoothing }.loss(&POLICY, &REFERENCE)
    }

    /// By hand: the rewards are 0.5 and -0.5, then -0.25 and -0.25, so the margins are 1 and 0, and
    /// `-log sigmoid` of them is 0.313262 (`log(1 + 1/e)`) and 0.693147 (`log 2`).
    #[test]
    fn the_loss_and_the_rewards_are_those_of_the_formula() {
        let found = loss(0.0);
        assert_eq!(found.chosen_rewards, [0.5, -0.25]);
        assert_eq!(found.rejected_rewards, [-0.5, -0.25]);
        assert_eq!(found.accuracy(), 0.5, "equal rewards are not right");
        assert!((found.loss - (0.313_262 + 2.0_f64.ln()) / 2.0).abs() < 1e-6, "{}", found.loss);
        // -log sigmoid(-1) is 1.313262.
        let found = loss(0.1).loss;
        let expected = (0.9 * 0.313_262 + 0.1 * 1.313_262 + 2.0_f64.ln()) / 2.0;
        assert!((found - expected).abs() < 1e-6, "{found}");
    }

    /// Equation 7's gradient: `-beta sigmoid(-m) / P` for the chosen answer, its negative for the
    /// rejected one; `sigmoid(-1)` is 0.268941. With smoothing: Burn's gradient of the formula.
    #[test]
    fn the_derivatives_are_those_of_the_paper_and_of_autodiff() {
        let expected = [-0.067_235_3, 0.067_235_3, -0.125, 0.125];
        for (found, expected) in loss(0.0).derivatives.into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found}, expected {expected}");
        }
        let device = Device::flex().autodiff();
        let policy = Tensor::<1>::from_floats(POLICY.map(|x| x as f32), &device).require_grad();
        let rewards = (policy.clone() - Tensor::from_floats(REFERENCE, &device)) * 0.5;
        let rewards = rewards.reshape([2, 2]);
        let margins = rewards.clone().slice([0..2, 0..1]) - rewards.slice([0..2, 1..2]);
        let plain = -activation::log_sigmoid(margins.clone()).mean() * 0.8
            - activation::log_sigmoid(-margins).mean() * 0.2;
        let gradient = policy.grad(&plain.backward()).unwrap().into_data();
        for (found, expected) in loss(0.2).derivatives.into_iter().zip(gradient.iter::<f64>()) {
            assert!((found - expected).abs() < 1e-6, "{found}, expected {expected}");
        }
    }

    #[test]
    fn large_margins_do_not_overflow() {
        let preference = Preference { beta: 1.0, label_smoothing: 0.0 };
        let found = preference.loss(&[-1e4, 0.0, 0.0, -1e4], &[0.0; 4]);
        assert_eq!(found.loss, 5e3);
        assert_eq!(found.derivatives, [-0.5, 0.5, 0.0, 0.0]);
    }

    #[test]
    #[should_panic(expected = "3 rows; expected two for each pair")]
    fn a_row_without_its_partner_is_refused() {
        let preference = Preference { beta: 1.0, label_smoothing: 0.0 };
        preference.loss(&[0.0; 3], &[0.0; 3]);
    }
}
