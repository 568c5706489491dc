//! The logits of the Burn model in f32 on the CPU for some tokens, as JSON, for programs that
//! compare them with others.
//!
//!     echo '{"tokens": [1, 2, 3]}' |
//!         cargo run --release -p pocketgpt-model --example burn_logits -- FOLDER

use std::error::Error;
use std::io;
use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};
use checkpoint::{Checkpoint, CheckpointError, names};
use kernels::Pass;
use model::Model;
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or("usage: burn_logits FOLDER, with a question on stdin")?;
    let question: Value = serde_json::from_reader(io::stdin())?;
    let tokens = question["tokens"].as_array().ok_or("no tokens")?;
    let ids: Vec<i64> = tokens.iter().filter_map(Value::as_i64).collect();
    let shape = [1, ids.len()];
    let device = Device::flex();
    let tokens = Tensor::from_data(TensorData::new(ids, shape), &device);
    let logits = load(&Checkpoint::open(&folder)?, &device)?.forward(tokens, Pass::default());
    let logits: Vec<f32> = logits.into_data().iter::<f32>().collect();
    serde_json::to_writer(io::stdout().lock(), &json!({ "burn": logits }))?;
    Ok(())
}

fn load(checkpoint: &Checkpoint, device: &Device) -> Result<Model, CheckpointError> {
    let table = names::tensors(checkpoint.config());
    Model::load(checkpoint.config(), device, |path, _| {
        let row = table.iter().find(|row| row.burn == path);
        let row = row.ok_or_else(|| CheckpointError::MissingTensor {
            path: checkpoint.dir().to_owned(),
            name: path.to_owned(),
        })?;
        Ok(row.to_burn(checkpoint.weights().read_f32(&row.hugging_face)?))
    })
}
