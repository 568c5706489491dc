//! AdamW, and the gradient norm for clipping.
//!
//! On Flex both are one parallel pass over the tensors' own memory: the buffer of a tensor without
//! other owners is taken without a copy, so weight and moments are updated in place. On other
//! devices they are plain Burn operations.

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

use crate::dispatch::runs_on_cpu;
use crate::gpu;
use isa::{Isa, vectorised};

/// Values that one task works on: four streams of 64 KiB stay in a core's cache.
const CHUNK: usize = 1 << 14;

/// The first and second moment of one parameter, exponential averages of its gradient and of
/// its gradient's square. `[n]`, on the parameter's device.
#[derive(Debug, Clone)]
pub struct Moments {
    /// `exp_avg` of PyTorch.
    pub first: Tensor<1>,
    /// `exp_avg_sq` of PyTorch.
    pub second: Tensor<1>,
}

impl Moments {
    /// The moments before the first step.
    pub fn zeros(len: usize, device: &Device) -> Self {
        Moments { first: Tensor::zeros([len], device), second: Tensor::zeros([len], device) }
    }
}

/// The numbers of one AdamW step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// Steps taken with these moments, this one included: the first has 1.
    pub step: u64,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decay rate of the first moment.
    pub beta1: f32,
    /// Decay rate of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Weight decay; each step multiplies it by the learning rate.
    pub weight_decay: f32,
    /// Factor on the gradient: less than 1 if the gradient is clipped, otherwise 1.
    pub gradient_scale: f32,
}

/// Numbers that are the same for all values of a step, computed once.
#[derive(Debug, Clone, Copy)]
struct StepFactors {
    step_size: f32,
    root_scale: f32,
    keep: f32,
}

impl AdamWStep {
    fn factors(&self) -> StepFactors {
        StepFactors {
            step_size: self.step_size(),
            root_scale: self.root_scale(),
            keep: self.keep(),
        }
    }

    /// `learning_rate / (1 - beta1^step)`.
    fn step_size(&self) -> f32 {
        (self.learning_rate / bias_correction(self.beta1, self.step)) as f32
    }

    /// `1 / sqrt(1 - beta2^step)`.
    fn root_scale(&self) -> f32 {
        bias_correction(self.beta2, self.step).sqrt().recip() as f32
    }

    /// `1 - learning_rate * weight_decay`.
    fn keep(&self) -> f32 {
        (1.0 - self.learning_rate * f64::from(self.weight_decay)) as f32
    }
}

fn bias_correction(beta: f32, step: u64) -> f64 {
    1.0 - f64::from(beta).powf(step as f64)
}

/// One step of AdamW (Loshchilov and Hutter, 2019; the order of operations is that of PyTorch's
/// `torch.optim.AdamW`). Returns the new weight.
///
/// `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`,
/// `w = (1 - lr d) w - lr / (1 - b1^t) * m / (sqrt(v / (1 - b2^t)) + eps)`.
///
/// # Shapes
/// `weight`, `gradient` and the moments: `[n]`, all outside of any graph.
pub fn adamw(
    weight: Tensor<1>,
    gradient: Tensor<1>,
    moments: &mut Moments,
    step: &AdamWStep,
) -> Tensor<1> {
    let device = weight.device();
    if !runs_on_cpu(&device) {
        return adamw_with_tensors(weight, gradient, moments, step);
    }
    let gradient = gradient.into_data();
    let mut data = [weight, take(&mut moments.first), take(&mut moments.second)]
        .map(|tensor| tensor.into_data());
    let updated = match (data.each_mut().map(TensorData::as_mut_slice::<f32>), gradient.as_slice())
    {
        ([Ok(weight), Ok(first), Ok(second)], Ok(gradient)) => {
            adamw_in_place(Isa::best(), weight, gradient, first, second, step);
            true
        }
        _ => false, // another number format
    };
    let [weight, first, second] = data.map(|data| Tensor::from_data(data, &device));
    (moments.first, moments.second) = (first, second);
    if updated {
        weight
    } else {
        adamw_with_tensors(weight, Tensor::from_data(gradient, &device), moments, step)
    }
}

/// Takes a tensor and replaces it by an empty one, so that the taken tensor has no other owner.
pub(crate) fn take(tensor: &mut Tensor<1>) -> Tensor<1> {
    let empty = Tensor::empty([0], &tensor.device());
    std::mem::replace(tensor, empty)
}

fn adamw_in_place(
    isa: Isa,
    weight: &mut [f32],
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    step: &AdamWStep,
) {
    let factors = step.factors();
    let chunks = (weight.par_chunks_mut(CHUNK), gradient.par_chunks(CHUNK));
    let moments = (first.par_chunks_mut(CHUNK), second.par_chunks_mut(CHUNK));
    chunks.into_par_iter().zip(moments.into_par_iter()).for_each(|((w, g), (m, v))| {
        adamw_chunk(isa, w, g, [m, v], step, factors);
    });
}

vectorised! {
    fn adamw_chunk(
        weight: &mut [f32],
        gradient: &[f32],
        moments: [&mut [f32]; 2],
        step: &AdamWStep,
        factors: StepFactors,
    ) {
        let &AdamWStep { beta1, beta2, epsilon, gradient_scale, .. } = step;
        let StepFactors { step_size, root_scale, keep } = factors;
        let [first, second] = moments;
        for (((w, &g), m), v) in weight.iter_mut().zip(gradient).zip(first).zip(second) {
            let g = g * gradient_scale;
            *m += (1.0 - beta1) * (g - *m);
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            *w = *w * keep - step_size * *m / (v.sqrt() * root_scale + epsilon);
        }
    }

    /// Eight running sums, so that the compiler may use vectors.
    fn sum_of_squares(values: &[f32]) -> f64 {
        let mut sums = [0.0; 8];
        let (blocks, rest) = values.as_chunks::<8>();
        for block in blocks {
            for (sum, &value) in sums.iter_mut().zip(block) {
                *sum += f64::from(value) * f64::from(value);
            }
        }
        sums.iter().sum::<f64>() + rest.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>()
    }
}

fn adamw_with_tensors(
    weight: Tensor<1>,
    gradient: Tensor<1>,
    moments: &mut Moments,
    step: &AdamWStep,
) -> Tensor<1> {
    let gradient = gradient * step.gradient_scale;
    let first = take(&mut moments.first) * step.beta1 + gradient.clone() * (1.0 - step.beta1);
    let second = take(&mut moments.second) * step.beta2 + gradient.square() * (1.0 - step.beta2);
    let denominator = second.clone().sqrt() * step.root_scale() + step.epsilon;
    let weight = weight * step.keep() - first.clone() / denominator * step.step_size();
    *moments = Moments { first, second };
    weight
}

/// The sum of the squares of all tensors, summed in f64 on Flex; returns the tensors unchanged.
///
/// The order of additions is fixed, so the sum does not depend on the number of threads.
///
/// # Shapes
/// Each `[n]`, outside of any graph, all on one device.
pub fn squared_norms(tensors: Vec<Tensor<1>>) -> (Vec<Tensor<1>>, f64) {
    match tensors.first() {
        None => (tensors, 0.0),
        Some(first) if runs_on_cpu(&first.device()) => {
            let (tensors, sums): (_, Vec<f64>) = tensors.into_iter().map(squared_norm).unzip();
            (tensors, sums.iter().sum())
        }
        Some(_) => {
            // One read for all sums: each read waits for everything that was computed before.
            let sums = tensors.iter().map(|tensor| gpu::sum(tensor.clone().square())).collect();
            let sums = Tensor::cat(sums, 0).into_data();
            let sum = sums.iter::<f64>().sum();
            (tensors, sum)
        }
    }
}

/// The sum of one tensor's squares, on Flex.
fn squared_norm(tensor: Tensor<1>) -> (Tensor<1>, f64) {
    let device = tensor.device();
    let data = tensor.into_data();
    let sum = data.as_slice::<f32>().map(|values| {
        let chunks = values.par_chunks(CHUNK).map(|part| sum_of_squares(Isa::best(), part));
        chunks.collect::<Vec<f64>>().iter().sum()
    });
    // Fails only for float tensors of another width, which our models do not have.
    (Tensor::from_data(data, &device), sum.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tolerance;

    use super::*;
    use crate::random;

    const STEP: AdamWStep = AdamWStep {
        step: 1,
        learning_rate: 0.1,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.5,
        gradient_scale: 1.0,
    };

    fn tensor(values: &[f32]) -> Tensor<1> {
        Tensor::from_floats(values, &Device::flex())
    }

    /// Three steps in f64 by the formulas of the paper.
    fn by_definition(mut w: f64, gradients: &[f64]) -> f64 {
        let (mut m, mut v) = (0.0, 0.0);
        for (t, g) in (1..).zip(gradients) {
            m = 0.9 * m + 0.1 * g;
            v = 0.999 * v + 0.001 * g * g;
            let (m_hat, v_hat) = (m / (1.0 - 0.9_f64.powi(t)), v / (1.0 - 0.999_f64.powi(t)));
            w -= 0.1 * (m_hat / (v_hat.sqrt() + 1e-8) + 0.5 * w);
        }
        w
    }

    #[test]
    fn three_steps_follow_the_paper() {
        let gradients = [[0.5, -2.0], [0.1, 1.0], [-0.3, 0.0]];
        let mut weight = tensor(&[1.0, -3.0]);
        let mut moments = Moments::zeros(2, &Device::flex());
        for (step, gradient) in (1..).zip(gradients) {
            let step = AdamWStep { step, ..STEP };
            weight = adamw(weight, tensor(&gradient), &mut moments, &step);
        }
        let column = |i: usize| gradients.map(|g| f64::from(g[i]));
        let expected = [by_definition(1.0, &column(0)), by_definition(-3.0, &column(1))];
        let expected = expected.map(|w| w as f32);
        weight.into_data().assert_approx_eq::<f32>(&expected.into(), Tolerance::absolute(1e-6));
    }

    #[test]
    fn the_two_bodies_agree() {
        let n = 3 * CHUNK + 5;
        let draw = |name| random::normal(random::derive_named(3, name), n, 1.0);
        let (weight, gradient) = (draw("w"), draw("g"));
        let step = AdamWStep { step: 3, gradient_scale: 0.25, ..STEP };
        let mut moments =
            Moments { first: tensor(&draw("m")), second: tensor(&draw("v")).square() };
        let mut others = moments.clone();
        let one = adamw(tensor(&weight), tensor(&gradient), &mut moments, &step);
        let other = adamw_with_tensors(tensor(&weight), tensor(&gradient), &mut others, &step);
        let tolerance = Tolerance::relative(1e-5).set_absolute(1e-6);
        for (one, other) in
            [(one, other), (moments.first, others.first), (moments.second, others.second)]
        {
            one.into_data().assert_approx_eq::<f32>(&other.into_data(), tolerance);
        }
    }

    /// Compares three steps with f64; the kernel gives the same bits on all instruction sets.
    #[test]
    fn every_instruction_set_takes_the_same_steps() {
        for n in [1, 3, 17, 33] {
            let draw = |name| random::normal(random::derive_named(4, name), n, 1.0);
            let (start, gradients) = (draw("w"), [draw("g0"), draw("g1"), draw("g2")]);
            let mut first = None;
            for &isa in Isa::available() {
                let (mut w, mut m, mut v) = (start.clone(), vec![0.0; n], vec![0.0; n]);
                for (step, gradient) in (1..).zip(&gradients) {
                    let step = AdamWStep { step, ..STEP };
                    adamw_in_place(isa, &mut w, gradient, &mut m, &mut v, &step);
                }
                for (i, &w) in w.iter().enumerate() {
                    let column = gradients.each_ref().map(|g| f64::from(g[i]));
                    let expected = by_definition(f64::from(start[i]), &column);
                    assert!((f64::from(w) - expected).abs() < 1e-5, "{isa:?}: {w}, {expected}");
                }
                assert_eq!(*first.get_or_insert_with(|| w.clone()), w, "{isa:?}");
            }
        }
    }

    #[test]
    fn memory_that_nobody_else_holds_is_reused() {
        let weight = tensor(&vec![1.0; CHUNK]);
        let mut moments = Moments::zeros(CHUNK, &Device::flex());
        let address = |tensor: Tensor<1>| {
            let data = tensor.into_data();
            let address = data.as_bytes().as_ptr() as usize;
            (Tensor::<1>::from_data(data, &Device::flex()), address)
        };
        let (weight, before) = address(weight);
        let (_, after) = address(adamw(weight, tensor(&vec![1.0; CHUNK]), &mut moments, &STEP));
        assert_eq!(before, after);
    }

    #[test]
    fn the_norm_is_exact_and_gives_the_tensor_back() {
        let run = || squared_norms(vec![tensor(&[3.0; 100_001]), tensor(&[4.0])]);
        for (tensors, sum) in [run(), crate::with_plain_operations(run)] {
            assert_eq!(sum, 9.0 * 100_001.0 + 16.0);
            assert_eq!(tensors[0].dims(), [100_001]);
        }
        assert_eq!(squared_norms(Vec::new()).1, 0.0);
    }
}
