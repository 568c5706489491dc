//! The learning rate of each step.

use config::{Optimizer, Schedule, ScheduleKind};

/// Warm-up, then constant or a fall to the minimum (nanoGPT's `get_lr`; for `wsd` Hu et al., 2024).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningRate {
    kind: ScheduleKind,
    peak: f64,
    floor: f64,
    warmup: u64,
    /// The last step at the peak.
    stable: u64,
    last: u64,
}

impl LearningRate {
    /// The schedule of a run of `total_steps` steps.
    pub fn new(optimizer: &Optimizer, schedule: &Schedule, total_steps: u64) -> Self {
        let (warmup, last) = (schedule.warmup_steps as u64, total_steps.saturating_sub(1));
        let falling = match schedule.kind {
            ScheduleKind::Wsd => (total_steps as f64 * schedule.decay_fraction).round() as u64,
            _ => total_steps,
        };
        LearningRate {
            kind: schedule.kind,
            peak: optimizer.learning_rate,
            floor: schedule.min_learning_rate,
            warmup,
            stable: last.saturating_sub(falling).max(warmup),
            last,
        }
    }

    /// The learning rate of one step, counted from 0. The warm-up rises linearly and reaches the
    /// peak with the first step after it; a fall reaches the minimum with the last step.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / (self.warmup + 1) as f64;
        }
        let span = self.last.saturating_sub(self.stable).max(1);
        let done = step.saturating_sub(self.stable).min(span) as f64 / span as f64;
        let share = match self.kind {
            ScheduleKind::Constant => return self.peak,
            ScheduleKind::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
            ScheduleKind::Linear | ScheduleKind::Wsd => 1.0 - done,
        };
        self.floor + share * (self.peak - self.floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: ScheduleKind, warmup_steps: usize) -> LearningRate {
        let optimizer = Optimizer { learning_rate: 1.0, ..Optimizer::default() };
        let schedule = Schedule { kind, warmup_steps, min_learning_rate: 0.1, decay_fraction: 0.3 };
        LearningRate::new(&optimizer, &schedule, 14)
    }

    #[test]
    fn the_warm_up_rises_in_equal_parts_to_the_peak() {
        let rate = schedule(ScheduleKind::Constant, 3);
        assert_eq!([0, 1, 2, 3, 13].map(|step| rate.at(step)), [0.25, 0.5, 0.75, 1.0, 1.0]);
    }

    #[test]
    fn the_cosine_starts_at_the_peak_and_ends_at_the_floor() {
        let rate = schedule(ScheduleKind::Cosine, 3);
        assert_eq!(rate.at(3), 1.0);
        assert!((rate.at(8) - 0.55).abs() < 1e-12, "half way: {}", rate.at(8));
        assert!((rate.at(13) - 0.1).abs() < 1e-12);
        assert!((rate.at(99) - 0.1).abs() < 1e-12, "beyond the end it stays");
        assert!((3..13).all(|step| rate.at(step) > rate.at(step + 1)));
    }

    #[test]
    fn a_line_starts_at_the_peak_and_ends_at_the_floor() {
        let rate = schedule(ScheduleKind::Linear, 3);
        let expected = [1.0, 0.55, 0.1, 0.1];
        for (step, expected) in [3, 8, 13, 99].into_iter().zip(expected) {
            assert!((rate.at(step) - expected).abs() < 1e-12, "{step}: {}", rate.at(step));
        }
    }

    /// 14 steps, of which 0.3 are four.
    #[test]
    fn warmup_stable_decay_falls_in_its_last_steps_only() {
        let rate = schedule(ScheduleKind::Wsd, 3);
        assert!((3..=9).all(|step| rate.at(step) == 1.0));
        for (step, expected) in [(10, 0.775), (11, 0.55), (13, 0.1), (99, 0.1)] {
            assert!((rate.at(step) - expected).abs() < 1e-12, "{step}: {}", rate.at(step));
        }
    }

    #[test]
    fn a_run_that_ends_within_the_warm_up_is_no_division_by_zero() {
        for kind in [ScheduleKind::Cosine, ScheduleKind::Linear, ScheduleKind::Wsd] {
            let rate = schedule(kind, 100);
            assert!((0..200).all(|step| rate.at(step).is_finite()));
        }
    }
}
