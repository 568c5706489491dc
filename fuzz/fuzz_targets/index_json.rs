//! Any bytes as `model.safetensors.index.json` beside one shard: refused, or the model has exactly the
//! tensors that both name.
#![no_main]

use checkpoint::Weights;

const INDEX: &str = "model.safetensors.index.json";
const SHARD: &str = "model-00001-of-00001.safetensors";

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let shard = include_bytes!("../corpus/safetensors/two");
    fuzz::with_files(&[(INDEX, bytes), (SHARD, shard)], |folder| {
        let open = || Weights::open_folder(folder);
        let Ok(weights) = fuzz::bounded(bytes.len(), 128, 1 << 20, open) else { return };
        let index: serde_json::Value = serde_json::from_slice(bytes).expect("accepted: JSON");
        let named = index["weight_map"].as_object().expect("accepted: a map of names");
        assert_eq!(weights.names().len(), named.len());
        assert!(weights.names().all(|name| named[name] == SHARD));
    });
});
