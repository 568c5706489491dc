//! Which tensor gets which type.
//!
//! The choices are those of `llama-quantize` without an importance matrix, so that a file made
//! here has the quality (and the bytes) that people know by the recipe's name. Source:
//! `tensor_allows_quantization`, `llama_tensor_get_type_impl` and `tensor_type_fallback` in
//! llama.cpp's
//! [`llama-quant.cpp`](https://github.com/ggml-org/llama.cpp/blob/master/src/llama-quant.cpp).
//!
//! A recipe does not know an architecture: it looks at a tensor's [`Role`], at its place among
//! the tensors of the same role, and at the length of its rows.

use std::fmt;
use std::str::FromStr;

use anyhow::bail;
use gguf::TensorType;
use serde::{Serialize, Serializer};

use crate::role::{Role, TensorContext};

/// A named way to choose types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types, reason = "llama.cpp's own names")]
pub enum Recipe {
    /// Everything Q8_0: hardly any loss at half the size of F16.
    Q8_0,
    /// Q4_0, output Q6_K.
    Q4_0,
    /// Q4_1, output Q6_K.
    Q4_1,
    /// Q5_0, output Q6_K.
    Q5_0,
    /// Q5_1, output Q6_K.
    Q5_1,
    /// Everything Q4_K, the output too: `llama-quantize --pure MODEL Q4_K_S`.
    Q4_K,
    /// Q4_K, with Q6_K for the output and for half of the layers' values and down projections.
    Q4_K_M,
    /// Everything Q6_K.
    Q6_K,
}

/// The type for one tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The type to store the tensor in.
    pub tensor_type: TensorType,
    /// What the recipe wanted, where the tensor's rows are no whole number of its blocks.
    pub instead_of: Option<TensorType>,
}

impl Recipe {
    /// All recipes, largest files first.
    pub const ALL: [Recipe; 8] = [
        Recipe::Q8_0,
        Recipe::Q6_K,
        Recipe::Q5_1,
        Recipe::Q5_0,
        Recipe::Q4_1,
        Recipe::Q4_K_M,
        Recipe::Q4_0,
        Recipe::Q4_K,
    ];

    /// The recipe for a number of bits per weight: 8 is Q8_0, 4 is Q4_K_M.
    ///
    /// # Errors
    /// For any other number.
    pub fn from_bits(bits: u32) -> anyhow::Result<Self> {
        match bits {
            8 => Ok(Recipe::Q8_0),
            4 => Ok(Recipe::Q4_K_M),
            _ => bail!("{bits} bits: expected 4 or 8; for anything else name a type"),
        }
    }

    /// llama.cpp's name, for example `Q4_K_M`.
    pub fn name(self) -> &'static str {
        match self {
            Recipe::Q8_0 => "Q8_0",
            Recipe::Q4_0 => "Q4_0",
            Recipe::Q4_1 => "Q4_1",
            Recipe::Q5_0 => "Q5_0",
            Recipe::Q5_1 => "Q5_1",
            Recipe::Q4_K => "Q4_K",
            Recipe::Q4_K_M => "Q4_K_M",
            Recipe::Q6_K => "Q6_K",
        }
    }

    /// `general.file_type` of the result: `enum llama_ftype` of `llama.h`.
    pub fn file_type(self) -> u32 {
        match self {
            Recipe::Q4_0 => 2,
            Recipe::Q4_1 => 3,
            Recipe::Q8_0 => 7,
            Recipe::Q5_0 => 8,
            Recipe::Q5_1 => 9,
            Recipe::Q4_K => 14,
            Recipe::Q4_K_M => 15,
            Recipe::Q6_K => 18,
        }
    }

    /// The type of every tensor that no rule singles out.
    pub fn base_type(self) -> TensorType {
        match self {
            Recipe::Q8_0 => TensorType::Q8_0,
            Recipe::Q4_0 => TensorType::Q4_0,
            Recipe::Q4_1 => TensorType::Q4_1,
            Recipe::Q5_0 => TensorType::Q5_0,
            Recipe::Q5_1 => TensorType::Q5_1,
            Recipe::Q4_K | Recipe::Q4_K_M => TensorType::Q4_K,
            Recipe::Q6_K => TensorType::Q6_K,
        }
    }

    /// Whether all quantized tensors get the base type.
    pub fn is_pure(self) -> bool {
        self == Recipe::Q4_K
    }

    /// The type for a tensor: its own, where it is not to be quantized.
    pub fn tensor_type(self, tensor: &TensorContext) -> Choice {
        if tensor.role == Role::Kept {
            return Choice { tensor_type: tensor.stored, instead_of: None };
        }
        let wanted = if self.is_pure() { self.base_type() } else { self.wanted(tensor) };
        let tensor_type = fitting(wanted, tensor.row_len);
        Choice { tensor_type, instead_of: (tensor_type != wanted).then_some(wanted) }
    }

    /// The type for a tensor whose rows may be of any length.
    fn wanted(self, tensor: &TensorContext) -> TensorType {
        let base = self.base_type();
        let more_bits = self == Recipe::Q4_K_M && needs_more_bits(tensor.place, tensor.of);
        match tensor.role {
            Role::Output if !fits(base, tensor.row_len) => TensorType::Q8_0,
            Role::Output if base != TensorType::Q8_0 => TensorType::Q6_K,
            Role::AttentionValue | Role::FeedForwardDown if more_bits => TensorType::Q6_K,
            _ => base,
        }
    }
}

/// The first and last eighth of the layers and every third one between.
fn needs_more_bits(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

fn fits(tensor_type: TensorType, row_len: u64) -> bool {
    row_len.is_multiple_of(tensor_type.block_len() as u64)
}

/// `wanted`, or what replaces it for rows that are no whole number of its blocks: a type with
/// blocks of 32 and a bit more precision, and F16 if not even 32 divides the row.
fn fitting(wanted: TensorType, row_len: u64) -> TensorType {
    if fits(wanted, row_len) {
        return wanted;
    }
    let smaller_blocks = match wanted {
        TensorType::Q4_K => TensorType::Q5_0,
        TensorType::Q6_K => TensorType::Q8_0,
        other => other,
    };
    if fits(smaller_blocks, row_len) { smaller_blocks } else { TensorType::F16 }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Recipe {
    type Err = anyhow::Error;

    /// Takes the names in either case: `q4_k_m`, `Q4_K_M`.
    fn from_str(name: &str) -> anyhow::Result<Self> {
        match Self::ALL.into_iter().find(|recipe| recipe.name().eq_ignore_ascii_case(name)) {
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

    fn tensor(role: Role, place: usize, of: usize, row_len: u64) -> TensorContext {
        TensorContext { role, place, of, row_len, stored: TensorType::F32 }
    }

    fn chosen(recipe: Recipe, role: Role, row_len: u64) -> TensorType {
        recipe.tensor_type(&tensor(role, 1, 12, row_len)).tensor_type
    }

    #[test]
    fn names_are_read_in_either_case() {
        for recipe in Recipe::ALL {
            assert_eq!(recipe.name().to_lowercase().parse::<Recipe>().unwrap(), recipe);
        }
        let error = "Q3_K_M".parse::<Recipe>().unwrap_err().to_string();
        assert!(error.contains("Q3_K_M") && error.contains("Q4_K_M"), "{error}");
        assert_eq!(Recipe::from_bits(8).unwrap(), Recipe::Q8_0);
        assert_eq!(Recipe::from_bits(4).unwrap(), Recipe::Q4_K_M);
        assert!(Recipe::from_bits(3).is_err());
    }

    #[test]
    fn seven_of_twelve_layers_get_more_bits() {
        let more: Vec<usize> = (0..12).filter(|&layer| needs_more_bits(layer, 12)).collect();
        assert_eq!(more, [0, 3, 6, 9, 10, 11]);
        // Fewer than eight layers have no first eighth.
        assert!(!needs_more_bits(0, 3) && needs_more_bits(2, 3));
    }

    #[test]
    fn the_mixture_gives_six_bits_where_it_hurts_most() {
        let q4_k_m =
            |role, layer| Recipe::Q4_K_M.tensor_type(&tensor(role, layer, 12, 768)).tensor_type;
        for role in [Role::AttentionValue, Role::FeedForwardDown] {
            assert_eq!(
                [0, 1, 2, 3].map(|layer| q4_k_m(role, layer)),
                [TensorType::Q6_K, TensorType::Q4_K, TensorType::Q4_K, TensorType::Q6_K]
            );
        }
        assert_eq!(q4_k_m(Role::Output, 0), TensorType::Q6_K);
        assert_eq!(q4_k_m(Role::TokenEmbedding, 0), TensorType::Q4_K);
        assert_eq!(q4_k_m(Role::Other, 0), TensorType::Q4_K);
    }

    #[test]
    fn the_output_keeps_more_bits_than_the_rest() {
        assert_eq!(chosen(Recipe::Q4_0, Role::Output, 768), TensorType::Q6_K);
        assert_eq!(chosen(Recipe::Q8_0, Role::Output, 768), TensorType::Q8_0);
        assert_eq!(chosen(Recipe::Q4_K, Role::Output, 768), TensorType::Q4_K);
        // 32 divides the row and 256 does not: Q6_K is wanted and falls back.
        let choice = Recipe::Q4_0.tensor_type(&tensor(Role::Output, 0, 1, 96));
        let expected = Choice { tensor_type: TensorType::Q8_0, instead_of: Some(TensorType::Q6_K) };
        assert_eq!(choice, expected);
        // Q4_K_M does not even ask for Q6_K there.
        assert_eq!(Recipe::Q4_K_M.tensor_type(&tensor(Role::Output, 0, 1, 96)).instead_of, None);
    }

    #[test]
    fn rows_that_no_block_divides_fall_back() {
        assert_eq!(chosen(Recipe::Q4_K_M, Role::Other, 96), TensorType::Q5_0);
        assert_eq!(chosen(Recipe::Q6_K, Role::Other, 96), TensorType::Q8_0);
        assert_eq!(chosen(Recipe::Q4_0, Role::Other, 96), TensorType::Q4_0);
        for recipe in Recipe::ALL {
            assert_eq!(chosen(recipe, Role::Other, 48), TensorType::F16, "{recipe}");
            assert_eq!(chosen(recipe, Role::Kept, 48), TensorType::F32, "{recipe}");
        }
    }
}
