//! The recipes: mixtures of types by name.
//!
//! They are those of `llama-quantize` that do not need a grid of the IQ1 to IQ3 formats, so that a
//! file made here has the quality (and the bytes) that users expect from the recipe's name. The
//! types that each recipe chooses for each tensor are in [`recipe_types`](crate::recipe_types).

use std::fmt;
use std::str::FromStr;

use anyhow::bail;
use gguf::{FileType, TensorType};
use serde::{Serialize, Serializer};

/// A named way to choose types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types, reason = "llama.cpp's own names")]
pub enum Recipe {
    /// Everything Q8_0: hardly any loss at half the size of F16.
    Q8_0,
    /// Everything Q6_K.
    Q6_K,
    /// Q5_K, with Q6_K for half of the layers' values and down projections.
    Q5_K_M,
    /// Everything Q5_K.
    Q5_K_S,
    /// Everything Q5_1.
    Q5_1,
    /// Q5_0, with Q6_K for the head.
    Q5_0,
    /// Everything Q4_1.
    Q4_1,
    /// Q4_K, with Q6_K for half of the layers' values and down projections.
    Q4_K_M,
    /// Q4_K, with Q5_K for the first few layers' values and down projections.
    Q4_K_S,
    /// Q4_0, with Q6_K for the head.
    Q4_0,
    /// IQ4_NL, with Q5_K for the first down projections.
    IQ4_NL,
    /// IQ4_XS, with Q5_K for the first down projections.
    IQ4_XS,
    /// Q3_K, with Q5_K for values, outputs and down projections.
    Q3_K_L,
    /// Q3_K, with Q4_K (the first ones Q5_K) for values, outputs and down projections.
    Q3_K_M,
    /// Everything Q3_K.
    Q3_K_S,
    /// Q2_K, with Q3_K for values, outputs and down projections.
    Q2_K,
    /// Q2_K, with Q4_K for the first down projections; needs importance data.
    Q2_K_S,
}

/// Kind of the file, llama-quantize's other name for it, and base type.
type Row = (FileType, Option<&'static str>, TensorType);

impl Recipe {
    /// All recipes, largest files first.
    pub const ALL: [Recipe; 17] = [
        Recipe::Q8_0,
        Recipe::Q6_K,
        Recipe::Q5_1,
        Recipe::Q5_K_M,
        Recipe::Q5_K_S,
        Recipe::Q5_0,
        Recipe::Q4_1,
        Recipe::Q4_K_M,
        Recipe::Q4_K_S,
        Recipe::Q4_0,
        Recipe::IQ4_NL,
        Recipe::IQ4_XS,
        Recipe::Q3_K_L,
        Recipe::Q3_K_M,
        Recipe::Q3_K_S,
        Recipe::Q2_K,
        Recipe::Q2_K_S,
    ];

    fn row(self) -> Row {
        match self {
            Recipe::Q8_0 => (FileType::Q8_0, None, TensorType::Q8_0),
            Recipe::Q6_K => (FileType::Q6_K, None, TensorType::Q6_K),
            Recipe::Q5_K_M => (FileType::Q5_K_M, Some("Q5_K"), TensorType::Q5_K),
            Recipe::Q5_K_S => (FileType::Q5_K_S, None, TensorType::Q5_K),
            Recipe::Q5_1 => (FileType::Q5_1, None, TensorType::Q5_1),
            Recipe::Q5_0 => (FileType::Q5_0, None, TensorType::Q5_0),
            Recipe::Q4_1 => (FileType::Q4_1, None, TensorType::Q4_1),
            Recipe::Q4_K_M => (FileType::Q4_K_M, Some("Q4_K"), TensorType::Q4_K),
            Recipe::Q4_K_S => (FileType::Q4_K_S, None, TensorType::Q4_K),
            Recipe::Q4_0 => (FileType::Q4_0, None, TensorType::Q4_0),
            Recipe::IQ4_NL => (FileType::IQ4_NL, None, TensorType::IQ4_NL),
            Recipe::IQ4_XS => (FileType::IQ4_XS, None, TensorType::IQ4_XS),
            Recipe::Q3_K_L => (FileType::Q3_K_L, None, TensorType::Q3_K),
            Recipe::Q3_K_M => (FileType::Q3_K_M, Some("Q3_K"), TensorType::Q3_K),
            Recipe::Q3_K_S => (FileType::Q3_K_S, None, TensorType::Q3_K),
            Recipe::Q2_K => (FileType::Q2_K, None, TensorType::Q2_K),
            Recipe::Q2_K_S => (FileType::Q2_K_S, None, TensorType::Q2_K),
        }
    }

    /// The recipe for a number of bits per weight: 8 is Q8_0, 6 is Q6_K, and 5, 4, 3 and 2 are
    /// Q5_K_M, Q4_K_M, Q3_K_M and Q2_K.
    ///
    /// # Errors
    /// For any other number.
    pub fn from_bits(bits: u32) -> anyhow::Result<Self> {
        match bits {
            8 => Ok(Recipe::Q8_0),
            6 => Ok(Recipe::Q6_K),
            5 => Ok(Recipe::Q5_K_M),
            4 => Ok(Recipe::Q4_K_M),
            3 => Ok(Recipe::Q3_K_M),
            2 => Ok(Recipe::Q2_K),
            _ => bail!("{bits} bits: expected 2, 3, 4, 5, 6 or 8; for anything else name a type"),
        }
    }

    /// llama.cpp's name, for example `Q4_K_M`.
    pub fn name(self) -> &'static str {
        self.row().0.name()
    }

    /// The value of `general.file_type` in the result.
    pub fn file_type(self) -> FileType {
        self.row().0
    }

    /// Whether the result is unusable without importance data.
    pub fn needs_importance(self) -> bool {
        self == Recipe::Q2_K_S
    }

    /// The type of every tensor that is not covered by a special rule.
    pub fn base_type(self) -> TensorType {
        self.row().2
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Recipe {
    type Err = anyhow::Error;

    /// Accepts the names in either case, and llama-quantize's other names: `q4_k_m`, `Q4_K_M`, and
    /// `Q4_K` for `Q4_K_M`.
    fn from_str(name: &str) -> anyhow::Result<Self> {
        let is_called = |recipe: &Recipe| {
            let (own, other, _) = recipe.row();
            std::iter::once(own.name()).chain(other).any(|known| known.eq_ignore_ascii_case(name))
        };
        match Self::ALL.into_iter().find(is_called) {
            Some(recipe) => Ok(recipe),
            None => {
                let names = Self::ALL.map(Recipe::name).join(", ");
                bail!("unknown recipe {name}: expected one of {names}")
            }
        }
    }
}

impl Serialize for Recipe {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_either_case() {
        for recipe in Recipe::ALL {
            assert_eq!(recipe.name().to_lowercase().parse::<Recipe>().unwrap(), recipe);
        }
        let error = "IQ2_XS".parse::<Recipe>().unwrap_err().to_string();
        assert!(error.contains("IQ2_XS") && error.contains("Q4_K_M"), "{error}");
    }

    #[test]
    fn the_short_names_are_llama_quantize_s() {
        for (short, full) in
            [("Q3_K", Recipe::Q3_K_M), ("q4_k", Recipe::Q4_K_M), ("Q5_K", Recipe::Q5_K_M)]
        {
            assert_eq!(short.parse::<Recipe>().unwrap(), full);
        }
    }

    #[test]
    fn bits_stand_for_the_usual_recipe() {
        let name = |bits| Recipe::from_bits(bits).map(Recipe::name).ok();
        let names = [8, 6, 5, 4, 3, 2].map(|bits| name(bits).unwrap());
        assert_eq!(names, ["Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K"]);
        assert!([0, 1, 7, 16].into_iter().all(|bits| name(bits).is_none()));
    }

    #[test]
    fn no_two_recipes_share_a_file_type() {
        let types: std::collections::HashSet<FileType> = Recipe::ALL.map(Recipe::file_type).into();
        assert_eq!(types.len(), Recipe::ALL.len());
    }
}
