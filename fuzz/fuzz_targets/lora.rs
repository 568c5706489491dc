//! Any bytes as `adapter_config.json` beside factors that fit: refused, or an adapter that merges.
#![no_main]

use std::sync::LazyLock;

use checkpoint::Checkpoint;
use checkpoint::lora::Adapter;
use config::ModelConfig;

static MODEL: LazyLock<ModelConfig> = LazyLock::new(|| {
    let config = include_bytes!("../seeds/gpt2.json");
    let weights = include_bytes!("../seeds/gpt2.safetensors");
    fuzz::with_files(&[("config.json", config), ("model.safetensors", weights)], |folder| {
        Checkpoint::open(folder).expect("the seed is opened").config().clone()
    })
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let factors = include_bytes!("../seeds/adapter_model.safetensors");
    let files = [("adapter_config.json", bytes), ("adapter_model.safetensors", factors)];
    fuzz::with_files(&files, |folder| {
        let open = || Adapter::open(folder, &MODEL);
        let Ok(adapter) = fuzz::bounded(bytes.len(), 64, 1 << 20, open) else { return };
        for weight in checkpoint::names::tensors(&MODEL) {
            let mut values = vec![1.0; weight.shape.iter().product()];
            adapter.merge(&weight, &mut values).expect("factors that were checked can be merged");
            assert!(values.iter().all(|value| value.is_finite()));
        }
    });
});
