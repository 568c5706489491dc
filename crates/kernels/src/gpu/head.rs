//! The output head and its loss, some rows at a time.

use burn::tensor::{Int, Tensor, TensorData};

use super::product::{product, product_of_turned};
use super::{LANES, laid_out, raw, rounded, same, sum};
use crate::graph::{Home, Operand, join};
use crate::pass::Precision;

/// Numbers of the logits that exist at once: a gigabyte of f32.
const LOGITS: usize = 1 << 28;

/// What the logit of a token that does not exist becomes: its probability is 0.
const ABSENT: f32 = -1e9;

/// Shapes as in [`crate::head_loss`].
///
/// Both gradients are computed in the forward pass, while the logits are there:
/// `dlogits = (softmax(logits) - onehot(target)) / N`.
///
/// The vocabulary is filled up to whole rows of [`LANES`], which nanoGPT does to 50,304 for the same
/// reason: GPT-2's 50,257 has no even factor, and kernels move numbers by fours and more.
pub(crate) fn head_loss<B: Home>(
    x: Tensor<2>,
    weight: Tensor<2>,
    tied: bool,
    targets: Tensor<1, Int>,
    precision: Precision,
) -> Tensor<1> {
    let (x, weight, targets) = (Operand::<B>::new(x), Operand::new(weight), targets.inner());
    let wants_gradients = x.tracked.is_some() || weight.tracked.is_some();
    let [n, c] = x.tensor::<2>().dims();
    let input = rounded(x.tensor::<2>(), precision);
    let head = Head::new(rounded(weight.tensor(), precision), tied);
    let rows = rows(n, head.columns());
    let (mut losses, mut dx, mut dw) = (Vec::new(), Vec::new(), None);
    for start in (0..n).step_by(rows) {
        let end = (start + rows).min(n);
        let x = input.clone().slice([start..end, 0..c]);
        let targets = targets.clone().narrow(0, start, end - start);
        let logits = head.logits::<B>(x.clone()); // [rows, lanes, LANES]
        let most = logits.clone().max_dim(2).max_dim(1); // [rows, 1, 1]
        let sum = (logits.clone() - most.clone()).exp().sum_dim(2).sum_dim(1);
        let log_sum = most + sum.log(); // [rows, 1, 1]
        let target = logits.clone().reshape([end - start, head.columns()]);
        let target = target.gather(1, targets.clone().unsqueeze_dim::<2>(1)); // [rows, 1]
        losses.push((log_sum.clone().reshape([end - start, 1]) - target).reshape([end - start]));
        if wants_gradients {
            let dlogits = ((logits - log_sum).exp() - head.hits(targets)) / n as f64;
            let dlogits = rounded(dlogits, precision).reshape([end - start, head.columns()]);
            let part = product_of_turned::<B>(x, dlogits.clone()); // [C, columns]
            dx.push(product::<B, 2>(dlogits, head.back.clone()));
            dw = Some(match dw {
                Some(sum) => sum + part,
                None => part,
            });
        }
    }
    let loss = sum(Tensor::cat(losses, 0)) / n as f64;
    let v = head.vocabulary;
    join([&x, &weight], loss, move |scale: Tensor<1>, _| {
        let scale = scale.unsqueeze::<2>(); // [1, 1]
        let dx = (!dx.is_empty()).then(|| raw::<B, 2>(Tensor::cat(dx, 0) * scale.clone()));
        let dw = dw.map(|dw: Tensor<2>| {
            let dw = dw.slice([0..c, 0..v]) * scale;
            raw::<B, 2>(if tied { laid_out(dw.transpose()) } else { dw })
        });
        [dx, dw]
    })
}

/// Rows of `n` whose logits of `columns` exist at once, as even as the power of two that parts them.
fn rows(n: usize, columns: usize) -> usize {
    let mut rows = n;
    while rows * columns > LOGITS && rows > 1 {
        rows = rows.div_ceil(2);
    }
    rows
}

/// The head as products read it, filled up with tokens that do not exist.
struct Head {
    /// Tokens that exist.
    vocabulary: usize,
    /// Rows of [`LANES`] that all tokens make.
    lanes: usize,
    /// `[C, columns]`
    weight: Tensor<2>,
    /// The same turned, `[columns, C]`: the way back.
    back: Tensor<2>,
    /// What is added to each row of logits, `[1, lanes, LANES]`.
    absent: Tensor<3>,
    /// The number of each token, `[1, lanes, LANES]`.
    numbers: Tensor<3>,
}

impl Head {
    /// `weight [C, V]`, or `[V, C]` where it is the tied embedding.
    fn new(weight: Tensor<2>, tied: bool) -> Self {
        let by_token = if tied { weight } else { laid_out(weight.transpose()) }; // [V, C]
        let [vocabulary, c] = by_token.dims();
        let lanes = vocabulary.div_ceil(LANES);
        let device = by_token.device();
        let fill = Tensor::zeros([lanes * LANES - vocabulary, c], (&device, by_token.dtype()));
        let back = Tensor::cat(vec![by_token, fill], 0);
        let row = |of: &dyn Fn(usize) -> f32| {
            let row: Vec<f32> = (0..lanes * LANES).map(of).collect();
            Tensor::from_data(TensorData::new(row, [1, lanes, LANES]), &device)
        };
        let absent = row(&|token| if token < vocabulary { 0.0 } else { ABSENT });
        let weight = laid_out(back.clone().transpose());
        Head { vocabulary, lanes, weight, back, absent, numbers: row(&|token| token as f32) }
    }

    /// All tokens.
    fn columns(&self) -> usize {
        self.lanes * LANES
    }

    /// `x [rows, C]` -> `[rows, lanes, LANES]`.
    fn logits<B: Home>(&self, x: Tensor<2>) -> Tensor<3> {
        let [rows, _] = x.dims();
        let logits = product::<B, 2>(x, self.weight.clone());
        logits.reshape([rows, self.lanes, LANES]) + self.absent.clone()
    }

    /// 1 where a row has its target, 0 elsewhere: `targets [rows]` -> `[rows, lanes, LANES]`.
    fn hits(&self, targets: Tensor<1, Int>) -> Tensor<3> {
        let [rows] = targets.dims();
        same(self.numbers.clone(), targets.float().reshape([rows, 1, 1]))
    }
}
