//! The type of a whole file, named after the types of its tensors: `F32`, `Q8_0`, `Q4_K_M`.
//!
//! `general.file_type` contains the number (`enum llama_ftype` of `llama.h`); the names are those
//! of `llama-quantize`. The gaps between the numbers are formats that llama.cpp has removed.

use std::fmt;
use std::path::Path;

use crate::{Metadata, TensorType, whole_name};

macro_rules! file_types {
    ($($name:ident = $number:literal,)+) => {
        /// The file types of `general.file_type`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(non_camel_case_types, reason = "llama.cpp's own names")]
        #[allow(missing_docs, reason = "llama.h describes its numbers by these names alone")]
        pub enum FileType {
            $($name = $number,)+
        }

        impl FileType {
            /// All of them, by number.
            pub const ALL: &[FileType] = &[$(FileType::$name,)+];

            /// llama.cpp's name, for example `Q4_K_M`.
            pub fn name(self) -> &'static str {
                match self {
                    $(FileType::$name => stringify!($name),)+
                }
            }
        }
    };
}

file_types! {
    F32 = 0,
    F16 = 1,
    Q4_0 = 2,
    Q4_1 = 3,
    Q8_0 = 7,
    Q5_0 = 8,
    Q5_1 = 9,
    Q2_K = 10,
    Q3_K_S = 11,
    Q3_K_M = 12,
    Q3_K_L = 13,
    Q4_K_S = 14,
    Q4_K_M = 15,
    Q5_K_S = 16,
    Q5_K_M = 17,
    Q6_K = 18,
    IQ2_XXS = 19,
    IQ2_XS = 20,
    Q2_K_S = 21,
    IQ3_XS = 22,
    IQ3_XXS = 23,
    IQ1_S = 24,
    IQ4_NL = 25,
    IQ3_S = 26,
    IQ3_M = 27,
    IQ2_S = 28,
    IQ2_M = 29,
    IQ4_XS = 30,
    IQ1_M = 31,
    BF16 = 32,
    TQ1_0 = 36,
    TQ2_0 = 37,
    MXFP4_MOE = 38,
    NVFP4 = 39,
    Q1_0 = 40,
    Q2_0 = 41,
}

impl FileType {
    /// The number in `general.file_type`.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// The inverse of [`FileType::number`]; `None` for a number that llama.cpp has removed or that
    /// is newer than this list.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| u64::from(known.number()) == number)
    }

    /// The type of a file whose matrices all have one type.
    pub fn of(matrices: TensorType) -> Self {
        match matrices {
            TensorType::F32 => FileType::F32,
            TensorType::F16 => FileType::F16,
            TensorType::BF16 => FileType::BF16,
            TensorType::Q4_0 => FileType::Q4_0,
            TensorType::Q4_1 => FileType::Q4_1,
            TensorType::Q5_0 => FileType::Q5_0,
            TensorType::Q5_1 => FileType::Q5_1,
            TensorType::Q8_0 => FileType::Q8_0,
            TensorType::Q2_K => FileType::Q2_K,
            TensorType::Q3_K => FileType::Q3_K_S,
            TensorType::Q4_K => FileType::Q4_K_S,
            TensorType::Q5_K => FileType::Q5_K_S,
            TensorType::Q6_K => FileType::Q6_K,
            TensorType::IQ4_NL => FileType::IQ4_NL,
            TensorType::IQ4_XS => FileType::IQ4_XS,
        }
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The name of a file's recipe: the last part of the file's name (`story-Q4_K_M.gguf`, or the
/// folder `fragments/Q4_K_M`) if that is a recipe's name, otherwise the one in `general.file_type`,
/// otherwise the file's name.
pub fn recipe_of(path: &Path, metadata: &Metadata) -> String {
    let path = whole_name(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(".gguf").unwrap_or(&name);
    let last = stem.rsplit('-').next().unwrap_or(stem);
    if reads_as_recipe(last) {
        return last.to_owned();
    }
    let number = metadata.unsigned("general.file_type").ok();
    number.and_then(FileType::from_number).map_or(stem, |known| known.name()).to_owned()
}

fn reads_as_recipe(name: &str) -> bool {
    ["BF", "F", "IQ", "TQ", "Q"].iter().any(|kind| {
        name.strip_prefix(kind).is_some_and(|rest| {
            rest.starts_with(|c: char| c.is_ascii_digit())
                && rest.chars().all(|c| c.is_ascii_digit() || c.is_ascii_uppercase() || c == '_')
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides_then_the_metadata() {
        let mut metadata = Metadata::new();
        let of = |path: &str, metadata: &Metadata| recipe_of(Path::new(path), metadata);
        assert_eq!(of("runs/a/gguf/the-story-Q4_K_M.gguf", &metadata), "Q4_K_M");
        assert_eq!(of("runs/a/fragments/Q8_0", &metadata), "Q8_0");
        assert_eq!(of("a/BF16.gguf", &metadata), "BF16");
        assert_eq!(of("a/model-Q6_K-00002-of-00005.gguf", &metadata), "Q6_K");
        assert_eq!(of("a/model.gguf", &metadata), "model");
        assert_eq!(of("a/gpt-Foo.gguf", &metadata), "gpt-Foo");
        metadata.set("general.file_type", crate::Value::U32(15));
        assert_eq!(of("a/model.gguf", &metadata), "Q4_K_M");
        assert_eq!(of("a/model-Q4_K.gguf", &metadata), "Q4_K");
        // 1,024 is added to the number if the type was guessed (`LLAMA_FTYPE_GUESSED`).
        metadata.set("general.file_type", crate::Value::U32(1024));
        assert_eq!(of("a/model.gguf", &metadata), "model");
    }

    #[test]
    fn every_name_reads_as_one() {
        for name in FileType::ALL.iter().map(|known| known.name()) {
            assert!(reads_as_recipe(name) || ["MXFP4_MOE", "NVFP4"].contains(&name), "{name}");
        }
    }

    #[test]
    fn numbers_are_found_again() {
        for known in FileType::ALL {
            assert_eq!(FileType::from_number(known.number().into()), Some(*known));
        }
        assert_eq!(FileType::from_number(4), None, "Q4_1 with some F16, given up");
        assert_eq!(FileType::of(TensorType::Q4_K).number(), 14);
    }
}
