//! What `pocketgpt --version` says: this build, and the two libraries whose results it compares.

use std::sync::LazyLock;

/// The version of Burn in this program.
pub const BURN: &str = "0.22.1";
/// The version of the crate `llama-cpp-sys-2`, which contains llama.cpp's source.
pub const LLAMA_CPP_SYS: &str = "0.1.160";

/// The backends of Burn in this program; Flex computes on the CPU and is always there.
pub fn backends() -> Vec<&'static str> {
    let optional = [
        ("ndarray", cfg!(feature = "ndarray")),
        ("wgpu", cfg!(feature = "wgpu")),
        ("vulkan", cfg!(feature = "vulkan")),
        ("cuda", cfg!(feature = "cuda")),
    ];
    let compiled = optional.into_iter().filter(|&(_, compiled)| compiled).map(|(name, _)| name);
    std::iter::once("flex").chain(compiled).collect()
}

/// The version and what belongs to it, for `--version`.
pub static LONG: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{}\nbackends: {}\nBurn {BURN}\nllama.cpp of llama-cpp-sys-2 {LLAMA_CPP_SYS}\n\
         compiled for {}-{}; wider instructions are detected when it starts",
        env!("CARGO_PKG_VERSION"),
        backends().join(", "),
        std::env::consts::ARCH,
        std::env::consts::OS,
    )
});

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails says where")]
mod tests {
    use super::*;

    #[test]
    fn the_versions_are_those_of_the_lock_file() {
        let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
        let lock = std::fs::read_to_string(lock).unwrap();
        for (name, version) in [("burn", BURN), ("llama-cpp-sys-2", LLAMA_CPP_SYS)] {
            let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
            assert!(lock.contains(&entry), "{name}: write its version of Cargo.lock here");
        }
        assert!(LONG.contains("backends: flex"));
    }
}
