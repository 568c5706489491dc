//! The output head and its loss in one operation: logits, cross-entropy, and both gradients.
//!
//! ```text
//! z [N, V] = x [N, C] W [C, V]
//! loss = mean over rows of (log sum_j e^z[j] - z[target])
//! dz = (softmax(z) - onehot(target)) / N      dx = dz W^T      dW = x^T dz
//! ```
//!
//! With [`RowWeights::Each`] the loss is the sum of the rows' losses times their weights, and a row's
//! weight stands in place of `1 / N`.
//!
//! The logits are the largest tensor of a training step (one number for each token and each entry
//! of the vocabulary), so only those of some rows exist at a time, and their gradient replaces them
//! in place.

use rayon::prelude::*;

use super::arithmetic::Arithmetic;
use super::matmul::OutputMode;
use super::matmul::pack::Matrix;
use super::simd::{exp, max};
use isa::{Isa, vectorised};

/// Rows whose logits exist at once.
pub(super) const ROWS: usize = 512;

/// The head's weight and its layout in memory.
#[derive(Debug, Clone, Copy)]
pub enum HeadWeight<'a> {
    /// `[C, V]`: a separate linear layer.
    Untied(&'a [f32]),
    /// `[V, C]`: the token embedding's table.
    Tied(&'a [f32]),
}

impl<'a> HeadWeight<'a> {
    pub(super) fn numbers(self) -> &'a [f32] {
        match self {
            HeadWeight::Untied(w) | HeadWeight::Tied(w) => w,
        }
    }

    /// The weight as `[C, V]`.
    pub(super) fn matrix(self, channels: usize) -> Matrix<'a> {
        let vocabulary = self.numbers().len() / channels;
        match self {
            HeadWeight::Untied(w) => Matrix::new(w, channels, vocabulary),
            HeadWeight::Tied(w) => Matrix::new(w, vocabulary, channels).transpose(),
        }
    }
}

/// How the losses of the rows become one.
#[derive(Debug, Clone, Copy)]
pub enum RowWeights<'a> {
    /// Their mean.
    Mean,
    /// Their sum, each times its weight `[N]`.
    Each(&'a [f32]),
}

impl<'a> RowWeights<'a> {
    /// The weights of each part of at most [`ROWS`] of `rows` rows.
    fn parts(self, rows: usize) -> Vec<Scales<'a>> {
        match self {
            RowWeights::Mean => vec![Scales::Same(1.0 / rows as f32); rows.div_ceil(ROWS)],
            RowWeights::Each(weights) => {
                assert_eq!(weights.len(), rows, "a weight for each row");
                weights.chunks(ROWS).map(Scales::Each).collect()
            }
        }
    }
}

/// The factors on the gradients of some rows.
#[derive(Debug, Clone, Copy)]
enum Scales<'a> {
    Same(f32),
    Each(&'a [f32]),
}

impl Scales<'_> {
    fn of(self, row: usize) -> f32 {
        match self {
            Scales::Same(scale) => scale,
            Scales::Each(scales) => scales[row],
        }
    }
}

/// The loss and the gradients of its two inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadLoss {
    /// Of all rows together, in nats.
    pub loss: f32,
    /// `[N, C]`
    pub dx: Vec<f32>,
    /// In the layout of the weight.
    pub dw: Vec<f32>,
}

/// The mean loss alone, for evaluation.
pub fn loss<A: Arithmetic>(
    math: A,
    x: &[f32],
    channels: usize,
    weight: HeadWeight<'_>,
    targets: &[u32],
) -> f32 {
    let mut total = 0.0;
    in_parts(math, x, channels, weight, targets, |losses| total += losses.iter().sum::<f64>());
    (total / targets.len() as f64) as f32
}

/// The loss of each row `[N]`, in nats.
pub fn losses<A: Arithmetic>(
    math: A,
    x: &[f32],
    channels: usize,
    weight: HeadWeight<'_>,
    targets: &[u32],
) -> Vec<f32> {
    let mut each = Vec::with_capacity(targets.len());
    in_parts(math, x, channels, weight, targets, |losses| {
        each.extend(losses.iter().map(|&loss| loss as f32));
    });
    each
}

/// Calls `visit` with the losses of at most [`ROWS`] rows at a time.
fn in_parts<A: Arithmetic>(
    math: A,
    x: &[f32],
    channels: usize,
    weight: HeadWeight<'_>,
    targets: &[u32],
    mut visit: impl FnMut(&[f64]),
) {
    assert_eq!(x.len(), targets.len() * channels, "x of [N, C] and N targets");
    for (x, targets) in x.chunks(ROWS * channels).zip(targets.chunks(ROWS)) {
        let x = Matrix::new(x, targets.len(), channels);
        let mut logits = math.product_once(x, weight.matrix(channels));
        visit(&row_losses(math.isa(), &mut logits, targets, None));
    }
}

/// The loss of all rows together, with the gradients of `x` and the weight.
pub fn loss_and_gradients<A: Arithmetic>(
    math: A,
    x: &[f32],
    channels: usize,
    weight: HeadWeight<'_>,
    targets: &[u32],
    weights: RowWeights<'_>,
) -> HeadLoss {
    assert_eq!(x.len(), targets.len() * channels, "x of [N, C] and N targets");
    let vocabulary = weight.numbers().len() / channels;
    let scales = weights.parts(targets.len());
    let (mut dx, mut dw) = (Vec::with_capacity(x.len()), None);
    let mut total = 0.0;
    // `product_once`, although the weight is used for every part: a packed copy of it would be the
    // memory peak of a training step.
    for ((x, targets), scales) in x.chunks(ROWS * channels).zip(targets.chunks(ROWS)).zip(scales) {
        let x = Matrix::new(x, targets.len(), channels);
        let mut z = math.product_once(x, weight.matrix(channels));
        let losses = row_losses(math.isa(), &mut z, targets, Some(scales));
        total += match scales {
            Scales::Same(_) => losses.iter().sum::<f64>(),
            Scales::Each(scales) => losses.iter().zip(scales).map(|(x, &w)| x * f64::from(w)).sum(),
        };
        let dz = Matrix::new(&z, targets.len(), vocabulary);
        dx.extend(math.product_once(dz, weight.matrix(channels).transpose()));
        add_weight_gradient(math, weight, x, dz, &mut dw);
    }
    let dw = dw.unwrap_or_else(|| vec![0.0; weight.numbers().len()]);
    let loss = match weights {
        RowWeights::Mean => total / targets.len() as f64,
        RowWeights::Each(_) => total,
    };
    HeadLoss { loss: loss as f32, dx, dw }
}

/// Adds `dW = x^T dz` to the gradient; its transpose if the weight is stored transposed.
pub(super) fn add_weight_gradient<A: Arithmetic>(
    math: A,
    weight: HeadWeight<'_>,
    x: Matrix<'_>,
    dz: Matrix<'_>,
    dw: &mut Option<Vec<f32>>,
) {
    let (left, right) = match weight {
        HeadWeight::Untied(_) => (x.transpose(), dz),
        HeadWeight::Tied(_) => (dz.transpose(), x),
    };
    match dw {
        None => *dw = Some(math.product_once(left, right)),
        Some(dw) => math.multiply(&math.left(left), &math.right(right), dw, OutputMode::Add),
    }
}

/// The losses of the rows. With scales, the logits are replaced by their gradients times them.
fn row_losses(
    isa: Isa,
    logits: &mut [f32],
    targets: &[u32],
    scales: Option<Scales<'_>>,
) -> Vec<f64> {
    let vocabulary = logits.len() / targets.len();
    logits
        .par_chunks_mut(vocabulary)
        .zip(targets)
        .enumerate()
        .map(|(at, (row, &target))| {
            row_loss(isa, row, target as usize, scales.map(|scales| scales.of(at)))
        })
        .collect()
}

vectorised! {
    fn row_loss(row: &mut [f32], target: usize, gradient_scale: Option<f32>) -> f64 {
        let most = max(row);
        let at_target = row[target];
        let mut sums = [0.0_f32; 16];
        let (blocks, rest) = row.as_chunks_mut::<16>();
        for block in blocks {
            for i in 0..16 {
                block[i] = exp(block[i] - most);
                sums[i] += block[i];
            }
        }
        let mut sum: f64 = sums.iter().map(|&s| f64::from(s)).sum();
        for z in rest {
            *z = exp(*z - most);
            sum += f64::from(*z);
        }
        if let Some(scale) = gradient_scale {
            let factor = (f64::from(scale) / sum) as f32;
            for z in row.iter_mut() {
                *z *= factor;
            }
            row[target] -= scale;
        }
        sum.ln() + f64::from(most) - f64::from(at_target)
    }
}

#[cfg(test)]
mod tests {
    use super::super::arithmetic::{Bf16, F32};
    use super::super::testing::{assert_close, gradient, noise};
    use super::*;

    fn by_definition(
        x: &[f64],
        w: &[f64],
        channels: usize,
        tied: bool,
        targets: &[u32],
    ) -> Vec<f64> {
        let vocabulary = w.len() / channels;
        let at =
            |c: usize, v: usize| if tied { w[v * channels + c] } else { w[c * vocabulary + v] };
        let mut total = 0.0;
        for (x, &target) in x.chunks_exact(channels).zip(targets) {
            let z: Vec<f64> = (0..vocabulary)
                .map(|v| x.iter().enumerate().map(|(c, x)| x * at(c, v)).sum())
                .collect();
            total += z.iter().map(|z| z.exp()).sum::<f64>().ln() - z[target as usize];
        }
        vec![total / targets.len() as f64]
    }

    fn check<A: Arithmetic>(
        math: A,
        rows: usize,
        channels: usize,
        vocabulary: usize,
        tied: bool,
        tolerance: f64,
    ) {
        let (x, w) = (noise(rows * channels, 1), noise(channels * vocabulary, 2));
        let targets: Vec<u32> = (0..rows).map(|i| (i * 7 % vocabulary) as u32).collect();
        let weight = if tied { HeadWeight::Tied(&w) } else { HeadWeight::Untied(&w) };
        let [x64, w64] = [&x, &w].map(|v| v.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
        let found = loss_and_gradients(math, &x, channels, weight, &targets, RowWeights::Mean);
        let f = |x: &[f64], w: &[f64]| by_definition(x, w, channels, tied, &targets);
        assert_close(&[found.loss], &f(&x64, &w64), tolerance);
        assert_eq!(found.loss, loss(math, &x, channels, weight, &targets));
        assert_close(&found.dx, &gradient(&x64, &[1.0], |x| f(x, &w64)), tolerance);
        assert_close(&found.dw, &gradient(&w64, &[1.0], |w| f(&x64, w)), tolerance);
    }

    #[test]
    fn loss_and_gradients_on_odd_shapes() {
        for (rows, channels, vocabulary) in
            [(1, 1, 2), (3, 5, 17), (17, 33, 3), (33, 3, 7), (259, 2, 5)]
        {
            for (&isa, tied) in Isa::available().iter().flat_map(|isa| [(isa, false), (isa, true)])
            {
                check(F32(isa), rows, channels, vocabulary, tied, 2e-5);
                check(Bf16(isa), rows, channels, vocabulary, tied, 2e-2);
            }
        }
    }

    #[test]
    fn huge_logits_give_a_finite_loss() {
        let weight = [1e4, -1e4];
        let found = loss_and_gradients(
            F32(Isa::best()),
            &[1.0],
            1,
            HeadWeight::Untied(&weight),
            &[1],
            RowWeights::Mean,
        );
        assert_eq!(found.loss, 2e4);
        assert_eq!(found.dx, [2e4]);
    }
}
