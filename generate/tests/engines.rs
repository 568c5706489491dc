//! Two engines with the same model: their results, and what they refuse.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::tiny;
use crate::tiny::{families, tiny};
use config::ModelConfig;
use generate::{EngineKind, LoadedModel};

fn load(kind: EngineKind, config: &ModelConfig) -> (tempfile::TempDir, LoadedModel) {
    let folder = tempfile::tempdir().unwrap();
    let path = tiny::write(config, folder.path());
    let source = gguf::GgufFile::open(&path).unwrap();
    let model = LoadedModel::load(kind, &path, &source, 2).unwrap();
    (folder, model)
}

/// Root mean square of the differences divided by that of the numbers.
fn relative_rms(a: &[f32], b: &[f32]) -> f64 {
    let squares = |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x).powi(2)).sum::<f64>();
    (squares(&mut a.iter().zip(b).map(|(a, b)| a - b)) / squares(&mut b.iter().copied())).sqrt()
}

#[test]
fn llama_computes_what_the_reference_computes() {
    for (name, config) in families() {
        let (_one, reference) = load(EngineKind::Reference, &config);
        let (_two, llama) = load(EngineKind::Llama, &config);
        assert_eq!(llama.vocab_size(), reference.vocab_size());
        let (mut ours, mut theirs) = (reference.session().unwrap(), llama.session().unwrap());
        assert_eq!(theirs.context_length(), ours.context_length());
        for tokens in [&[1, 2, 3, 250][..], &[77], &[0, 256, 31]] {
            let (ours, theirs) = (ours.push(tokens).unwrap(), theirs.push(tokens).unwrap());
            // GELU from a table in f16, keys and values in f16.
            let error = relative_rms(&theirs, &ours);
            assert!(error < 5e-3, "{name}: relative RMS {error:e}");
        }
        assert_eq!(theirs.position(), 8);
    }
}

/// With keys and values in f32, the remaining differences are the order of additions and the table
/// for GELU, at every position of the context.
#[test]
fn exact_llama_is_the_reference_up_to_rounding() {
    for (name, config) in families() {
        let folder = tempfile::tempdir().unwrap();
        let path = tiny::write(&config, folder.path());
        let model = reference::Model::load(&gguf::GgufFile::open(&path).unwrap()).unwrap();
        let tokens: Vec<u32> = (0..64).map(|i| (i * 37 + i * i * 11) % 258).collect();
        let llama = llama_cpp::Llama::load(&path).unwrap();
        let arithmetic = llama_cpp::Arithmetic::Exact;
        let settings = llama_cpp::Settings { context: 64, threads: 2, arithmetic };
        let mut session = llama.session(settings).unwrap();
        let theirs = session.logits(&tokens).unwrap();
        let error = relative_rms(&theirs, &model.logits(&tokens).unwrap());
        let exact = config.architecture.block().feed_forward == config::FeedForward::SwiGlu;
        let limit = if exact { 1e-5 } else { 5e-4 };
        assert!(error < limit, "{name}: relative RMS {error:e}");
        session.clear();
        assert_eq!(session.logits(&tokens).unwrap(), theirs, "{name}");
    }
}

#[test]
fn both_refuse_what_does_not_fit_and_go_on_after() {
    for kind in [EngineKind::Reference, EngineKind::Llama] {
        let (_folder, model) = load(kind, &tiny());
        let mut session = model.session().unwrap();
        session.push(&[1; 63]).unwrap();
        let error = session.push(&[1, 1]).unwrap_err().to_string();
        assert_eq!(
            error, "65 tokens do not fit in the model's context of 64: pass at most 64",
            "{kind}"
        );
        let error = session.push(&[258]).unwrap_err().to_string();
        assert!(error.starts_with("token 258"), "{kind}: {error}");
        assert!(session.push(&[]).is_err());
        session.push(&[1]).unwrap();
        assert_eq!(session.position(), 64);
    }
}

#[test]
fn two_models_can_be_in_llama_at_once() {
    let (_one, first) = load(EngineKind::Llama, &tiny());
    let (_two, second) = load(EngineKind::Llama, &tiny());
    let push = |model: &LoadedModel| model.session().unwrap().push(&[5, 6]).unwrap();
    assert_eq!(push(&first), push(&second));
}

#[test]
fn llama_says_what_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let path = tiny::write(&tiny(), folder.path());
    let source = gguf::GgufFile::open(&path).unwrap();
    let error = match LoadedModel::load(EngineKind::Llama, folder.path(), &source, 0) {
        Ok(_) => panic!("accepted a folder"),
        Err(error) => error.to_string(),
    };
    assert!(error.contains("llama.cpp reads GGUF files only"), "{error}");
    assert!(error.contains("--engine reference"), "{error}");
}
