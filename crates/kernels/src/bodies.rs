//! Which of an operation's two bodies runs: the fused one where there is one, or plain Burn
//! operations everywhere.
//!
//! The plain bodies are what other devices run, and what fused ones are held against, operation by
//! operation in tests, and as a whole by training the same model twice (`train.kernels`).

use std::cell::Cell;

use burn::tensor::Device;

thread_local! {
    /// Of this thread only, so that runs side by side in one process do not decide for each other.
    static PLAIN: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` with plain Burn operations on the CPU too: what it calls on this thread takes no fused
/// body. A graph that is made inside must be walked back inside.
pub fn with_plain_operations<R>(work: impl FnOnce() -> R) -> R {
    /// Puts back what was set before, also when `work` panics.
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            PLAIN.set(self.0);
        }
    }
    let _before = Before(PLAIN.replace(true));
    work()
}

/// Whether operations on a device, with or without gradients, have a fused body that should run.
pub(crate) fn are_fused(device: &Device) -> bool {
    !PLAIN.get() && (*device == Device::flex() || *device == Device::flex().autodiff())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_operations_are_a_matter_of_the_thread_and_the_scope() {
        let device = Device::flex();
        let outside = with_plain_operations(|| {
            assert!(!are_fused(&device) && !are_fused(&device.clone().autodiff()));
            with_plain_operations(|| assert!(!are_fused(&device)));
            assert!(!are_fused(&device), "the inner scope ended the outer one");
            std::thread::scope(|scope| scope.spawn(|| are_fused(&Device::flex())).join())
        });
        assert!(outside.unwrap(), "another thread was changed");
        assert!(std::panic::catch_unwind(|| with_plain_operations(|| panic!("inside"))).is_err());
        assert!(are_fused(&device));
    }
}
