//! AdamW for a whole model: which parameters decay, clipping by the global norm, and the moments.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use config::Optimizer as Settings;
use kernels::{AdamWStep, Moments, adamw, squared_norms};
use model::Model;
use model::parameters::ParameterGradients;

/// The optimizer and its state: one pair of moments for each trained parameter, by path.
#[derive(Debug)]
pub struct Optimizer {
    settings: Settings,
    step: u64,
    moments: BTreeMap<String, Moments>,
}

/// Whether a parameter of this shape decays: matrices and embeddings do, biases and
/// normalisations do not (nanoGPT's `configure_optimizers`).
pub fn decays(shape: &[usize]) -> bool {
    shape.len() >= 2
}

/// The factor that scales gradients of L2 norm `norm` down to `limit`; with 0 there is no limit.
pub fn clip_scale(norm: f64, limit: f32) -> f32 {
    let limit = f64::from(limit);
    if limit > 0.0 && norm > limit { (limit / norm) as f32 } else { 1.0 }
}

/// The L2 norm of all gradients together.
pub fn global_norm(gradients: &mut ParameterGradients) -> f64 {
    let (paths, taken): (Vec<_>, Vec<_>) = std::mem::take(gradients).into_iter().unzip();
    let (returned, squares) = squared_norms(taken);
    *gradients = paths.into_iter().zip(returned).collect();
    squares.sqrt()
}

impl Optimizer {
    /// The optimizer before its first step.
    pub fn new(settings: Settings, model: &Model) -> Self {
        let zeros = |parameter: model::parameters::Parameter| {
            let [len] = parameter.values.dims();
            (parameter.path, Moments::zeros(len, &parameter.values.device()))
        };
        let moments = model.trainable().into_iter().map(zeros).collect();
        Optimizer { settings, step: 0, moments }
    }

    /// The optimizer after `step` steps; `read` gives the first and second moment of a path.
    ///
    /// # Errors
    /// The first error of `read`.
    pub fn restore<E>(
        settings: Settings,
        model: &Model,
        step: u64,
        mut read: impl FnMut(&str) -> Result<[Vec<f32>; 2], E>,
    ) -> Result<Self, E> {
        let mut moments = BTreeMap::new();
        for parameter in model.trainable() {
            let device = parameter.values.device();
            let tensor = |values: Vec<f32>| flat(values, &device);
            let [first, second] = read(&parameter.path)?.map(tensor);
            moments.insert(parameter.path, Moments { first, second });
        }
        Ok(Optimizer { settings, step, moments })
    }

    /// The moments by path.
    pub fn moments(&self) -> &BTreeMap<String, Moments> {
        &self.moments
    }

    /// One step with gradients of L2 norm `norm`, which are clipped if the norm is above the limit.
    pub fn step(
        &mut self,
        model: Model,
        mut gradients: ParameterGradients,
        norm: f64,
        learning_rate: f64,
    ) -> Model {
        self.step += 1;
        let step = AdamWStep {
            step: self.step,
            learning_rate,
            beta1: self.settings.beta1,
            beta2: self.settings.beta2,
            epsilon: self.settings.epsilon,
            weight_decay: 0.0,
            gradient_scale: clip_scale(norm, self.settings.grad_clip),
        };
        model.update(|path, shape, values| {
            match (gradients.remove(path), self.moments.get_mut(path)) {
                (Some(gradient), Some(moments)) => {
                    let weight_decay = if decays(shape) { self.settings.weight_decay } else { 0.0 };
                    adamw(values, gradient, moments, &AdamWStep { weight_decay, ..step })
                }
                _ => values,
            }
        })
    }
}

fn flat(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

#[cfg(test)]
mod tests {
    use config::{Architecture, ModelConfig};

    use super::*;

    fn gradients(values: &[(&str, &[f32])]) -> ParameterGradients {
        let tensor = |values: &[f32]| flat(values.to_vec(), &Device::flex());
        values.iter().map(|&(path, values)| (path.to_owned(), tensor(values))).collect()
    }

    #[test]
    fn clipping_looks_at_all_gradients_together() {
        let mut both = gradients(&[("a", &[3.0, 0.0]), ("b", &[4.0])]);
        assert_eq!(global_norm(&mut both), 5.0);
        assert_eq!(both["a"].dims(), [2]);
        assert_eq!(clip_scale(5.0, 1.0), 0.2);
        assert_eq!(clip_scale(0.5, 1.0), 1.0);
        assert_eq!(clip_scale(1e30, 0.0), 1.0, "0 clips nothing");
    }

    /// Without gradients, only decay changes a weight.
    #[test]
    fn only_matrices_and_embeddings_decay() {
        let config = ModelConfig {
            architecture: Architecture::Gpt2,
            vocab_size: 5,
            context_length: 4,
            n_layer: 1,
            n_head: 1,
            n_kv_head: 1,
            n_embd: 4,
            n_inner: 8,
            norm_epsilon: 1e-5,
            rope_base: config::ROPE_BASE,
            qkv_bias: true,
            tie_embeddings: false,
            dropout: 0.0,
            attention: config::Attention::default(),
            experts: None,
        };
        let ones = |_: &str, shape: &[usize]| Ok::<_, ()>(vec![1.0; shape.iter().product()]);
        let model = Model::load(&config, &Device::flex(), ones).unwrap();
        let settings = Settings { weight_decay: 0.5, ..Settings::default() };
        let mut optimizer = Optimizer::new(settings, &model);
        let zeros = model.parameters().into_iter().map(|p| (p.path, p.values.zeros_like()));
        let zeros = zeros.collect();
        for parameter in optimizer.step(model, zeros, 0.0, 0.1).parameters() {
            let matrix = parameter.path.ends_with("weight");
            let expected = if matrix { 0.95 } else { 1.0 };
            let found = parameter.values.into_data();
            let found = found.as_slice::<f32>().unwrap();
            assert!(found.iter().all(|&w| w == expected), "{}: {found:?}", parameter.path);
        }
    }
}
