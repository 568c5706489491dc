//! Searches on a file and a text, with small models of many families.

use std::path::PathBuf;

use config::Architecture;
use gguf::{GgufFile, TensorInfo, TensorSource};
use tempfile::TempDir;

use super::{divergence, encode, numbers, search_for};
use crate::test_models::{GPT2, LLAMA, Model};
use crate::{
    Calibration, CalibrationText, ImatrixJob, QuantizeJob, Recipe, Report, collect, quantize_file,
};

/// A model, two texts, and importance data of the first of them.
struct Fixture {
    dir: TempDir,
}

impl Fixture {
    fn new(model: Model) -> Self {
        let fixture = Fixture { dir: TempDir::new().unwrap() };
        model.write_with(&fixture.path("model.gguf"), 5, lively);
        std::fs::write(fixture.path("text.txt"), text(1)).unwrap();
        std::fs::write(fixture.path("other.txt"), text(2)).unwrap();
        collect(&ImatrixJob {
            input: fixture.path("model.gguf"),
            text: fixture.path("text.txt"),
            output: fixture.path("imatrix.gguf"),
            context: 512,
            tokens: None,
            process_output: false,
            overwrite: false,
            interrupt: cli::Interrupt::default(),
        })
        .unwrap();
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn open(&self, name: &str) -> GgufFile {
        GgufFile::open(&self.path(name)).unwrap()
    }

    /// The windows of a text.
    fn windows(&self, text: &str) -> Vec<Vec<u32>> {
        let model = self.open("model.gguf");
        Calibration::read(&self.path(text), model.metadata(), None, 512, None).unwrap().windows
    }

    /// The model as `rounded.gguf`, with importance data.
    fn round(&self, recipe: Recipe) {
        let importance = Some(self.path("imatrix.gguf"));
        self.quantize(QuantizeJob { importance, ..self.job("rounded.gguf", recipe) });
    }

    /// The model as `searched.gguf`.
    fn search(&self, recipe: Recipe) -> Report {
        let calibration = Some(CalibrationText::File(self.path("text.txt")));
        let job = self.job("searched.gguf", recipe);
        self.quantize(QuantizeJob { search: true, calibration, ..job })
    }

    fn job(&self, output: &str, recipe: Recipe) -> QuantizeJob {
        let output = Some(self.path(output));
        QuantizeJob { output, overwrite: true, ..QuantizeJob::new(self.path("model.gguf"), recipe) }
    }

    fn quantize(&self, job: QuantizeJob) -> Report {
        quantize_file(&job).unwrap()
    }
}

/// Weights so large that every part of the model has an effect.
fn lively(name: &str, weights: &mut [f32]) {
    let mean = if name.ends_with("norm.weight") { 1.0 } else { 0.0 };
    weights.iter_mut().for_each(|w| *w = mean + 4.0 * *w);
}

/// Printable ASCII, all with the same frequency.
fn text(seed: u64) -> String {
    let letter = |x: f32| char::from(b' ' + (x.to_bits() % 95) as u8);
    numbers(2048, seed).into_iter().map(letter).collect()
}

fn quantized(file: &GgufFile) -> impl Iterator<Item = &TensorInfo> {
    file.tensors().iter().filter(|tensor| tensor.tensor_type.is_quantized())
}

/// The baseline of the comparison is a fair one.
#[test]
fn plain_rounding_is_what_importance_data_of_the_same_text_gives() {
    let gpt2 = Model { layers: 2, ..GPT2 };
    let llama = Model { layers: 2, ..LLAMA };
    let gemma3 = Model { architecture: Architecture::Gemma3, tied: true, ..llama };
    for model in [gpt2, llama, gemma3] {
        let fixture = Fixture::new(model);
        let source = fixture.open("model.gguf");
        let windows = fixture.windows("text.txt");
        for recipe in [Recipe::Q4_0, Recipe::Q4_K_M, Recipe::Q2_K_S] {
            fixture.round(recipe);
            let written = fixture.open("rounded.gguf");
            let wanted = |name: &str| {
                quantized(&written).find(|tensor| tensor.name == name).map(|t| t.tensor_type)
            };
            let found = search_for(&source, &wanted, &windows, &encode);
            for expected in quantized(&written) {
                let ours = found.rounded.tensor(&expected.name).unwrap();
                assert_eq!(ours.tensor_type, expected.tensor_type, "{}", expected.name);
                let same = found.rounded.read(ours).unwrap() == written.read(expected).unwrap();
                assert!(same, "{recipe} of {:?}: {}", model.architecture, expected.name);
            }
        }
    }
}

#[test]
fn every_family_is_nearer_to_the_original_than_with_rounding() {
    use Architecture::{Gemma3, Olmo2, Phi3, Qwen3, SmolLm3};
    let llama3 = Model { layers: 2, width: 64, inner: 128, rope_factors: true, ..LLAMA };
    let family = |architecture| Model { architecture, rope_factors: false, ..llama3 };
    let models = [
        llama3,
        family(Qwen3),
        // The last of its layers does not rotate.
        Model { layers: 4, ..family(SmolLm3) },
        family(Olmo2),
        Model { tied: true, ..family(Gemma3) },
        family(Phi3),
    ];
    for model in models {
        let fixture = Fixture::new(model);
        for recipe in [Recipe::Q4_0, Recipe::Q8_0] {
            fixture.round(recipe);
            let search = fixture.search(recipe).search.unwrap();
            let what = format!("{recipe} of {:?}: {search:?}", model.architecture);
            let (source, unseen) = (fixture.open("model.gguf"), fixture.windows("other.txt"));
            let kl = |name: &str| divergence(&source, &fixture.open(name), &unseen);
            let (ours, rounded) = (kl("searched.gguf"), kl("rounded.gguf"));
            assert!(search.used && search.divergence <= search.rounded_divergence, "{what}");
            assert!(ours.is_finite() && ours <= rounded, "{ours} against {rounded}: {what}");
        }
    }
}
