//! What must hold for any weights: causality, the cache, threads, and refusals.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod random_weights;

use config::ModelConfig;
use random_weights::{config, source};
use reference::{MemorySource, Model, ReferenceError};

fn model() -> Model {
    Model::from_parts(config(), &source(&config(), |_| ())).unwrap()
}

fn tokens(n: u32) -> Vec<u32> {
    (0..n).map(|i| (i * 37 + i * i * 11) % 101).collect()
}

#[test]
fn a_session_gives_the_bits_of_the_full_pass() {
    let (model, tokens) = (model(), tokens(130));
    let full = model.logits(&tokens).unwrap();
    for pieces in [vec![1; 130], vec![130], vec![7, 100, 1, 22], vec![64, 66]] {
        let (mut session, mut at) = (model.session(), 0);
        for piece in pieces {
            let last = session.push(&tokens[at..at + piece]).unwrap();
            at += piece;
            assert_eq!(session.position(), at);
            assert_eq!(last, full[(at - 1) * 101..at * 101], "after {at} tokens");
        }
    }
}

#[test]
fn the_future_changes_nothing() {
    let (model, tokens) = (model(), tokens(120));
    let full = model.logits(&tokens).unwrap();
    for len in [1, 2, 17, 97] {
        assert_eq!(model.logits(&tokens[..len]).unwrap(), full[..len * 101]);
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let (model, tokens) = (model(), tokens(120));
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| model.logits(&tokens).unwrap())
    };
    let one = with(1);
    assert_eq!(one, with(2));
    assert_eq!(one, with(5));
}

#[test]
fn an_untied_head_is_used() {
    let untied = ModelConfig { tie_embeddings: false, ..config() };
    let other = Model::from_parts(untied.clone(), &source(&untied, |_| ())).unwrap();
    assert_ne!(other.logits(&[1]).unwrap(), model().logits(&[1]).unwrap());
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
    let turned = refusal(|tensors| {
        let i = at(tensors, "blk.0.ffn_up.weight");
        tensors[i].1 = vec![51, 70];
    });
    assert!(
        turned.starts_with(
            "tensor blk.0.ffn_up.weight: expected shape [51, 70], found [70, 51] (fastest"
        ),
        "{turned}"
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
}
