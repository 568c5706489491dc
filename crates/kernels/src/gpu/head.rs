//! The output head and its loss, some rows at a time.

use burn::tensor::{Int, Tensor};

use super::{raw, rounded, widened};
use crate::graph::{Home, Operand, join};
use crate::pass::Precision;

/// Rows whose logits exist at once.
const ROWS: usize = 2048;

/// Shapes as in [`crate::head_loss`].
///
/// Both gradients are computed in the forward pass, while the logits are there:
/// `dlogits = (softmax(logits) - onehot(target)) / N`.
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
    // [C, V], however it lies.
    let head = rounded(weight.tensor::<2>(), precision);
    let head = if tied { head.transpose() } else { head };
    let [_, v] = head.dims();
    let numbers = Tensor::<1, Int>::arange(0..v as i64, &input.device()).unsqueeze::<2>(); // [1, V]
    let (mut losses, mut dx, mut dw) = (Vec::new(), Vec::new(), None);
    for start in (0..n).step_by(ROWS) {
        let end = (start + ROWS).min(n);
        let x = input.clone().slice([start..end, 0..c]);
        let targets = targets.clone().slice([start..end]).unsqueeze_dim::<2>(1); // [rows, 1]
        let logits = widened(x.clone().matmul(head.clone())); // [rows, V]
        let shifted = logits.clone() - logits.max_dim(1);
        let target = shifted.clone().gather(1, targets.clone()); // [rows, 1]
        let log_sum = shifted.clone().exp().sum_dim(1).log(); // [rows, 1]
        losses.push((log_sum.clone() - target).sum());
        if wants_gradients {
            let hit = targets.equal(numbers.clone()).float(); // [rows, V]
            let dlogits = ((shifted - log_sum).exp() - hit) / n as f64;
            let dlogits = rounded(dlogits, precision);
            dx.push(widened(dlogits.clone().matmul(head.clone().transpose())));
            let part = if tied {
                dlogits.transpose().matmul(x) // [V, C]
            } else {
                x.transpose().matmul(dlogits) // [C, V]
            };
            let part = widened(part);
            dw = Some(match dw {
                Some(sum) => sum + part,
                None => part,
            });
        }
    }
    let loss = Tensor::cat(losses, 0).sum() / n as f64;
    join([&x, &weight], loss, move |scale: Tensor<1>, _| {
        let scale = scale.unsqueeze::<2>(); // [1, 1]
        let dx = (!dx.is_empty()).then(|| raw::<B, 2>(Tensor::cat(dx, 0) * scale.clone()));
        [dx, dw.map(|dw: Tensor<2>| raw::<B, 2>(dw * scale))]
    })
}
