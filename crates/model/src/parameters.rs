//! Lists a model's parameters by path, takes their gradients, and replaces their values.
//!
//! A path is made of the names of the modules' fields, for example `blocks.0.attn.c_attn.weight`.
//! Values are flat, because optimizer and files treat matrices and biases alike; the shape is given
//! separately. The family, a variant of [`crate::Model`], is not part of a path.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};

/// One parameter, outside of any graph.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// For example `blocks.0.attn.c_attn.weight`.
    pub path: String,
    /// Slowest dimension first, in Burn's orientation.
    pub shape: Vec<usize>,
    /// `[n]`, row-major. Shares its memory with the model.
    pub values: Tensor<1>,
}

/// The gradient of each parameter by path: `[n]`, outside of any graph. A parameter that the loss
/// does not depend on has no gradient.
pub type ParameterGradients = BTreeMap<String, Tensor<1>>;

pub(crate) fn collect<M: Module>(module: &M) -> Vec<Parameter> {
    let mut visitor = Collector { path: Path::default(), found: Vec::new() };
    module.visit(&mut visitor);
    visitor.found
}

pub(crate) fn take_gradients<M: Module>(module: &M, gradients: Gradients) -> ParameterGradients {
    let mut visitor = GradientTaker { path: Path::default(), gradients, taken: BTreeMap::new() };
    module.visit(&mut visitor);
    visitor.taken
}

pub(crate) fn update<M, F>(module: M, update: F) -> M
where
    M: Module,
    F: FnMut(&str, &[usize], Tensor<1>) -> Tensor<1>,
{
    module.map(&mut Updater { path: Path::default(), update })
}

/// Returns `loss` unchanged; its backward pass adds to `gradients`.
pub(crate) fn accumulate<M: Module>(
    module: &M,
    loss: Tensor<1>,
    gradients: ParameterGradients,
) -> Tensor<1> {
    let mut visitor = Accumulator { path: Path::default(), loss, gradients };
    module.visit(&mut visitor);
    visitor.loss
}

fn flat<const RANK: usize>(tensor: Tensor<RANK>) -> Tensor<1> {
    let len: usize = tensor.dims().iter().product();
    tensor.reshape([len])
}

/// The names of the modules around a parameter.
#[derive(Default)]
struct Path(Vec<String>);

impl Path {
    fn enter(&mut self, name: &str, container: &str) {
        if !is_family(container) {
            self.0.push(name.to_owned());
        }
    }

    fn exit(&mut self, container: &str) {
        if !is_family(container) {
            self.0.pop();
        }
    }

    fn joined(&self) -> String {
        self.0.join(".")
    }
}

/// Burn treats the variant of an enum as a module around its content.
fn is_family(container: &str) -> bool {
    container == "Enum:Model"
}

struct Collector {
    path: Path,
    found: Vec<Parameter>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const RANK: usize>(&mut self, param: &Param<Tensor<RANK>>) {
        let value = param.val().inner();
        self.found.push(Parameter {
            path: self.path.joined(),
            shape: value.dims().to_vec(),
            values: flat(value),
        });
    }
}

struct GradientTaker {
    path: Path,
    gradients: Gradients,
    taken: ParameterGradients,
}

impl ModuleVisitor for GradientTaker {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const RANK: usize>(&mut self, param: &Param<Tensor<RANK>>) {
        if let Some(gradient) = param.val().grad_remove(&mut self.gradients) {
            self.taken.insert(self.path.joined(), flat(gradient));
        }
    }
}

struct Accumulator {
    path: Path,
    loss: Tensor<1>,
    gradients: ParameterGradients,
}

impl ModuleVisitor for Accumulator {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const RANK: usize>(&mut self, param: &Param<Tensor<RANK>>) {
        if let Some(gradient) = self.gradients.remove(&self.path.joined()) {
            let value = param.base();
            let gradient = gradient.reshape(value.dims());
            self.loss = kernels::accumulate_gradient(self.loss.clone(), value, gradient);
        }
    }
}

struct Updater<F> {
    path: Path,
    update: F,
}

impl<F: FnMut(&str, &[usize], Tensor<1>) -> Tensor<1>> ModuleMapper for Updater<F> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }

    fn map_float<const RANK: usize>(&mut self, param: Param<Tensor<RANK>>) -> Param<Tensor<RANK>> {
        let (id, tensor, mapper) = param.consume();
        let (shape, in_graph) = (tensor.dims(), tensor.is_autodiff());
        let tracked = tensor.is_require_grad();
        let flat = flat(tensor.without_autodiff());
        let updated = (self.update)(&self.path.joined(), &shape, flat).reshape(shape);
        let updated = if in_graph { updated.autodiff() } else { updated };
        let updated = if tracked { updated.require_grad() } else { updated };
        Param::from_mapped_value(id, updated, mapper)
    }
}
