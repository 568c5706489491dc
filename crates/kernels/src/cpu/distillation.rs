//! The output head with a distillation loss (Hinton, Vinyals and Dean, "Distilling the knowledge in
//! a neural network", 2015, at temperature 1), in addition to the text's loss or instead of it.
//!
//! ```text
//! z [N, V] = x W      u [N, V] = y U, the teacher's      q = softmax(z)      p = softmax(u)
//! divergence = mean over rows of sum_j p[j] (log p[j] - log q[j])
//! entropy    = mean over rows of -log q[target]
//! loss = s divergence + (1 - s) entropy      dz = (q - s p - (1 - s) onehot(target)) / N
//! ```
//!
//! As in [`head`](super::head), only the logits of some rows exist at a time.

use rayon::prelude::*;

use super::arithmetic::Arithmetic;
use super::head::{HeadWeight, ROWS, add_weight_gradient};
use super::matmul::pack::Matrix;
use super::simd::{exp, max, sum};
use isa::vectorised;

/// Where the teacher's predictions come from.
#[derive(Debug, Clone, Copy)]
pub struct Teacher<'a> {
    /// Its residual stream after the last normalisation, `[N, D]`.
    pub y: &'a [f32],
    /// Its head.
    pub weight: HeadWeight<'a>,
    /// The share of the divergence in the loss: `s`, from 0 to 1.
    pub share: f32,
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
) -> Distilled {
    let n = targets.len();
    let (channels, wide) = (x.len() / n, teacher.y.len() / n);
    assert_eq!((x.len(), teacher.y.len()), (n * channels, n * wide), "N targets");
    let vocabulary = weight.numbers().len() / channels;
    assert_eq!(teacher.weight.numbers().len(), wide * vocabulary, "one vocabulary");
    let (mut dx, mut dw) = (Vec::with_capacity(x.len()), None);
    let mut totals = [0.0; 2];
    let parts = x.chunks(ROWS * channels).zip(teacher.y.chunks(ROWS * wide));
    for ((x, y), targets) in parts.zip(targets.chunks(ROWS)) {
        let x = Matrix::new(x, targets.len(), channels);
        let y = Matrix::new(y, targets.len(), wide);
        let mut z = math.product_once(x, weight.matrix(channels));
        let mut u = math.product_once(y, teacher.weight.matrix(wide));
        let rows = z.par_chunks_mut(vocabulary).zip(u.par_chunks_mut(vocabulary)).zip(targets);
        let scale = 1.0 / n as f32;
        let each: Vec<[f64; 2]> = rows
            .map(|((z, u), &target)| {
                row_losses(math.isa(), z, u, target as usize, teacher.share, scale)
            })
            .collect();
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
    use isa::Isa;

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

    /// Divergence and cross-entropy.
    fn by_definition(z: &[Vec<f64>], u: &[Vec<f64>], targets: &[u32]) -> [f64; 2] {
        let mut totals = [0.0; 2];
        for ((z, u), &target) in z.iter().zip(u).zip(targets) {
            let (q, p) = (log_softmax(z), log_softmax(u));
            totals[0] += p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
            totals[1] -= q[target as usize];
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
        for share in [0.0_f32, 0.3, 1.0] {
            let teacher = Teacher { y: &y, weight: weight(&t, !tied), share };
            let found = distill(math, &x, weight(&w, tied), &targets, teacher);
            let f = |x: &[f64], w: &[f64]| by_definition(&logits(x, w, c, tied), &u, &targets);
            assert_close(&[found.divergence, found.entropy], &f(&x64, &w64), tolerance);
            let mixed = |x: &[f64], w: &[f64]| {
                let ([divergence, entropy], s) = (f(x, w), f64::from(share));
                vec![s * divergence + (1.0 - s) * entropy]
            };
            assert_close(&found.dx, &gradient(&x64, &[1.0], |x| mixed(x, &w64)), tolerance);
            assert_close(&found.dw, &gradient(&w64, &[1.0], |w| mixed(&x64, w)), tolerance);
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
        let teacher = Teacher { y: &x, weight, share: 1.0 };
        let found = distill(F32(Isa::best()), &x, weight, &[0, 1, 2, 3, 4], teacher);
        assert!(found.divergence.abs() < 1e-7, "{}", found.divergence);
        assert!(found.dx.iter().chain(&found.dw).all(|g| g.abs() < 1e-7));
    }
}
