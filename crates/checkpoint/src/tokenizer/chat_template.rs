//! The chat template of a folder.
//!
//! The order of precedence is that of `AutoTokenizer.from_pretrained` in transformers 5
//! (`tokenization_utils_base.py`): `chat_template.jinja` and `additional_chat_templates/NAME.jinja`
//! together replace the template of `tokenizer_config.json`. Only if neither has a template,
//! `chat_template.json` is read, which older processors of transformers wrote
//! (`processing_utils.py`).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::special::{TOKENIZER_CONFIG_BYTES, read_json};
use crate::limits::{SMALL_JSON_BYTES, read_text};
use crate::{
    ADDITIONAL_CHAT_TEMPLATES, CHAT_TEMPLATE_FILE, CHAT_TEMPLATE_JSON_FILE, CheckpointError,
};

/// Most templates of one folder: real folders have two or three.
const MOST_TEMPLATES: usize = 64;

/// The template for conversations without tools: the one named `default` if there are several.
/// `None` if transformers has none or requires a name.
///
/// # Errors
/// When a file cannot be read, is too long, or `chat_template.json` is malformed.
pub(super) fn of_folder(
    dir: &Path,
    tokenizer_config: &Value,
) -> Result<Option<String>, CheckpointError> {
    let mut files = additional(dir)?;
    let path = dir.join(CHAT_TEMPLATE_FILE);
    if path.exists() {
        let text = read_text(&path, SMALL_JSON_BYTES)?;
        files.entry("default".to_owned()).or_insert(text);
    }
    if !files.is_empty() {
        return Ok(files.remove("default"));
    }
    let stated = &tokenizer_config["chat_template"];
    if !stated.is_null() {
        return Ok(default_of(stated));
    }
    let path = dir.join(CHAT_TEMPLATE_JSON_FILE);
    Ok(default_of(&read_json(&path, TOKENIZER_CONFIG_BYTES)?["chat_template"]))
}

/// A text, or a list of objects with `name` and `template`, or an object of templates by name.
fn default_of(stated: &Value) -> Option<String> {
    let default = match stated {
        Value::Array(list) => &list.iter().rfind(|entry| entry["name"] == "default")?["template"],
        Value::Object(templates) => templates.get("default")?,
        text => text,
    };
    default.as_str().map(str::to_owned)
}

/// The templates of `additional_chat_templates/` by name.
pub(crate) fn additional(dir: &Path) -> Result<BTreeMap<String, String>, CheckpointError> {
    let dir = dir.join(ADDITIONAL_CHAT_TEMPLATES);
    let mut templates = BTreeMap::new();
    if !dir.is_dir() {
        return Ok(templates);
    }
    for entry in fs::read_dir(&dir).map_err(CheckpointError::io(&dir))? {
        let path = entry.map_err(CheckpointError::io(&dir))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name.and_then(|name| name.strip_suffix(".jinja")) else { continue };
        if templates.len() == MOST_TEMPLATES {
            let reason = format!("more than {MOST_TEMPLATES} chat templates");
            return Err(CheckpointError::Content { path: dir, reason });
        }
        templates.insert(name.to_owned(), read_text(&path, SMALL_JSON_BYTES)?);
    }
    Ok(templates)
}
