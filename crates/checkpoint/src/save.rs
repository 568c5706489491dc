//! Writing a checkpoint, or the part of one that is a Hugging Face folder.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs;
use std::path::Path;

use config::ModelConfig;
use serde_json::{Value, json};

use crate::atomic::write_dir;
use crate::folder::check_tensors;
use crate::limits::{SMALL_JSON_BYTES, read_text};
use crate::lora::{self, ADAPTER_FOLDER, AdapterSettings};
use crate::names::{self, TensorName};
use crate::tokenizer::chat_template;
use crate::{
    ADDITIONAL_CHAT_TEMPLATES, CHAT_TEMPLATE_FILE, CHAT_TEMPLATE_JSON_FILE, CONFIG_FILE,
    CheckpointError, Dtype, GENERATION_FILE, GOLDEN_FILE, Golden, OPTIMIZER_FILE, PreTokenizer,
    SPECIAL_TOKENS_FILE, TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, TRAINER_FILE, Tensors,
    TrainerState, Vocabulary, VocabularyKind, WEIGHTS_FILE, hf_config, store,
};

/// All that [`save`] writes: first what [`save_hugging_face`] does, then the state of training.
pub(crate) const FILES: [&str; 13] = [
    CONFIG_FILE,
    WEIGHTS_FILE,
    GENERATION_FILE,
    TOKENIZER_FILE,
    TOKENIZER_CONFIG_FILE,
    CHAT_TEMPLATE_FILE,
    CHAT_TEMPLATE_JSON_FILE,
    ADDITIONAL_CHAT_TEMPLATES,
    SPECIAL_TOKENS_FILE,
    OPTIMIZER_FILE,
    TRAINER_FILE,
    GOLDEN_FILE,
    ADAPTER_FOLDER,
];

/// How many of [`FILES`] are Hugging Face's.
const HUGGING_FACE: usize = 9;

/// Those that go along unchanged from the folder that a tokenizer came from.
const COMPANIONS: [&str; 5] = [
    GENERATION_FILE,
    TOKENIZER_CONFIG_FILE,
    CHAT_TEMPLATE_FILE,
    CHAT_TEMPLATE_JSON_FILE,
    SPECIAL_TOKENS_FILE,
];

/// `tokenizer_config.json` may spell all added tokens out; the largest in use have 1 MB.
const COMPANION_BYTES: u64 = 16 << 20;

/// What other programs read of a checkpoint.
#[derive(Clone, Copy)]
pub struct HuggingFaceFiles<'a> {
    /// Shape of the model.
    pub config: &'a ModelConfig,
    /// By Hugging Face's names and in its orientation, see [`names`]. A tensor that the model
    /// does not have may be left out; zeros are written for it.
    pub weights: &'a dyn Tensors,
    /// The text of `tokenizer.json`.
    pub tokenizer_json: Option<&'a str>,
    /// The Hugging Face folder that the tokenizer came from, if any: what stands beside it there
    /// (chat template, special tokens, generation defaults) goes along.
    pub tokenizer_folder: Option<&'a Path>,
}

/// Everything that a checkpoint of ours holds.
#[derive(Clone, Copy)]
pub struct CheckpointContents<'a> {
    /// Shape of the model.
    pub config: &'a ModelConfig,
    /// By Hugging Face's names and in its orientation, see [`names`]. A tensor that the model
    /// does not have may be left out; zeros are written for it.
    pub weights: &'a dyn Tensors,
    /// The text of `tokenizer.json`.
    pub tokenizer_json: &'a str,
    /// As in [`HuggingFaceFiles`].
    pub tokenizer_folder: Option<&'a Path>,
    /// Moments, by any unique names.
    pub optimizer: Option<&'a dyn Tensors>,
    /// Where training stands.
    pub trainer: &'a TrainerState,
    /// Token windows and their logits.
    pub golden: Option<&'a Golden>,
}

/// An adapter that a checkpoint holds beside the weights that it is merged into.
#[derive(Clone, Copy)]
pub struct AdapterContents<'a> {
    /// Rank, scale and base model.
    pub settings: &'a AdapterSettings,
    /// The factors, by the names of [`crate::lora::factors`].
    pub tensors: &'a dyn Tensors,
}

/// Writes a checkpoint folder, whole or not at all. One that is there already is replaced.
///
/// # Errors
/// When a tensor is missing, misshapen or not part of the model, or the folder cannot be
/// written. What was there before is still there then.
pub fn save(dir: &Path, contents: CheckpointContents) -> Result<(), CheckpointError> {
    save_adapted(dir, contents, None)
}

/// [`save`] with the adapter that was trained.
///
/// # Errors
/// As for [`save`].
pub fn save_adapted(
    dir: &Path,
    contents: CheckpointContents,
    adapter: Option<AdapterContents>,
) -> Result<(), CheckpointError> {
    let CheckpointContents {
        config,
        weights,
        tokenizer_json,
        tokenizer_folder,
        optimizer,
        trainer,
        golden,
    } = contents;
    let files = HuggingFaceFiles {
        config,
        weights,
        tokenizer_json: Some(tokenizer_json),
        tokenizer_folder,
    };
    check(dir, files)?;
    replaceable(dir, &FILES)?;
    write_dir(dir, true, |folder| {
        write_hugging_face(folder, files)?;
        if let Some(optimizer) = optimizer {
            store::write_tensors(&folder.join(OPTIMIZER_FILE), optimizer)?;
        }
        let path = folder.join(TRAINER_FILE);
        let text = trainer
            .to_json()
            .map_err(|source| CheckpointError::Json { path: path.clone(), source })?;
        write_text(&path, &text)?;
        if let Some(AdapterContents { settings, tensors }) = adapter {
            lora::save(&folder.join(ADAPTER_FOLDER), config, settings, tensors)?;
        }
        golden.map_or(Ok(()), |golden| golden.save(&folder.join(GOLDEN_FILE)))
    })
}

/// How the names of the folders begin that [`rehearse_save`] writes into.
pub const REHEARSAL_PREFIX: &str = ".rehearsal-";

/// Finds what would keep [`save_adapted`] from writing a checkpoint into the folder `parent`,
/// before there is anything to lose: writes all its small files into a folder that is removed
/// again.
///
/// # Errors
/// As for [`save`], except for a disk that the weights do not fit on.
pub fn rehearse_save(parent: &Path, files: HuggingFaceFiles) -> Result<(), CheckpointError> {
    check(parent, files)?;
    crate::atomic::create_folders(parent).map_err(CheckpointError::io(parent))?;
    let folder = tempfile::Builder::new()
        .prefix(REHEARSAL_PREFIX)
        .tempdir_in(parent)
        .map_err(CheckpointError::io(parent))?;
    write_small_files(folder.path(), files, Dtype::F32)
}

/// Writes a folder that `transformers` loads, without the state of training.
///
/// A checkpoint with the state of training in it is never replaced by one without.
///
/// # Errors
/// As for [`save`]; and when there is a folder and `overwrite` is false, or it holds anything
/// that this function does not write.
pub fn save_hugging_face(
    dir: &Path,
    overwrite: bool,
    files: HuggingFaceFiles,
) -> Result<(), CheckpointError> {
    check(dir, files)?;
    if overwrite {
        replaceable(dir, &FILES[..HUGGING_FACE])?;
    }
    write_dir(dir, overwrite, |folder| write_hugging_face(folder, files))
}

/// What can be refused before anything is written; errors then name `dir`, not its sibling.
fn check(dir: &Path, files: HuggingFaceFiles) -> Result<(), CheckpointError> {
    hf_config::check(&dir.join(CONFIG_FILE), files.config)?;
    check_tensors(&dir.join(WEIGHTS_FILE), files.config, files.weights.list().into_iter())
}

/// Replacing a folder removes all that is in it, so it has to be a model's and hold nothing but
/// the files that are written anew.
fn replaceable(dir: &Path, known: &[&str]) -> Result<(), CheckpointError> {
    let refuse = |what: &str| CheckpointError::NoCheckpoint {
        path: dir.to_owned(),
        reason: format!("{what}, so it is not replaced; name another folder"),
    };
    let mut found = Vec::new();
    // Whether it is no folder at all is for the write to say.
    for entry in fs::read_dir(dir).into_iter().flatten() {
        found.push(entry.map_err(CheckpointError::io(dir))?.file_name());
    }
    found.sort();
    if let Some(other) = found.iter().find(|name| !known.iter().any(|known| *known == **name)) {
        return Err(refuse(&format!("holds other files ({other:?})")));
    }
    let has = |name: &str| found.iter().any(|found| *found == *name);
    if found.is_empty() || has(CONFIG_FILE) && has(WEIGHTS_FILE) {
        return Ok(());
    }
    Err(refuse("holds no whole model"))
}

fn write_hugging_face(folder: &Path, files: HuggingFaceFiles) -> Result<(), CheckpointError> {
    let weights = Complete::new(files.config, files.weights);
    write_small_files(folder, files, weights.common_dtype())?;
    store::write_tensors(&folder.join(WEIGHTS_FILE), &weights)
}

/// Everything but the weights, which are stored as `dtype`.
fn write_small_files(
    folder: &Path,
    files: HuggingFaceFiles,
    dtype: Dtype,
) -> Result<(), CheckpointError> {
    let HuggingFaceFiles { config, tokenizer_json, tokenizer_folder, .. } = files;
    let vocabulary = tokenizer_json.map(|text| match tokenizer_folder {
        Some(tokenizer_folder) => Vocabulary::of_folder(tokenizer_folder, text),
        None => Vocabulary::parse(text),
    });
    let vocabulary = vocabulary.transpose()?;
    let ids = token_ids(vocabulary.as_ref(), tokenizer_folder)?;
    write_text(&folder.join(CONFIG_FILE), &hf_config::to_json(config, &ids, dtype))?;
    write_text(&folder.join(GENERATION_FILE), &format!("{ids:#}\n"))?;
    if let (Some(text), Some(vocabulary)) = (tokenizer_json, vocabulary) {
        write_text(&folder.join(TOKENIZER_FILE), text)?;
        let text = tokenizer_config(&vocabulary, config.context_length);
        write_text(&folder.join(TOKENIZER_CONFIG_FILE), &text)?;
    }
    tokenizer_folder.map_or(Ok(()), |tokenizer_folder| copy_companions(tokenizer_folder, folder))
}

/// The keys of `config.json` for the tokens that begin and end a text: the tokenizer's, without one
/// those of the folder that the model came from.
fn token_ids(
    vocabulary: Option<&Vocabulary>,
    tokenizer_folder: Option<&Path>,
) -> Result<Value, CheckpointError> {
    let [bos, eos] = match (vocabulary, tokenizer_folder.map(|dir| dir.join(CONFIG_FILE))) {
        (Some(vocabulary), _) => {
            let special = &vocabulary.special;
            let more = &special.more_eos;
            // transformers takes a number or a list.
            let eos = match special.eos {
                Some(eos) if !more.is_empty() => Value::from([&[eos], more.as_slice()].concat()),
                eos => Value::from(eos),
            };
            [Value::from(special.bos), eos]
        }
        (None, Some(path)) if path.exists() => {
            let text = read_text(&path, SMALL_JSON_BYTES)?;
            let config: Value = serde_json::from_str(&text)
                .map_err(|source| CheckpointError::Json { path, source })?;
            ["bos_token_id", "eos_token_id"].map(|key| config[key].clone())
        }
        _ => [Value::Null, Value::Null],
    };
    Ok(json!({ "bos_token_id": bos, "eos_token_id": eos }))
}

/// What the folder of a tokenizer says about it is better than what follows from the tokenizer.
fn copy_companions(from: &Path, to: &Path) -> Result<(), CheckpointError> {
    for name in COMPANIONS {
        let path = from.join(name);
        if path.exists() {
            write_text(&to.join(name), &read_text(&path, COMPANION_BYTES)?)?;
        }
    }
    let templates = chat_template::additional(from)?;
    if templates.is_empty() {
        return Ok(());
    }
    let folder = to.join(ADDITIONAL_CHAT_TEMPLATES);
    fs::create_dir(&folder).map_err(CheckpointError::io(&folder))?;
    templates
        .iter()
        .try_for_each(|(name, text)| write_text(&folder.join(format!("{name}.jinja")), text))
}

/// What `transformers` needs to load `tokenizer.json`. Only for GPT-2's own way of splitting there
/// is a class that does the same; any other file is taken as it is.
fn tokenizer_config(vocabulary: &Vocabulary, context_length: usize) -> String {
    let class = match vocabulary.kind {
        VocabularyKind::Bpe { pre, .. } if pre == PreTokenizer::GPT2 && vocabulary.is_complete => {
            "GPT2TokenizerFast"
        }
        _ => "PreTrainedTokenizerFast",
    };
    let special = &vocabulary.special;
    let mut value = json!({ "tokenizer_class": class, "model_max_length": context_length });
    for (name, id) in [
        ("bos_token", special.bos),
        ("eos_token", special.eos),
        ("unk_token", special.unknown),
        ("pad_token", special.padding),
    ] {
        if let Some(id) = id {
            value[name] = vocabulary.tokens[id as usize].as_str().into();
        }
    }
    format!("{value:#}\n")
}

fn write_text(path: &Path, text: &str) -> Result<(), CheckpointError> {
    fs::write(path, text).map_err(CheckpointError::io(path))
}

/// The tensors of a model with zeros for those that only the file has, in the order of the table.
struct Complete<'a> {
    table: Vec<TensorName>,
    present: HashSet<String>,
    weights: &'a dyn Tensors,
}

impl<'a> Complete<'a> {
    fn new(config: &ModelConfig, weights: &'a dyn Tensors) -> Self {
        let present = weights.list().into_iter().map(|(name, _)| name).collect();
        let table = names::tensors(config).into_iter().filter(TensorName::in_hugging_face);
        Complete { table: table.collect(), present, weights }
    }

    /// The format of all tensors that the model has, F32 where they differ.
    fn common_dtype(&self) -> Dtype {
        let mut all = self.table.iter().filter(|row| row.in_model()).map(|row| &row.hugging_face);
        let first = all.next().map_or(Dtype::F32, |name| self.dtype(name));
        if all.all(|name| self.dtype(name) == first) { first } else { Dtype::F32 }
    }
}

impl Tensors for Complete<'_> {
    fn list(&self) -> Vec<(String, Vec<usize>)> {
        self.table.iter().map(|row| (row.hugging_face.clone(), row.shape.clone())).collect()
    }

    fn data(&self, name: &str) -> Result<Cow<'_, [f32]>, CheckpointError> {
        if self.present.contains(name) {
            return self.weights.data(name);
        }
        let elements = self.table.iter().find(|row| row.hugging_face == name);
        Ok(Cow::Owned(vec![0.0; elements.map_or(0, TensorName::elements)]))
    }

    fn dtype(&self, name: &str) -> Dtype {
        self.weights.dtype(name)
    }
}
