//! Low-rank adapters on disk, in the format of peft, and merged into the weights that they adapt.
//!
//! ```text
//! adapter/
//!   adapter_config.json         rank, alpha, target matrices, the base model's name
//!   adapter_model.safetensors   A [rank, in] and B [out, rank] of each target, float32
//! ```
//!
//! With an adapter a matrix `W [out, in]` becomes `W + alpha / rank * B A` (Hu et al., 2021).
//! Source: `peft/tuners/lora/config.py` and `layer.py` of peft, for the names of keys and tensors
//! and for the settings that change the mathematics.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use config::ModelConfig;
use gguf::TensorType;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::limits::{SMALL_JSON_BYTES, read_text};
use crate::names::{self, Orientation, RowOrder, TensorName};
use crate::{Checkpoint, CheckpointError, Tensors, Weights, convert, store, transpose};

/// The folder of a checkpoint that holds its adapters.
pub const ADAPTER_FOLDER: &str = "adapter";
const CONFIG_FILE: &str = "adapter_config.json";
const WEIGHTS_FILE: &str = "adapter_model.safetensors";
/// The format of peft before version 0.6.
const TORCH_FILE: &str = "adapter_model.bin";

/// The prefix that peft adds to the name of every module.
const PREFIX: &str = "base_model.model.";

/// The settings of an adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterSettings {
    /// Width between the two matrices.
    pub rank: usize,
    /// The adapter's output is scaled by `alpha / rank`.
    pub alpha: f32,
    /// By `alpha / sqrt(rank)` instead.
    pub rslora: bool,
    /// Dropout probability of its input while it was trained.
    pub dropout: f32,
    /// Folder or name of the model that it adapts.
    pub base_model: String,
}

impl AdapterSettings {
    /// The `alpha` with which `alpha / rank` is the adapter's scale, also with rsLoRA.
    pub fn alpha_over_rank(&self) -> f32 {
        match self.rslora {
            true => self.alpha * (self.rank as f32).sqrt(),
            false => self.alpha,
        }
    }
}

/// A factor of an adapter as a GGUF has it.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufFactor {
    /// For example `blk.0.attn_q.weight.lora_a`.
    pub name: String,
    /// Fastest dimension first: `[in, rank]` of A, `[rank, out]` of B.
    pub shape: [u64; 2],
    row: TensorName,
}

/// `adapter_config.json`.
#[derive(Serialize, Deserialize)]
struct ConfigFile {
    peft_type: String,
    task_type: Option<String>,
    base_model_name_or_path: Option<String>,
    r: usize,
    lora_alpha: f32,
    #[serde(default)]
    lora_dropout: f32,
    target_modules: Value,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default = "none")]
    bias: String,
    #[serde(default)]
    inference_mode: bool,
    #[serde(default)]
    use_rslora: bool,
    /// Keys that have no effect here, or must not be set.
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

fn none() -> String {
    "none".to_owned()
}

/// Keys that change the mathematics unless they are null, false or empty.
const SWITCHES: [&str; 8] = [
    "alpha_pattern",
    "alora_invocation_tokens",
    "layer_replication",
    "lora_bias",
    "modules_to_save",
    "rank_pattern",
    "target_parameters",
    "use_dora",
];

/// Initializations of the factors that do not change the base weights (peft,
/// `LoraConfig.init_lora_weights`).
const INITIALIZATIONS: [&str; 3] = ["eva", "gaussian", "orthogonal"];

/// Whether an adapter is for the unchanged base: other methods (PiSSA, OLoRA, LoftQ, CorDA)
/// subtracted a part from the base first.
fn leaves_the_base(initialization: &Value) -> bool {
    match initialization {
        Value::Null | Value::Bool(_) => true,
        Value::String(name) => INITIALIZATIONS.contains(&name.as_str()),
        _ => false,
    }
}

/// The two factors of an adapter of a matrix: `A` and `B`, with their paths in a Burn module.
///
/// `weight` is the matrix's row of the table of names.
pub fn factors(weight: &TensorName, rank: usize) -> [TensorName; 2] {
    let module = weight.hugging_face.trim_end_matches(".weight");
    let (input, output) = match (weight.orientation, weight.shape.as_slice()) {
        (Orientation::InputFirst, &[input, output]) => (input, output),
        (_, shape) => (shape[1..].iter().product(), shape[0]),
    };
    let factor = |letter: &str, shape: [usize; 2], rows: RowOrder| TensorName {
        hugging_face: format!("{PREFIX}{module}.lora_{letter}.weight"),
        burn: format!("{}.lora.{}", weight.burn, letter.to_lowercase()),
        shape: shape.to_vec(),
        orientation: Orientation::OutputFirst,
        rows,
        ..weight.clone()
    };
    [factor("A", [rank, input], RowOrder::SAME), factor("B", [output, rank], weight.rows)]
}

/// Writes the folder of an adapter; `tensors` holds the factors by the names of [`factors`].
pub(crate) fn save(
    dir: &Path,
    model: &ModelConfig,
    settings: &AdapterSettings,
    tensors: &dyn Tensors,
) -> Result<(), CheckpointError> {
    fs::create_dir_all(dir).map_err(CheckpointError::io(dir))?;
    let targets: BTreeSet<String> =
        tensors.list().iter().filter_map(|(name, _)| target_module(name)).collect();
    let is_conv1d = names::tensors(model).iter().any(|t| t.orientation == Orientation::InputFirst);
    let config = ConfigFile {
        peft_type: "LORA".to_owned(),
        task_type: Some("CAUSAL_LM".to_owned()),
        base_model_name_or_path: Some(settings.base_model.clone()),
        r: settings.rank,
        lora_alpha: settings.alpha,
        lora_dropout: settings.dropout,
        target_modules: targets.into_iter().collect(),
        fan_in_fan_out: is_conv1d,
        bias: none(),
        inference_mode: true,
        use_rslora: settings.rslora,
        others: BTreeMap::new(),
    };
    let path = dir.join(CONFIG_FILE);
    let text = serde_json::to_string_pretty(&config)
        .map_err(|source| CheckpointError::Json { path: path.clone(), source })?;
    fs::write(&path, text + "\n").map_err(CheckpointError::io(&path))?;
    store::write_tensors(&dir.join(WEIGHTS_FILE), tensors)
}

/// `self_attn.q_proj` of `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`: the
/// part of a module's name that all blocks share.
fn target_module(name: &str) -> Option<String> {
    let (module, _) = name.rsplit_once(".lora_")?;
    let parts: Vec<&str> = module.split('.').collect();
    let block = parts.iter().position(|part| part.parse::<usize>().is_ok())?;
    Some(parts[block + 1..].join("."))
}

/// An adapter folder, opened and checked against the model that it adapts.
#[derive(Debug)]
pub struct Adapter {
    settings: AdapterSettings,
    weights: Weights,
}

impl Adapter {
    /// Reads the settings and the header of the factors.
    ///
    /// # Errors
    /// When there is no adapter at `dir`, it is of another kind than LoRA, or a factor is missing,
    /// has another shape or does not belong to a matrix of the model.
    pub fn open(dir: &Path, model: &ModelConfig) -> Result<Self, CheckpointError> {
        let settings = read_settings(&dir.join(CONFIG_FILE))?;
        let older = dir.join(TORCH_FILE);
        let is_older = older.exists() && !dir.join(WEIGHTS_FILE).exists();
        let weights = Weights::open(&if is_older { older } else { dir.join(WEIGHTS_FILE) })?;
        let adapter = Adapter { settings, weights };
        adapter.check(model)?;
        Ok(adapter)
    }

    /// The settings of the adapter.
    pub fn settings(&self) -> &AdapterSettings {
        &self.settings
    }

    /// The factors, by the names of [`factors`].
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    fn check(&self, model: &ModelConfig) -> Result<(), CheckpointError> {
        let path = || self.weights.path().to_owned();
        let mut left: BTreeSet<&str> = self.weights.names().collect();
        for weight in matrices(model) {
            let pair = factors(&weight, self.settings.rank);
            if pair.iter().all(|factor| !left.contains(factor.hugging_face.as_str())) {
                continue;
            }
            for factor in pair {
                let found = self.weights.shape(&factor.hugging_face)?;
                if found != factor.shape {
                    return Err(CheckpointError::Shape {
                        path: path(),
                        found: found.to_vec(),
                        expected: factor.shape,
                        name: factor.hugging_face,
                    });
                }
                left.remove(factor.hugging_face.as_str());
            }
        }
        match left.into_iter().next() {
            Some(name) => Err(CheckpointError::ExtraTensor { path: path(), name: name.to_owned() }),
            None if self.weights.names().len() == 0 => Err(CheckpointError::Content {
                path: path(),
                reason: "no factors in it, expected at least one pair".to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// The factors as llama.cpp names them, in the order of the model's tensors.
    ///
    /// # Errors
    /// When the adapter is for a matrix of an expert, which a GGUF has no such name for.
    pub fn gguf_factors(&self, model: &ModelConfig) -> Result<Vec<GgufFactor>, CheckpointError> {
        let mut found = Vec::new();
        for weight in matrices(model) {
            let pair = factors(&weight, self.settings.rank);
            if !self.weights.contains(&pair[0].hugging_face) {
                continue;
            }
            if weight.expert.is_some() {
                let reason = format!(
                    "{} is of an expert, and a GGUF has no factors of single experts; merge the \
                     adapter instead",
                    pair[0].hugging_face
                );
                return Err(CheckpointError::Content { path: self.weights.path().into(), reason });
            }
            for (row, letter) in pair.into_iter().zip(["a", "b"]) {
                let name = format!("{}.lora_{letter}", weight.gguf);
                let shape = [row.shape[1] as u64, row.shape[0] as u64];
                found.push(GgufFactor { name, shape, row });
            }
        }
        Ok(found)
    }

    /// The bytes of a factor, its rows in the order of a GGUF; `tensor_type` is F32, F16 or BF16.
    ///
    /// # Errors
    /// When it cannot be read, or a value is not finite or too large for the type.
    pub fn gguf_bytes(
        &self,
        factor: &GgufFactor,
        tensor_type: TensorType,
    ) -> Result<Vec<u8>, CheckpointError> {
        let values = self.weights.read_f32(&factor.row.hugging_face)?;
        let [columns, rows] = factor.shape.map(|n| n as usize);
        // Burn's rows are in the order of a GGUF, but its matrices are `[in, out]`.
        let values = transpose(&factor.row.to_burn(values), columns, rows);
        convert::encoded(&values, &factor.name, tensor_type)
    }

    /// Adds this adapter's update to a matrix, row-major as Hugging Face stores it; a matrix
    /// without factors is not changed.
    ///
    /// # Errors
    /// When a factor cannot be read.
    pub fn merge(&self, weight: &TensorName, values: &mut [f32]) -> Result<(), CheckpointError> {
        let rank = self.settings.rank;
        let [a, b] = factors(weight, rank);
        if !self.weights.contains(&a.hugging_face) {
            return Ok(());
        }
        let inputs = a.shape[1];
        let [a, b] = [a, b].map(|factor| self.weights.read_f32(&factor.hugging_face));
        let (a, b) = (a?, b?);
        let scale = config::lora_scale(rank, self.settings.alpha, self.settings.rslora) as f32;
        let mut delta = vec![0.0; inputs];
        for (output, b) in b.chunks_exact(rank).enumerate() {
            delta.fill(0.0);
            for (&b, a) in b.iter().zip(a.chunks_exact(inputs)) {
                delta.iter_mut().zip(a).for_each(|(sum, a)| *sum += scale * b * a);
            }
            match weight.orientation {
                // One row of `[out, in]`.
                Orientation::OutputFirst | Orientation::Same => {
                    let row = &mut values[output * inputs..][..inputs];
                    row.iter_mut().zip(&delta).for_each(|(value, delta)| *value += delta);
                }
                // One column of `[in, out]`.
                Orientation::InputFirst => {
                    let column = values.iter_mut().skip(output).step_by(weight.shape[1]);
                    column.zip(&delta).for_each(|(value, delta)| *value += delta);
                }
            }
        }
        Ok(())
    }
}

/// The matrices of a model's blocks that an adapter can have factors for.
fn matrices(model: &ModelConfig) -> impl Iterator<Item = TensorName> {
    names::tensors(model)
        .into_iter()
        .filter(|row| row.shape.len() == 2 && row.burn.starts_with("blocks."))
}

fn read_settings(path: &Path) -> Result<AdapterSettings, CheckpointError> {
    if !path.exists() {
        return Err(CheckpointError::NoCheckpoint {
            path: path.to_owned(),
            reason: "not there; expected the folder of a LoRA adapter as peft saves it".to_owned(),
        });
    }
    let refuse = |key: &str, value: String, expected: &str| CheckpointError::Setting {
        place: path.to_owned(),
        key: key.to_owned(),
        value,
        expected: expected.to_owned(),
    };
    let text = read_text(path, SMALL_JSON_BYTES)?;
    let file: ConfigFile = serde_json::from_str(&text)
        .map_err(|source| CheckpointError::Json { path: path.to_owned(), source })?;
    if file.peft_type != "LORA" {
        return Err(refuse("peft_type", file.peft_type, "LORA"));
    }
    if file.bias != "none" {
        return Err(refuse("bias", file.bias, "none"));
    }
    if !(1..=config::limits::N_EMBD).contains(&file.r) {
        return Err(refuse("r", file.r.to_string(), "a rank of at least 1"));
    }
    if !file.lora_alpha.is_finite() {
        return Err(refuse("lora_alpha", file.lora_alpha.to_string(), "a finite number"));
    }
    let initialization = file.others.get("init_lora_weights").unwrap_or(&Value::Null);
    if !leaves_the_base(initialization) {
        let expected = "factors for the base as it is: convert the adapter (peft, \
                        path_initial_model_for_weight_conversion)";
        return Err(refuse("init_lora_weights", initialization.to_string(), expected));
    }
    for key in SWITCHES {
        if let Some(value) = file.others.get(key).filter(|value| !says_no(value)) {
            return Err(refuse(key, value.to_string(), "nothing: it is not supported"));
        }
    }
    Ok(AdapterSettings {
        rank: file.r,
        alpha: file.lora_alpha,
        rslora: file.use_rslora,
        dropout: file.lora_dropout,
        base_model: file.base_model_name_or_path.unwrap_or_default(),
    })
}

fn says_no(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// A model with an adapter merged into its matrices, one tensor in memory at a time.
pub struct Merged<'a> {
    table: BTreeMap<String, TensorName>,
    base: &'a Weights,
    adapter: &'a Adapter,
}

impl<'a> Merged<'a> {
    /// `adapter` was opened for a model of the same shape.
    pub fn new(base: &'a Checkpoint, adapter: &'a Adapter) -> Self {
        let table = names::tensors(base.config()).into_iter();
        let table = table.map(|row| (row.hugging_face.clone(), row)).collect();
        Merged { table, base: base.weights(), adapter }
    }
}

impl Tensors for Merged<'_> {
    fn list(&self) -> Vec<(String, Vec<usize>)> {
        self.base.list()
    }

    fn data(&self, name: &str) -> Result<Cow<'_, [f32]>, CheckpointError> {
        let mut values = self.base.read_f32(name)?;
        if let Some(weight) = self.table.get(name).filter(|row| row.shape.len() == 2) {
            self.adapter.merge(weight, &mut values)?;
        }
        Ok(Cow::Owned(values))
    }
}
