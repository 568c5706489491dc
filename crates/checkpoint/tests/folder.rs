//! Checkpoint folders: a saved one opens unchanged, and an invalid one is refused by name.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::common::{TOKENIZER, config, weights, write};
use checkpoint::{
    Checkpoint, CheckpointContents, CheckpointError, Dtype, Golden, HuggingFaceFiles, NamedTensor,
    TrainerState, Weights, latest, locate, save, save_hugging_face,
};
use config::ModelConfig;
use proptest::prelude::*;

fn opening(dir: &Path) -> String {
    Checkpoint::open(dir).unwrap_err().to_string()
}

/// Saves with changed tensors and returns the error.
fn saving(change: impl FnOnce(&mut Vec<NamedTensor>)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut weights = weights(&config());
    change(&mut weights);
    let files = HuggingFaceFiles {
        config: &config(),
        weights: &weights,
        tokenizer_json: None,
        tokenizer_folder: None,
    };
    let error = save_hugging_face(&folder.path().join("out"), false, files).unwrap_err();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    error.to_string()
}

#[test]
fn everything_that_is_saved_opens_as_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("step-000001");
    let weights = weights(&config());
    let optimizer =
        vec![NamedTensor { name: "wte.m".into(), shape: vec![2, 3], data: vec![0.5; 6] }];
    let trainer = TrainerState {
        step: u64::MAX,
        best_val_loss: Some(0.1),
        metrics: BTreeMap::from([("val_loss".into(), 0.1)]),
        ..TrainerState::default()
    };
    let golden = Golden {
        tokens: vec![0, 4, 1, 2],
        logits: (0..20).map(|i| i as f32 / 3.0).collect(),
        windows: 2,
        context: 2,
        vocab_size: 5,
    };
    let contents = CheckpointContents {
        config: &config(),
        weights: &weights,
        tokenizer_json: TOKENIZER,
        tokenizer_folder: None,
        optimizer: Some(&optimizer),
        trainer: &trainer,
        golden: Some(&golden),
    };
    save(&dir, contents).unwrap();
    // A checkpoint may be written again: the last step and an interval can coincide.
    save(&dir, contents).unwrap();

    let opened = Checkpoint::open(&dir).unwrap();
    assert_eq!(opened.config(), &config());
    assert_eq!(opened.tokenizer_json().unwrap(), TOKENIZER);
    assert_eq!(opened.trainer().unwrap(), Some(trainer));
    assert_eq!(opened.golden().unwrap().as_ref(), Some(&golden));
    assert_eq!(golden.window(1), (&[1, 2][..], &golden.logits[10..]));
    for tensor in &weights {
        assert_eq!(opened.weights().read_f32(&tensor.name).unwrap(), tensor.data);
        assert_eq!(opened.weights().shape(&tensor.name).unwrap(), tensor.shape);
    }
    let moments = opened.optimizer().unwrap().unwrap();
    assert_eq!(moments.names().collect::<Vec<_>>(), ["wte.m"]);
    assert_eq!(moments.read_f32("wte.m").unwrap(), [0.5; 6]);
}

/// Version 0.1.0 wrote a map of generator states that was always empty.
#[test]
fn a_checkpoint_of_an_older_program_opens() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &config());
    let old = r#"{"version": "0.1.0", "step": 7, "random": {"shuffle": "0f"}, "tokens": 448}"#;
    fs::write(folder.path().join("trainer.json"), old).unwrap();
    let trainer = Checkpoint::open(folder.path()).unwrap().trainer().unwrap().unwrap();
    assert_eq!((trainer.step, trainer.tokens), (7, 448));
}

#[test]
fn the_same_state_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    write(&a, &config());
    write(&b, &config());
    for entry in fs::read_dir(&a).unwrap() {
        let name = entry.unwrap().file_name();
        assert_eq!(fs::read(a.join(&name)).unwrap(), fs::read(b.join(&name)).unwrap(), "{name:?}");
    }
}

#[test]
fn a_bias_that_the_model_has_not_is_written_as_zeros() {
    let folder = tempfile::tempdir().unwrap();
    let config = ModelConfig { qkv_bias: false, ..config() };
    write(&folder.path().join("a"), &config);
    let opened = Checkpoint::open(&folder.path().join("a")).unwrap();
    assert_eq!(opened.config(), &config);
    let bias = opened.weights().read_f32("transformer.h.1.attn.c_attn.bias").unwrap();
    assert_eq!(bias, [0.0; 12]);
}

#[test]
fn a_bias_that_the_model_has_not_must_be_zeros() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &config());
    let path = folder.path().join("config.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"qkv_bias\": true", "\"qkv_bias\": false")).unwrap();
    let error = opening(folder.path());
    assert!(error.starts_with("tensor transformer.h.0.attn.c_attn.bias: "), "{error}");
    assert!(error.contains("\"qkv_bias\": false"), "{error}");
}

#[test]
fn tensors_that_do_not_fit_are_refused_by_name_before_anything_is_written() {
    let missing = saving(|weights| drop(weights.remove(3)));
    assert!(missing.contains("transformer.h.0.ln_1.bias is missing"), "{missing}");
    let misshapen = saving(|weights| weights[1].shape = vec![4, 7]);
    assert!(
        misshapen.contains("transformer.wpe.weight has shape [4, 7], expected [7, 4]"),
        "{misshapen}"
    );
    let extra = saving(|weights| {
        weights.push(NamedTensor { name: "extra".into(), shape: vec![1], data: vec![0.0] });
    });
    assert!(extra.contains("extra belongs to no part of this model"), "{extra}");
    let short = saving(|weights| weights[0].data.truncate(19));
    assert!(short.contains("transformer.wte.weight came with 76 bytes, expected 80"), "{short}");
}

#[test]
fn settings_and_tensors_that_contradict_each_other_are_refused() {
    for (from, to, expected) in [
        ("\"n_layer\": 2", "\"n_layer\": 3", "tensor transformer.h.2.ln_1.weight is missing"),
        ("\"n_layer\": 2", "\"n_layer\": 1", "transformer.h.1.attn.c_attn.bias belongs to no part"),
        ("\"n_inner\": 6", "\"n_inner\": 8", "c_fc.weight has shape [4, 6], expected [4, 8]"),
        (
            "embeddings\": false",
            "embeddings\": true",
            "lm_head.weight and transformer.wte.weight differ at position 0",
        ),
        ("\"gpt2\"", "\"mamba\"", "architecture mamba is not supported"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &config());
        let path = folder.path().join("config.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace(from, to)).unwrap();
        let error = opening(folder.path());
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn mask_buffers_of_old_files_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors = weights(&config());
    let mask = "transformer.h.0.attn.bias";
    tensors.push(NamedTensor { name: mask.into(), shape: vec![1, 1, 7, 7], data: vec![0.0; 49] });
    let files = HuggingFaceFiles {
        config: &config(),
        weights: &tensors,
        tokenizer_json: None,
        tokenizer_folder: None,
    };
    let out = folder.path().join("out");
    save_hugging_face(&out, false, files).unwrap();
    assert!(!Checkpoint::open(&out).unwrap().weights().contains(mask));
}

#[test]
fn a_folder_of_something_else_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("diary.txt"), "mine").unwrap();
    let weights = weights(&config());
    let files = HuggingFaceFiles {
        config: &config(),
        weights: &weights,
        tokenizer_json: None,
        tokenizer_folder: None,
    };
    let error = save_hugging_face(folder.path(), true, files).unwrap_err().to_string();
    assert!(error.contains("holds other files"), "{error}");
    assert_eq!(fs::read_to_string(folder.path().join("diary.txt")).unwrap(), "mine");
}

#[test]
fn folders_without_a_checkpoint_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = opening(&folder.path().join("nowhere"));
    assert!(error.contains("nowhere: no config.json here"), "{error}");
    let error = opening(folder.path());
    assert!(error.contains("expected a checkpoint or Hugging Face folder"), "{error}");
}

#[test]
fn latest_is_found_and_cannot_lead_out_of_the_run() {
    let run = tempfile::tempdir().unwrap();
    let found = |text: &str| {
        fs::write(run.path().join("latest"), text).unwrap();
        latest(run.path()).map_err(|error| error.to_string())
    };
    assert!(matches!(latest(run.path()), Err(CheckpointError::NoCheckpoint { .. })));
    let step = run.path().join("checkpoints/step-000090");
    write(&step, &config());
    assert_eq!(found("step-000090\n"), Ok(step.clone()));
    assert_eq!(locate(run.path()).unwrap(), step);
    assert_eq!(locate(&step).unwrap(), step);
    assert!(found("step-000091").unwrap_err().contains("names step-000091, which is not there"));
    for escape in ["../checkpoints/step-000090", "/", "..", ""] {
        assert!(found(escape).unwrap_err().contains("is not the name of a checkpoint"), "{escape}");
    }
    let name = run.path().file_name().unwrap().to_str().unwrap();
    assert_eq!(Checkpoint::open(&step).unwrap().default_name(), name);
}

#[test]
fn golden_logits_of_another_vocabulary_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &config());
    let path = folder.path().join("golden.safetensors");
    let mut golden =
        Golden { tokens: vec![6], logits: vec![0.0; 6], windows: 1, context: 1, vocab_size: 6 };
    let error = golden.save(&path).unwrap_err().to_string();
    assert!(error.contains("token 6 is not in the vocabulary of 6"), "{error}");
    golden.tokens = vec![5];
    golden.save(&path).unwrap();
    let error = Checkpoint::open(folder.path()).unwrap().golden().unwrap_err().to_string();
    assert!(error.contains("logits over 6 tokens, but the model has 5"), "{error}");
}

#[test]
fn weights_that_are_cut_short_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &config());
    let path = folder.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    for length in [0, 7, 8, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let error = opening(folder.path());
        assert!(error.contains("not a whole safetensors file"), "{length}: {error}");
    }
}

/// For any changed byte: the file is refused, or its tensors can be read.
#[test]
fn damaged_headers_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &config());
    let path = folder.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let cases = ProptestConfig::with_cases(1000);
    proptest!(cases, |(position in 0..header, byte: u8)| {
        let mut bytes = whole.clone();
        bytes[position] = byte;
        fs::write(&path, bytes).unwrap();
        let Ok(weights) = Weights::open(&path) else { return Ok(()) };
        for (name, shape) in weights.iter() {
            if let Ok(values) = weights.read_f32(name) {
                prop_assert_eq!(values.len(), shape.iter().product::<usize>());
            }
        }
    });
}

/// Writes `tensors` unchanged over the weights of a saved checkpoint.
fn put_weights(dir: &Path, tensors: &[NamedTensor]) {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|t| t.data.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
    let views = tensors.iter().zip(&bytes).map(|(tensor, bytes)| {
        let view = safetensors::tensor::TensorView::new(Dtype::F32, tensor.shape.clone(), bytes);
        (tensor.name.as_str(), view.unwrap())
    });
    let file = safetensors::serialize(views, None).unwrap();
    fs::write(dir.join("model.safetensors"), file).unwrap();
}

#[test]
fn the_names_of_openai_are_those_without_the_prefix() {
    let folder = tempfile::tempdir().unwrap();
    let tied = ModelConfig { tie_embeddings: true, ..config() };
    let ours = write(folder.path(), &tied);
    let mut theirs = ours.clone();
    for tensor in &mut theirs {
        tensor.name = tensor.name.replace("transformer.", "");
    }
    let mask = |name: &str| NamedTensor {
        name: name.into(),
        shape: vec![1, 1, 7, 7],
        data: vec![0.0; 49],
    };
    theirs.push(mask("h.0.attn.bias"));
    put_weights(folder.path(), &theirs);
    let opened = Checkpoint::open(folder.path()).unwrap();
    for tensor in &ours {
        assert_eq!(opened.weights().read_f32(&tensor.name).unwrap(), tensor.data);
    }

    let mut mixed = ours.clone();
    mixed.push(mask("h.0.attn.bias"));
    put_weights(folder.path(), &mixed);
    let error = opening(folder.path());
    assert!(error.contains("tensor h.0.attn.bias belongs to no part"), "{error}");
}

#[test]
fn a_head_that_repeats_the_embedding_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let tied = ModelConfig { tie_embeddings: true, ..config() };
    let mut tensors = write(folder.path(), &tied);
    tensors.push(NamedTensor { name: "lm_head.weight".into(), ..tensors[0].clone() });
    put_weights(folder.path(), &tensors);
    let opened = Checkpoint::open(folder.path()).unwrap();
    assert!(!opened.weights().contains("lm_head.weight"));

    let head = tensors.len() - 1;
    tensors[head].data[13] += 1.0;
    put_weights(folder.path(), &tensors);
    let error = opening(folder.path());
    assert!(error.contains("differ at position 13"), "{error}");
    assert!(error.contains("\"tie_word_embeddings\": false"), "{error}");
}

#[test]
fn the_state_of_training_is_not_replaced_by_a_model_without() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("model");
    let weights = write(&dir, &config());
    let files = HuggingFaceFiles {
        config: &config(),
        weights: &weights,
        tokenizer_json: None,
        tokenizer_folder: None,
    };
    let error = save_hugging_face(&dir, true, files).unwrap_err().to_string();
    assert!(error.contains("trainer.json"), "{error}");
    assert!(Checkpoint::open(&dir).unwrap().trainer().unwrap().is_some());
    fs::remove_file(dir.join("trainer.json")).unwrap();
    save_hugging_face(&dir, true, files).unwrap();
    // Without its weights it is not a checkpoint.
    fs::remove_file(dir.join("model.safetensors")).unwrap();
    let error = save_hugging_face(&dir, true, files).unwrap_err().to_string();
    assert!(error.contains("holds no whole model"), "{error}");
}

#[test]
fn a_checkpoint_knows_its_own_files_and_its_absolute_place() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("runs/story/checkpoints/step-000001");
    write(&dir, &config());
    let opened = Checkpoint::open(&dir.join("../step-000001/.")).unwrap();
    assert_eq!(opened.dir(), dir.canonicalize().unwrap());
    assert_eq!(opened.default_name(), "story");
    assert!(opened.consists_of(&dir.join("model.safetensors")));
    assert!(!opened.consists_of(&dir.join("model.gguf")));
}
