//! `[train.qat]`: training with the rounding of the quantized file.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Share of a run after which rounding begins, if neither `start` nor `train.init_from` is set.
const LAST_QUARTER: f64 = 0.75;

/// `[train.qat]`: forward passes use each matrix as `quantize --type FORMAT` would store it, and
/// gradients are applied to the unrounded weights (Bengio et al., 2013; Jacob et al., 2018).
///
/// Once rounding has begun, losses and samples are those of the rounded weights. Checkpoints,
/// exported files and golden logits hold the unrounded ones: `quantize --type FORMAT`, without a
/// search, makes the file that was trained for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Qat {
    /// The recipe that the model will be quantized with, for example `Q4_0`.
    pub format: String,
    /// Where rounding begins: an optimizer step (`start = 1000`) or a share of the run
    /// (`start = 0.5`). If not given: the first step if `train.init_from` names a model, otherwise
    /// the last quarter of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<QatStart>,
}

impl Qat {
    /// The first step, counted from 0, whose forward passes use rounded weights, in a run of
    /// `total_steps`.
    pub fn start_step(&self, total_steps: u64, goes_on_from_a_model: bool) -> u64 {
        match self.start {
            Some(QatStart::Step(step)) => step,
            Some(QatStart::Share(share)) => share_of(total_steps, share),
            None if goes_on_from_a_model => 0,
            None => share_of(total_steps, LAST_QUARTER),
        }
    }
}

/// Rounds down, so that a share below 1 leaves at least one step.
fn share_of(steps: u64, share: f64) -> u64 {
    (steps as f64 * share) as u64
}

/// A position in a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum QatStart {
    /// After this many optimizer steps.
    Step(u64),
    /// After this share of all steps.
    Share(f64),
}

impl<'de> Deserialize<'de> for QatStart {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StartVisitor)
    }
}

/// An integer is a step, a number with a decimal point a share.
struct StartVisitor;

impl Visitor<'_> for StartVisitor {
    type Value = QatStart;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a step (such as 1000) or a share of the run (such as 0.75)")
    }

    fn visit_u64<E: de::Error>(self, step: u64) -> Result<QatStart, E> {
        Ok(QatStart::Step(step))
    }

    fn visit_i64<E: de::Error>(self, step: i64) -> Result<QatStart, E> {
        u64::try_from(step)
            .map(QatStart::Step)
            .map_err(|_| E::invalid_value(de::Unexpected::Signed(step), &self))
    }

    fn visit_f64<E: de::Error>(self, share: f64) -> Result<QatStart, E> {
        Ok(QatStart::Share(share))
    }
}

impl fmt::Display for QatStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QatStart::Step(step) => write!(f, "{step}"),
            QatStart::Share(share) => write!(f, "{share:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::RunFile;

    fn load(text: &str) -> Result<RunFile, String> {
        RunFile::parse(Path::new("a.toml"), text, &[]).map_err(|error| error.to_string())
    }

    fn qat(text: &str) -> Qat {
        load(&format!("[train.qat]\nformat = \"Q4_0\"\n{text}")).unwrap().train.qat.unwrap()
    }

    #[test]
    fn a_start_is_a_step_or_a_share() {
        assert_eq!(qat("start = 7").start_step(100, false), 7);
        assert_eq!(qat("start = 0").start_step(100, false), 0);
        assert_eq!(qat("start = 0.5").start_step(101, true), 50);
        assert_eq!(qat("start = 0.99").start_step(2, false), 1);
        assert_eq!(qat("").start_step(100, false), 75);
        assert_eq!(qat("").start_step(100, true), 0);
        for text in ["start = 7", "start = 0.0"] {
            let run_file = RunFile {
                train: crate::Train { qat: Some(qat(text)), ..Default::default() },
                ..Default::default()
            };
            assert_eq!(load(&run_file.to_toml().unwrap()).unwrap(), run_file, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_is_named() {
        let error = |text: &str| load(&format!("[train.qat]\n{text}")).unwrap_err();
        assert!(error("start = 1").contains("missing field `format`"), "{}", error("start = 1"));
        let found = error("format = \"Q4_0\"\nstart = -1");
        assert!(found.contains("-1") && found.contains("a share of the run"), "{found}");
        let found = error("format = \"Q4_0\"\nstart = \"half\"");
        assert!(found.contains("a share of the run"), "{found}");
        assert_eq!(
            error("format = \"Q4_0\"\nstart = 1.0"),
            "train.qat.start = 1.0: expected a step, or a share from 0.0 to below 1.0"
        );
        let lora = "format = \"Q4_0\"\n[lora]\nrank = 4\n[train]\ninit_from = \"base\"";
        assert!(error(lora).starts_with("lora.rank = 4: expected 0: "), "{}", error(lora));
    }
}
