//! What is logged of training on pairs of answers, with TRL's names.

use model::preference::PreferenceLoss;
use serde::{Deserialize, Serialize};

/// Means over some pairs. A reward is `beta` times what the model has made an answer likelier than its
/// start did, in nats.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Rewards {
    /// Of the chosen answers.
    #[serde(rename = "rewards/chosen")]
    pub chosen: f64,
    /// Of the rejected answers.
    #[serde(rename = "rewards/rejected")]
    pub rejected: f64,
    /// Of the chosen answer less that of the rejected one.
    #[serde(rename = "rewards/margins")]
    pub margins: f64,
    /// Share of the pairs whose chosen answer has the larger reward.
    #[serde(rename = "rewards/accuracies")]
    pub accuracies: f64,
}

/// [`Rewards`] of the validation split.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ValidationRewards {
    #[serde(rename = "val_rewards/chosen")]
    chosen: f64,
    #[serde(rename = "val_rewards/rejected")]
    rejected: f64,
    #[serde(rename = "val_rewards/margins")]
    margins: f64,
    #[serde(rename = "val_rewards/accuracies")]
    accuracies: f64,
}

impl From<Rewards> for ValidationRewards {
    fn from(rewards: Rewards) -> Self {
        let Rewards { chosen, rejected, margins, accuracies } = rewards;
        ValidationRewards { chosen, rejected, margins, accuracies }
    }
}

impl From<ValidationRewards> for Rewards {
    fn from(rewards: ValidationRewards) -> Self {
        let ValidationRewards { chosen, rejected, margins, accuracies } = rewards;
        Rewards { chosen, rejected, margins, accuracies }
    }
}

/// Sums over pairs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RewardSums {
    pairs: usize,
    chosen: f64,
    rejected: f64,
    right: f64,
}

impl RewardSums {
    /// Adds the pairs of a pass.
    pub fn add(&mut self, found: &PreferenceLoss) {
        let pairs = found.chosen_rewards.len();
        self.merge(RewardSums {
            pairs,
            chosen: found.chosen_rewards.iter().sum(),
            rejected: found.rejected_rewards.iter().sum(),
            right: found.accuracy() * pairs as f64,
        });
    }

    /// Adds other sums.
    pub fn merge(&mut self, other: RewardSums) {
        self.pairs += other.pairs;
        self.chosen += other.chosen;
        self.rejected += other.rejected;
        self.right += other.right;
    }

    /// The means; `None` without pairs.
    pub fn means(self) -> Option<Rewards> {
        let mean = |sum: f64| sum / self.pairs as f64;
        (self.pairs > 0).then(|| Rewards {
            chosen: mean(self.chosen),
            rejected: mean(self.rejected),
            margins: mean(self.chosen - self.rejected),
            accuracies: mean(self.right),
        })
    }
}
