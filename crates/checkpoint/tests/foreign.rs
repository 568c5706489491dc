//! Folders of other writers: sharded, narrow, without a prefix, with buffers, and damaged.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::fs;
use std::path::Path;

use crate::common::{TOKENIZER, family, write};
use checkpoint::{Checkpoint, Dtype, HuggingFaceFiles, NamedTensor, Tensors, Weights};
use config::{Architecture, ModelConfig};
use half::{bf16, f16};
use proptest::prelude::*;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

const INDEX: &str = "model.safetensors.index.json";
const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

fn opening(dir: &Path) -> String {
    Checkpoint::open(dir).unwrap_err().to_string()
}

/// Writes one safetensors file, by the library's own writer.
fn put(path: &Path, tensors: &[NamedTensor], dtype: Dtype) {
    let narrow = |x: &f32| match dtype {
        Dtype::F16 => f16::from_f32(*x).to_le_bytes().to_vec(),
        Dtype::BF16 => bf16::from_f32(*x).to_le_bytes().to_vec(),
        Dtype::I64 => (*x as i64).to_le_bytes().to_vec(),
        _ => x.to_le_bytes().to_vec(),
    };
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|tensor| tensor.data.iter().flat_map(narrow).collect()).collect();
    let views = tensors.iter().zip(&bytes).map(|(tensor, bytes)| {
        (tensor.name.as_str(), TensorView::new(dtype, tensor.shape.clone(), bytes).unwrap())
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// A small LLaMA in two shards: the tensors, and the correct index.
fn sharded(dir: &Path) -> (Vec<NamedTensor>, Value) {
    let tensors = write(dir, &family(Architecture::Llama));
    fs::remove_file(dir.join("model.safetensors")).unwrap();
    let (first, second) = tensors.split_at(5);
    put(&dir.join(SHARDS[0]), first, Dtype::F32);
    put(&dir.join(SHARDS[1]), second, Dtype::F32);
    let file = |i: usize| SHARDS[usize::from(i >= 5)];
    let map: serde_json::Map<String, Value> =
        tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), file(i).into())).collect();
    let index = json!({ "metadata": { "total_size": 1 }, "weight_map": map });
    fs::write(dir.join(INDEX), index.to_string()).unwrap();
    (tensors, index)
}

#[test]
fn shards_are_one_model() {
    let folder = tempfile::tempdir().unwrap();
    let (tensors, _) = sharded(folder.path());
    let opened = Checkpoint::open(folder.path()).unwrap();
    for tensor in &tensors {
        assert_eq!(opened.weights().read_f32(&tensor.name).unwrap(), tensor.data);
    }
    for name in SHARDS.iter().chain([&INDEX]) {
        assert!(opened.consists_of(&folder.path().join(name)), "{name}");
    }
    assert!(!opened.consists_of(&folder.path().join("model-00003-of-00003.safetensors")));
    assert_eq!(opened.weights().path().file_name().unwrap(), INDEX);
}

#[test]
fn an_index_that_does_not_fit_its_folder_is_refused() {
    let other = "model-00003-of-00003.safetensors";
    type Change<'a> = &'a dyn Fn(&Path, &mut Value);
    let cases: [(Change, &str); 11] = [
        (&|dir, _| fs::remove_file(dir.join(SHARDS[1])).unwrap(), "is not there; fetch"),
        (
            &|dir, _| fs::write(dir.join(other), "").unwrap(),
            "does not name model-00003-of-00003.safetensors",
        ),
        (
            &|_, index| index["weight_map"]["lm_head.weight"] = SHARDS[0].into(),
            "it places tensor lm_head.weight in model-00001-of-00002.safetensors, but",
        ),
        (
            &|_, index| drop(index["weight_map"].as_object_mut().unwrap().remove("lm_head.weight")),
            "does not name tensor lm_head.weight",
        ),
        (
            &|_, index| index["weight_map"]["ghost.weight"] = SHARDS[0].into(),
            "places tensor ghost.weight in model-00001-of-00002.safetensors, which does not hold",
        ),
        (
            &|_, index| index["weight_map"]["a"] = format!("../{}", SHARDS[0]).into(),
            "is no name of a shard",
        ),
        (&|_, index| index["weight_map"]["a"] = "/etc/x.safetensors".into(), "is no name"),
        (&|_, index| index["weight_map"]["a"] = "C:x.safetensors".into(), "is no name"),
        (&|_, index| index["weight_map"]["a"] = "config.json".into(), "is no name of a shard"),
        (&|_, index| index["weight_map"] = json!({}), "0 shards, expected 1 to 512"),
        (&|_, index| *index = json!({ "weight_map": 3 }), "invalid type"),
    ];
    for (change, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        let (_, mut index) = sharded(folder.path());
        change(folder.path(), &mut index);
        fs::write(folder.path().join(INDEX), index.to_string()).unwrap();
        let error = opening(folder.path());
        assert!(error.contains(INDEX) && error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn too_many_shards_are_refused_before_any_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let (_, mut index) = sharded(folder.path());
    for i in 0..600 {
        index["weight_map"][format!("a{i}")] = format!("model-{i}-of-600.safetensors").into();
    }
    fs::write(folder.path().join(INDEX), index.to_string()).unwrap();
    let error = opening(folder.path());
    assert!(error.contains("602 shards, expected 1 to 512"), "{error}");
}

#[test]
fn a_shard_that_is_cut_short_is_named() {
    let folder = tempfile::tempdir().unwrap();
    sharded(folder.path());
    let path = folder.path().join(SHARDS[1]);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let error = opening(folder.path());
    assert!(error.contains(SHARDS[1]) && error.contains("not a whole safetensors"), "{error}");
}

/// For any content of the index: it is refused, or every tensor can be read.
#[test]
fn damaged_indexes_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let (tensors, index) = sharded(folder.path());
    let names: Vec<String> =
        tensors.iter().map(|t| t.name.clone()).chain(["other".to_owned()]).collect();
    let file = prop_oneof![
        Just(json!(SHARDS[0])),
        Just(json!(SHARDS[1])),
        ".{0,12}".prop_map(|name| json!(name)),
        "[./\\\\a-z]{1,6}\\.safetensors".prop_map(|name| json!(name)),
        Just(Value::Null),
        Just(json!({})),
    ];
    let changes = proptest::collection::vec((proptest::sample::select(names), file), 1..4);
    proptest!(ProptestConfig::with_cases(500), |(changes in changes)| {
        let mut index = index.clone();
        for (name, file) in changes {
            index["weight_map"][name] = file;
        }
        fs::write(folder.path().join(INDEX), index.to_string()).unwrap();
        if let Ok(weights) = Weights::open_folder(folder.path()) {
            for tensor in &tensors {
                prop_assert_eq!(&weights.read_f32(&tensor.name).unwrap(), &tensor.data);
            }
        }
    });
}

#[test]
fn a_folder_without_weights_is_told_what_else_lies_there() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &family(Architecture::Llama));
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let expected =
        "expected model.safetensors or model.safetensors.index.json or pytorch_model.bin";
    let error = opening(folder.path());
    assert!(error.contains("no weights here") && error.contains(expected), "{error}");
    for (name, way_out) in [
        ("weights.npz", "newer mlx-lm"),
        ("consolidated.00.pth", "convert_llama_weights_to_hf.py"),
        ("ckpt.pt", "export --input FOLDER/ckpt.pt"),
        ("tf_model.h5", "from_tf=True"),
    ] {
        fs::write(folder.path().join(name), "x").unwrap();
        let error = opening(folder.path());
        assert!(error.contains(name) && error.contains(way_out), "{error}");
        // The same without settings.
        let bare = tempfile::tempdir().unwrap();
        fs::write(bare.path().join(name), "x").unwrap();
        let error = opening(bare.path());
        assert!(error.contains(name) && error.contains(way_out), "{error}");
        let error = opening(&bare.path().join(name));
        assert!(error.contains("a file, expected a checkpoint"), "{error}");
        fs::remove_file(folder.path().join(name)).unwrap();
    }
}

#[test]
fn shards_without_their_index_are_told_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    sharded(folder.path());
    fs::remove_file(folder.path().join(INDEX)).unwrap();
    let error = opening(folder.path());
    assert!(error.contains(&format!("{} is one shard of a model; fetch {INDEX}", SHARDS[0])));
}

/// Names that torch.compile, DistributedDataParallel and fully sharded training add.
#[test]
fn names_of_wrappers_are_left_out() {
    type Wrap = fn(&str) -> String;
    let wraps: [Wrap; 6] = [
        |name| format!("_orig_mod.{name}"),
        |name| format!("module.{name}"),
        |name| format!("module._orig_mod.{name}"),
        |name| format!("_orig_mod.module.{name}"),
        // One layer compiled, and its checkpoint wrapper.
        |name| name.replace(".0.", ".0._orig_mod._checkpoint_wrapped_module."),
        |name| format!("_fsdp_wrapped_module.{name}"),
    ];
    for architecture in Architecture::ALL {
        for wrap in wraps {
            let folder = tempfile::tempdir().unwrap();
            let ours = write(folder.path(), &family(architecture));
            let mut theirs = ours.clone();
            theirs.iter_mut().for_each(|tensor| tensor.name = wrap(&tensor.name));
            put(&folder.path().join("model.safetensors"), &theirs, Dtype::F32);
            let opened = Checkpoint::open(folder.path()).unwrap();
            for tensor in &ours {
                assert_eq!(opened.weights().read_f32(&tensor.name).unwrap(), tensor.data);
            }
        }
    }
}

#[test]
fn a_tensor_with_and_without_a_wrapper_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors = write(folder.path(), &family(Architecture::Llama));
    let name = format!("_orig_mod.{}", tensors[0].name);
    tensors.push(NamedTensor { name, ..tensors[0].clone() });
    put(&folder.path().join("model.safetensors"), &tensors, Dtype::F32);
    let error = opening(folder.path());
    assert!(error.contains(&format!("tensor {} is there twice", tensors[0].name)), "{error}");
}

/// A model that was trained in four bits and merged keeps its `quantization_config`.
#[test]
fn a_quantization_config_beside_plain_weights_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = write(folder.path(), &family(Architecture::Llama));
    put(&folder.path().join("model.safetensors"), &tensors, Dtype::BF16);
    let path = folder.path().join("config.json");
    let mut settings: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    settings["quantization_config"] =
        json!({ "quant_method": "bitsandbytes", "load_in_4bit": true });
    fs::write(&path, settings.to_string()).unwrap();
    Checkpoint::open(folder.path()).unwrap();
}

#[test]
fn weights_that_are_quantized_are_refused_by_the_first_such_tensor() {
    let matrix = "model.layers.0.mlp.up_proj";
    let codes: [(&str, Dtype, &str); 5] = [
        ("weight", Dtype::U8, "weight, stored as U8"),
        ("weight", Dtype::I8, "weight, stored as I8"),
        ("weight.absmax", Dtype::F32, "weight.absmax, stored as F32"),
        ("qweight", Dtype::I32, "qweight, stored as I32"),
        ("weight_scale_inv", Dtype::F32, "weight_scale_inv, stored as F32"),
    ];
    for (ending, dtype, expected) in codes {
        let folder = tempfile::tempdir().unwrap();
        let tensors = write(folder.path(), &family(Architecture::Llama));
        let (name, shape) = (format!("{matrix}.{ending}"), vec![8]);
        let bytes = vec![0_u8; 8 * dtype.bitsize() / 8];
        let plain: Vec<Vec<u8>> =
            tensors.iter().map(|t| t.data.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
        let views = tensors.iter().zip(&plain).filter(|(tensor, _)| tensor.name != name);
        let views = views.map(|(tensor, bytes)| {
            let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytes).unwrap();
            (tensor.name.as_str(), view)
        });
        let quantized = (name.as_str(), TensorView::new(dtype, shape, &bytes).unwrap());
        let file = safetensors::serialize(views.chain([quantized]), None).unwrap();
        fs::write(folder.path().join("model.safetensors"), file).unwrap();
        let error = opening(folder.path());
        assert!(error.contains(&format!("tensor {matrix}.{expected}")), "{error}");
        assert!(error.contains("from before it was quantized"), "{error}");
    }
}

/// The text that Git stores in place of a large file that was not fetched.
#[test]
fn pointers_of_git_lfs_are_told_what_they_are() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1234567\n";
    for name in ["model.safetensors", "config.json", INDEX, SHARDS[1], "pytorch_model.bin"] {
        let folder = tempfile::tempdir().unwrap();
        match name {
            INDEX => drop(sharded(folder.path())),
            name if name == SHARDS[1] => drop(sharded(folder.path())),
            _ => drop(write(folder.path(), &family(Architecture::Llama))),
        }
        if name == "pytorch_model.bin" {
            fs::remove_file(folder.path().join("model.safetensors")).unwrap();
        }
        fs::write(folder.path().join(name), pointer).unwrap();
        let error = opening(folder.path());
        assert!(error.contains(&format!("{name}: a Git LFS pointer")), "{error}");
        assert!(error.contains("git lfs pull"), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &family(Architecture::Llama));
    fs::write(folder.path().join("tokenizer.json"), pointer).unwrap();
    let error = Checkpoint::open(folder.path()).unwrap().tokenizer_json().unwrap_err().to_string();
    assert!(error.contains("tokenizer.json: a Git LFS pointer"), "{error}");
}

#[test]
fn narrow_weights_keep_their_format_from_folder_to_folder() {
    for (dtype, name) in [(Dtype::F16, "float16"), (Dtype::BF16, "bfloat16")] {
        let folder = tempfile::tempdir().unwrap();
        let (dir, out) = (folder.path().join("a"), folder.path().join("b"));
        let tensors = write(&dir, &family(Architecture::Qwen2));
        put(&dir.join("model.safetensors"), &tensors, dtype);
        let opened = Checkpoint::open(&dir).unwrap();
        let files = HuggingFaceFiles {
            config: opened.config(),
            weights: opened.weights(),
            tokenizer_json: None,
            tokenizer_folder: None,
        };
        checkpoint::save_hugging_face(&out, false, files).unwrap();
        let again = Checkpoint::open(&out).unwrap();
        for tensor in &tensors {
            assert_eq!(again.weights().dtype(&tensor.name).unwrap(), dtype);
            let bytes = |checkpoint: &Checkpoint| checkpoint.weights().bytes(&tensor.name).unwrap();
            assert_eq!(bytes(&again), bytes(&opened), "{}", tensor.name);
        }
        let text = fs::read_to_string(out.join("config.json")).unwrap();
        assert!(text.contains(&format!("\"torch_dtype\": \"{name}\"")), "{text}");
    }
}

#[test]
fn weights_that_are_no_floats_are_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = write(folder.path(), &family(Architecture::Llama));
    put(&folder.path().join("model.safetensors"), &tensors, Dtype::I64);
    let error = opening(folder.path());
    assert!(error.contains("is stored as I64, expected F32, F16 or BF16"), "{error}");
}

/// `LlamaModel` and `GPTNeoXModel` have no head, and therefore no prefix.
#[test]
fn files_of_a_class_without_a_head_lack_the_prefix() {
    for (architecture, prefix) in [
        (Architecture::Llama, "model."),
        (Architecture::Qwen2, "model."),
        (Architecture::GptNeox, "gpt_neox."),
        (Architecture::Gpt2, "transformer."),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let config = ModelConfig { tie_embeddings: true, ..family(architecture) };
        let ours = write(folder.path(), &config);
        let path = folder.path().join("model.safetensors");
        let mut theirs = ours.clone();
        for tensor in &mut theirs {
            tensor.name = tensor.name.strip_prefix(prefix).unwrap().to_owned();
        }
        put(&path, &theirs, Dtype::F32);
        let opened = Checkpoint::open(folder.path()).unwrap();
        for tensor in &ours {
            assert_eq!(opened.weights().read_f32(&tensor.name).unwrap(), tensor.data);
        }
        theirs[0].name = ours[0].name.clone();
        put(&path, &theirs, Dtype::F32);
        let error = opening(folder.path());
        assert!(error.contains(&format!("tensor {} is missing", ours[1].name)), "{error}");
    }
}

#[test]
fn a_tied_head_may_be_there_if_it_is_the_same() {
    for (architecture, head) in
        [(Architecture::Llama, "lm_head.weight"), (Architecture::GptNeox, "embed_out.weight")]
    {
        let folder = tempfile::tempdir().unwrap();
        let config = ModelConfig { tie_embeddings: true, ..family(architecture) };
        let mut tensors = write(folder.path(), &config);
        let path = folder.path().join("model.safetensors");
        tensors.push(NamedTensor { name: head.into(), ..tensors[0].clone() });
        put(&path, &tensors, Dtype::F32);
        assert!(!Checkpoint::open(folder.path()).unwrap().weights().contains(head));

        let last = tensors.len() - 1;
        tensors[last].data[7] += 1.0;
        put(&path, &tensors, Dtype::F32);
        let error = opening(folder.path());
        assert!(error.contains(head) && error.contains("differ at position 7"), "{error}");
    }
}

#[test]
fn a_head_of_its_own_has_to_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors = write(folder.path(), &family(Architecture::Llama));
    assert_eq!(tensors.pop().unwrap().name, "lm_head.weight");
    put(&folder.path().join("model.safetensors"), &tensors, Dtype::F32);
    let error = opening(folder.path());
    assert!(error.contains("tensor lm_head.weight is missing"), "{error}");
}

#[test]
fn buffers_are_passed_over_whatever_their_format() {
    for (architecture, buffer) in [
        (Architecture::Llama, "model.layers.0.self_attn.rotary_emb.inv_freq"),
        (Architecture::GptNeox, "gpt_neox.layers.1.attention.bias"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut tensors = write(folder.path(), &family(architecture));
        tensors.push(NamedTensor { name: buffer.into(), shape: vec![2], data: vec![0.0; 2] });
        put(&folder.path().join("model.safetensors"), &tensors, Dtype::F32);
        Checkpoint::open(folder.path()).unwrap();
    }
}

fn config_of(folder: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(folder.join("config.json")).unwrap()).unwrap()
}

#[test]
fn what_stands_beside_a_tokenizer_goes_along() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, out) = (folder.path().join("a"), folder.path().join("b"));
    let tensors = write(&dir, &family(Architecture::Llama));
    let beside = [
        ("tokenizer_config.json", r#"{"eos_token": "<|endoftext|>", "bos_token": "c"}"#),
        ("chat_template.jinja", "{{ messages }}"),
        ("generation_config.json", r#"{"temperature": 0.5}"#),
        ("chat_template.json", r#"{"chat_template": "legacy"}"#),
        ("additional_chat_templates/rag.jinja", "{{ documents }}"),
    ];
    fs::create_dir(dir.join("additional_chat_templates")).unwrap();
    for (name, text) in beside {
        fs::write(dir.join(name), text).unwrap();
    }
    let files = HuggingFaceFiles {
        config: &family(Architecture::Llama),
        weights: &tensors,
        tokenizer_json: Some(TOKENIZER),
        tokenizer_folder: Some(&dir),
    };
    checkpoint::save_hugging_face(&out, false, files).unwrap();
    // Written again over itself: all of these files are our own.
    checkpoint::save_hugging_face(&out, true, files).unwrap();
    for (name, text) in beside {
        assert_eq!(fs::read_to_string(out.join(name)).unwrap(), text);
    }
    let config = config_of(&out);
    assert_eq!((&config["bos_token_id"], &config["eos_token_id"]), (&json!(2), &json!(4)));
}

#[test]
fn config_json_names_every_token_that_ends_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, out) = (folder.path().join("a"), folder.path().join("b"));
    let tensors = write(&dir, &family(Architecture::Llama));
    fs::write(dir.join("generation_config.json"), r#"{"eos_token_id": [4, 3]}"#).unwrap();
    let files = HuggingFaceFiles {
        config: &family(Architecture::Llama),
        weights: &tensors,
        tokenizer_json: Some(TOKENIZER),
        tokenizer_folder: Some(&dir),
    };
    checkpoint::save_hugging_face(&out, false, files).unwrap();
    let config = config_of(&out);
    assert_eq!(config["eos_token_id"], json!([4, 3]));
}

#[test]
fn without_a_tokenizer_the_special_tokens_are_those_of_the_origin() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, out) = (folder.path().join("a"), folder.path().join("b"));
    write(&dir, &family(Architecture::Llama));
    let path = dir.join("config.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"eos_token_id\": 4", "\"eos_token_id\": [3, 4]")).unwrap();
    let opened = Checkpoint::open(&dir).unwrap();
    let files = HuggingFaceFiles {
        config: opened.config(),
        weights: opened.weights(),
        tokenizer_json: None,
        tokenizer_folder: Some(opened.dir()),
    };
    checkpoint::save_hugging_face(&out, false, files).unwrap();
    let config = config_of(&out);
    assert_eq!((&config["bos_token_id"], &config["eos_token_id"]), (&json!(4), &json!([3, 4])));
}

#[test]
fn weights_in_memory_are_stored_as_f32() {
    let tensors = vec![NamedTensor { name: "a".into(), shape: vec![1], data: vec![0.1] }];
    assert_eq!(Tensors::dtype(&tensors, "a"), Dtype::F32);
}
