//! Sampling: from logits to the next token.
//!
//! The steps and their order are those of Hugging Face's `generate`:
//!
//! | step | effect | off | source |
//! |---|---|---|---|
//! | repetition penalty `θ` | logits of tokens seen: `x / θ` if positive, else `x · θ` | 1 | Keskar et al., 2019 |
//! | temperature `T` | `x / T` | 1 | Ackley et al., 1985 |
//! | top-k | the `k` largest | 0 | Fan et al., 2018 |
//! | top-p | the smallest set with probability `p` or more | 1 | Holtzman et al., 2020 |
//!
//! llama.cpp's default chain applies the temperature last, so its nucleus is taken from the
//! distribution before the temperature; at temperature 1 the two agree. Temperature 0 is greedy
//! decoding: the most likely token, whatever the other settings.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};
use reference::ops::argmax;
use serde::Serialize;
use splitmix::SplitMix64;

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sampling {
    /// Divides the logits; 0 takes the most likely token.
    pub temperature: f32,
    /// Keeps this many tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the smallest set of tokens with this probability; 1 keeps all.
    pub top_p: f32,
    /// Reduces the logits of tokens that the context holds already; 1 does not.
    pub repetition_penalty: f32,
}

impl Sampling {
    /// Always the most likely token.
    pub const GREEDY: Sampling =
        Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, repetition_penalty: 1.0 };

    /// The model's own distribution.
    pub const PLAIN: Sampling = Sampling { temperature: 1.0, ..Sampling::GREEDY };

    /// Refuses invalid settings.
    ///
    /// # Errors
    /// When a setting is out of its range; the error names it.
    pub fn validate(&self) -> Result<()> {
        let Sampling { temperature, top_p, repetition_penalty, .. } = *self;
        if !(temperature >= 0.0 && temperature.is_finite()) {
            bail!("temperature = {temperature}: expected 0 (greedy) or more");
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            bail!("top-p = {top_p}: expected more than 0 and at most 1 (off)");
        }
        if !(repetition_penalty > 0.0 && repetition_penalty.is_finite()) {
            bail!("repetition-penalty = {repetition_penalty}: expected more than 0 (1 is off)");
        }
        Ok(())
    }
}

/// `greedy`, or settings joined by commas: `temperature=0.8,top-k=40`.
impl fmt::Display for Sampling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.temperature == 0.0 {
            parts.push("greedy".to_owned());
        } else if self.temperature != 1.0 || (self.top_k == 0 && self.top_p == 1.0) {
            parts.push(format!("temperature={}", self.temperature));
        }
        if self.temperature != 0.0 && self.top_k != 0 {
            parts.push(format!("top-k={}", self.top_k));
        }
        if self.temperature != 0.0 && self.top_p != 1.0 {
            parts.push(format!("top-p={}", self.top_p));
        }
        if self.repetition_penalty != 1.0 {
            parts.push(format!("repetition-penalty={}", self.repetition_penalty));
        }
        f.pad(&parts.join(","))
    }
}

impl FromStr for Sampling {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut sampling = Sampling::PLAIN;
        for part in text.split(',') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match name {
                "greedy" if value.is_empty() => sampling.temperature = 0.0,
                "temperature" => sampling.temperature = number(part, value)?,
                "top-k" => sampling.top_k = number(part, value)?,
                "top-p" => sampling.top_p = number(part, value)?,
                "repetition-penalty" => sampling.repetition_penalty = number(part, value)?,
                _ => bail!(
                    "strategy {part}: expected greedy, temperature=T, top-k=K, top-p=P or \
                     repetition-penalty=R, joined by commas"
                ),
            }
        }
        sampling.validate()?;
        Ok(sampling)
    }
}

fn number<T: FromStr>(part: &str, value: &str) -> Result<T> {
    value.parse().map_err(|_| anyhow::anyhow!("strategy {part}: expected a number after the ="))
}

/// A candidate for the next token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Its id.
    pub token: u32,
    /// Its probability; those of all candidates sum to 1.
    pub probability: f64,
}

/// The distribution of the next token after `seen`, most likely first; equal ones by id.
///
/// `logits` is `[V]` and finite; settings are valid.
pub fn distribution(logits: &[f32], seen: &[u32], sampling: &Sampling) -> Vec<Candidate> {
    let logits = penalized(logits, seen, sampling.repetition_penalty);
    if sampling.temperature == 0.0 {
        return vec![Candidate { token: argmax(&logits) as u32, probability: 1.0 }];
    }
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let by_logit =
        |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    if sampling.top_k > 0 && sampling.top_k < order.len() {
        order.select_nth_unstable_by(sampling.top_k - 1, by_logit);
        order.truncate(sampling.top_k);
    }
    order.sort_unstable_by(by_logit);
    let mut candidates = softmax(&order, &logits, sampling.temperature);
    keep_nucleus(&mut candidates, f64::from(sampling.top_p));
    candidates
}

fn penalized(logits: &[f32], seen: &[u32], penalty: f32) -> Vec<f32> {
    let mut logits = logits.to_vec();
    if penalty != 1.0 {
        let mut seen = seen.to_vec();
        seen.sort_unstable();
        seen.dedup();
        for token in seen {
            if let Some(x) = logits.get_mut(token as usize) {
                *x = if *x > 0.0 { *x / penalty } else { *x * penalty };
            }
        }
    }
    logits
}

/// `p_i = exp((x_i - max) / T) / Σ_j exp((x_j - max) / T)` over the tokens in `order`, the most
/// likely first.
fn softmax(order: &[u32], logits: &[f32], temperature: f32) -> Vec<Candidate> {
    let logit = |token: u32| f64::from(logits[token as usize]);
    let max = order.first().map_or(0.0, |&token| logit(token));
    let weight = |token: u32| ((logit(token) - max) / f64::from(temperature)).exp();
    let sum: f64 = order.iter().map(|&token| weight(token)).sum();
    let candidate = |&token: &u32| Candidate { token, probability: weight(token) / sum };
    order.iter().map(candidate).collect()
}

/// Removes the tail that is not needed to reach `p`, and scales the rest to a sum of 1.
fn keep_nucleus(candidates: &mut Vec<Candidate>, p: f64) {
    if p >= 1.0 {
        return;
    }
    let mut sum = 0.0;
    let needed = candidates.iter().position(|candidate| {
        sum += candidate.probability;
        sum >= p
    });
    candidates.truncate(needed.map_or(candidates.len(), |last| last + 1));
    candidates.iter_mut().for_each(|candidate| candidate.probability /= sum);
}

/// Draws tokens; equal seeds give equal texts.
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    random: SplitMix64,
}

impl Sampler {
    /// A sampler whose random numbers have the seed `seed`.
    ///
    /// # Errors
    /// When a setting is out of its range.
    pub fn new(sampling: Sampling, seed: u64) -> Result<Self> {
        sampling.validate()?;
        Ok(Sampler { sampling, random: SplitMix64::new(seed) })
    }

    /// The next token after `seen`, from logits `[V]`. Draws one random number, unless greedy.
    ///
    /// # Errors
    /// When a logit is NaN or infinite: the model's weights are damaged.
    pub fn next(&mut self, logits: &[f32], seen: &[u32]) -> Result<u32> {
        if let Some(token) = logits.iter().position(|x| !x.is_finite()) {
            let logit = logits[token];
            bail!("the model's logit for token {token} is {logit}: its weights are damaged");
        }
        let candidates = distribution(logits, seen, &self.sampling);
        if self.sampling.temperature == 0.0 {
            return Ok(candidates[0].token);
        }
        Ok(pick(&candidates, self.random.unit()))
    }
}

/// The candidate at `u` if their probabilities are laid side by side on `[0, 1)`.
fn pick(candidates: &[Candidate], u: f64) -> u32 {
    let mut sum = 0.0;
    let under = |candidate: &&Candidate| {
        sum += candidate.probability;
        u < sum
    };
    // Rounding may leave the sum slightly below 1: the last candidate gets the rest.
    candidates.iter().find(under).or(candidates.last()).map_or(0, |candidate| candidate.token)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits whose softmax is 1/16, 8/16, 2/16, 4/16, 1/16.
    fn logits() -> Vec<f32> {
        [1.0_f32, 8.0, 2.0, 4.0, 1.0].map(f32::ln).to_vec()
    }

    fn check(sampling: Sampling, seen: &[u32], expected: &[(u32, f64)]) {
        let found = distribution(&logits(), seen, &sampling);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, &(token, probability)) in found.iter().zip(expected) {
            assert_eq!(found.token, token);
            assert!((found.probability - probability).abs() < 1e-6, "{found:?} {probability}");
        }
    }

    #[test]
    fn plain_sampling_is_the_softmax() {
        let sixteenths = [(1, 8.0), (3, 4.0), (2, 2.0), (0, 1.0), (4, 1.0)];
        check(Sampling::PLAIN, &[], &sixteenths.map(|(token, n)| (token, n / 16.0)));
    }

    #[test]
    fn half_the_temperature_squares_the_ratios() {
        let weights = [(1, 64.0), (3, 16.0), (2, 4.0), (0, 1.0), (4, 1.0)];
        let expected = weights.map(|(token, n)| (token, n / 86.0));
        check(Sampling { temperature: 0.5, ..Sampling::PLAIN }, &[], &expected);
    }

    #[test]
    fn top_k_keeps_k_and_breaks_ties_by_id() {
        check(Sampling { top_k: 2, ..Sampling::PLAIN }, &[], &[(1, 8.0 / 12.0), (3, 4.0 / 12.0)]);
        let four = [(1, 8.0), (3, 4.0), (2, 2.0), (0, 1.0)].map(|(token, n)| (token, n / 15.0));
        check(Sampling { top_k: 4, ..Sampling::PLAIN }, &[], &four);
        assert_eq!(
            distribution(&logits(), &[], &Sampling { top_k: 99, ..Sampling::PLAIN }).len(),
            5
        );
    }

    #[test]
    fn top_p_keeps_the_token_that_reaches_p() {
        let top_p = |top_p| Sampling { top_p, ..Sampling::PLAIN };
        check(top_p(0.49), &[], &[(1, 1.0)]);
        check(top_p(0.6), &[], &[(1, 8.0 / 12.0), (3, 4.0 / 12.0)]);
        check(top_p(0.8), &[], &[(1, 8.0 / 14.0), (3, 4.0 / 14.0), (2, 2.0 / 14.0)]);
        check(top_p(1e-9), &[], &[(1, 1.0)]);
    }

    #[test]
    fn top_p_comes_after_temperature_and_top_k() {
        // Squared: 64, 16, 4 of 84. 64/84 = 0.762 < 0.8, with 16/84 it is 0.952.
        let all = Sampling { temperature: 0.5, top_k: 3, top_p: 0.8, ..Sampling::PLAIN };
        check(all, &[], &[(1, 0.8), (3, 0.2)]);
    }

    #[test]
    fn the_penalty_weakens_what_was_seen_whatever_its_sign() {
        let sampling = Sampling { repetition_penalty: 2.0, ..Sampling::PLAIN };
        let weakened = penalized(&[2.0, -1.0, 0.5], &[0, 1, 1, 7], 2.0);
        assert_eq!(weakened, [1.0, -2.0, 0.5]);
        // ln 8 / 2 = ln sqrt(8)
        let found = distribution(&logits(), &[1], &sampling);
        let sum = 8.0 + 8.0_f64.sqrt();
        assert_eq!(found[0].token, 3);
        assert!((found[0].probability - 4.0 / sum).abs() < 1e-6);
    }

    #[test]
    fn greedy_takes_the_first_of_equals_and_never_rolls() {
        let mut sampler = Sampler::new(Sampling::GREEDY, 1).unwrap();
        assert_eq!(sampler.next(&[0.0, 3.0, 3.0], &[]).unwrap(), 1);
        assert_eq!(sampler.random.bits(), SplitMix64::new(1).bits());
    }

    #[test]
    fn draws_follow_the_distribution() {
        let mut sampler = Sampler::new(Sampling::PLAIN, 42).unwrap();
        let mut counts = [0; 5];
        for _ in 0..16_000 {
            counts[sampler.next(&logits(), &[]).unwrap() as usize] += 1;
        }
        for (count, expected) in counts.into_iter().zip([1000, 8000, 2000, 4000, 1000]) {
            let four_deviations = 4.0 * f64::from(expected).sqrt();
            assert!(f64::from(count - expected).abs() < four_deviations, "{counts:?}");
        }
    }

    #[test]
    fn equal_seeds_draw_equal_texts() {
        let draw = |seed| {
            let mut sampler = Sampler::new(Sampling::PLAIN, seed).unwrap();
            (0..50).map(|_| sampler.next(&logits(), &[]).unwrap()).collect::<Vec<u32>>()
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }

    #[test]
    fn the_last_candidate_owns_what_rounding_left() {
        let halves = [0, 1].map(|token| Candidate { token, probability: 0.499_999 });
        assert_eq!(pick(&halves, 0.2), 0);
        assert_eq!(pick(&halves, 0.999_999_9), 1);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let error = |text: &str| text.parse::<Sampling>().unwrap_err().to_string();
        assert_eq!(error("top-p=1.5"), "top-p = 1.5: expected more than 0 and at most 1 (off)");
        assert_eq!(error("top-p=0"), "top-p = 0: expected more than 0 and at most 1 (off)");
        assert_eq!(error("temperature=-1"), "temperature = -1: expected 0 (greedy) or more");
        assert_eq!(error("temperature=NaN"), "temperature = NaN: expected 0 (greedy) or more");
        assert_eq!(
            error("repetition-penalty=0"),
            "repetition-penalty = 0: expected more than 0 (1 is off)"
        );
        assert_eq!(error("top-k=few"), "strategy top-k=few: expected a number after the =");
        assert!(error("beam=4").starts_with("strategy beam=4: expected greedy,"));
    }

    #[test]
    fn strategies_are_written_as_they_are_read() {
        for text in [
            "greedy",
            "temperature=1",
            "temperature=0.7,top-k=40",
            "top-p=0.9",
            "top-k=5,top-p=0.5",
        ] {
            assert_eq!(text.parse::<Sampling>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn damaged_logits_are_refused() {
        let mut sampler = Sampler::new(Sampling::PLAIN, 1).unwrap();
        let error = sampler.next(&[0.0, f32::NAN], &[]).unwrap_err().to_string();
        assert_eq!(error, "the model's logit for token 1 is NaN: its weights are damaged");
    }
}
