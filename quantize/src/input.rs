//! The input of a quantization: a GGUF in one file or several, or a checkpoint read as a GGUF.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use checkpoint::{Checkpoint, GgufView, atomic};
use gguf::{GgufFile, GgufParts, TensorSource, TensorType};

/// The opened input, with its path, which determines the default output.
pub(crate) enum Input {
    /// A GGUF in one file or several.
    File(GgufParts),
    /// A checkpoint, read as an F32 GGUF.
    Checkpoint(Box<GgufView>),
}

impl Input {
    /// Opens a GGUF file (and the other parts of its model), a checkpoint folder, or the newest
    /// checkpoint of a run folder.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        if !path.is_dir() {
            let parts = GgufParts::open(path)?;
            refuse_what_is_no_model(&parts)
                .with_context(|| format!("cannot take {}", path.display()))?;
            return Ok(Input::File(parts));
        }
        let checkpoint = Checkpoint::open(&checkpoint::locate(path)?)?;
        let name = checkpoint.default_name();
        let view = GgufView::new(checkpoint, TensorType::F32, &name)
            .with_context(|| format!("cannot read {} as a GGUF", path.display()))?;
        Ok(Input::Checkpoint(Box::new(view)))
    }

    /// Whether `path` is the input or a part of it.
    pub fn consists_of(&self, path: &Path) -> bool {
        match self {
            Input::File(parts) => {
                parts.files().iter().any(|file| atomic::same_place(file.path(), path))
            }
            Input::Checkpoint(view) => view.checkpoint().consists_of(path),
        }
    }

    /// Keys and tensors.
    pub fn source(&self) -> &dyn TensorSource {
        match self {
            Input::File(parts) => parts,
            Input::Checkpoint(view) => view.as_ref(),
        }
    }

    /// The folder of a checkpoint.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Input::File(_) => None,
            Input::Checkpoint(view) => Some(view.checkpoint().dir()),
        }
    }

    /// `NAME-SUFFIX.gguf`: beside a GGUF, with the type in its name replaced; in the `gguf` folder
    /// of a checkpoint's run; beside a checkpoint that does not belong to a run.
    pub fn default_output(&self, suffix: &str) -> PathBuf {
        match self {
            Input::File(parts) => {
                let first = parts.files().first().map(GgufFile::path).unwrap_or(Path::new(""));
                let stem = first.file_stem().unwrap_or_default().to_string_lossy();
                first.with_file_name(format!("{}-{suffix}.gguf", model_name(&stem)))
            }
            Input::Checkpoint(view) => {
                let checkpoint = view.checkpoint();
                let folder = match checkpoint.run_dir() {
                    Some(run) => run.join("gguf"),
                    None => checkpoint.dir().parent().map(Path::to_owned).unwrap_or_default(),
                };
                folder.join(format!("{}-{suffix}.gguf", checkpoint.default_name()))
            }
        }
    }
}

/// A file's name without its part number and its type.
fn model_name(stem: &str) -> &str {
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    let part = stem.rsplit_once("-of-").filter(|(_, count)| is_number(count));
    let whole = match part.and_then(|(before, _)| before.rsplit_once('-')) {
        Some((name, number)) if is_number(number) => name,
        _ => stem,
    };
    let plain = ["-F32", "-F16", "-BF16", "-f32", "-f16", "-bf16"];
    plain.iter().find_map(|suffix| whole.strip_suffix(suffix)).unwrap_or(whole)
}

/// Refuses GGUFs that do not hold a model.
fn refuse_what_is_no_model(source: &dyn TensorSource) -> anyhow::Result<()> {
    let metadata = source.metadata();
    match metadata.string("general.type") {
        Ok("model" | "mmproj") | Err(_) => {}
        Ok(other) => bail!("it is a GGUF of type {other}: expected a model"),
    }
    metadata.string("general.architecture").context("it does not say what model it is")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_loses_part_and_type() {
        for (stem, name) in [
            ("story-F32", "story"),
            ("story", "story"),
            ("story-F16-00001-of-00003", "story"),
            ("tale-of-two", "tale-of-two"),
            ("a-b-of-c", "a-b-of-c"),
        ] {
            assert_eq!(model_name(stem), name);
        }
    }
}
