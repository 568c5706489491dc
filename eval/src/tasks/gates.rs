//! The gates of `[[eval.task]]`: what every model must reach, and what a quantized one may lose.

use anyhow::Result;
use config::EvalTask;

use super::report::{Metric, TaskResult};
use super::task::Task;
use crate::gates::{Bound, GateResult};

/// Checks the results of one task, the unquantized model's first.
///
/// # Errors
/// When the task has no such metric.
pub fn judge(spec: &EvalTask, task: &Task, results: &[TaskResult]) -> Result<Vec<GateResult>> {
    let place = match &spec.metric {
        Some(name) => task.metric(name)?,
        None => 0,
    };
    let measured = |result: &TaskResult| result.metrics.get(place).cloned();
    let mut gates = Vec::new();
    for result in results {
        let Some(metric) = measured(result) else { continue };
        let name = format!("{} {}, {} {}", result.model, result.engine, result.task, metric.name);
        if let Some(minimum) = spec.minimum {
            let gate = GateResult::measured(name.clone(), metric.value, Bound::AtLeast, minimum);
            gates.push(gate);
        }
        let base = results.first().filter(|base| !std::ptr::eq(*base, result));
        if let (Some(limit), Some(base)) = (spec.largest_loss, base)
            && let Some(before) = measured(base)
        {
            let name = format!("{name} lost against {}", base.model);
            gates.push(GateResult::measured(
                name,
                loss((base, &before), (result, &metric)),
                Bound::AtMost,
                limit,
            ));
        }
    }
    Ok(gates)
}

/// How much of a metric a variant lost. Of counts: 0.8 - 0.7 would be above 0.1.
fn loss(base: (&TaskResult, &Metric), variant: (&TaskResult, &Metric)) -> f64 {
    let right = |(result, metric): (&TaskResult, &Metric)| result.right(metric);
    (right(base) - right(variant)) / (variant.0.questions as f64).max(1.0)
}
