//! The user's changes to a recipe.

use gguf::{GgufFile, TensorSource, TensorType};
use quantize::{Override, QuantizeJob, Recipe, Rules, quantize_file};
use tempfile::TempDir;

use crate::models::{GPT2, LLAMA, Model};
use crate::oracle::{Wishes, llama_quantize_with};
use crate::{assert_same_model, job, plain_recipes};

fn assert_same_as_llama(model: Model, recipe: Recipe, wishes: &Wishes) {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    let what = format!("{recipe} of {model:?} with {wishes:?}");
    model.write(&path("in.gguf"), 7);
    assert!(llama_quantize_with(&path("in.gguf"), &path("theirs.gguf"), recipe, wishes), "{what}");
    let overrides = wishes.overrides.iter();
    let job = QuantizeJob {
        rules: Rules {
            recipe,
            pure: wishes.pure,
            overrides: overrides.map(|(p, to)| Override::new(p, *to).unwrap()).collect(),
            output: wishes.output,
            ..Rules::of(recipe)
        },
        requantize: wishes.requantize,
        ..job(&path("in.gguf"), &path("ours.gguf"), recipe)
    };
    quantize_file(&job).unwrap();
    assert_same_model(&what, &path("ours.gguf"), &path("theirs.gguf"));
}

#[test]
fn pure_files_equal_llama_quantize() {
    let pure = Wishes { pure: true, ..Wishes::default() };
    for recipe in plain_recipes() {
        for tied in [true, false] {
            assert_same_as_llama(Model { layers: 2, tied, ..GPT2 }, recipe, &pure);
        }
        assert_same_as_llama(Model { layers: 1, width: 96, ..LLAMA }, recipe, &pure);
    }
}

#[test]
fn overrides_equal_llama_quantize() {
    let few_rows = Model { layers: 16, rows: Some(4), ..LLAMA };
    for overrides in [
        vec![("attn_v", TensorType::Q8_0)],
        vec![(r"blk\.(0|1)\.ffn_(up|gate)", TensorType::Q3_K), ("ffn_down", TensorType::F16)],
        vec![(r"^blk\.[02468]\.", TensorType::IQ4_XS), (r"\.weight$", TensorType::Q5_1)],
        vec![("token_embd", TensorType::BF16), ("output.weight", TensorType::Q4_1)],
    ] {
        let wishes = Wishes { overrides, ..Wishes::default() };
        for recipe in [Recipe::Q4_K_M, Recipe::Q3_K_M, Recipe::Q2_K, Recipe::Q4_K_S] {
            assert_same_as_llama(few_rows, recipe, &wishes);
            assert_same_as_llama(Model { tied: true, ..few_rows }, recipe, &wishes);
        }
    }
}

#[test]
fn the_output_s_type_equals_llama_quantize() {
    for output in [TensorType::F16, TensorType::F32, TensorType::Q8_0] {
        let wishes = Wishes { output: Some(output), ..Wishes::default() };
        for tied in [true, false] {
            for recipe in [Recipe::Q4_K_M, Recipe::Q8_0, Recipe::IQ4_NL] {
                assert_same_as_llama(Model { layers: 1, tied, ..GPT2 }, recipe, &wishes);
            }
        }
    }
}

/// llama-quantize ignores a tied head if the file is pure; here it is respected.
#[test]
fn the_output_is_kept_in_pure_files_too() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    Model { layers: 1, ..GPT2 }.write(&path("in.gguf"), 1);
    let rules = Rules { pure: true, output: Some(TensorType::F16), ..Rules::of(Recipe::Q4_K_S) };
    let job = job(&path("in.gguf"), &path("out.gguf"), Recipe::Q4_K_S);
    quantize_file(&QuantizeJob { rules, ..job }).unwrap();
    let file = GgufFile::open(&path("out.gguf")).unwrap();
    let type_of = |name: &str| file.tensor(name).unwrap().tensor_type;
    assert_eq!(type_of("token_embd.weight"), TensorType::F16);
    assert_eq!(type_of("blk.0.attn_qkv.weight"), TensorType::Q4_K);
}

#[test]
fn quantizing_again_equals_llama_quantize() {
    let again = Wishes { requantize: true, ..Wishes::default() };
    for matrices in TensorType::ALL.into_iter().filter(|matrices| matrices.is_quantized()) {
        let model = Model { layers: 1, matrices, rows: Some(40), ..LLAMA };
        for recipe in [Recipe::Q8_0, Recipe::Q4_K_M, Recipe::Q3_K_S] {
            assert_same_as_llama(model, recipe, &again);
        }
    }
}
