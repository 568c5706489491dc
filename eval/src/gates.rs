//! Gates: limits for measured values, and the message if a value exceeds its limit.

use std::fmt;

use config::Gates;
use serde::{Deserialize, Serialize};

use crate::metrics::Agreement;
use crate::report::{Engine, Pair, short};

/// One limit and the value that is checked against it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateResult {
    /// What was measured, for example `Q8_0 reference : F32 reference, mean KL`.
    pub name: String,
    /// The value; none if it could not be measured because a logit was not finite.
    pub measured: Option<f64>,
    /// The limit; none if the only requirement is that logits are finite.
    pub limit: Option<f64>,
    /// Which side of the limit passes.
    pub bound: Bound,
    /// Whether the limit holds.
    pub passed: bool,
    /// The problem, if it is not a number beyond its limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Which side of a limit passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// The value may not be larger than the limit.
    AtMost,
    /// The value may not be smaller than the limit.
    AtLeast,
}

impl GateResult {
    pub(crate) fn measured(name: String, value: f64, bound: Bound, limit: f64) -> Self {
        let passed = match bound {
            Bound::AtMost => value <= limit,
            Bound::AtLeast => value >= limit,
        };
        GateResult { name, measured: Some(value), limit: Some(limit), bound, passed, problem: None }
    }

    fn not_finite(name: String, problem: String) -> Self {
        GateResult {
            name,
            measured: None,
            limit: None,
            bound: Bound::AtMost,
            passed: false,
            problem: Some(problem),
        }
    }
}

impl fmt::Display for GateResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        if let Some(problem) = &self.problem {
            return write!(f, ": {problem}");
        }
        let (Some(value), Some(limit)) = (self.measured, self.limit) else { return Ok(()) };
        let (bound, by) = match self.bound {
            Bound::AtMost if limit == 0.0 => ("at most", format!("{} above it", short(value))),
            Bound::AtMost => ("at most", format!("{} times the limit", short(value / limit))),
            Bound::AtLeast => ("at least", format!("{} below the limit", short(limit - value))),
        };
        write!(f, " {}: {bound} {}", short(value), short(limit))?;
        if self.passed { Ok(()) } else { write!(f, ", missed: {by}") }
    }
}

/// Checks a pair against the limits of the run file. A pair without a limit adds a note instead.
pub fn judge(pair: &Pair, gates: &Gates) -> Result<Vec<GateResult>, String> {
    let name = pair.name();
    let Some(metrics) = &pair.metrics else {
        let problem = pair.problem.clone().unwrap_or_else(|| "not measured".to_owned());
        return Ok(vec![GateResult::not_finite(name, problem)]);
    };
    let gate = |what: &str, value, bound, limit| {
        GateResult::measured(format!("{name}, {what}"), value, bound, limit)
    };
    let agreement = &metrics.agreement;
    let same_file = pair.base.recipe == pair.candidate.recipe;
    match (pair.base.engine, pair.candidate.engine) {
        (Engine::Burn, _) if pair.candidate.recipe != "F32" => {
            Err(format!("{name}: no gate, it holds for an F32 file only"))
        }
        (Engine::Burn, _) => Ok(vec![gate(
            "relative RMS",
            metrics.relative_rms,
            Bound::AtMost,
            gates.reference_vs_burn_relative_rms,
        )]),
        (_, Engine::LlamaCpp) if same_file => Ok(same_file_gates(agreement, gates, gate)),
        (_, Engine::LlamaCpp) => Ok(Vec::new()),
        _ => match gates.mean_kl.get(&pair.candidate.recipe) {
            Some(&limit) => Ok(vec![gate("mean KL", agreement.kl.mean, Bound::AtMost, limit)]),
            None => Err(format!(
                "{name}: no gate; eval.gates.mean_kl.{} in the run file sets one",
                pair.candidate.recipe
            )),
        },
    }
}

/// llama.cpp and the reference on the same unquantized file.
fn same_file_gates(
    agreement: &Agreement,
    gates: &Gates,
    gate: impl Fn(&str, f64, Bound, f64) -> GateResult,
) -> Vec<GateResult> {
    vec![
        gate("mean KL", agreement.kl.mean, Bound::AtMost, gates.llama_vs_reference_mean_kl),
        gate("top-1", agreement.top1_agreement, Bound::AtLeast, gates.llama_vs_reference_top1),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Pass;

    fn pair(base: (Engine, &str), candidate: (Engine, &str), rms: f64, kl: f64) -> Pair {
        let pass = |(engine, recipe): (Engine, &str)| Pass { engine, recipe: recipe.to_owned() };
        // As the first version of the program wrote it, without error bars.
        let metrics = serde_json::json!({
            "positions": 10, "relative_rms": rms, "max_difference": 1.0, "correlation": 1.0,
            "kl": {"mean": kl, "median": kl, "p99": kl, "max": kl}, "top1_agreement": 0.9,
            "base_perplexity": null, "perplexity": null,
        });
        let metrics = serde_json::from_value(metrics).unwrap();
        Pair { base: pass(base), candidate: pass(candidate), metrics: Some(metrics), problem: None }
    }

    const REFERENCE: (Engine, &str) = (Engine::Reference, "F32");

    #[test]
    fn a_missed_gate_says_which_and_by_how_much() {
        let gates = Gates::default();
        let missed = judge(&pair(REFERENCE, (Engine::Reference, "Q8_0"), 0.0, 0.025), &gates);
        assert_eq!(
            missed.unwrap()[0].to_string(),
            "Q8_0 reference : F32 reference, mean KL 0.0250: at most 0.0100, missed: 2.500 times \
             the limit"
        );
        let missed = judge(&pair((Engine::Burn, "F32"), REFERENCE, 3e-6, 0.0), &gates).unwrap();
        assert_eq!(
            missed[0].to_string(),
            "F32 reference : F32 Burn, relative RMS 3.0e-6: at most 2.0e-6, missed: 1.500 times \
             the limit"
        );
        let llama = judge(&pair(REFERENCE, (Engine::LlamaCpp, "F32"), 0.0, 1e-9), &gates).unwrap();
        assert!(llama[0].passed);
        assert_eq!(
            llama[1].to_string(),
            "F32 llama.cpp : F32 reference, top-1 0.9000: at least 0.9950, missed: 0.0950 below \
             the limit"
        );
    }

    #[test]
    fn a_limit_is_still_good() {
        let gates = Gates::default();
        let exact = judge(&pair(REFERENCE, (Engine::Reference, "Q8_0"), 0.0, 1e-2), &gates);
        assert!(exact.unwrap()[0].passed);
    }

    #[test]
    fn what_has_no_gate_says_so() {
        let mut gates = Gates::default();
        gates.mean_kl.remove("Q5_1");
        let note = judge(&pair(REFERENCE, (Engine::Reference, "Q5_1"), 0.0, 9.0), &gates);
        assert_eq!(
            note.unwrap_err(),
            "Q5_1 reference : F32 reference: no gate; eval.gates.mean_kl.Q5_1 in the run file \
             sets one"
        );
        let report_only = judge(&pair(REFERENCE, (Engine::LlamaCpp, "Q8_0"), 0.0, 9.0), &gates);
        assert_eq!(report_only, Ok(vec![]));
    }

    #[test]
    fn logits_that_are_not_finite_fail_even_without_a_gate() {
        let mut broken = pair(REFERENCE, (Engine::LlamaCpp, "Q5_1"), 0.0, 0.0);
        broken.metrics = None;
        broken.problem = Some("window 0: logit NaN at position 3, token 17".to_owned());
        let results = judge(&broken, &Gates::default()).unwrap();
        assert!(!results[0].passed);
        assert_eq!(
            results[0].to_string(),
            "Q5_1 llama.cpp : F32 reference: window 0: logit NaN at position 3, token 17"
        );
    }
}
