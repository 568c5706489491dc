//! The output head and its loss, some rows at a time.
//!
//! Both gradients are computed in the forward pass, while the logits exist, by the formulas of
//! [`crate::cpu::distillation`].
//!
//! The vocabulary is padded to whole rows of [`LANES`]; nanoGPT pads it to 50,304 for the same
//! reason: GPT-2's 50,257 is odd, and kernels load and store four or more numbers at once.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};

use super::product::{product, product_of_transposed};
use super::{LANES, contiguous, piece, raw, rounded, same, sum};
use crate::distillation::{Distillation, DistilledLoss, OutputHead, Predictions};
use crate::graph::{KernelBackend, Operand, join};
use crate::pass::Precision;

/// The logit of a padding token, so that its probability is 0.
const ABSENT: f32 = -1e9;

/// Shapes as in [`crate::head_loss`].
pub(crate) fn head_loss<B: KernelBackend>(
    head: OutputHead,
    targets: Tensor<1, Int>,
    precision: Precision,
) -> Tensor<1> {
    let rows = rows(&head);
    in_pieces::<B>(head, None, targets, None, precision, rows).0
}

/// As [`crate::weighted_head_loss`].
pub(crate) fn weighted_head_loss<B: KernelBackend>(
    head: OutputHead,
    targets: Tensor<1, Int>,
    weights: &[f32],
    precision: Precision,
) -> Tensor<1> {
    let rows = rows(&head);
    in_pieces::<B>(head, None, targets, Some(weights), precision, rows).0
}

/// As [`crate::head_losses`].
pub(crate) fn head_losses<B: KernelBackend>(
    head: OutputHead,
    targets: Tensor<1, Int>,
    precision: Precision,
) -> Tensor<1> {
    let rows = rows(&head);
    let head = Output::new(head.x, head.weight, head.tied, precision);
    let [n, _] = head.x.dims();
    let losses = (0..n).step_by(rows).map(|start| {
        let range = [start, (start + rows).min(n)];
        let targets = targets.clone().narrow(0, start, range[1] - start);
        head.losses(&head.log_probabilities::<B>(range), targets)
    });
    Tensor::cat(losses.collect(), 0)
}

/// As [`crate::distilled_head_loss`].
pub(crate) fn distilled_head_loss<B: KernelBackend>(
    student: OutputHead,
    teacher: Predictions,
    targets: Tensor<1, Int>,
    settings: Distillation,
    precision: Precision,
) -> DistilledLoss {
    let rows = rows(&student);
    let (loss, [entropy, divergence]) =
        in_pieces::<B>(student, Some((teacher, settings)), targets, None, precision, rows);
    let [entropy, divergence] =
        [entropy, divergence].map(|value| f64::from(value.into_scalar::<f32>()));
    DistilledLoss { loss, divergence, entropy }
}

/// Rows whose logits exist at once.
fn rows(head: &OutputHead) -> usize {
    let [[n, c], weight] = [head.x.dims(), head.weight.dims()];
    let vocabulary = weight[0] * weight[1] / c;
    piece(n, vocabulary.next_multiple_of(LANES))
}

/// The loss in the graph of the student, its cross-entropy, and its divergence from a teacher,
/// which is weighted by a share. Each is a mean over the rows, or with `weights` their weighted sum.
pub(super) fn in_pieces<B: KernelBackend>(
    student: OutputHead,
    teacher: Option<(Predictions, Distillation)>,
    targets: Tensor<1, Int>,
    weights: Option<&[f32]>,
    precision: Precision,
    rows: usize,
) -> (Tensor<1>, [Tensor<1>; 2]) {
    let tied = student.tied;
    let (x, weight) = (Operand::<B>::new(student.x), Operand::new(student.weight));
    let [wants_x, wants_weight] = [&x, &weight].map(Operand::wants_gradient);
    let share = teacher.as_ref().map_or(0.0, |(_, settings)| f64::from(settings.share));
    let head = Output::new(x.tensor(), weight.tensor(), tied, precision);
    let teacher = teacher.map(|(teacher, settings)| {
        let taught = match teacher {
            Predictions::Head(head) => {
                let head = head.inner();
                let head = Output::new(head.x, head.weight, head.tied, precision);
                Taught::Head(Box::new(head))
            }
            Predictions::Recorded { ids, log_probabilities } => {
                Taught::Recorded(Box::new((ids.inner(), log_probabilities.inner())))
            }
        };
        (taught, f64::from(settings.temperature))
    });
    let targets = targets.inner();
    let [n, c] = head.x.dims();
    let weights = weights.map(|weights| {
        assert_eq!(weights.len(), n, "a weight for each row");
        Tensor::<1>::from_floats(weights, &head.x.device())
    });
    let (mut entropies, mut divergences) = (Vec::new(), Vec::new());
    let (mut dx, mut dw) = (Vec::new(), None);
    for start in (0..n).step_by(rows) {
        let range = [start, (start + rows).min(n)];
        let count = range[1] - range[0];
        let targets = targets.clone().narrow(0, start, count);
        let log_q = head.log_probabilities::<B>(range); // [rows, lanes, LANES]
        entropies.push(head.losses(&log_q, targets.clone()));
        let lesson = teacher.as_ref().map(|(taught, temperature)| {
            let log_q = tempered(log_q.clone(), *temperature);
            let lesson = match taught {
                Taught::Head(head) => {
                    let log_p = head.log_probabilities::<B>(range);
                    Lesson::of_all(&log_q, tempered(log_p, *temperature))
                }
                Taught::Recorded(known) => {
                    let (ids, log_p) = known.as_ref();
                    let ids = ids.clone().narrow(0, start, count);
                    let log_p = log_p.clone().narrow(0, start, count);
                    Lesson::of_some(&log_q, ids, log_p, head.vocabulary)
                }
            };
            divergences.push(lesson.divergence.clone() * (temperature * temperature));
            lesson.apart * *temperature
        });
        if !wants_x && !wants_weight {
            continue;
        }
        let plain = log_q.exp() - head.hits(targets);
        let dlogits = match lesson {
            Some(apart) => apart * share + plain * (1.0 - share),
            None => plain,
        };
        let dlogits = match &weights {
            Some(weights) => {
                dlogits * weights.clone().narrow(0, start, count).reshape([count, 1, 1])
            }
            None => dlogits / n as f64,
        };
        let dlogits = rounded(dlogits, precision).reshape([count, head.columns()]);
        if wants_weight {
            let part = product_of_transposed::<B>(head.rows(range), dlogits.clone()); // [C, columns]
            dw = Some(match dw {
                Some(sum) => sum + part,
                None => part,
            });
        }
        if wants_x {
            dx.push(product::<B, 2>(dlogits, head.back.clone()));
        }
    }
    let mean = |values: Vec<Tensor<1>>| match &weights {
        Some(weights) => sum(Tensor::cat(values, 0) * weights.clone()),
        None => sum(Tensor::cat(values, 0)) / n as f64,
    };
    let entropy = mean(entropies);
    let divergence = match divergences.is_empty() {
        true => entropy.zeros_like(),
        false => mean(divergences),
    };
    let loss = divergence.clone() * share + entropy.clone() * (1.0 - share);
    let v = head.vocabulary;
    let loss = join([&x, &weight], loss, move |scale: Tensor<1>, _| {
        let scale = scale.unsqueeze::<2>(); // [1, 1]
        let dx = (!dx.is_empty()).then(|| raw::<B, 2>(Tensor::cat(dx, 0) * scale.clone()));
        let dw = dw.map(|dw: Tensor<2>| {
            let dw = dw.slice([0..c, 0..v]) * scale;
            raw::<B, 2>(if tied { contiguous(dw.transpose()) } else { dw })
        });
        [dx, dw]
    });
    (loss, [entropy, divergence])
}

/// A teacher's head, or its recorded predictions: ids and logarithms `[N, k]`.
enum Taught {
    Head(Box<Output>),
    Recorded(Box<(Tensor<2, Int>, Tensor<2>)>),
}

/// What rows learn from a teacher.
struct Lesson {
    /// `[rows]`, without the square of the temperature.
    divergence: Tensor<1>,
    /// The derivative of the divergence by the logits over the temperature, `[rows, lanes, LANES]`.
    apart: Tensor<3>,
}

impl Lesson {
    /// From the probabilities of all tokens.
    fn of_all(log_q: &Tensor<3>, log_p: Tensor<3>) -> Self {
        let p = log_p.clone().exp();
        let divergence = rows_of(p.clone() * (log_p - log_q.clone()));
        Lesson { divergence, apart: log_q.clone().exp() - p }
    }

    /// From those of the likeliest tokens; all others are one outcome.
    fn of_some(
        log_q: &Tensor<3>,
        ids: Tensor<2, Int>,
        log_p: Tensor<2>,
        vocabulary: usize,
    ) -> Self {
        let [rows, lanes, width] = log_q.dims();
        let [_, k] = ids.dims();
        let by_token = log_q.clone().reshape([rows, lanes * width]);
        let p = log_p.clone().exp();
        let known = (p.clone() * (log_p - by_token.clone().gather(1, ids.clone()))).sum_dim(1);
        let zeros = by_token.zeros_like();
        let is_known = zeros.clone().scatter(1, ids.clone(), p.ones_like(), IndexingUpdateOp::Add);
        let expected = zeros.scatter(1, ids, p.clone(), IndexingUpdateOp::Add);
        let q = by_token.exp();
        let others = q.clone() * (is_known.ones_like() - is_known);
        if k >= vocabulary {
            let apart = (q - expected).reshape([rows, lanes, width]);
            return Lesson { divergence: known.reshape([rows]), apart };
        }
        let left = (p.sum_dim(1).neg() + 1.0).clamp_min(0.0); // [rows, 1]
        let rest = others.clone().sum_dim(1).clamp_min(f32::MIN_POSITIVE);
        let log_left = left.clone().clamp_min(f32::MIN_POSITIVE).log();
        let divergence = known + left.clone() * (log_left - rest.clone().log());
        let apart = q - expected - others * (left / rest);
        let apart = apart.reshape([rows, lanes, width]);
        Lesson { divergence: divergence.reshape([rows]), apart }
    }
}

/// Logarithms of predictions at another temperature.
fn tempered(log_q: Tensor<3>, temperature: f64) -> Tensor<3> {
    if temperature == 1.0 {
        return log_q;
    }
    let scaled = log_q / temperature;
    let most = scaled.clone().max_dim(2).max_dim(1);
    let sum = (scaled.clone() - most.clone()).exp().sum_dim(2).sum_dim(1);
    scaled - (most + sum.log())
}

/// The sum of each row: `[rows, lanes, LANES]` -> `[rows]`.
fn rows_of(values: Tensor<3>) -> Tensor<1> {
    let [rows, _, _] = values.dims();
    values.sum_dim(2).sum_dim(1).reshape([rows])
}

/// A head in the layout that products read, padded with tokens that do not exist, and its input.
struct Output {
    /// `[N, C]`
    x: Tensor<2>,
    /// Tokens without the padding.
    vocabulary: usize,
    /// Number of rows of [`LANES`] that hold all tokens.
    lanes: usize,
    /// `[C, columns]`
    weight: Tensor<2>,
    /// The same transposed, `[columns, C]`, for the backward pass.
    back: Tensor<2>,
    /// Added to each row of logits, `[1, lanes, LANES]`.
    absent: Tensor<3>,
    /// The number of each token, `[1, lanes, LANES]`.
    numbers: Tensor<3>,
}

impl Output {
    /// `weight [C, V]`, or `[V, C]` if it is the tied embedding.
    fn new(x: Tensor<2>, weight: Tensor<2>, tied: bool, precision: Precision) -> Self {
        let [x, weight] = [x, weight].map(|matrix| rounded(matrix, precision));
        let by_token = if tied { weight } else { contiguous(weight.transpose()) }; // [V, C]
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
        let numbers = row(&|token| token as f32);
        let weight = contiguous(back.clone().transpose());
        Output { x, vocabulary, lanes, weight, back, absent, numbers }
    }

    /// All tokens.
    fn columns(&self) -> usize {
        self.lanes * LANES
    }

    /// Rows `start` to `end` of the input.
    fn rows(&self, [start, end]: [usize; 2]) -> Tensor<2> {
        self.x.clone().narrow(0, start, end - start)
    }

    /// Logarithms of the predictions of rows: `[rows, lanes, LANES]`.
    fn log_probabilities<B: KernelBackend>(&self, range: [usize; 2]) -> Tensor<3> {
        let logits = product::<B, 2>(self.rows(range), self.weight.clone());
        let logits = logits.reshape([range[1] - range[0], self.lanes, LANES]);
        let logits = logits + self.absent.clone();
        let most = logits.clone().max_dim(2).max_dim(1); // [rows, 1, 1]
        let sum = (logits.clone() - most.clone()).exp().sum_dim(2).sum_dim(1);
        logits - (most + sum.log())
    }

    /// The loss of each row `[rows]` from the logarithms of its predictions.
    fn losses(&self, log_probabilities: &Tensor<3>, targets: Tensor<1, Int>) -> Tensor<1> {
        let [rows] = targets.dims();
        let by_token = log_probabilities.clone().reshape([rows, self.columns()]);
        -by_token.gather(1, targets.unsqueeze_dim::<2>(1)).reshape([rows])
    }

    /// 1 where a row has its target, 0 elsewhere: `targets [rows]` -> `[rows, lanes, LANES]`.
    fn hits(&self, targets: Tensor<1, Int>) -> Tensor<3> {
        let [rows] = targets.dims();
        same(self.numbers.clone(), targets.float().reshape([rows, 1, 1]))
    }
}
