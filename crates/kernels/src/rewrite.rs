//! Makes a tensor from another one's numbers, with code that works on slices.

use burn::tensor::{Tensor, TensorData};

use crate::cpu_autodiff;
use crate::dispatch::runs_on_cpu;

/// `target`, filled by `work` from the numbers of `source`. On the CPU `source` is not copied, and
/// the memory of `target` is reused if it has no other owner.
///
/// # Shapes
/// `source [m]` and `target [n]`, outside of any graph -> `[n]`.
///
/// # Errors
/// The error of `work`.
pub fn rewrite<E>(
    source: &Tensor<1>,
    target: Tensor<1>,
    work: impl FnOnce(&[f32], &mut [f32]) -> Result<(), E>,
) -> Result<Tensor<1>, E> {
    let device = target.device();
    if runs_on_cpu(&device) {
        return cpu_autodiff::rewrite(source, target, work);
    }
    let [n] = target.dims();
    let numbers: Vec<f32> = source.to_data().iter::<f32>().collect();
    let mut out = vec![0.0; n];
    work(&numbers, &mut out)?;
    Ok(Tensor::from_data(TensorData::new(out, [n]), &device))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn tensor(values: &[f32]) -> Tensor<1> {
        Tensor::from_floats(values, &Device::flex())
    }

    #[test]
    fn the_target_is_filled_and_whoever_shares_either_keeps_what_was_there() {
        let source = tensor(&[1.0, 2.0, 3.0]);
        let run = |target: Tensor<1>, first: usize| {
            rewrite(&source, target, |from, to| {
                to.copy_from_slice(&from[first..first + 2]);
                Ok::<_, ()>(())
            })
            .unwrap()
        };
        let one = run(tensor(&[0.0, 0.0]), 1);
        let two = run(one.clone(), 0);
        one.into_data().assert_eq(&[2.0_f32, 3.0].into(), true);
        two.into_data().assert_eq(&[1.0_f32, 2.0].into(), true);
        source.into_data().assert_eq(&[1.0_f32, 2.0, 3.0].into(), true);
    }

    #[test]
    fn memory_that_nobody_else_holds_is_used_again_and_the_source_is_not_copied() {
        let source = tensor(&[1.0; 100]);
        let mut places = Vec::new();
        let mut target = tensor(&[0.0; 100]);
        for _ in 0..3 {
            target = rewrite(&source, target, |from, to| {
                places.push([from.as_ptr() as usize, to.as_ptr() as usize]);
                Ok::<_, ()>(())
            })
            .unwrap();
        }
        assert_eq!(places, [places[0]; 3]);
    }

    #[test]
    fn an_error_is_handed_on() {
        let refused = rewrite(&tensor(&[1.0]), tensor(&[1.0]), |_, _| Err("no"));
        assert_eq!(refused.unwrap_err(), "no");
    }
}
