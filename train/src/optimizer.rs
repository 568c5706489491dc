//! The optimizer of a whole model: which parameters decay, which rule each follows, clipping by the
//! global norm, and the state.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use config::{Optimizer as Settings, OptimizerKind};
use kernels::{AdamWStep, Moments, MuonStep, adamw, muon, squared_norms};
use model::Model;
use model::parameters::{Parameter, ParameterGradients};

/// The optimizer and the state of each trained parameter, by path.
#[derive(Debug)]
pub struct Optimizer {
    settings: Settings,
    step: u64,
    states: BTreeMap<String, State>,
}

/// What the optimizer remembers of one parameter. `[n]`, on the parameter's device.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one for each parameter, some hundreds")]
pub enum State {
    /// AdamW's two moments.
    AdamW(Moments),
    /// Muon's momentum.
    Muon(Tensor<1>),
}

impl State {
    /// The state of a parameter of this path and shape; `read` gives each of its tensors by the
    /// name that PyTorch has for it.
    ///
    /// # Errors
    /// The first error of `read`.
    fn read<E>(
        kind: OptimizerKind,
        path: &str,
        shape: &[usize],
        mut read: impl FnMut(&str) -> Result<Tensor<1>, E>,
    ) -> Result<Self, E> {
        Ok(match kind {
            OptimizerKind::Muon if is_hidden_matrix(path, shape) => State::Muon(read(MOMENTUM)?),
            OptimizerKind::AdamW | OptimizerKind::Muon => {
                let (first, second) = (read(FIRST_MOMENT)?, read(SECOND_MOMENT)?);
                State::AdamW(Moments { first, second })
            }
        })
    }

    /// Its tensors by PyTorch's names.
    pub fn tensors(&self) -> Vec<(&'static str, Tensor<1>)> {
        match self {
            State::AdamW(Moments { first, second }) => {
                vec![(FIRST_MOMENT, first.clone()), (SECOND_MOMENT, second.clone())]
            }
            State::Muon(momentum) => vec![(MOMENTUM, momentum.clone())],
        }
    }
}

const FIRST_MOMENT: &str = "exp_avg";
const SECOND_MOMENT: &str = "exp_avg_sq";
const MOMENTUM: &str = "momentum_buffer";

/// Whether Muon is for a parameter: the matrices inside the blocks, but neither embeddings nor the
/// head, whose rows belong to single tokens (Jordan et al., 2024).
fn is_hidden_matrix(path: &str, shape: &[usize]) -> bool {
    path.starts_with("blocks.") && shape.len() >= 2
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
        let zeros = |Parameter { path, shape, values }: Parameter| {
            let zeros = |_: &str| Ok::<_, std::convert::Infallible>(values.zeros_like());
            match State::read(settings.kind, &path, &shape, zeros) {
                Ok(state) => (path, state),
                Err(impossible) => match impossible {},
            }
        };
        let states = model.trainable().into_iter().map(zeros).collect();
        Optimizer { settings, step: 0, states }
    }

    /// The optimizer after `step` steps; `read` gives the tensor of a path that PyTorch calls by the
    /// second name.
    ///
    /// # Errors
    /// The first error of `read`.
    pub fn restore<E>(
        settings: Settings,
        model: &Model,
        step: u64,
        mut read: impl FnMut(&str, &str) -> Result<Vec<f32>, E>,
    ) -> Result<Self, E> {
        let mut states = BTreeMap::new();
        for Parameter { path, shape, values } in model.trainable() {
            let device = values.device();
            let read = |name: &str| Ok(flat(read(&path, name)?, &device));
            let state = State::read(settings.kind, &path, &shape, read)?;
            states.insert(path, state);
        }
        Ok(Optimizer { settings, step, states })
    }

    /// The state by path.
    pub fn states(&self) -> &BTreeMap<String, State> {
        &self.states
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
        let Settings { beta1, beta2, epsilon, momentum, grad_clip, .. } = self.settings;
        let gradient_scale = clip_scale(norm, grad_clip);
        model.update(|path, shape, values| {
            let (Some(gradient), Some(state)) = (gradients.remove(path), self.states.get_mut(path))
            else {
                return values;
            };
            let weight_decay = if decays(shape) { self.settings.weight_decay } else { 0.0 };
            match state {
                State::AdamW(moments) => {
                    let step = self.step;
                    let step = AdamWStep {
                        step,
                        learning_rate,
                        beta1,
                        beta2,
                        epsilon,
                        weight_decay,
                        gradient_scale,
                    };
                    adamw(values, gradient, moments, &step)
                }
                State::Muon(buffer) => {
                    let step = MuonStep { learning_rate, momentum, weight_decay, gradient_scale };
                    muon(values, gradient, buffer, shape, &step)
                }
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
