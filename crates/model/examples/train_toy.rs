//! Trains a GPT-2 of two blocks on one sentence, byte by byte, until it has learned it.
//!
//!     cargo run --release -p pocketgpt-model --example train_toy

use std::collections::BTreeMap;

use burn::tensor::{Device, Int, Tensor, TensorData};
use config::{Initialization, ModelConfig};
use kernels::{AdamWStep, Moments, Pass, adamw};
use model::{Batch, Model};

const TEXT: &str = "the quick brown fox jumps over the lazy dog. ";

fn main() {
    let config = ModelConfig {
        vocab_size: 128,
        context_length: TEXT.len(),
        n_layer: 2,
        n_head: 4,
        n_kv_head: 4,
        n_embd: 64,
        n_inner: 256,
        ..ModelConfig::gpt2_124m()
    };
    let device = Device::flex().autodiff();
    let mut model = Model::init(&config, Initialization::Gpt2, 1, &device);
    let mut moments: BTreeMap<String, Moments> = BTreeMap::new();

    // One row: each byte is to predict the one after it.
    let ids: Vec<i32> = TEXT.bytes().map(i32::from).collect();
    let row = |ids: &[i32]| -> Tensor<2, Int> {
        Tensor::from_data(TensorData::new(ids.to_vec(), [1, ids.len()]), &device)
    };
    let batch = Batch::new(row(&ids[..ids.len() - 1]), row(&ids[1..]));

    for step in 1..=100 {
        let loss = model.loss(batch.clone(), Pass::default());
        if step % 20 == 0 {
            println!("step {step:3}  loss {:.4}", loss.clone().into_scalar::<f32>());
        }
        let mut gradients = model.take_gradients(loss.backward());
        let settings = AdamWStep {
            step,
            learning_rate: 3e-3,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.0,
            gradient_scale: 1.0,
        };
        model = model.update(|path, _shape, weight| match gradients.remove(path) {
            Some(gradient) => {
                let zeros = || Moments::zeros(weight.shape().num_elements(), &weight.device());
                let moments = moments.entry(path.to_owned()).or_insert_with(zeros);
                adamw(weight, gradient, moments, &settings)
            }
            None => weight,
        });
    }
}
