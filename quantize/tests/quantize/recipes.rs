//! Every recipe, for every kind of model.

use std::path::Path;

use config::Architecture;
use gguf::{GgufFile, TensorSource, TensorType};
use quantize::{QuantizeJob, Recipe, Report, quantize_file};
use tempfile::TempDir;

use crate::models::{GPT2, LLAMA, Model};
use crate::oracle::llama_quantize;
use crate::{assert_same_model, job, plain_recipes};

/// A matrix of four rows has the type of one of a thousand.
const FEW_ROWS: Option<u64> = Some(4);

fn assert_same_as_llama(model: Model, recipes: &[Recipe]) -> Vec<Report> {
    let dir = TempDir::new().unwrap();
    let input = dir.path().join("model.gguf");
    model.write(&input, 5);
    let compare = |recipe: &Recipe| {
        let ours = dir.path().join(format!("ours-{recipe}.gguf"));
        let theirs = dir.path().join(format!("theirs-{recipe}.gguf"));
        assert!(llama_quantize(&input, &theirs, *recipe), "{recipe} of {model:?}");
        let report = quantize_file(&job(&input, &ours, *recipe)).unwrap();
        assert_same_model(&format!("{recipe} of {model:?}"), &ours, &theirs);
        report
    };
    recipes.iter().map(compare).collect()
}

#[test]
fn every_recipe_equals_llama_quantize() {
    let reports = assert_same_as_llama(GPT2, &plain_recipes());
    assert!(reports.iter().all(|report| report.fallbacks.is_empty()));
}

#[test]
fn every_family_equals_llama_quantize() {
    use Architecture::{Gemma3, Llama, Olmo2, Phi3, Qwen2, Qwen3, SmolLm3};
    for architecture in [Llama, Qwen2, Qwen3, SmolLm3, Olmo2, Gemma3, Phi3] {
        assert_same_as_llama(Model { architecture, layers: 3, ..LLAMA }, &plain_recipes());
        for (tied, kv_heads) in [(false, 4), (true, 2), (true, 1)] {
            let model = Model { architecture, tied, kv_heads, rows: FEW_ROWS, ..LLAMA };
            assert_same_as_llama(model, &plain_recipes());
        }
    }
    let gptneox = Model { architecture: Architecture::GptNeox, tied: false, ..GPT2 };
    assert_same_as_llama(Model { layers: 3, ..gptneox }, &plain_recipes());
    for tied in [true, false] {
        let model = Model { tied, rows: FEW_ROWS, ..GPT2 };
        assert_same_as_llama(model, &plain_recipes());
    }
}

/// The layers that get more bits follow from their number alone.
#[test]
fn any_number_of_layers_equals_llama_quantize() {
    for layers in [1, 2, 7, 8, 16, 22, 33] {
        for model in [LLAMA, GPT2] {
            let model = Model { layers, rows: FEW_ROWS, ..model };
            assert_same_as_llama(model, &plain_recipes());
        }
    }
}

/// llama.cpp recognises models of 80 layers by that number.
#[test]
fn models_of_seventy_billion_equal_llama_quantize() {
    for (architecture, kv_heads) in
        [(Architecture::Llama, 1), (Architecture::Llama, 4), (Architecture::Qwen2, 2)]
    {
        let model = Model { architecture, kv_heads, layers: 80, rows: FEW_ROWS, ..LLAMA };
        assert_same_as_llama(model, &plain_recipes());
    }
}

#[test]
fn models_with_experts_equal_llama_quantize() {
    for experts in [3, 4, 8] {
        let model = Model { experts, layers: 9, rows: FEW_ROWS, ..LLAMA };
        assert_same_as_llama(model, &plain_recipes());
        let qwen3moe = Model { foreign: Some("qwen3moe"), layers: 5, ..model };
        assert_same_as_llama(qwen3moe, &plain_recipes());
    }
}

/// Models that this project cannot run can be quantized: the rules use names.
#[test]
fn other_architectures_equal_llama_quantize() {
    for (foreign, model) in [
        ("falcon", Model { layers: 16, ..GPT2 }),
        ("falcon", Model { layers: 33, tied: false, ..GPT2 }),
        ("internlm2", LLAMA),
        ("gemma", Model { tied: true, ..LLAMA }),
        ("starcoder", GPT2),
    ] {
        let model = Model { foreign: Some(foreign), rows: FEW_ROWS, ..model };
        assert_same_as_llama(model, &plain_recipes());
    }
}

/// The widths of small models: 64 with 172 is llama2.c's 260K, 288 its 15M, 576 SmolLM's, 896
/// Qwen2's 0.5B.
#[test]
fn widths_that_256_does_not_divide_fall_back_in_every_family() {
    for (architecture, width, heads, kv_heads, inner) in [
        (Architecture::Llama, 64, 8, 4, 172),
        (Architecture::Llama, 288, 6, 6, 768),
        (Architecture::Llama, 576, 9, 3, 512),
        (Architecture::Qwen2, 896, 14, 2, 304),
        (Architecture::GptNeox, 320, 5, 5, 640),
    ] {
        let model = Model { architecture, width, heads, kv_heads, inner, layers: 1, ..LLAMA };
        for tied in [true, false] {
            assert_same_as_llama(Model { tied, rows: Some(40), ..model }, &plain_recipes());
        }
    }
}

#[test]
fn rows_that_256_does_not_divide_fall_back_as_in_llama_quantize() {
    for tied in [true, false] {
        let by_32 = Model { width: 96, inner: 384, tied, layers: 3, ..GPT2 };
        for report in assert_same_as_llama(by_32, &plain_recipes()) {
            let fell_back = report.fallbacks.len();
            let expected = report.recipe.base_type().block_len() == 256;
            assert!(!expected || fell_back >= 9, "{report}");
        }
        // 256 divides the rows of ffn_down only.
        let model = Model { width: 160, inner: 512, tied, layers: 3, ..GPT2 };
        assert_same_as_llama(model, &plain_recipes());
        // 32 does not divide the rows either.
        let odd = Model { width: 72, inner: 200, layers: 2, tied, ..GPT2 };
        let reports = assert_same_as_llama(odd, &plain_recipes());
        assert!(reports.iter().all(|report| report.fallbacks.iter().all(|f| f.got == "F16")));
    }
}

#[test]
fn half_precision_sources_equal_llama_quantize() {
    for matrices in [TensorType::F16, TensorType::BF16] {
        assert_same_as_llama(Model { matrices, layers: 2, ..GPT2 }, &plain_recipes());
        let odd = Model { matrices, layers: 2, width: 72, inner: 200, ..GPT2 };
        assert_same_as_llama(odd, &[Recipe::Q4_K_M, Recipe::Q8_0]);
    }
}

/// More rows than are converted at a time, and more bytes than the queue holds.
#[test]
fn tensors_of_several_slabs_equal_llama_quantize() {
    let model = Model { layers: 1, width: 256, inner: 9984, ..GPT2 };
    assert_same_as_llama(model, &[Recipe::Q8_0, Recipe::Q4_K_M, Recipe::Q4_0]);
}

#[test]
fn the_report_says_what_was_done() {
    let dir = TempDir::new().unwrap();
    let input = dir.path().join("tiny-F32.gguf");
    Model { width: 96, inner: 256, layers: 2, ..GPT2 }.write(&input, 1);
    let job = QuantizeJob { errors: true, ..QuantizeJob::new(&input, Recipe::Q4_K_M) };
    let report = quantize_file(&job).unwrap();

    assert_eq!(report.output, dir.path().join("tiny-Q4_K_M.gguf"));
    assert_eq!(report.bytes_before, input.metadata().unwrap().len());
    assert_eq!(report.bytes_after, report.output.metadata().unwrap().len());
    let text = report.to_string();
    let line = "fallback blk.0.attn_qkv.weight: Q5_0 instead of Q4_K, since 256 does not divide \
                its rows of 96";
    assert!(text.contains(line), "{text}");
    for tensor in &report.tensors {
        let error = tensor.relative_rms_error.unwrap();
        let bounds = match tensor.to {
            "F32" => 0.0..=0.0,
            "Q8_0" => 0.003..=0.006,
            "Q6_K" => 0.015..=0.02,
            "Q5_0" => 0.03..=0.045,
            _ => 0.06..=0.08,
        };
        assert!(bounds.contains(&error), "{tensor:?}");
    }
    let written = GgufFile::open(&report.output).unwrap();
    for (tensor, reported) in written.tensors().iter().zip(&report.tensors) {
        assert_eq!((&tensor.name, tensor.size), (&reported.name, reported.bytes));
    }
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["recipe"], "Q4_K_M");
    assert_eq!(json["types"].as_array().unwrap().len(), 5);
    assert_eq!(json.get("importance"), None);
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let dir = TempDir::new().unwrap();
    let input = dir.path().join("model.gguf");
    Model { layers: 2, ..LLAMA }.write(&input, 3);
    let bytes = |name: &str| {
        let output = dir.path().join(name);
        quantize_file(&job(&input, Path::new(&output), Recipe::Q3_K_M)).unwrap();
        std::fs::read(output).unwrap()
    };
    assert!(bytes("a.gguf") == bytes("b.gguf"));
}
