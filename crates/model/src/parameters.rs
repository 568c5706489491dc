//! A model's parameters by path: listing them, taking their gradients, replacing them.
//!
//! A path is what the fields of the modules spell, for example `blocks.0.attn.c_attn.weight`.
//! Values are handed out flat: optimizer and files treat a matrix and a bias alike, and the shape
//! beside the values says which it is.

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

/// The gradient of each parameter by path: `[n]`, in no graph. A parameter that the loss does
/// not depend on has none.
pub type ParameterGradients = BTreeMap<String, Tensor<1>>;

pub(crate) fn collect<M: Module>(module: &M) -> Vec<Parameter> {
    let mut visitor = Collector { path: Vec::new(), found: Vec::new() };
    module.visit(&mut visitor);
    visitor.found
}

pub(crate) fn take_gradients<M: Module>(module: &M, gradients: Gradients) -> ParameterGradients {
    let mut visitor = GradientTaker { path: Vec::new(), gradients, taken: BTreeMap::new() };
    module.visit(&mut visitor);
    visitor.taken
}

pub(crate) fn update<M, F>(module: M, update: F) -> M
where
    M: Module,
    F: FnMut(&str, &[usize], Tensor<1>) -> Tensor<1>,
{
    module.map(&mut Updater { path: Vec::new(), update })
}

fn flat<const RANK: usize>(tensor: Tensor<RANK>) -> Tensor<1> {
    let len: usize = tensor.dims().iter().product();
    tensor.reshape([len])
}

struct Collector {
    path: Vec<String>,
    found: Vec<Parameter>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const RANK: usize>(&mut self, param: &Param<Tensor<RANK>>) {
        let value = param.val().inner();
        self.found.push(Parameter {
            path: self.path.join("."),
            shape: value.dims().to_vec(),
            values: flat(value),
        });
    }
}

struct GradientTaker {
    path: Vec<String>,
    gradients: Gradients,
    taken: ParameterGradients,
}

impl ModuleVisitor for GradientTaker {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const RANK: usize>(&mut self, param: &Param<Tensor<RANK>>) {
        if let Some(gradient) = param.val().grad_remove(&mut self.gradients) {
            self.taken.insert(self.path.join("."), flat(gradient));
        }
    }
}

struct Updater<F> {
    path: Vec<String>,
    update: F,
}

impl<F: FnMut(&str, &[usize], Tensor<1>) -> Tensor<1>> ModuleMapper for Updater<F> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const RANK: usize>(&mut self, param: Param<Tensor<RANK>>) -> Param<Tensor<RANK>> {
        let (id, tensor, mapper) = param.consume();
        let (shape, tracked) = (tensor.dims(), tensor.is_require_grad());
        let path = self.path.join(".");
        let updated = (self.update)(&path, &shape, flat(tensor.inner())).reshape(shape);
        let updated = if tracked { updated.autodiff().require_grad() } else { updated };
        Param::from_mapped_value(id, updated, mapper)
    }
}
