//! Properties that hold for any weights: causality, the cache, threads, and refused inputs.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashSet;

use crate::random_weights::{config, families, phi3_longrope, source};
use config::{Architecture, ForwardStage, ModelConfig, QkNorm};
use gguf::TensorSource;
use reference::{MemorySource, Model, ReferenceError};

fn model() -> Model {
    load(&config())
}

fn load(config: &ModelConfig) -> Model {
    Model::from_parts(config.clone(), &source(config, |_| ())).unwrap()
}

fn tokens(n: u32) -> Vec<u32> {
    (0..n).map(|i| (i * 37 + i * i * 11) % 101).collect()
}

#[test]
fn a_session_gives_the_bits_of_the_full_pass() {
    for (name, config) in families() {
        let (model, tokens) = (load(&config), tokens(130));
        let full = model.logits(&tokens).unwrap();
        for pieces in [vec![1; 130], vec![130], vec![7, 100, 1, 22], vec![64, 66]] {
            let (mut session, mut at) = (model.session(), 0);
            for piece in pieces {
                let last = session.push(&tokens[at..at + piece]).unwrap();
                at += piece;
                assert_eq!(session.position(), at);
                assert_eq!(last, full[(at - 1) * 101..at * 101], "{name}: after {at} tokens");
            }
        }
    }
}

/// The rotation depends on the length of the text so far: each call gives the same result as a full
/// pass over everything read so far.
#[test]
fn a_session_reads_again_what_becomes_too_long_for_its_rotation() {
    let (model, tokens) = (load(&phi3_longrope()), tokens(40));
    for pieces in [vec![1; 40], vec![12, 1, 27], vec![5, 20, 15]] {
        let (mut session, mut at) = (model.session(), 0);
        for piece in pieces {
            let last = session.push(&tokens[at..at + piece]).unwrap();
            at += piece;
            let full = model.logits(&tokens[..at]).unwrap();
            assert_eq!(last, full[(at - 1) * 101..], "after {at} tokens");
        }
    }
    let first = |length: usize| model.logits(&tokens[..length]).unwrap()[303..404].to_vec();
    assert_eq!(first(5), first(12));
    assert_ne!(first(12), first(13));
    assert_eq!(first(13), first(40));
}

/// Also where the rotation changes on the way back, or on the way on from there.
#[test]
fn a_session_that_goes_back_gives_the_bits_of_the_full_pass() {
    let longrope = [("longrope", phi3_longrope())];
    for (name, config) in families().into_iter().chain(longrope) {
        let (model, tokens) = (load(&config), tokens(40));
        for (kept, more) in [(5, 3), (5, 12), (13, 9), (20, 20), (0, 4)] {
            let mut session = model.session();
            session.push(&tokens[..20]).unwrap();
            session.truncate(kept);
            assert_eq!(session.position(), kept);
            let other: Vec<u32> = tokens[40 - more..].to_vec();
            let rows = session.logits_from(&other, 1).unwrap();
            let full = model.logits(&[&tokens[..kept], &other].concat()).unwrap();
            assert_eq!(rows, full[(kept + 1) * 101..], "{name}: {kept} and {more}");
        }
    }
}

#[test]
fn the_future_changes_nothing() {
    for (name, config) in families() {
        let (model, tokens) = (load(&config), tokens(120));
        let full = model.logits(&tokens).unwrap();
        for len in [1, 2, 17, 97] {
            assert_eq!(model.logits(&tokens[..len]).unwrap(), full[..len * 101], "{name}");
        }
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    for (name, config) in families() {
        let (model, tokens) = (load(&config), tokens(120));
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| model.logits(&tokens).unwrap())
        };
        let one = with(1);
        assert_eq!(one, with(2), "{name}");
        assert_eq!(one, with(5), "{name}");
    }
}

#[test]
fn an_untied_head_is_used() {
    for (name, config) in families() {
        let logits = |tie_embeddings: bool| {
            load(&ModelConfig { tie_embeddings, ..config.clone() }).logits(&[1]).unwrap()
        };
        assert_ne!(logits(true), logits(false), "{name}");
    }
}

/// Grouped-query attention only avoids copies: a model with a copy of the shared heads for each
/// head of queries gives the same bits.
#[test]
fn shared_keys_are_keys_that_are_equal() {
    for (name, config) in families() {
        let group = config.n_head / config.n_kv_head;
        let shared = source(&config, |_| ());
        let mut written_out = MemorySource::default();
        for tensor in shared.tensors() {
            let mut shape: Vec<usize> = tensor.shape.iter().rev().map(|&n| n as usize).collect();
            let (design, rows, kv) = (config.architecture.block(), shape[0], config.kv_width());
            // Rows of all but keys and values, then those of keys or values.
            let parts = match tensor.name.split('.').nth(2) {
                Some("attn_k" | "attn_v") => vec![0, kv],
                Some("attn_k_norm") if design.qk_norm == QkNorm::Width => vec![0, kv],
                Some("attn_qkv") => vec![rows - 2 * kv, kv, kv],
                _ => vec![rows],
            };
            let data = gguf::read_f32(&shared, tensor).unwrap();
            let (mut rest, mut all) = (data.as_slice(), Vec::new());
            for (part, of_part) in parts.into_iter().enumerate() {
                let (own, after) = rest.split_at(of_part * data.len() / rows);
                let (heads, copies) = if part > 0 { (config.n_kv_head, group) } else { (1, 1) };
                let head = (own.len() / heads).max(1);
                all.extend(own.chunks(head).flat_map(|head| head.repeat(copies)));
                rest = after;
            }
            shape[0] = all.len() * rows / data.len();
            written_out.add(&tensor.name, &shape, all);
        }
        let full = ModelConfig { n_kv_head: config.n_head, ..config.clone() };
        let full = Model::from_parts(full, &written_out).unwrap();
        let logits = |model: &Model| model.logits(&tokens(50)).unwrap();
        assert_eq!(logits(&full), logits(&load(&config)), "{name}");
    }
}

#[test]
fn where_a_token_stands_matters() {
    for (name, config) in families() {
        let logits = load(&config).logits(&[7, 8, 7, 8, 7, 8]).unwrap();
        assert_ne!(logits[2 * 101..3 * 101], logits[4 * 101..5 * 101], "{name}");
    }
}

#[test]
fn the_stages_end_in_the_logits_and_have_names_of_their_own() {
    for (name, config) in families() {
        let model = load(&config);
        let stages = model.stages(&tokens(9)).unwrap();
        let names: HashSet<String> = stages.iter().map(|s| s.stage.to_string()).collect();
        assert_eq!(names.len(), stages.len(), "{name}");
        assert!(stages.iter().all(|s| s.shape.iter().product::<usize>() == s.values.len()));
        let last = stages.last().unwrap();
        assert_eq!((last.stage, &last.shape), (ForwardStage::Logits, &vec![9, 101]), "{name}");
        assert_eq!(last.values, model.logits(&tokens(9)).unwrap(), "{name}");
    }
}

#[test]
fn tokens_that_cannot_be_read_are_refused() {
    let model = model();
    let message = |tokens: &[u32]| model.logits(tokens).unwrap_err().to_string();
    assert_eq!(message(&[]), "no tokens to read: expected at least one");
    assert_eq!(
        message(&tokens(131)),
        "131 tokens do not fit in the model's context of 130: pass at most 130"
    );
    assert_eq!(
        message(&[5, 101]),
        "token 101 at position 1: expected an id below the vocabulary size 101; the text was \
         encoded with another tokenizer"
    );
}

#[test]
fn a_refused_push_reads_nothing() {
    let model = model();
    let mut session = model.session();
    session.push(&tokens(129)).unwrap();
    let error = session.push(&[1, 2]).unwrap_err();
    assert!(matches!(error, ReferenceError::ContextOverflow { wanted: 131, limit: 130 }));
    assert_eq!(session.position(), 129);
    session.push(&[1]).unwrap();
}

/// Why a model with this list of tensors is refused.
fn refusal(change: impl Fn(&mut Vec<(String, Vec<usize>)>)) -> String {
    match Model::from_parts(config(), &source(&config(), change)) {
        Ok(_) => panic!("accepted"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn tensors_that_do_not_fit_are_refused_by_name() {
    let at = |tensors: &[(String, Vec<usize>)], name: &str| {
        tensors.iter().position(|(n, _)| n == name).unwrap()
    };
    let missing = refusal(|tensors| {
        tensors.remove(at(tensors, "blk.1.ffn_up.bias"));
    });
    assert_eq!(missing, "tensor blk.1.ffn_up.bias is missing");
    let transposed = refusal(|tensors| {
        let i = at(tensors, "blk.0.ffn_up.weight");
        tensors[i].1 = vec![51, 70];
    });
    assert!(
        transposed.starts_with(
            "tensor blk.0.ffn_up.weight: expected shape [51, 70], found [70, 51] (fastest"
        ),
        "{transposed}"
    );
    let stranger = refusal(|tensors| tensors.push(("rope_freqs.weight".into(), vec![8])));
    assert_eq!(stranger, "tensor rope_freqs.weight has no place in a model of architecture gpt2");
}

#[test]
fn settings_that_contradict_themselves_are_refused() {
    let refusal = |config: ModelConfig| match Model::from_parts(config, &MemorySource::default()) {
        Ok(_) => panic!("accepted"),
        Err(error) => error.to_string(),
    };
    assert_eq!(
        refusal(ModelConfig { n_head: 4, ..config() }),
        "model settings: n_head = 4: expected a divisor of n_embd = 51"
    );
    assert_eq!(
        refusal(ModelConfig { n_head: 0, ..config() }),
        "model settings: n_head = 0: expected at least 1"
    );
    assert_eq!(
        refusal(ModelConfig { n_kv_head: 2, ..config() }),
        "model settings: n_kv_head = 2: expected a divisor of n_head = 3"
    );
    let one_for_all = refusal(ModelConfig { n_kv_head: 1, ..config() });
    assert!(one_for_all.contains("n_kv_head = 1: expected n_head = 3"), "{one_for_all}");
    let odd = refusal(ModelConfig { architecture: Architecture::Llama, ..config() });
    assert!(odd.contains("heads of width 17: expected an even width"), "{odd}");
}
