//! The output head with a distillation loss (Hinton, Vinyals and Dean, "Distilling the knowledge in
//! a neural network", 2015), in addition to the text's loss or instead of it.
//!
//! ```text
//! z [N, V] = x W      u [N, V] = y U, the teacher's      T the temperature
//! q = softmax(z / T)      p = softmax(u / T)
//! divergence = T^2 mean over rows of sum_j p[j] (log p[j] - log q[j])
//! entropy    = mean over rows of -log softmax(z)[target]
//! loss = s divergence + (1 - s) entropy
//! dz = (s T (q - p) + (1 - s) (softmax(z) - onehot(target))) / N
//! ```
//!
//! Of recorded predictions only the `k` likeliest tokens are known, the set `K`. All others are one
//! outcome, with what is left of the probability:
//!
//! ```text
//! divergence = T^2 mean of sum_{j in K} p[j] (log p[j] - log q[j]) + P (log P - log Q)
//! P = 1 - sum_{j in K} p[j]      Q = sum_{j not in K} q[j]
//! dz[j] of the divergence = T (q[j] - p[j]) in K, T (q[j] - q[j] P / Q) elsewhere
//! ```
//!
//! By the data processing inequality it is at most the divergence of all tokens, and equal to it where
//! `K` is all of them. As in [`head`](super::head), only the logits of some rows exist at a time.

use rayon::prelude::*;

use super::arithmetic::Arithmetic;
use super::head::{HeadWeight, ROWS, add_weight_gradient};
use super::matmul::pack::Matrix;
use super::simd::{exp, max, sum};
use crate::distillation::Distillation;
use isa::{Isa, vectorised};

/// Where the teacher's predictions come from.
#[derive(Debug, Clone, Copy)]
pub enum Teacher<'a> {
    /// The head of a model.
    Head {
        /// Its residual stream after the last normalisation, `[N, D]`.
        y: &'a [f32],
        /// Its weight.
        weight: HeadWeight<'a>,
    },
    /// The likeliest tokens, recorded at the temperature of the loss.
    Recorded {
        /// `[N, k]`; those of a row differ.
        ids: &'a [u32],
        /// Logarithms of their probabilities `[N, k]`.
        log_probabilities: &'a [f32],
    },
}

impl<'a> Teacher<'a> {
    /// For rows `start` to `end` of `n`.
    fn part(self, n: usize, start: usize, end: usize) -> Teacher<'a> {
        let cut = |all: &'a [f32]| &all[all.len() / n * start..all.len() / n * end];
        match self {
            Teacher::Head { y, weight } => Teacher::Head { y: cut(y), weight },
            Teacher::Recorded { ids, log_probabilities } => Teacher::Recorded {
                ids: &ids[ids.len() / n * start..ids.len() / n * end],
                log_probabilities: cut(log_probabilities),
            },
        }
    }
}

/// The result of a pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Distilled {
    /// Mean over all rows of the teacher's divergence, in nats.
    pub divergence: f32,
    /// Mean over all rows of the text's cross-entropy, in nats.
    pub entropy: f32,
    /// `[N, C]`
    pub dx: Vec<f32>,
    /// In the layout of the weight.
    pub dw: Vec<f32>,
}

/// Both losses, with the gradients of `x` and the weight for the mixture of the two.
pub fn distill<A: Arithmetic>(
    math: A,
    x: &[f32],
    weight: HeadWeight<'_>,
    targets: &[u32],
    teacher: Teacher<'_>,
    settings: Distillation,
) -> Distilled {
    let n = targets.len();
    let channels = x.len() / n;
    assert_eq!(x.len(), n * channels, "N targets");
    let vocabulary = weight.numbers().len() / channels;
    let (mut dx, mut dw) = (Vec::with_capacity(x.len()), None);
    let mut totals = [0.0; 2];
    for ((x, targets), start) in
        x.chunks(ROWS * channels).zip(targets.chunks(ROWS)).zip((0..n).step_by(ROWS))
    {
        let teacher = teacher.part(n, start, start + targets.len());
        let x = Matrix::new(x, targets.len(), channels);
        let mut z = math.product_once(x, weight.matrix(channels));
        let rows = Rows { targets, scale: 1.0 / n as f32, settings };
        let each = match teacher {
            Teacher::Head { y, weight } => {
                let wide = y.len() / targets.len();
                assert_eq!(y.len(), targets.len() * wide, "N targets");
                assert_eq!(weight.numbers().len(), wide * vocabulary, "one vocabulary");
                let y = Matrix::new(y, targets.len(), wide);
                let mut u = math.product_once(y, weight.matrix(wide));
                rows.taught(math.isa(), &mut z, &mut u)
            }
            Teacher::Recorded { ids, log_probabilities } => {
                rows.recorded(&mut z, ids, log_probabilities)
            }
        };
        for row in each {
            totals = [totals[0] + row[0], totals[1] + row[1]];
        }
        let dz = Matrix::new(&z, targets.len(), vocabulary);
        dx.extend(math.product_once(dz, weight.matrix(channels).transpose()));
        add_weight_gradient(math, weight, x, dz, &mut dw);
    }
    let [divergence, entropy] = totals.map(|total| (total / n as f64) as f32);
    let dw = dw.unwrap_or_else(|| vec![0.0; weight.numbers().len()]);
    Distilled { divergence, entropy, dx, dw }
}

/// Rows whose logits exist.
struct Rows<'a> {
    targets: &'a [u32],
    /// Factor on the gradients: `1 / N`.
    scale: f32,
    settings: Distillation,
}

impl Rows<'_> {
    /// Divergence and cross-entropy of each row; the logits `z` are replaced by their gradients, the
    /// teacher's `u` are overwritten.
    fn taught(&self, isa: Isa, z: &mut [f32], u: &mut [f32]) -> Vec<[f64; 2]> {
        let vocabulary = z.len() / self.targets.len();
        let Distillation { share, temperature } = self.settings;
        z.par_chunks_mut(vocabulary)
            .zip(u.par_chunks_mut(vocabulary))
            .zip(self.targets)
            .map(|((z, u), &target)| {
                if temperature == 1.0 {
                    return row_losses(isa, z, u, target as usize, share, self.scale);
                }
                let log_sum = log_sum(u, temperature);
                for u in u.iter_mut() {
                    *u = *u / temperature - log_sum;
                }
                let expected = |token: usize| Some(u[token]);
                self.row(z, target as usize, expected)
            })
            .collect()
    }

    /// The same for recorded predictions.
    fn recorded(&self, z: &mut [f32], ids: &[u32], log_probabilities: &[f32]) -> Vec<[f64; 2]> {
        let (rows, vocabulary) = (self.targets.len(), z.len() / self.targets.len());
        let k = ids.len() / rows;
        assert_eq!(
            (ids.len(), log_probabilities.len()),
            (rows * k, rows * k),
            "N rows of k tokens"
        );
        z.par_chunks_mut(vocabulary)
            .zip(ids.par_chunks(k))
            .zip(log_probabilities.par_chunks(k))
            .zip(self.targets)
            .map(|(((z, ids), log_probabilities), &target)| {
                let mut known: Vec<(u32, f32)> =
                    ids.iter().copied().zip(log_probabilities.iter().copied()).collect();
                known.sort_unstable_by_key(|&(id, _)| id);
                let mut next = known.into_iter().peekable();
                // Asked for each token in turn.
                let expected = |token: usize| {
                    next.next_if(|&(id, _)| id as usize == token).map(|(_, log_p)| log_p)
                };
                self.row(z, target as usize, expected)
            })
            .collect()
    }

    /// A row at any temperature; `expected` is the logarithm of the teacher's probability of a token,
    /// if it is known, and is asked once for each token in its order.
    fn row(
        &self,
        z: &mut [f32],
        target: usize,
        expected: impl FnMut(usize) -> Option<f32>,
    ) -> [f64; 2] {
        let Distillation { share, temperature } = self.settings;
        let t = temperature;
        let (log_sum_1, log_sum_t) = (log_sum(z, 1.0), log_sum(z, t));
        let expected: Vec<Option<f32>> = (0..z.len()).map(expected).collect();
        let (mut divergence, mut known, mut rest) = (0.0_f64, 0.0_f64, 0.0_f64);
        for (&z, expected) in z.iter().zip(&expected) {
            let log_q = z / t - log_sum_t;
            match *expected {
                Some(log_p) => {
                    let p = f64::from(log_p).exp();
                    known += p;
                    // A token of probability 0 adds nothing, whatever its logarithm is.
                    if p > 0.0 {
                        divergence += p * f64::from(log_p - log_q);
                    }
                }
                None => rest += f64::from(log_q).exp(),
            }
        }
        // What is left of the teacher's probability and of the student's, if anything is.
        let left = if expected.contains(&None) { (1.0 - known).max(0.0) } else { 0.0 };
        let rest = rest.max(f64::MIN_POSITIVE);
        if left > 0.0 {
            divergence += left * (left.ln() - rest.ln());
        }
        let of_others = (1.0 - left / rest) as f32;
        let entropy = f64::from(log_sum_1) - f64::from(z[target]);
        let (taught, plain) = (self.scale * share * t, self.scale * (1.0 - share));
        for (z, expected) in z.iter_mut().zip(&expected) {
            let (q_t, q_1) = (exp(*z / t - log_sum_t), exp(*z - log_sum_1));
            let apart = match expected {
                Some(log_p) => q_t - exp(*log_p),
                None => q_t * of_others,
            };
            *z = taught * apart + plain * q_1;
        }
        z[target] -= plain;
        [f64::from(t) * f64::from(t) * divergence, entropy]
    }
}

/// `log sum_j e^(z[j] / t)`
fn log_sum(z: &[f32], t: f32) -> f32 {
    let most = max(z) / t;
    let sum: f64 = z.iter().map(|&z| f64::from(exp(z / t - most))).sum();
    (sum.ln() + f64::from(most)) as f32
}

vectorised! {
    /// Divergence and cross-entropy of one row. The logits `z` are replaced by their gradients
    /// times `scale`; the teacher's `u` are overwritten.
    fn row_losses(z: &mut [f32], u: &mut [f32], target: usize, share: f32, scale: f32) -> [f64; 2] {
        let (most_z, most_u) = (max(z), max(u));
        let at_target = z[target];
        // sum_j e^(u - max u) (u - z), while both are replaced by their exponentials.
        let mut weighted = [0.0_f32; 16];
        let (z_blocks, z_rest) = z.as_chunks_mut::<16>();
        let (u_blocks, u_rest) = u.as_chunks_mut::<16>();
        for (z, u) in z_blocks.iter_mut().zip(u_blocks) {
            for i in 0..16 {
                let apart = u[i] - z[i];
                (z[i], u[i]) = (exp(z[i] - most_z), exp(u[i] - most_u));
                weighted[i] += u[i] * apart;
            }
        }
        let mut weighted: f64 = weighted.iter().map(|&w| f64::from(w)).sum();
        for (z, u) in z_rest.iter_mut().zip(u_rest) {
            let apart = *u - *z;
            (*z, *u) = (exp(*z - most_z), exp(*u - most_u));
            weighted += f64::from(*u * apart);
        }
        let (sum_z, sum_u) = (f64::from(sum(z)), f64::from(sum(u)));
        let (log_z, log_u) = (sum_z.ln() + f64::from(most_z), sum_u.ln() + f64::from(most_u));
        let (of_z, of_u) = (f64::from(scale) / sum_z, f64::from(scale * share) / sum_u);
        let (of_z, of_u) = (of_z as f32, of_u as f32);
        for (z, &u) in z.iter_mut().zip(&*u) {
            *z = *z * of_z - u * of_u;
        }
        z[target] -= scale * (1.0 - share);
        [weighted / sum_u - log_u + log_z, log_z - f64::from(at_target)]
    }
}

#[cfg(test)]
mod tests {
    use super::super::arithmetic::{Bf16, F32};
    use super::super::testing::{assert_close, gradient, noise};
    use super::*;

    /// `[N, C]` times the head, which is stored as `[V, C]` if it is tied.
    fn logits(x: &[f64], w: &[f64], channels: usize, tied: bool) -> Vec<Vec<f64>> {
        let vocabulary = w.len() / channels;
        let at =
            |c: usize, v: usize| if tied { w[v * channels + c] } else { w[c * vocabulary + v] };
        let row = |x: &[f64]| -> Vec<f64> {
            (0..vocabulary).map(|v| x.iter().enumerate().map(|(c, x)| x * at(c, v)).sum()).collect()
        };
        x.chunks_exact(channels).map(row).collect()
    }

    fn log_softmax(z: &[f64]) -> Vec<f64> {
        let log_sum = z.iter().map(|z| z.exp()).sum::<f64>().ln();
        z.iter().map(|z| z - log_sum).collect()
    }

    /// Divergence and cross-entropy; of the teacher's tokens only those below `known` are, the others
    /// are one outcome.
    fn by_definition(
        z: &[Vec<f64>],
        u: &[Vec<f64>],
        targets: &[u32],
        t: f64,
        known: usize,
    ) -> [f64; 2] {
        let mut totals = [0.0; 2];
        let merged = |log_p: Vec<f64>| -> Vec<f64> {
            let (known, others) = log_p.split_at(known);
            let rest: f64 = others.iter().map(|log_p| log_p.exp()).sum();
            known.iter().copied().chain((!others.is_empty()).then(|| rest.ln())).collect()
        };
        let tempered = |z: &[f64]| z.iter().map(|z| z / t).collect::<Vec<f64>>();
        for ((z, u), &target) in z.iter().zip(u).zip(targets) {
            let [q, p] = [z, u].map(|z| merged(log_softmax(&tempered(z))));
            totals[0] += t * t * p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
            totals[1] -= log_softmax(z)[target as usize];
        }
        totals.map(|total| total / targets.len() as f64)
    }

    fn check<A: Arithmetic>(math: A, [n, c, d, v]: [usize; 4], tied: bool, tolerance: f64) {
        let (x, w) = (noise(n * c, 1), noise(c * v, 2));
        let (y, t) = (noise(n * d, 3), noise(d * v, 4));
        let targets: Vec<u32> = (0..n).map(|i| (i * 7 % v) as u32).collect();
        let weight = |w, tied| if tied { HeadWeight::Tied(w) } else { HeadWeight::Untied(w) };
        let [x64, w64, y64, t64] =
            [&x, &w, &y, &t].map(|v| v.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
        let u = logits(&y64, &t64, d, !tied);
        for (share, temperature) in
            [(0.0_f32, 1.0_f32), (0.3, 1.0), (1.0, 1.0), (0.3, 2.0), (1.0, 0.5)]
        {
            let settings = Distillation { share, temperature };
            for known in [v, v.div_ceil(2)] {
                let (mut ids, mut log_probabilities) = (Vec::new(), Vec::new());
                for u in &u {
                    let u: Vec<f64> = u.iter().map(|u| u / f64::from(temperature)).collect();
                    // In any order.
                    ids.extend((0..known as u32).rev());
                    log_probabilities
                        .extend(log_softmax(&u)[..known].iter().rev().map(|&x| x as f32));
                }
                let recorded =
                    Teacher::Recorded { ids: &ids, log_probabilities: &log_probabilities };
                let whole = Teacher::Head { y: &y, weight: weight(&t, !tied) };
                let teachers = if known == v { vec![whole, recorded] } else { vec![recorded] };
                for teacher in teachers {
                    let found = distill(math, &x, weight(&w, tied), &targets, teacher, settings);
                    let f = |x: &[f64], w: &[f64]| {
                        let z = logits(x, w, c, tied);
                        by_definition(&z, &u, &targets, f64::from(temperature), known)
                    };
                    assert_close(&[found.divergence, found.entropy], &f(&x64, &w64), tolerance);
                    let mixed = |x: &[f64], w: &[f64]| {
                        let ([divergence, entropy], s) = (f(x, w), f64::from(share));
                        vec![s * divergence + (1.0 - s) * entropy]
                    };
                    assert_close(&found.dx, &gradient(&x64, &[1.0], |x| mixed(x, &w64)), tolerance);
                    assert_close(&found.dw, &gradient(&w64, &[1.0], |w| mixed(&x64, w)), tolerance);
                }
            }
        }
    }

    #[test]
    fn losses_and_gradients_on_odd_shapes() {
        for shape in [[1, 1, 3, 2], [3, 5, 1, 17], [17, 33, 3, 3], [33, 3, 5, 7], [259, 2, 2, 5]] {
            for (&isa, tied) in Isa::available().iter().flat_map(|isa| [(isa, false), (isa, true)])
            {
                check(F32(isa), shape, tied, 2e-5);
                check(Bf16(isa), shape, tied, 0.1);
            }
        }
    }

    #[test]
    fn a_model_that_is_its_own_teacher_has_nothing_to_learn() {
        let (x, w) = (noise(5 * 33, 1), noise(33 * 17, 2));
        let weight = HeadWeight::Untied(&w);
        let teacher = Teacher::Head { y: &x, weight };
        for temperature in [1.0, 3.0] {
            let settings = Distillation { share: 1.0, temperature };
            let found = distill(F32(Isa::best()), &x, weight, &[0, 1, 2, 3, 4], teacher, settings);
            assert!(found.divergence.abs() < 1e-6, "{}", found.divergence);
            assert!(found.dx.iter().chain(&found.dw).all(|g| g.abs() < 1e-6));
        }
    }
}
