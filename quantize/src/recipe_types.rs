//! The types that each recipe chooses for each tensor: `llama-quantize`'s rules.
//!
//! Source: `llama_tensor_get_type_impl` in llama.cpp's
//! [`llama-quant.cpp`](https://github.com/ggml-org/llama.cpp/blob/master/src/llama-quant.cpp).
//! The rules depend on a tensor's [`TensorRole`], on its index among the tensors of that role, on a
//! few facts about the model, and on whether there is importance data.

use gguf::TensorType;

use crate::Recipe;
use crate::role::{Model, TensorRole};

/// The properties of a tensor that the rules use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seat {
    /// The function of the tensor in the model.
    pub role: TensorRole,
    /// How many tensors of the role come before it. In a model with experts, the layer it is in.
    pub place: usize,
    /// For [`TensorRole::AttentionValue`] their number; otherwise the number of layers of the
    /// model.
    pub of: usize,
    /// Weights in one row.
    pub row_len: u64,
}

/// The type that the recipe chooses for the tensor, whether or not its rows fit in its blocks.
pub(crate) fn wanted(recipe: Recipe, seat: Seat, model: &Model, importance: bool) -> TensorType {
    match seat.role {
        TensorRole::Output => output(recipe, seat, model),
        TensorRole::AttentionValue => value(recipe, seat, model),
        TensorRole::AttentionKey if model.experts == 8 => TensorType::Q8_0,
        TensorRole::AttentionOutput => attention_output(recipe, model),
        TensorRole::FeedForwardDown => down(recipe, seat, model, importance),
        _ => recipe.base_type(),
    }
}

/// The head, where an error affects every logit: Q6_K or better.
fn output(recipe: Recipe, seat: Seat, model: &Model) -> TensorType {
    let base = recipe.base_type();
    if model.is_falcon || !fits(base, seat.row_len) || base == TensorType::Q8_0 {
        TensorType::Q8_0
    } else {
        TensorType::Q6_K
    }
}

/// Attention values, also joined with queries and keys: few weights with a large effect, and even
/// fewer if heads share them.
fn value(recipe: Recipe, seat: Seat, model: &Model) -> TensorType {
    let shared = model.sharing >= 4;
    let chosen = match recipe {
        Recipe::Q2_K if shared => TensorType::Q4_K,
        Recipe::Q2_K => TensorType::Q3_K,
        Recipe::Q2_K_S if shared => TensorType::Q4_K,
        Recipe::Q3_K_M if seat.place < 2 => TensorType::Q5_K,
        Recipe::Q3_K_M => TensorType::Q4_K,
        Recipe::Q3_K_L => TensorType::Q5_K,
        Recipe::IQ4_NL | Recipe::IQ4_XS if shared => TensorType::Q5_K,
        Recipe::Q4_K_M | Recipe::Q5_K_M if more_bits(seat.place, seat.of) => TensorType::Q6_K,
        Recipe::Q4_K_S if seat.place < 4 => TensorType::Q5_K,
        _ => recipe.base_type(),
    };
    match chosen {
        _ if model.experts == 8 => TensorType::Q8_0,
        TensorType::Q3_K | TensorType::Q4_K if model.is_70b => TensorType::Q5_K,
        chosen => chosen,
    }
}

/// The output projection of the attention.
fn attention_output(recipe: Recipe, model: &Model) -> TensorType {
    match recipe {
        Recipe::Q3_K_L if model.is_falcon => TensorType::Q4_K,
        _ if model.is_falcon => recipe.base_type(),
        Recipe::Q2_K
        | Recipe::Q3_K_S
        | Recipe::Q3_K_M
        | Recipe::IQ4_NL
        | Recipe::IQ4_XS
        | Recipe::Q4_K_S
        | Recipe::Q4_K_M
            if model.experts == 8 =>
        {
            TensorType::Q5_K
        }
        _ if model.experts == 8 => recipe.base_type(),
        Recipe::Q2_K => TensorType::Q3_K,
        Recipe::Q3_K_M => TensorType::Q4_K,
        Recipe::Q3_K_L => TensorType::Q5_K,
        _ => recipe.base_type(),
    }
}

/// The second matrix of a feed-forward layer; its first layers have the widest activations.
fn down(recipe: Recipe, seat: Seat, model: &Model, importance: bool) -> TensorType {
    let Seat { place: layer, of: layers, .. } = seat;
    let first_eighth = layer < layers / 8;
    let first_sixteenth = layer < layers / 16;
    let falcon = model.is_falcon;
    match recipe {
        Recipe::Q2_K => TensorType::Q3_K,
        Recipe::Q2_K_S if first_eighth => TensorType::Q4_K,
        Recipe::Q3_K_M if first_sixteenth => TensorType::Q5_K,
        Recipe::Q3_K_M if !falcon || more_bits(layer, layers) => TensorType::Q4_K,
        Recipe::Q3_K_L if falcon => TensorType::Q4_K,
        Recipe::Q3_K_L => TensorType::Q5_K,
        Recipe::Q4_K_M if falcon && first_sixteenth => TensorType::Q6_K,
        Recipe::Q4_K_M if falcon && more_bits(layer, layers) => TensorType::Q5_K,
        Recipe::Q4_K_M if !falcon && more_bits(layer, layers) => TensorType::Q6_K,
        Recipe::IQ4_NL | Recipe::IQ4_XS if first_eighth && !importance => TensorType::Q5_K,
        Recipe::Q5_K_M if more_bits(layer, layers) => TensorType::Q6_K,
        Recipe::Q4_K_S if !falcon && first_eighth => TensorType::Q5_K,
        // Without importance data, the types with a minimum have large errors here.
        Recipe::Q4_0 if first_eighth && importance => TensorType::Q4_1,
        Recipe::Q5_0 if first_eighth && importance => TensorType::Q5_1,
        _ => recipe.base_type(),
    }
}

/// The first and last eighth of the layers and every third one between.
fn more_bits(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

/// Whether rows of this length are whole numbers of blocks.
pub(crate) fn fits(tensor_type: TensorType, row_len: u64) -> bool {
    row_len.is_multiple_of(tensor_type.block_len() as u64)
}

/// `wanted`, or its replacement if rows are not a whole number of its blocks: a type with blocks of
/// 32 and slightly more precision, or F16 if 32 does not divide the row either.
///
/// After `tensor_type_fallback` of llama.cpp.
pub(crate) fn fitting(wanted: TensorType, row_len: u64) -> TensorType {
    if fits(wanted, row_len) {
        return wanted;
    }
    let smaller_blocks = match wanted {
        TensorType::IQ4_XS => TensorType::IQ4_NL,
        TensorType::Q2_K | TensorType::Q3_K => TensorType::Q4_0,
        TensorType::Q4_K => TensorType::Q5_0,
        TensorType::Q5_K => TensorType::Q5_1,
        TensorType::Q6_K => TensorType::Q8_0,
        other => other,
    };
    if fits(smaller_blocks, row_len) { smaller_blocks } else { TensorType::F16 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Model =
        Model { is_falcon: false, is_70b: false, sharing: 1, experts: 0, layers: 12 };

    fn at(role: TensorRole, place: usize) -> Seat {
        Seat { role, place, of: 12, row_len: 768 }
    }

    fn chosen(recipe: Recipe, role: TensorRole) -> [&'static str; 4] {
        [0, 1, 2, 3].map(|place| wanted(recipe, at(role, place), &PLAIN, false).name())
    }

    #[test]
    fn six_of_twelve_layers_get_more_bits() {
        let more: Vec<usize> = (0..12).filter(|&layer| more_bits(layer, 12)).collect();
        assert_eq!(more, [0, 3, 6, 9, 10, 11]);
        // With fewer than eight layers there is no first eighth.
        assert!(!more_bits(0, 3) && more_bits(2, 3));
    }

    #[test]
    fn mixtures_give_more_bits_where_it_hurts_most() {
        for role in [TensorRole::AttentionValue, TensorRole::FeedForwardDown] {
            assert_eq!(chosen(Recipe::Q4_K_M, role), ["Q6_K", "Q4_K", "Q4_K", "Q6_K"]);
            assert_eq!(chosen(Recipe::Q2_K, role), ["Q3_K"; 4]);
        }
        assert_eq!(
            chosen(Recipe::Q3_K_M, TensorRole::AttentionValue),
            ["Q5_K", "Q5_K", "Q4_K", "Q4_K"]
        );
        assert_eq!(chosen(Recipe::Q4_K_S, TensorRole::AttentionValue), ["Q5_K"; 4]);
        assert_eq!(
            chosen(Recipe::Q4_K_S, TensorRole::FeedForwardDown),
            ["Q5_K", "Q4_K", "Q4_K", "Q4_K"]
        );
        assert_eq!(
            chosen(Recipe::IQ4_XS, TensorRole::FeedForwardDown),
            ["Q5_K", "IQ4_XS", "IQ4_XS", "IQ4_XS"]
        );
        assert_eq!(chosen(Recipe::Q3_K_L, TensorRole::AttentionOutput), ["Q5_K"; 4]);
    }

    #[test]
    fn everything_else_gets_the_base_type() {
        for recipe in Recipe::ALL {
            for role in [TensorRole::Other, TensorRole::TokenEmbedding, TensorRole::AttentionKey] {
                assert_eq!(chosen(recipe, role), [recipe.base_type().name(); 4], "{recipe}");
            }
        }
    }

    #[test]
    fn the_output_keeps_more_bits_than_the_rest() {
        for recipe in Recipe::ALL {
            let expected = if recipe == Recipe::Q8_0 { "Q8_0" } else { "Q6_K" };
            assert_eq!(chosen(recipe, TensorRole::Output), [expected; 4], "{recipe}");
        }
        // 32 divides the row and 256 does not: Q6_K is wanted and replaced.
        let narrow = Seat { row_len: 96, ..at(TensorRole::Output, 0) };
        assert_eq!(wanted(Recipe::Q4_0, narrow, &PLAIN, false), TensorType::Q6_K);
        // Q4_K_M does not choose Q6_K there.
        assert_eq!(wanted(Recipe::Q4_K_M, narrow, &PLAIN, false), TensorType::Q8_0);
    }

    #[test]
    fn importance_data_makes_other_mixtures() {
        let first = at(TensorRole::FeedForwardDown, 0);
        for (recipe, without, with) in [
            (Recipe::IQ4_XS, "Q5_K", "IQ4_XS"),
            (Recipe::Q4_0, "Q4_0", "Q4_1"),
            (Recipe::Q5_0, "Q5_0", "Q5_1"),
            (Recipe::Q4_K_S, "Q5_K", "Q5_K"),
        ] {
            assert_eq!(wanted(recipe, first, &PLAIN, false).name(), without, "{recipe}");
            assert_eq!(wanted(recipe, first, &PLAIN, true).name(), with, "{recipe}");
        }
    }

    #[test]
    fn rows_that_no_block_divides_fall_back() {
        for recipe in Recipe::ALL {
            let base = recipe.base_type();
            let got = fitting(base, 96);
            assert!(got.block_len() == 32, "{recipe}");
            assert_eq!(got == base, base.block_len() == 32, "{recipe}");
            assert_eq!(fitting(base, 48), TensorType::F16, "{recipe}");
        }
        assert_eq!(fitting(TensorType::F32, 3), TensorType::F32);
    }
}
