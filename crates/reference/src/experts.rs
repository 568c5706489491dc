//! A mixture of experts (Shazeer et al., 2017; Fedus et al., 2021): a feed-forward layer of which
//! each token uses a few parts, as in Mixtral (Jiang et al., 2024) and Qwen3-MoE.
//!
//! Follows `modeling_mixtral.py` and `modeling_qwen3_moe.py` of transformers, and `build_moe_ffn`
//! in `src/llama-graph.cpp` of llama.cpp; the tensor names are llama.cpp's.

use std::borrow::Cow;

use config::BlockStage::{Down, Router};
use gguf::{TensorInfo, TensorSource};

use crate::ReferenceError;
use crate::layers::Linear;
use crate::matmul::{self, Rows};
use crate::ops;
use crate::trace::{BlockTrace, MatrixInput};

/// The experts of one layer, and the router that chooses among them.
///
/// For each token `x`:
///
/// ```text
/// p    = softmax(R x)                          over all E experts
/// S    = the k experts with the largest p
/// y    = Σ_{e in S} p_e / (Σ_{s in S} p_s) · D_e (silu(G_e x) · U_e x)
/// ```
///
/// Mixtral's softmax over the k chosen logits gives the same weights. The sum is computed in the
/// order of the experts' numbers, so the result of a token does not depend on other tokens.
pub(crate) struct Experts<'a> {
    /// `R`, `[E, C]`
    router: Linear,
    /// Experts that a token uses, `k`.
    used: usize,
    /// `G`, `[E][F, C]`
    gate: Stack<'a>,
    /// `U`, `[E][F, C]`
    up: Stack<'a>,
    /// `D`, `[E][C, F]`
    down: Stack<'a>,
}

/// One matrix of each expert.
struct Stack<'a> {
    /// The tensor that contains all of them.
    tensor: String,
    /// Experts, `E`.
    matrices: usize,
    /// Columns of each matrix.
    width: usize,
    weights: Weights<'a>,
}

/// Where the weights of a [`Stack`] are stored.
enum Weights<'a> {
    /// In memory, in f32.
    Loaded(Vec<Vec<f32>>),
    /// In the source: each use reads the weights of one expert.
    Stored(&'a dyn TensorSource, TensorInfo),
}

/// Which experts each token uses, and with which weight.
struct Choice {
    /// For each expert: the tokens that use it, with their weights.
    tokens: Vec<Vec<(usize, f32)>>,
}

impl<'a> Experts<'a> {
    /// The layer called `block` (`blk.3`), `[C, F]` wide, with all experts in memory.
    pub fn load(
        source: &dyn TensorSource,
        block: &str,
        widths: [usize; 2],
        used: usize,
    ) -> Result<Self, ReferenceError> {
        Self::new(source, block, widths, used, &|tensor| {
            let expert = |index| gguf::read_matrix_f32(source, tensor, index);
            Ok(Weights::Loaded((0..tensor.matrices()).map(expert).collect::<Result<_, _>>()?))
        })
    }

    /// As [`Experts::load`], but only the router is in memory: each pass reads the matrices that it
    /// uses, one at a time.
    pub fn stored(
        source: &'a dyn TensorSource,
        block: &str,
        widths: [usize; 2],
        used: usize,
    ) -> Result<Self, ReferenceError> {
        let stored = |tensor: &TensorInfo| Ok(Weights::Stored(source, tensor.clone()));
        Self::new(source, block, widths, used, &stored)
    }

    fn new(
        source: &dyn TensorSource,
        block: &str,
        [width, inner]: [usize; 2],
        used: usize,
        weights: &dyn Fn(&TensorInfo) -> Result<Weights<'a>, ReferenceError>,
    ) -> Result<Self, ReferenceError> {
        let stack = |part: &str, width| -> Result<Stack<'a>, ReferenceError> {
            let tensor = source.tensor(&format!("{block}.{part}.weight"))?;
            let (name, matrices) = (tensor.name.clone(), tensor.matrices());
            Ok(Stack { tensor: name, matrices, width, weights: weights(tensor)? })
        };
        Ok(Experts {
            router: Linear::load(source, &format!("{block}.ffn_gate_inp"), width, false)?,
            used,
            gate: stack("ffn_gate_exps", width)?,
            up: stack("ffn_up_exps", width)?,
            down: stack("ffn_down_exps", inner)?,
        })
    }

    /// The router, the only matrix that every token is multiplied with.
    pub fn router(&self) -> &Linear {
        &self.router
    }

    /// `[T, C] -> [T, C]`
    ///
    /// # Errors
    /// When the experts are in the source and it cannot be read.
    pub fn forward(
        &self,
        x: &[f32],
        trace: &mut BlockTrace<'_, '_>,
    ) -> Result<Vec<f32>, ReferenceError> {
        let c = self.gate.width;
        let t = x.len() / c;
        trace.input([&self.router], x);
        let mut probabilities = self.router.forward(x); // [T, E]
        let experts = probabilities.len() / t;
        trace.keep(Router, t, &probabilities);
        let choice = Choice::new(&mut probabilities, experts, self.used);

        let mut y = vec![0.0; x.len()];
        for (expert, tokens) in choice.tokens.iter().enumerate().filter(|(_, all)| !all.is_empty())
        {
            let rows: Vec<f32> =
                tokens.iter().flat_map(|&(token, _)| &x[token * c..][..c]).copied().collect();
            let out = self.expert(expert, &rows, trace)?; // [tokens, C]
            for (&(token, weight), out) in tokens.iter().zip(out.chunks_exact(c)) {
                let y = &mut y[token * c..][..c];
                y.iter_mut().zip(out).for_each(|(y, out)| *y += weight * out);
            }
        }
        trace.keep(Down, t, &y);
        Ok(y)
    }

    /// SwiGLU (Shazeer, 2020) with one expert, `[n, C] -> [n, F] -> [n, C]`.
    fn expert(
        &self,
        expert: usize,
        x: &[f32],
        trace: &mut BlockTrace<'_, '_>,
    ) -> Result<Vec<f32>, ReferenceError> {
        show(trace, &[&self.gate, &self.up], expert, x);
        let gate = self.gate.forward(expert, x)?; // [n, F]
        let up = self.up.forward(expert, x)?; // [n, F]
        let mut activated = gate;
        ops::swiglu(&mut activated, &up);
        show(trace, &[&self.down], expert, &activated);
        self.down.forward(expert, &activated)
    }
}

/// Reports the input of the matrices of one expert, `[n, in]`.
fn show(trace: &mut BlockTrace<'_, '_>, stacks: &[&Stack<'_>], expert: usize, x: &[f32]) {
    let Some(first) = stacks.first() else { return };
    let tensors: Vec<&str> = stacks.iter().map(|stack| stack.tensor.as_str()).collect();
    trace.expert_input(MatrixInput {
        tensors: &tensors,
        expert: Some(expert),
        matrices: first.matrices,
        width: first.width,
        rows: x,
    });
}

impl Stack<'_> {
    /// `[n, in] -> [n, out]` with the matrix of one expert.
    fn forward(&self, expert: usize, x: &[f32]) -> Result<Vec<f32>, ReferenceError> {
        let weight = match &self.weights {
            Weights::Loaded(all) => Cow::Borrowed(all[expert].as_slice()),
            Weights::Stored(source, tensor) => {
                let weight = gguf::read_matrix_f32(*source, tensor, expert)?;
                source.release(tensor);
                Cow::Owned(weight)
            }
        };
        Ok(matmul::linear(Rows::new(x, self.width), Rows::new(&weight, self.width), None))
    }
}

impl Choice {
    /// Converts the logits `[T, experts]` to probabilities in place, and takes the `used` largest
    /// of each token; of equal ones, those of the experts with the smaller numbers.
    fn new(logits: &mut [f32], experts: usize, used: usize) -> Self {
        let mut tokens = vec![Vec::new(); experts];
        for (token, row) in logits.chunks_exact_mut(experts).enumerate() {
            ops::softmax(row);
            let mut order: Vec<usize> = (0..experts).collect();
            order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            let chosen = &order[..used.min(experts)];
            let sum: f64 = chosen.iter().map(|&expert| f64::from(row[expert])).sum();
            for &expert in chosen {
                tokens[expert].push((token, (f64::from(row[expert]) / sum) as f32));
            }
        }
        Choice { tokens }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_probabilities_are_shared_out_anew() {
        // softmax of ln(1, 2, 5): 1/8, 2/8, 5/8; the sum of the two largest is 7/8.
        let mut logits =
            [1.0_f32.ln(), 2.0_f32.ln(), 5.0_f32.ln(), 5.0_f32.ln(), 0.0, 2.0_f32.ln()];
        let choice = Choice::new(&mut logits, 3, 2);
        let found: Vec<Vec<usize>> =
            choice.tokens.iter().map(|all| all.iter().map(|&(token, _)| token).collect()).collect();
        assert_eq!(found, [vec![1], vec![0], vec![0, 1]]);
        for (expert, token, expected) in
            [(1, 0, 2.0 / 7.0), (2, 0, 5.0 / 7.0), (0, 1, 5.0 / 7.0), (2, 1, 2.0 / 7.0)]
        {
            let (_, weight) = choice.tokens[expert].iter().find(|(t, _)| *t == token).unwrap();
            assert!((weight - expected).abs() < 1e-6, "{expert} {token}: {weight}");
        }
    }

    #[test]
    fn of_equal_experts_the_first_are_used() {
        let choice = Choice::new(&mut [0.0; 4], 4, 2);
        let used: Vec<usize> = choice.tokens.iter().map(Vec::len).collect();
        assert_eq!(used, [1, 1, 0, 0]);
    }
}
