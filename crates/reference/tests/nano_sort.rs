//! Compares every stage of a trained model with what PyTorch recorded.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::nano::{array, nano_sort, nano_sort_config, read_json};
use crate::test_data::test_data;
use config::StageValues;
use reference::Model;

/// The model and the recorded activations.
fn load(test: &str) -> Option<(Model, serde_json::Value)> {
    let weights = test_data(test, "nano-sort/gpt-nano-sort-model.json")?;
    let recorded = test_data(test, "nano-sort/gpt-nano-sort-t0-partials.json")?;
    let source = nano_sort(&read_json(&weights));
    let model = Model::from_parts(nano_sort_config(), &source).unwrap();
    Some((model, read_json(&recorded)))
}

/// The batch that was recorded, `[3][11]`.
fn batch(recorded: &serde_json::Value) -> Vec<Vec<u32>> {
    let (_, ids) = array(recorded, "idx");
    ids.chunks(11).map(|row| row.iter().map(|&id| id as u32).collect()).collect()
}

#[test]
fn every_recorded_stage_agrees() {
    let Some((model, recorded)) = load("every_recorded_stage_agrees") else { return };
    let names = [
        ("tok_emb", "token_embd"),
        ("x", "embedding"),
        ("ln1", "blk.0.attn_norm"),
        ("attSm", "blk.0.attn_weights"),
        ("y", "blk.0.attn_heads"),
        ("yProj", "blk.0.attn_output"),
        ("attnResid", "blk.0.attn_residual"),
        ("ln2", "blk.0.ffn_norm"),
        ("fc", "blk.0.ffn_up"),
        ("gelu", "blk.0.ffn_activated"),
        ("mlp", "blk.0.ffn_down"),
        ("mlpResid", "blk.0.output"),
        ("block0", "blk.0.output"),
        ("block1", "blk.1.output"),
        ("block2", "blk.2.output"),
        ("ln_f", "output_norm"),
        ("lm_head", "logits"),
    ];
    for (b, tokens) in batch(&recorded).iter().enumerate() {
        let stages = model.stages(tokens).unwrap();
        for (theirs, ours) in names {
            let (shape, all) = array(&recorded, theirs);
            let expected = &all[b * all.len() / shape[0]..(b + 1) * all.len() / shape[0]];
            let stage = stage(&stages, ours);
            assert_eq!(stage.shape, shape[1..], "{ours}");
            assert_close(ours, &stage.values, expected);
        }
        let (_, positions) = array(&recorded, "pos_emb");
        assert_close("pos_emb", &stage(&stages, "position_embd").values, &positions);
        check_heads(&stages, &recorded, b);
        check_probabilities(&stages, &recorded, b);
    }
}

/// The queries, keys and values, which minGPT recorded head by head.
fn check_heads(stages: &[StageValues], recorded: &serde_json::Value, b: usize) {
    for name in ["q", "k", "v"] {
        let rows = &stage(stages, &format!("blk.0.attn_{name}")).values; // [T, C]
        let (shape, all) = array(recorded, name);
        assert_eq!(shape, [3, 3, 11, 16]); // [B, H, T, D]
        let heads = &all[b * 3 * 11 * 16..(b + 1) * 3 * 11 * 16];
        for (i, &expected) in heads.iter().enumerate() {
            let (h, t, d) = (i / (11 * 16), i / 16 % 11, i % 16);
            let ours = rows[t * 48 + h * 16 + d];
            assert!((ours - expected).abs() < 1e-4, "{name}[{h}, {t}, {d}]");
        }
    }
}

/// The softmax of the logits.
fn check_probabilities(stages: &[StageValues], recorded: &serde_json::Value, b: usize) {
    let mut probabilities = stage(stages, "logits").values.clone();
    probabilities.chunks_mut(3).for_each(reference::ops::softmax);
    let (_, all) = array(recorded, "probs");
    assert_close("probs", &probabilities, &all[b * 33..(b + 1) * 33]);
}

fn stage<'a>(stages: &'a [StageValues], name: &str) -> &'a StageValues {
    let found = stages.iter().find(|stage| stage.stage.to_string() == name);
    found.unwrap_or_else(|| panic!("no stage {name}"))
}

fn assert_close(name: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    for (i, (&a, &b)) in ours.iter().zip(theirs).enumerate() {
        let equal = a == b || (a - b).abs() < 1e-4; // the first for -inf
        assert!(equal, "{name}[{i}]: {a} here, {b} recorded");
    }
}

#[test]
fn logits_are_the_last_stage() {
    let Some((model, recorded)) = load("logits_are_the_last_stage") else { return };
    for tokens in batch(&recorded) {
        let stages = model.stages(&tokens).unwrap();
        assert_eq!(model.logits(&tokens).unwrap(), stage(&stages, "logits").values);
    }
}

#[test]
fn it_sorts() {
    let Some((model, recorded)) = load("it_sorts") else { return };
    for tokens in batch(&recorded) {
        // Six letters are the prompt; the answer is generated one by one.
        let mut session = model.session();
        let mut logits = session.push(&tokens[..6]).unwrap();
        let mut answer = Vec::new();
        for _ in 0..6 {
            let best = (0..3).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32;
            answer.push(best);
            if answer.len() < 6 {
                logits = session.push(&[best]).unwrap();
            }
        }
        let mut sorted = tokens[..6].to_vec();
        sorted.sort();
        assert_eq!(answer, sorted);
    }
}
