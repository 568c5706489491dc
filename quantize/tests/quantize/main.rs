//! Whole files against llama.cpp's own quantizer, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod models;
mod oracle;

use std::path::{Path, PathBuf};

use config::Architecture;
use gguf::{GgufFile, Metadata, TensorSource, TensorType};
use models::{GPT2, LLAMA, Model};
use oracle::llama_quantize;
use quantize::{QuantizeJob, Recipe, Report, quantize_file};
use tempfile::TempDir;

fn job(input: &Path, output: &Path, recipe: Recipe) -> QuantizeJob {
    QuantizeJob {
        input: input.to_owned(),
        output: Some(output.to_owned()),
        recipe,
        errors: false,
        overwrite: false,
    }
}

fn refusal(job: &QuantizeJob) -> String {
    cli::one_line(&quantize_file(job).unwrap_err())
}

/// Same tensors with the same types and bytes, same keys with the same values.
fn assert_same_model(what: &str, ours: &Path, theirs: &Path) {
    let (ours, theirs) = (GgufFile::open(ours).unwrap(), GgufFile::open(theirs).unwrap());
    assert!(ours.is_canonical(), "{what}");
    assert_eq!(ours.tensors().len(), theirs.tensors().len(), "{what}");
    for tensor in ours.tensors() {
        let other = theirs.tensor(&tensor.name).unwrap();
        let same = (&tensor.shape, tensor.tensor_type) == (&other.shape, other.tensor_type);
        assert!(same, "{what}: {tensor:?} {other:?}");
        assert!(
            ours.read(tensor).unwrap() == theirs.read(other).unwrap(),
            "{what}: {}",
            tensor.name
        );
    }
    let sorted = |metadata: &Metadata| {
        let mut keys: Vec<_> = metadata.iter().map(|(k, v)| (k.to_owned(), v.clone())).collect();
        keys.sort_by(|a, b| a.0.cmp(&b.0));
        keys
    };
    assert_eq!(sorted(ours.metadata()), sorted(theirs.metadata()), "{what}");
}

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
    let reports = assert_same_as_llama(GPT2, &Recipe::ALL);
    assert!(reports.iter().all(|report| report.fallbacks.is_empty()));
}

#[test]
fn untied_models_do_too() {
    let some = [Recipe::Q4_K_M, Recipe::Q4_K, Recipe::Q4_0, Recipe::Q8_0];
    assert_same_as_llama(Model { tied: false, ..GPT2 }, &some);
}

#[test]
fn every_family_equals_llama_quantize() {
    for architecture in [Architecture::Llama, Architecture::Qwen2] {
        assert_same_as_llama(Model { architecture, layers: 3, ..LLAMA }, &Recipe::ALL);
        for (tied, kv_heads) in [(false, 4), (true, 2), (true, 1)] {
            let model = Model { architecture, tied, kv_heads, ..LLAMA };
            assert_same_as_llama(model, &[Recipe::Q4_K_M]);
        }
    }
    let gptneox = Model { architecture: Architecture::GptNeox, tied: false, ..GPT2 };
    assert_same_as_llama(Model { layers: 3, ..gptneox }, &Recipe::ALL);
    assert_same_as_llama(gptneox, &[Recipe::Q4_K_M]);
}

/// Which layers get more bits follows from their number, and from nothing else.
#[test]
fn any_number_of_layers_equals_llama_quantize() {
    for layers in [1, 2, 7, 8, 16, 22] {
        assert_same_as_llama(Model { layers, ..LLAMA }, &[Recipe::Q4_K_M]);
    }
}

/// The widths of small models: 288 is llama2.c's 15M, 576 SmolLM's, 896 Qwen2's 0.5B.
#[test]
fn widths_that_256_does_not_divide_fall_back_in_every_family() {
    for (architecture, width, heads, kv_heads, inner) in [
        (Architecture::Llama, 288, 6, 6, 768),
        (Architecture::Llama, 576, 9, 3, 512),
        (Architecture::Qwen2, 896, 14, 2, 304),
        (Architecture::GptNeox, 320, 5, 5, 640),
    ] {
        let model = Model { architecture, width, heads, kv_heads, inner, layers: 1, ..LLAMA };
        let recipes = [Recipe::Q4_K_M, Recipe::Q6_K, Recipe::Q4_0];
        assert_same_as_llama(Model { tied: true, ..model }, &recipes);
        assert_same_as_llama(model, &recipes);
    }
}

#[test]
fn rows_that_256_does_not_divide_fall_back_as_in_llama_quantize() {
    for tied in [true, false] {
        let by_32 = Model { width: 96, inner: 384, tied, ..GPT2 };
        for report in assert_same_as_llama(by_32, &Recipe::ALL) {
            let fell_back = report.fallbacks.iter().map(|fallback| fallback.wanted);
            let expected = matches!(report.recipe.base_type(), TensorType::Q4_K | TensorType::Q6_K);
            assert!(!expected || fell_back.count() >= 18, "{report}");
        }
        // 256 divides the rows of ffn_down only.
        assert_same_as_llama(Model { width: 160, inner: 512, tied, ..GPT2 }, &Recipe::ALL);
        // Not even 32 divides the rows.
        let odd = Model { width: 72, inner: 200, layers: 2, tied, ..GPT2 };
        let reports = assert_same_as_llama(odd, &Recipe::ALL);
        assert!(reports.iter().all(|report| report.fallbacks.iter().all(|f| f.got == "F16")));
    }
}

#[test]
fn half_precision_sources_equal_llama_quantize() {
    for matrices in [TensorType::F16, TensorType::BF16] {
        assert_same_as_llama(Model { matrices, layers: 2, ..GPT2 }, &Recipe::ALL);
        let odd = Model { matrices, layers: 2, width: 72, inner: 200, ..GPT2 };
        assert_same_as_llama(odd, &[Recipe::Q4_K_M, Recipe::Q8_0]);
    }
}

#[test]
fn the_report_says_what_was_done() {
    let dir = TempDir::new().unwrap();
    let input = dir.path().join("tiny-F32.gguf");
    Model { width: 96, inner: 256, layers: 2, ..GPT2 }.write(&input, 1);
    let mut job = job(&input, Path::new(""), Recipe::Q4_K_M);
    job.output = None;
    job.errors = true;
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
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["recipe"], "Q4_K_M");
    assert_eq!(json["types"].as_array().unwrap().len(), 5);
}

#[test]
fn bad_weights_are_refused_by_name() {
    let dir = TempDir::new().unwrap();
    let (input, output) = (dir.path().join("in.gguf"), dir.path().join("out.gguf"));
    let one = Model { layers: 1, ..GPT2 };
    for (name, value, expected) in [
        ("blk.0.ffn_up.weight", f32::NAN, "tensor blk.0.ffn_up.weight: weight 700 (row 2) is NaN"),
        ("blk.0.ffn_up.weight", 1e9, "tensor blk.0.ffn_up.weight: block 21 of Q8_0 has a scale"),
        (
            "position_embd.weight",
            f32::INFINITY,
            "tensor position_embd.weight: weight 700 is NaN, or",
        ),
    ] {
        one.write_with(&input, 1, |tensor, weights| {
            if tensor == name {
                weights[700] = value;
            }
        });
        let refused = refusal(&job(&input, &output, Recipe::Q8_0));
        assert!(refused.contains(expected), "{refused}");
        assert!(!output.exists());
        assert!(!llama_quantize(&input, &dir.path().join("theirs.gguf"), Recipe::Q8_0));
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| -> PathBuf { dir.path().join(name) };
    let input = path("in.gguf");
    Model { layers: 1, ..GPT2 }.write(&input, 1);
    let output = path("out.gguf");
    quantize_file(&job(&input, &output, Recipe::Q8_0)).unwrap();

    let refused = refusal(&job(&input, &output, Recipe::Q4_0));
    assert!(refused.contains("exists already; use --force"), "{refused}");
    let refused = refusal(&job(&output, &path("twice.gguf"), Recipe::Q4_0));
    assert!(refused.contains("is Q8_0 already"), "{refused}");
    let mut onto_itself = job(&input, &input, Recipe::Q4_0);
    onto_itself.overwrite = true;
    assert!(refusal(&onto_itself).contains("is the input itself"));
    assert!(refusal(&job(&path("none.gguf"), &path("x"), Recipe::Q4_0)).contains("none.gguf"));
    // llama.cpp knows models of 80 layers by that number, and has Q5_K for their shared values.
    for architecture in [Architecture::Llama, Architecture::Qwen2] {
        let large = Model { architecture, layers: 80, width: 32, inner: 32, ..LLAMA };
        large.write(&path("large.gguf"), 1);
        let refused = refusal(&job(&path("large.gguf"), &path("x"), Recipe::Q4_K_M));
        assert!(refused.contains("need Q5_K, which is not built in"), "{refused}");
    }
    std::fs::write(path("text.gguf"), "not a model").unwrap();
    assert!(refusal(&job(&path("text.gguf"), &path("x"), Recipe::Q4_0)).contains("no GGUF"));
    assert!(!path("x").exists());
}
