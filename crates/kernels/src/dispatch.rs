//! Chooses the implementation of an operation: the one for the CPU, the one for graphics
//! processors, or plain Burn operations, which run everywhere.
//!
//! The others are compared with the plain operations: each operation in tests, and all together by
//! training the same model twice (`train.kernels`).

use std::cell::Cell;

use burn::tensor::Device;

thread_local! {
    /// For this thread only, so that parallel runs in one process do not change each other's
    /// choice.
    static PLAIN: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` with plain Burn operations on any device: none of the operations that it calls on
/// this thread uses our own implementation. The backward pass of a graph that is built inside
/// `work` must run inside `work` too.
pub fn with_plain_operations<R>(work: impl FnOnce() -> R) -> R {
    /// Restores the previous setting, also when `work` panics.
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            PLAIN.set(self.0);
        }
    }
    let _before = Before(PLAIN.replace(true));
    work()
}

/// How an operation is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dispatch {
    /// [`crate::cpu`], put into the graph by `cpu_autodiff`.
    Cpu,
    /// `gpu`.
    Gpu,
    /// Burn's operations in Burn's graph.
    Plain,
}

/// What computes on a device, with or without gradients.
pub(crate) fn dispatch(device: &Device) -> Dispatch {
    if PLAIN.get() {
        Dispatch::Plain
    } else if *device == Device::flex() || *device == Device::flex().autodiff() {
        Dispatch::Cpu
    } else if is_gpu(device) {
        Dispatch::Gpu
    } else {
        Dispatch::Plain
    }
}

/// Whether the implementations for the CPU run on a device.
pub(crate) fn runs_on_cpu(device: &Device) -> bool {
    dispatch(device) == Dispatch::Cpu
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn is_gpu(device: &Device) -> bool {
    use burn::backend::DispatchDevice;
    matches!(device.clone().inner().as_dispatch(), DispatchDevice::Cube(_))
}

#[cfg(not(any(feature = "wgpu", feature = "cuda")))]
fn is_gpu(_: &Device) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_operations_are_a_matter_of_the_thread_and_the_scope() {
        let device = Device::flex();
        let outside = with_plain_operations(|| {
            assert!(!runs_on_cpu(&device) && !runs_on_cpu(&device.clone().autodiff()));
            with_plain_operations(|| assert!(!runs_on_cpu(&device)));
            assert!(!runs_on_cpu(&device), "the inner scope ended the outer one");
            std::thread::scope(|scope| scope.spawn(|| runs_on_cpu(&Device::flex())).join())
        });
        assert!(outside.unwrap(), "another thread was changed");
        assert!(std::panic::catch_unwind(|| with_plain_operations(|| panic!("inside"))).is_err());
        assert!(runs_on_cpu(&device));
    }
}
