//! What llama.cpp keeps keys and values in, and how many bytes that takes.
//!
//! ```text
//! n_ctx   context, rounded up to 256
//! cache   n_layer * n_ctx * (bytes(K * Dk) + bytes(K * Dv))     K heads of keys and values
//! bytes   4 n in f32, 2 n in f16, 34 n / 32 in q8_0, 18 n / 32 in q4_0
//! ```
//!
//! (`llama-kv-cache.cpp`; the blocks are ggml's own.)

use std::fmt;
use std::str::FromStr;

use llama_cpp_sys_2 as sys;

use crate::{Llama, LlamaError};

/// llama.cpp rounds the context up to a multiple of this.
const CONTEXT_STEP: usize = 256;

/// How a number of the cache is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheType {
    /// As it was computed.
    F32,
    /// llama.cpp's default.
    F16,
    /// Blocks of 32 in 34 bytes.
    Q8_0,
    /// Blocks of 32 in 18 bytes.
    Q4_0,
}

/// What a session keeps its keys and values in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cache {
    /// Of the keys.
    pub keys: CacheType,
    /// Of the values. Where these are quantized, flash attention is on, as llama.cpp demands.
    pub values: CacheType,
}

impl CacheType {
    /// All of them, the most exact first.
    pub const ALL: [CacheType; 4] =
        [CacheType::F32, CacheType::F16, CacheType::Q8_0, CacheType::Q4_0];

    /// llama.cpp's own spelling.
    pub fn name(self) -> &'static str {
        match self {
            CacheType::F32 => "f32",
            CacheType::F16 => "f16",
            CacheType::Q8_0 => "q8_0",
            CacheType::Q4_0 => "q4_0",
        }
    }

    /// Numbers in a block, and the bytes that it takes.
    fn block(self) -> (usize, usize) {
        match self {
            CacheType::F32 => (1, 4),
            CacheType::F16 => (1, 2),
            CacheType::Q8_0 => (32, 34),
            CacheType::Q4_0 => (32, 18),
        }
    }

    pub(crate) fn is_quantized(self) -> bool {
        self.block().0 > 1
    }

    pub(crate) fn as_llama(self) -> sys::ggml_type {
        match self {
            CacheType::F32 => sys::GGML_TYPE_F32,
            CacheType::F16 => sys::GGML_TYPE_F16,
            CacheType::Q8_0 => sys::GGML_TYPE_Q8_0,
            CacheType::Q4_0 => sys::GGML_TYPE_Q4_0,
        }
    }
}

impl Cache {
    /// llama.cpp's default.
    pub const F16: Cache = Cache::both(CacheType::F16);

    /// Keys and values in the same type.
    pub const fn both(cache_type: CacheType) -> Self {
        Cache { keys: cache_type, values: cache_type }
    }
}

impl fmt::Display for CacheType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for CacheType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        CacheType::ALL.into_iter().find(|cache_type| cache_type.name() == text).ok_or_else(|| {
            let known = CacheType::ALL.map(CacheType::name).join(", ");
            format!("\"{text}\" is no type of a KV cache: expected one of {known}")
        })
    }
}

/// `q8_0`, or `q8_0/q4_0` where keys and values differ.
impl fmt::Display for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cache { keys, values } if keys == values => keys.fmt(f),
            Cache { keys, values } => f.pad(&format!("{keys}/{values}")),
        }
    }
}

impl FromStr for Cache {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            None => Ok(Cache::both(text.parse()?)),
            Some((keys, values)) => Ok(Cache { keys: keys.parse()?, values: values.parse()? }),
        }
    }
}

/// The sizes of a model that its cache depends on.
#[derive(Debug, Clone, Copy)]
struct Shape {
    layers: usize,
    /// Heads of keys and values.
    heads: usize,
    key_width: usize,
    value_width: usize,
}

impl Llama {
    /// Bytes of the keys and values of `context` tokens, by the formula above. Models whose layers
    /// differ (sliding windows, recurrent layers) take less.
    pub fn cache_bytes(&self, context: usize, cache: Cache) -> u64 {
        bytes(self.shape(), context, cache)
    }

    /// Refuses a cache whose blocks a head does not fill.
    pub(crate) fn check_cache(&self, cache: Cache) -> Result<(), LlamaError> {
        let shape = self.shape();
        for (cache_type, width) in
            [(cache.keys, shape.key_width), (cache.values, shape.value_width)]
        {
            let (block, _) = cache_type.block();
            if !width.is_multiple_of(block) {
                let path = self.path.clone();
                return Err(LlamaError::CacheBlock { path, cache_type, block, width });
            }
        }
        Ok(())
    }

    fn shape(&self) -> Shape {
        let architecture = self.model.metadata("general.architecture").unwrap_or_default();
        let width = self.model.n_embd().max(0) as usize / (self.model.n_head().max(1) as usize);
        let stated = |key: &str| {
            let text = self.model.metadata(&format!("{architecture}.attention.{key}"));
            text.and_then(|text| text.parse().ok()).unwrap_or(width)
        };
        Shape {
            layers: self.model.n_layer().max(0) as usize,
            heads: self.model.n_head_kv().max(0) as usize,
            key_width: stated("key_length"),
            value_width: stated("value_length"),
        }
    }
}

/// Sizes may come from a hostile file: too large stays too large and never wraps to small.
fn bytes(shape: Shape, context: usize, cache: Cache) -> u64 {
    let cells = context.max(1).checked_next_multiple_of(CONTEXT_STEP).unwrap_or(usize::MAX);
    let row = |width: usize, cache_type: CacheType| {
        let (block, bytes) = cache_type.block();
        let numbers = (shape.heads as u64).saturating_mul(width as u64);
        numbers.div_ceil(block as u64).saturating_mul(bytes as u64)
    };
    row(shape.key_width, cache.keys)
        .saturating_add(row(shape.value_width, cache.values))
        .saturating_mul(cells as u64)
        .saturating_mul(shape.layers as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 12 layers, 12 heads of 64.
    const GPT2: Shape = Shape { layers: 12, heads: 12, key_width: 64, value_width: 64 };

    #[test]
    fn the_cache_of_gpt2_is_what_llama_cpp_prints() {
        // "KV buffer size = 36.00 MiB" for 1,024 cells in f16.
        assert_eq!(bytes(GPT2, 1024, Cache::F16), 36 << 20);
        assert_eq!(bytes(GPT2, 1, Cache::F16), bytes(GPT2, 256, Cache::F16));
        // 9.56 MiB of keys in q8_0, 5.06 MiB of values in q4_0.
        let mixed = Cache { keys: CacheType::Q8_0, values: CacheType::Q4_0 };
        assert_eq!(bytes(GPT2, 1024, mixed), 12 * 1024 * 24 * (34 + 18));
        assert_eq!(bytes(GPT2, 1024, Cache::both(CacheType::F32)), 72 << 20);
    }

    #[test]
    fn absurd_sizes_stay_absurd() {
        let shape = Shape { layers: usize::MAX, heads: usize::MAX, ..GPT2 };
        assert_eq!(bytes(shape, usize::MAX, Cache::F16), u64::MAX);
    }

    #[test]
    fn names_come_back() {
        for text in ["f32", "f16", "q8_0", "q4_0", "q8_0/q4_0"] {
            assert_eq!(text.parse::<Cache>().map(|cache| cache.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("f16/f16".parse(), Ok(Cache::F16));
        assert_eq!(
            "q5_1".parse::<Cache>(),
            Err("\"q5_1\" is no type of a KV cache: expected one of f32, f16, q8_0, q4_0".into())
        );
    }
}
