//! What a file is called among its variants: `F32`, `Q8_0`, `Q4_K_M`.

use std::path::Path;

use gguf::Metadata;

/// The name of a file's recipe: the last part of its own name (`story-Q4_K_M.gguf`, or the folder
/// `fragments/Q4_K_M`) if that reads as one, otherwise what `general.file_type` says, otherwise
/// the file's name.
pub fn recipe_of(path: &Path, metadata: &Metadata) -> String {
    let path = gguf::whole_name(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(".gguf").unwrap_or(&name);
    let last = stem.rsplit('-').next().unwrap_or(stem);
    if reads_as_recipe(last) {
        return last.to_owned();
    }
    let file_type = metadata.unsigned("general.file_type").ok();
    file_type.and_then(file_type_name).unwrap_or(stem).to_owned()
}

fn reads_as_recipe(name: &str) -> bool {
    ["BF", "F", "IQ", "TQ", "Q"].iter().any(|kind| {
        name.strip_prefix(kind).is_some_and(|rest| {
            rest.starts_with(|c: char| c.is_ascii_digit())
                && rest.chars().all(|c| c.is_ascii_digit() || c.is_ascii_uppercase() || c == '_')
        })
    })
}

/// `enum llama_ftype` of `llama.h`; its gaps are formats that llama.cpp gave up.
fn file_type_name(file_type: u64) -> Option<&'static str> {
    Some(match file_type {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        19 => "IQ2_XXS",
        20 => "IQ2_XS",
        21 => "Q2_K_S",
        22 => "IQ3_XS",
        23 => "IQ3_XXS",
        24 => "IQ1_S",
        25 => "IQ4_NL",
        26 => "IQ3_S",
        27 => "IQ3_M",
        28 => "IQ2_S",
        29 => "IQ2_M",
        30 => "IQ4_XS",
        31 => "IQ1_M",
        32 => "BF16",
        36 => "TQ1_0",
        37 => "TQ2_0",
        38 => "MXFP4_MOE",
        39 => "NVFP4",
        40 => "Q1_0",
        41 => "Q2_0",
        _ => return None,
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
        metadata.set("general.file_type", gguf::Value::U32(15));
        assert_eq!(of("a/model.gguf", &metadata), "Q4_K_M");
        assert_eq!(of("a/model-Q4_K.gguf", &metadata), "Q4_K");
    }

    #[test]
    fn every_mixture_has_a_name_that_reads_as_one() {
        let named: Vec<&str> = (0..64).filter_map(file_type_name).collect();
        assert_eq!(named.len(), 36);
        for name in named {
            assert!(reads_as_recipe(name) || ["MXFP4_MOE", "NVFP4"].contains(&name), "{name}");
        }
        assert_eq!(file_type_name(1024), None, "guessed");
    }
}
