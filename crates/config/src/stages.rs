//! Which stage of a run reads which key of its run file.
//!
//! This is the only place that says so: `train` compares [`RunFile::training_settings`] to decide
//! whether a run goes on, and `pocketgpt run` hashes [`RunFile::settings`] of each stage to decide
//! whether the stage has to run again. What a stage reads besides (the files that earlier stages
//! wrote, the text, the tokenizer) is not in here.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use toml::{Table, Value};

use crate::{ConfigError, RunFile};

/// The stages of `pocketgpt run`, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Run file and text to checkpoints.
    Train,
    /// Checkpoint to GGUF.
    Export,
    /// GGUF to a smaller GGUF, once for each recipe.
    Quantize,
    /// GGUF to pieces, once for each recipe.
    Fragment,
    /// Comparing the files with the trained model.
    Eval,
    /// Packing what goes onto the device.
    Bundle,
}

/// Keys of a run file with their values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settings(BTreeMap<String, String>);

/// A key whose value differs between two run files. Values are written as in TOML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Dotted key, for example `optimizer.learning_rate`.
    pub key: String,
    /// `None` where the key is not set.
    pub before: Option<String>,
    /// `None` where the key is not set.
    pub after: Option<String>,
}

/// `optimizer.learning_rate is 0.0004 there and 0.001 now`: there is the run folder.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value: &Option<String>| value.clone().unwrap_or("not set".to_owned());
        write!(f, "{} is {} there and {} now", self.key, value(&self.before), value(&self.after))
    }
}

impl RunFile {
    /// Everything that training reads of the run file.
    ///
    /// # Errors
    /// [`ConfigError::NotToml`].
    pub fn training_settings(&self) -> Result<Settings, ConfigError> {
        self.settings(Stage::Train)
    }

    /// Everything that `stage` itself reads of the run file.
    ///
    /// # Errors
    /// [`ConfigError::NotToml`].
    pub fn settings(&self, stage: Stage) -> Result<Settings, ConfigError> {
        let mut settings = self.all_settings()?;
        settings.0.retain(|key, _| self.is_read_by(key, stage));
        Ok(settings)
    }

    /// Every key that is set, defaults included.
    fn all_settings(&self) -> Result<Settings, ConfigError> {
        // Through the text: it writes an `f32` as people do, where a `Value` would widen it.
        let text = self.to_toml().map_err(|error| ConfigError::NotToml(error.to_string()))?;
        let table: Table = text
            .parse()
            .map_err(|error: toml::de::Error| ConfigError::NotToml(error.message().to_owned()))?;
        let mut settings = BTreeMap::new();
        flatten("", &table, &mut settings);
        Ok(Settings(settings))
    }

    fn is_read_by(&self, key: &str, stage: Stage) -> bool {
        let (section, _) = key.split_once('.').unwrap_or((key, ""));
        match stage {
            Stage::Train => match section {
                "device" | "model" | "data" | "train" | "lora" | "optimizer" | "schedule" => true,
                // Weights are rounded from what export writes.
                "export" => self.train.qat.is_some(),
                _ => matches!(key, "run.seed" | "eval.golden_windows"),
            },
            Stage::Export => section == "export" || key == "bundle.name",
            // Recipes are stages of their own. The one that was trained for is not searched.
            Stage::Quantize => {
                section == "quantize" && key != "quantize.recipes" || key == "train.qat.format"
            }
            Stage::Fragment => section == "fragment",
            Stage::Eval => section == "eval",
            // The run file goes into the bundle as the weights' origin.
            Stage::Bundle => true,
        }
    }
}

/// Every value below `table` by its dotted key, as TOML.
fn flatten(prefix: &str, table: &Table, out: &mut BTreeMap<String, String>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Value::Table(inner) => flatten(&key, inner, out),
            value => {
                out.insert(key, value.to_string());
            }
        }
    }
}

impl Settings {
    /// The keys, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The keys whose values are others in `after`, sorted.
    pub fn changes(&self, after: &Settings) -> Vec<Change> {
        let mut keys: Vec<&String> = self.0.keys().chain(after.0.keys()).collect();
        keys.sort();
        keys.dedup();
        let change = |key: &String| {
            let (before, after) = (self.0.get(key).cloned(), after.0.get(key).cloned());
            (before != after).then(|| Change { key: key.clone(), before, after })
        };
        keys.into_iter().filter_map(change).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::*;

    /// Every key is set. A new field of these sections does not compile here until it has a
    /// value, and then fails the test below until it has a line there.
    fn everything() -> RunFile {
        RunFile {
            model: Model {
                architecture: Architecture::Llama,
                context_length: 512,
                n_layer: 2,
                n_head: 4,
                n_kv_head: Some(2),
                n_embd: 64,
                n_inner: Some(128),
                norm_epsilon: 1e-5,
                rope_base: 10_000.0,
                qkv_bias: Some(false),
                tie_embeddings: true,
                dropout: 0.0,
                attention: Attention {
                    head_width: Some(16),
                    rotated_width: Some(8),
                    scale: Some(0.5),
                    ..Attention::default()
                },
            },
            data: Data {
                path: PathBuf::from("text.txt").into(),
                text_field: "text".to_owned(),
                on_error: OnError::Stop,
                tokenizer: TokenizerKind::HuggingFace,
                tokenizer_path: Some(PathBuf::from("tokenizer.json")),
                vocab_size: 300,
                context: 64,
                stride: Some(32),
                train_fraction: 0.9,
                format: DataFormat::Chat,
                documents: Some(DocumentMask::Separate),
                chat_format: Some(ChatFormat::Messages),
                chat_template: Some(PathBuf::from("chatml")),
                train_on: TrainOn::Last,
                too_long: TooLong::Drop,
                source: vec![DataSource { path: "a.jsonl".into(), weight: 1, text_field: None }],
            },
            train: Train {
                init_from: Some(PathBuf::from("base")),
                objective: Some(Objective::NextToken),
                max_steps: Some(10),
                eval_windows: Some(3),
                qat: Some(Qat { format: "Q4_0".to_owned(), start: Some(QatStart::Share(0.5)) }),
                teacher: Some(Teacher {
                    model: Some(PathBuf::from("teacher")),
                    recorded: Some(PathBuf::from("predictions")),
                    recorded_tokens: 8,
                    temperature: 2.0,
                    share: 0.5,
                }),
                ..Train::default()
            },
            eval: Eval {
                task: vec![EvalTask { path: PathBuf::from("arc.jsonl"), ..EvalTask::default() }],
                ..Eval::default()
            },
            bundle: Bundle {
                name: "name".to_owned(),
                license: Some("MIT".to_owned()),
                license_file: Some(PathBuf::from("LICENSE")),
                release: Some(2),
                expires: Some("2027-06-30".to_owned()),
                prompt: "prompt".to_owned(),
                self_test_tokens: 3,
                zip: true,
            },
            ..RunFile::default()
        }
    }

    /// The stages that run again when a key changes, because they read it themselves. What comes
    /// after a stage runs again if the stage's output changes.
    fn readers(run_file: &RunFile, key: &str) -> String {
        let stages = [
            Stage::Train,
            Stage::Export,
            Stage::Quantize,
            Stage::Fragment,
            Stage::Eval,
            Stage::Bundle,
        ];
        let reads = |stage: &Stage| run_file.settings(*stage).unwrap().0.contains_key(key);
        let names = stages.into_iter().filter(reads).map(|stage| format!("{stage:?}"));
        names.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_key_says_which_stages_read_it() {
        let expected = "\
            bundle.expires: Bundle\n\
            bundle.license: Bundle\n\
            bundle.license_file: Bundle\n\
            bundle.name: Export Bundle\n\
            bundle.prompt: Bundle\n\
            bundle.release: Bundle\n\
            bundle.self_test_tokens: Bundle\n\
            bundle.zip: Bundle\n\
            data.chat_format: Train Bundle\n\
            data.chat_template: Train Bundle\n\
            data.context: Train Bundle\n\
            data.documents: Train Bundle\n\
            data.format: Train Bundle\n\
            data.on_error: Train Bundle\n\
            data.path: Train Bundle\n\
            data.source: Train Bundle\n\
            data.stride: Train Bundle\n\
            data.text_field: Train Bundle\n\
            data.tokenizer: Train Bundle\n\
            data.tokenizer_path: Train Bundle\n\
            data.too_long: Train Bundle\n\
            data.train_fraction: Train Bundle\n\
            data.train_on: Train Bundle\n\
            data.vocab_size: Train Bundle\n\
            device: Train Bundle\n\
            eval.gates.llama_vs_reference_mean_kl: Eval Bundle\n\
            eval.gates.llama_vs_reference_top1: Eval Bundle\n\
            eval.gates.mean_kl.Q8_0: Eval Bundle\n\
            eval.gates.reference_vs_burn_relative_rms: Eval Bundle\n\
            eval.golden_windows: Train Eval Bundle\n\
            eval.task: Eval Bundle\n\
            export.tensor_type: Train Export Bundle\n\
            fragment.max_bytes: Fragment Bundle\n\
            lora.alpha: Train Bundle\n\
            lora.dropout: Train Bundle\n\
            lora.rank: Train Bundle\n\
            lora.rslora: Train Bundle\n\
            lora.targets: Train Bundle\n\
            model.architecture: Train Bundle\n\
            model.attention.head_width: Train Bundle\n\
            model.attention.rotated_width: Train Bundle\n\
            model.attention.scale: Train Bundle\n\
            model.context_length: Train Bundle\n\
            model.dropout: Train Bundle\n\
            model.n_embd: Train Bundle\n\
            model.n_head: Train Bundle\n\
            model.n_inner: Train Bundle\n\
            model.n_kv_head: Train Bundle\n\
            model.n_layer: Train Bundle\n\
            model.norm_epsilon: Train Bundle\n\
            model.qkv_bias: Train Bundle\n\
            model.rope_base: Train Bundle\n\
            model.tie_embeddings: Train Bundle\n\
            optimizer.beta1: Train Bundle\n\
            optimizer.beta2: Train Bundle\n\
            optimizer.epsilon: Train Bundle\n\
            optimizer.grad_clip: Train Bundle\n\
            optimizer.kind: Train Bundle\n\
            optimizer.learning_rate: Train Bundle\n\
            optimizer.momentum: Train Bundle\n\
            optimizer.weight_decay: Train Bundle\n\
            quantize.recipes: Bundle\n\
            quantize.search: Quantize Bundle\n\
            run.dir: Bundle\n\
            run.seed: Train Bundle\n\
            schedule.decay_fraction: Train Bundle\n\
            schedule.kind: Train Bundle\n\
            schedule.min_learning_rate: Train Bundle\n\
            schedule.warmup_steps: Train Bundle\n\
            train.activation_checkpointing: Train Bundle\n\
            train.batch_size: Train Bundle\n\
            train.checkpoint_interval: Train Bundle\n\
            train.devices: Train Bundle\n\
            train.dpo_beta: Train Bundle\n\
            train.dpo_label_smoothing: Train Bundle\n\
            train.epochs: Train Bundle\n\
            train.eval_interval: Train Bundle\n\
            train.eval_windows: Train Bundle\n\
            train.gradient_accumulation: Train Bundle\n\
            train.init_from: Train Bundle\n\
            train.initialization: Train Bundle\n\
            train.keep_checkpoints: Train Bundle\n\
            train.kernels: Train Bundle\n\
            train.max_steps: Train Bundle\n\
            train.objective: Train Bundle\n\
            train.precision: Train Bundle\n\
            train.qat.format: Train Quantize Bundle\n\
            train.qat.start: Train Bundle\n\
            train.sample_prompt: Train Bundle\n\
            train.sample_tokens: Train Bundle\n\
            train.teacher.model: Train Bundle\n\
            train.teacher.recorded: Train Bundle\n\
            train.teacher.recorded_tokens: Train Bundle\n\
            train.teacher.share: Train Bundle\n\
            train.teacher.temperature: Train Bundle\n";
        let run_file = everything();
        let all = run_file.all_settings().unwrap();
        // One gate stands for those of all recipes.
        let is_other_gate = |key: &str| key.contains(".mean_kl.") && !key.ends_with(".Q8_0");
        let found: String = all
            .keys()
            .filter(|key| !is_other_gate(key))
            .map(|key| format!("{key}: {}\n", readers(&run_file, key)))
            .collect();
        assert_eq!(found, expected);
        let gate = readers(&run_file, "eval.gates.mean_kl.Q4_0");
        assert_eq!(gate, readers(&run_file, "eval.gates.mean_kl.Q8_0"));
    }

    #[test]
    fn the_exported_type_belongs_to_training_only_where_training_rounds() {
        let mut run_file = everything();
        run_file.train.qat = None;
        assert_eq!(readers(&run_file, "export.tensor_type"), "Export Bundle");
    }

    #[test]
    fn changes_are_named_with_both_values_as_people_write_them() {
        let load = |text: &str| RunFile::parse(Path::new("a.toml"), text, &[]).unwrap();
        let a = load("[optimizer]\nweight_decay = 0.1\n");
        let b = load("[optimizer]\nweight_decay = 0.3\n[train]\nmax_steps = 7\n");
        let changes = a.training_settings().unwrap().changes(&b.training_settings().unwrap());
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            changes,
            [
                Change {
                    key: "optimizer.weight_decay".to_owned(),
                    before: some("0.1"),
                    after: some("0.3")
                },
                Change { key: "train.max_steps".to_owned(), before: None, after: some("7") },
            ]
        );
        assert_eq!(changes[0].to_string(), "optimizer.weight_decay is 0.1 there and 0.3 now");
        assert_eq!(changes[1].to_string(), "train.max_steps is not set there and 7 now");
        assert!(a.training_settings().unwrap().changes(&a.training_settings().unwrap()).is_empty());
    }
}
