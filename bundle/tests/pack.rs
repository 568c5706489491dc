//! What is packed is whole, works, is always the same, and is refused where it would lie.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use crate::common::{Fixture, tiny, variant, write_gguf};
use bundle::{Inputs, MeasuredFile, PackJob, pack, verify};
use gguf::TensorType;

fn refusal(job: &PackJob) -> String {
    let error = pack(job).unwrap_err();
    assert!(!job.output.exists(), "nothing may appear when packing fails");
    cli::one_line(&error)
}

#[test]
fn a_packed_bundle_is_sound_and_answers_as_packed() {
    let fixture = Fixture::packed();
    let report = verify(&fixture.output()).unwrap();
    assert!(report.problems.is_empty(), "{report}");
    assert_eq!(report.self_test.len(), 2);
    assert!(report.self_test.iter().all(|test| test.passed && test.found.len() == 8), "{report}");
    report.require_sound().unwrap();
}

#[test]
fn the_answer_is_that_of_the_file_that_was_packed() {
    let fixture = Fixture::packed();
    let manifest = bundle::read_manifest(&fixture.output()).unwrap();
    for recipe in ["F16", "Q8_0"] {
        let file = gguf::GgufFile::open(&fixture.path(&format!("{recipe}.gguf"))).unwrap();
        let answer = bundle::continuation(&file, &[1, 2, 3], 8, &[0]).unwrap();
        assert_eq!(manifest.expected(recipe).unwrap(), answer);
    }
}

#[test]
fn the_folder_holds_what_is_listed() {
    let fixture = Fixture::packed();
    let manifest = bundle::read_manifest(&fixture.output()).unwrap();
    let recipes: Vec<&str> = manifest.variants.iter().map(|v| v.recipe.as_str()).collect();
    assert_eq!(recipes, ["Q8_0", "F16"], "smallest first");
    for name in [
        "tokenizer.json",
        "generation_config.json",
        "LICENSE",
        "MODEL_CARD.md",
        "model/F16.manifest.json",
        "model/Q8_0.manifest.json",
    ] {
        assert!(manifest.files.iter().any(|file| file.path == name), "{name}");
        assert!(fixture.output().join(name).is_file(), "{name}");
    }
    let card = std::fs::read_to_string(fixture.output().join("MODEL_CARD.md")).unwrap();
    assert!(card.contains("| Q8_0 |") && card.contains("1.20e-3") && card.contains("98.50 %"));
    let generation = std::fs::read_to_string(fixture.output().join("generation_config.json"));
    let generation: serde_json::Value = serde_json::from_str(&generation.unwrap()).unwrap();
    assert_eq!(generation["eos_token_id"], 0);
    // As `generate` draws, and llama.cpp: no penalty unless somebody asks for one.
    assert_eq!(generation["temperature"], config::sampling::TEMPERATURE);
    assert_eq!(generation["repetition_penalty"], 1.0);
    // The same vectors and biases lie in both files: what is equal is stored once.
    let pieces = fragment::verify(&fixture.output().join("model")).unwrap();
    assert_eq!(pieces.manifests, 2);
}

#[test]
fn fragments_and_files_give_the_same_bundle() {
    let fixture = Fixture::packed();
    let pieces = fixture.path("Q8_0");
    fragment::split(&fragment::SplitJob {
        input: fixture.path("Q8_0.gguf"),
        output: pieces.clone(),
        max_bytes: 8192,
        force: false,
    })
    .unwrap();
    let mut job = fixture.job();
    job.output = fixture.path("again");
    job.variants[1] = variant("Q8_0", pieces);
    pack(&job).unwrap();
    let text = |folder| std::fs::read_to_string(fixture.path(folder).join("bundle.json")).unwrap();
    assert_eq!(text("pocket"), text("again"));
}

#[test]
fn the_archive_is_deterministic_and_verifies() {
    let fixture = Fixture::new();
    let mut archives = Vec::new();
    for name in ["one", "two"] {
        let job = PackJob { output: fixture.path(name), zip: true, ..fixture.job() };
        let report = pack(&job).unwrap();
        let archive = report.archive.unwrap();
        let report = verify(&archive).unwrap();
        report.require_sound().unwrap();
        assert_eq!(report.self_test.len(), 2);
        archives.push(std::fs::read(archive).unwrap());
    }
    assert!(archives[0] == archives[1]);
    // Stored: the weights of a fragment lie in the archive as they are.
    let manifest = bundle::read_manifest(&fixture.path("one")).unwrap();
    let piece = manifest.files.iter().find(|file| file.path.ends_with(".dat")).unwrap();
    let bytes = std::fs::read(fixture.path("one").join(&piece.path)).unwrap();
    assert!(archives[0].windows(bytes.len()).any(|window| window == bytes));
}

#[test]
fn figures_of_another_file_are_refused() {
    let fixture = Fixture::new();
    for measured in [
        MeasuredFile { sha256: Some("0".repeat(64)), tensor_bytes: None },
        MeasuredFile { sha256: None, tensor_bytes: Some(1) },
    ] {
        let mut job = fixture.job();
        job.variants[0].measured = measured;
        assert!(refusal(&job).contains("the report is of another file"));
    }
}

#[test]
fn variants_of_different_models_are_refused() {
    let fixture = Fixture::new();
    let path = fixture.path("other.gguf");
    let other = config::ModelConfig { n_inner: 96, ..tiny() };
    write_gguf(&path, &other, TensorType::F32);
    let mut job = fixture.job();
    job.variants[0] = variant("F32", path);
    assert!(refusal(&job).contains("are of different models"));
}

#[test]
fn prompts_and_recipes_that_cannot_be_are_refused() {
    let fixture = Fixture::new();
    let job = PackJob { prompt_tokens: vec![1; 48], ..fixture.job() };
    assert!(refusal(&job).contains("the prompt fills the context of 48 tokens"));
    let job = PackJob { prompt_tokens: vec![64], ..fixture.job() };
    assert!(refusal(&job).contains("64"));
    let job = PackJob { prompt_tokens: vec![], ..fixture.job() };
    assert!(refusal(&job).contains("the self-test of"));
    let mut job = fixture.job();
    job.variants[0].recipe = "../F16".to_owned();
    assert!(refusal(&job).contains("recipe \"../F16\""));
    let mut job = fixture.job();
    job.variants[1].recipe = "F16".to_owned();
    assert!(refusal(&job).contains("given twice"));
    let job = PackJob { variants: vec![], ..fixture.job() };
    assert!(refusal(&job).contains("at least one variant"));
}

#[test]
fn nothing_is_replaced_unless_it_is_a_bundle_and_forced() {
    let fixture = Fixture::packed();
    let error = pack(&fixture.job()).unwrap_err();
    assert!(error.to_string().contains("--force"), "{error}");
    pack(&PackJob { force: true, ..fixture.job() }).unwrap();
    let job = PackJob { force: true, output: fixture.folder.path().into(), ..fixture.job() };
    assert!(pack(&job).unwrap_err().to_string().contains("holds something else"));
    assert!(fixture.path("F16.gguf").exists());
}

#[test]
fn a_damaged_fragment_is_not_packed() {
    let fixture = Fixture::new();
    let pieces = fixture.path("pieces");
    let (input, output) = (fixture.path("F16.gguf"), pieces.clone());
    fragment::split(&fragment::SplitJob { input, output, max_bytes: 8192, force: false }).unwrap();
    let manifest = fragment::read_manifest(&pieces.join("manifest.json")).unwrap();
    let piece = pieces.join(&manifest.fragments[1].file);
    let mut bytes = std::fs::read(&piece).unwrap();
    bytes[9] ^= 4;
    std::fs::write(piece, bytes).unwrap();
    let mut job = fixture.job();
    job.variants[0] = variant("F16", pieces);
    assert!(refusal(&job).contains("is damaged"));
}

#[test]
fn hashes_that_a_manifest_claims_are_not_repeated_unverified() {
    let fixture = Fixture::new();
    let pieces = fixture.path("pieces");
    let (input, output) = (fixture.path("F16.gguf"), pieces.clone());
    fragment::split(&fragment::SplitJob { input, output, max_bytes: 8192, force: false }).unwrap();
    let path = pieces.join("manifest.json");
    let sound = fragment::read_manifest(&path).unwrap();
    let mut whole = sound.clone();
    whole.file.sha256 = "0".repeat(64);
    let mut piece = sound.clone();
    piece.fragments[1].sha256 = "0".repeat(64);
    for altered in [whole, piece] {
        std::fs::write(&path, altered.to_json().unwrap()).unwrap();
        let mut job = fixture.job();
        job.variants[0] = variant("F16", pieces.clone());
        let error = refusal(&job);
        assert!(error.contains("SHA-256") && error.contains(&"0".repeat(64)), "{error}");
    }
}

#[test]
fn the_archive_lies_beside_the_folder_and_goes_with_it() {
    let fixture = Fixture::new();
    let archive = fixture.path("pocket.zip");
    let output = fixture.path("pocket/");
    let job = PackJob { output, zip: true, ..fixture.job() };
    assert_eq!(pack(&job).unwrap().archive.as_ref(), Some(&archive));
    verify(&archive).unwrap().require_sound().unwrap();
    verify(&fixture.output()).unwrap().require_sound().unwrap();
    // The next bundle has no archive, and the last one's is not of this bundle.
    pack(&PackJob { force: true, ..fixture.job() }).unwrap();
    assert!(!archive.exists());
    std::fs::write(&archive, "something else").unwrap();
    pack(&PackJob { force: true, ..fixture.job() }).unwrap();
    assert!(archive.exists());
}

#[test]
fn a_bundle_is_not_packed_over_what_it_is_made_from() {
    let fixture = Fixture::packed();
    let inside = fixture.output().join("Q8_0.gguf");
    std::fs::copy(fixture.path("Q8_0.gguf"), &inside).unwrap();
    let mut job = PackJob { force: true, ..fixture.job() };
    job.variants[1] = variant("Q8_0", inside.clone());
    let error = pack(&job).unwrap_err().to_string();
    assert!(error.contains("name another output"), "{error}");
    assert!(inside.exists());

    let inputs = |tokenizer, report| Inputs {
        variants: Vec::new(),
        tokenizer,
        report,
        name: "tiny".to_owned(),
        license: Some("MIT".to_owned()),
        license_file: None,
        license_sources: Vec::new(),
        prompt: "a".to_owned(),
        self_test_tokens: 1,
        max_bytes: 8192,
    };
    let tokenizer = fixture.output().join("tokenizer.json");
    let report = fixture.output().join("report.json");
    for inputs in [inputs(tokenizer, None), inputs(fixture.path("t.json"), Some(report))] {
        let error = PackJob::from_inputs(inputs, fixture.output()).unwrap_err().to_string();
        assert!(error.contains("name another output"), "{error}");
    }
}

/// The archive is made before the folder appears.
#[test]
fn an_archive_that_cannot_be_written_leaves_nothing_behind() {
    let fixture = Fixture::new();
    let job = PackJob { zip: true, force: true, ..fixture.job() };
    std::fs::create_dir(fixture.path("pocket.zip")).unwrap();
    assert!(refusal(&job).contains("pocket.zip is a folder; name a file"));
}

#[test]
fn a_model_that_says_no_numbers_is_refused() {
    let fixture = Fixture::new();
    let path = fixture.path("F16.gguf");
    let mut bytes = std::fs::read(&path).unwrap();
    let (_, layout) = gguf::parse_header(&bytes).unwrap();
    let tensor = layout.tensors.iter().find(|tensor| tensor.tensor_type == TensorType::F16);
    let start = (layout.data_start + tensor.unwrap().offset) as usize;
    for weight in bytes[start..start + tensor.unwrap().size as usize].chunks_exact_mut(2) {
        weight.copy_from_slice(&0x7e00_u16.to_le_bytes());
    }
    std::fs::write(&path, bytes).unwrap();
    let error = refusal(&fixture.job());
    assert!(error.contains("the self-test of F16") && error.contains("NaN"), "{error}");
}
