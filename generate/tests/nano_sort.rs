//! A trained model that sorts letters, greedily.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::nano::{array, nano_sort, nano_sort_config, read_json};
use crate::test_data::test_data;
use generate::decode::{Limits, Stop, decode};
use generate::sampling::{Sampler, Sampling};
use reference::Model;

#[test]
fn greedy_decoding_sorts() {
    let test = "greedy_decoding_sorts";
    let Some(weights) = test_data(test, "nano-sort/gpt-nano-sort-model.json") else { return };
    let Some(recorded) = test_data(test, "nano-sort/gpt-nano-sort-t0-partials.json") else {
        return;
    };
    let source = nano_sort(&read_json(&weights));
    let model = Model::from_parts(nano_sort_config(), &source).unwrap();
    let (_, ids) = array(&read_json(&recorded), "idx");
    for question in ids.chunks(11) {
        let prompt: Vec<u32> = question[..6].iter().map(|&id| id as u32).collect();
        let mut sampler = Sampler::new(Sampling::GREEDY, 0).unwrap();
        let limits = Limits { max_tokens: 100, end_of_text: &[] };
        let mut session = model.session();
        let decoded =
            decode(&mut session, &[], &prompt, &mut sampler, limits, &mut |_| Ok(())).unwrap();
        let mut sorted = prompt.clone();
        sorted.sort_unstable();
        // Six letters in, six out: these fill the model's eleven positions.
        assert_eq!(decoded.tokens, sorted);
        assert_eq!(decoded.stop, Stop::ContextFull);
    }
}
