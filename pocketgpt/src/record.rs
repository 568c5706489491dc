//! Records what each stage read and wrote, so that a stage with the same inputs is skipped.
//!
//! `RUN/stages.json` holds, for each stage, a key and the digests of what it wrote. The key is a
//! hash of everything that decides the output: the program's version, the settings that the stage
//! reads and the digests of its input files. A stage is current when its key is the same and its
//! outputs are still what it wrote.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Component, Path, PathBuf};

use anyhow::Context;
use checkpoint::atomic;
use serde::{Deserialize, Serialize};

use crate::summary::Row;

/// Increased when the meaning of `stages.json` changes; a file of an older version is ignored.
const FORMAT: u32 = 1;

/// The records of a run folder.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    stages: BTreeMap<String, Entry>,
}

/// The last run of a stage.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// Hash of version, settings and inputs.
    pub key: String,
    /// BLAKE3 of each output, by path relative to the run folder; empty while the stage runs.
    pub outputs: BTreeMap<PathBuf, String>,
    /// Its line in the summary.
    pub row: Row,
}

impl Record {
    /// Reads `RUN/stages.json`; a run folder without one, or with one of another version of the
    /// format, has no records.
    pub fn load(run_dir: &Path) -> anyhow::Result<Self> {
        let path = path_in(run_dir);
        let text = match plain_file::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::empty()),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let record: Record = serde_json::from_str(&text).with_context(|| {
            format!("{} is damaged: remove it to run every stage again", path.display())
        })?;
        Ok(if record.format == FORMAT { record } else { Self::empty() })
    }

    fn empty() -> Self {
        Record { format: FORMAT, stages: BTreeMap::new() }
    }

    /// The entry of `stage`, if it finished with this key and its outputs are unchanged.
    pub fn current(
        &self,
        run_dir: &Path,
        stage: &str,
        key: &str,
    ) -> anyhow::Result<Option<&Entry>> {
        let Some(entry) = self.stages.get(stage) else { return Ok(None) };
        if entry.key != key || entry.outputs.is_empty() {
            return Ok(None);
        }
        for (output, digest) in &entry.outputs {
            let path = run_dir.join(output);
            if !path.exists() || digest_of(&path)? != *digest {
                return Ok(None);
            }
        }
        Ok(Some(entry))
    }

    /// What `stage` wrote when it last ran, with the digests.
    pub fn outputs(&self, stage: &str) -> BTreeMap<PathBuf, String> {
        self.stages.get(stage).map(|entry| entry.outputs.clone()).unwrap_or_default()
    }

    /// Removes the files that a stage wrote `before` and that are not among its `outputs` now. A
    /// file that has changed since, or is outside of the folders that stages write into, is kept.
    pub fn remove_outdated(
        &self,
        run_dir: &Path,
        before: BTreeMap<PathBuf, String>,
        outputs: &[PathBuf],
    ) -> anyhow::Result<()> {
        for (relative, digest) in before {
            let path = run_dir.join(&relative);
            if is_made_here(&relative)
                && !outputs.contains(&path)
                && path.exists()
                && digest_of(&path)? == digest
            {
                remove(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Removes the stages that are not wanted any more, with what they wrote.
    pub fn forget(
        &mut self,
        run_dir: &Path,
        is_wanted: impl Fn(&str) -> bool,
    ) -> anyhow::Result<()> {
        let unwanted: Vec<String> =
            self.stages.keys().filter(|stage| !is_wanted(stage)).cloned().collect();
        for stage in unwanted {
            self.remove_outdated(run_dir, self.outputs(&stage), &[])?;
            self.stages.remove(&stage);
            self.save(run_dir)?;
        }
        Ok(())
    }

    /// Records that `stage` begins: until it ends, its entry does not list outputs.
    pub fn start(&mut self, run_dir: &Path, stage: &str, key: &str) -> anyhow::Result<()> {
        let entry = Entry { key: key.to_owned(), outputs: BTreeMap::new(), row: Row::default() };
        self.stages.insert(stage.to_owned(), entry);
        self.save(run_dir)
    }

    /// Records the outputs of `stage`.
    pub fn finish(
        &mut self,
        run_dir: &Path,
        stage: &str,
        outputs: &[PathBuf],
        row: Row,
    ) -> anyhow::Result<()> {
        let mut digests = BTreeMap::new();
        for output in outputs {
            let relative = output.strip_prefix(run_dir).unwrap_or(output);
            digests.insert(relative.to_owned(), digest_of(output)?);
        }
        if let Some(entry) = self.stages.get_mut(stage) {
            entry.outputs = digests;
            entry.row = row;
        }
        self.save(run_dir)
    }

    fn save(&self, run_dir: &Path) -> anyhow::Result<()> {
        atomic::write_file(&path_in(run_dir), true, |out| -> anyhow::Result<()> {
            serde_json::to_writer_pretty(&mut *out, self)?;
            writeln!(out)?;
            Ok(())
        })
    }
}

/// Whether a path of `stages.json`, which anybody may have written, leads to a place below a folder
/// that only stages write into.
fn is_made_here(relative: &Path) -> bool {
    let names: Option<Vec<&std::ffi::OsStr>> = relative
        .components()
        .map(|part| match part {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect();
    let folders = ["gguf", "fragments"];
    names.is_some_and(|names| names.len() == 2 && folders.iter().any(|folder| names[0] == *folder))
}

fn remove(path: &Path) -> std::io::Result<()> {
    // A link is removed, but not its target.
    if path.symlink_metadata()?.is_dir() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    }
}

fn path_in(run_dir: &Path) -> PathBuf {
    run_dir.join("stages.json")
}

/// Hash of what decides a stage's output.
pub fn key_of(
    stage: &str,
    settings: &impl Serialize,
    inputs: &[PathBuf],
) -> anyhow::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        // Each length comes first, so that different lists never give the same bytes.
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(env!("CARGO_PKG_VERSION").as_bytes());
    part(stage.as_bytes());
    part(&serde_json::to_vec(settings)?);
    for input in inputs {
        part(digest_of(input)?.as_bytes());
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// BLAKE3 of a file, or of a folder's names and files in sorted order.
pub fn digest_of(path: &Path) -> anyhow::Result<String> {
    let mut hasher = blake3::Hasher::new();
    add(&mut hasher, path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(hasher.finalize().to_hex().to_string())
}

fn add(hasher: &mut blake3::Hasher, path: &Path) -> std::io::Result<()> {
    if !path.is_dir() {
        hasher.update_mmap_rayon(path)?;
        return Ok(());
    }
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(path)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    entries.sort();
    for entry in entries {
        let name = entry.file_name().unwrap_or_default().as_encoded_bytes().to_owned();
        let mut inner = blake3::Hasher::new();
        add(&mut inner, &entry)?;
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(&name);
        hasher.update(inner.finalize().as_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(run: &Path) -> (Record, String) {
        let (input, output) = (run.join("in"), run.join("out"));
        std::fs::write(&input, "input").unwrap();
        std::fs::write(&output, "output").unwrap();
        let key = key_of("export", &"F32", &[input]).unwrap();
        let mut record = Record::load(run).unwrap();
        record.start(run, "export", &key).unwrap();
        let row = Row { seconds: 1.5, quality: "done".to_owned(), ..Row::default() };
        record.finish(run, "export", &[output], row).unwrap();
        (Record::load(run).unwrap(), key)
    }

    #[test]
    fn a_finished_stage_is_current_until_its_output_changes() {
        let run = tempfile::tempdir().unwrap();
        let (record, key) = finished(run.path());
        let entry = record.current(run.path(), "export", &key).unwrap().unwrap();
        assert_eq!((entry.row.seconds, entry.row.quality.as_str()), (1.5, "done"));
        std::fs::write(run.path().join("out"), "0utput").unwrap();
        assert!(record.current(run.path(), "export", &key).unwrap().is_none());
        std::fs::remove_file(run.path().join("out")).unwrap();
        assert!(record.current(run.path(), "export", &key).unwrap().is_none());
    }

    /// A record of `stage` with one output, which is made.
    fn with_output(run: &Path, stage: &str, output: &str) -> Record {
        let path = run.join(output);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "made").unwrap();
        let mut record = Record::load(run).unwrap();
        record.start(run, stage, "key").unwrap();
        record.finish(run, stage, &[path], Row::default()).unwrap();
        record
    }

    #[test]
    fn what_a_stage_no_longer_writes_goes_unless_it_was_changed() {
        let run = tempfile::tempdir().unwrap();
        let old = run.path().join("gguf/old-F32.gguf");
        let new = run.path().join("gguf/new-F32.gguf");
        let record = with_output(run.path(), "export", "gguf/old-F32.gguf");
        let before = record.outputs("export");
        record.remove_outdated(run.path(), before.clone(), std::slice::from_ref(&old)).unwrap();
        assert!(old.exists(), "it is written again");
        std::fs::write(&old, "mine").unwrap();
        record.remove_outdated(run.path(), before.clone(), std::slice::from_ref(&new)).unwrap();
        assert!(old.exists(), "somebody changed it");
        std::fs::write(&old, "made").unwrap();
        record.remove_outdated(run.path(), before, &[new]).unwrap();
        assert!(!old.exists());
    }

    #[test]
    fn recipes_that_are_not_wanted_go_with_their_files() {
        let run = tempfile::tempdir().unwrap();
        with_output(run.path(), "quantize Q8_0", "gguf/a-Q8_0.gguf");
        let mut record = with_output(run.path(), "quantize Q4_0", "gguf/a-Q4_0.gguf");
        record.forget(run.path(), |stage| stage != "quantize Q4_0").unwrap();
        assert!(run.path().join("gguf/a-Q8_0.gguf").exists());
        assert!(!run.path().join("gguf/a-Q4_0.gguf").exists());
        let record = Record::load(run.path()).unwrap();
        assert!(record.outputs("quantize Q4_0").is_empty());
        assert_eq!(record.outputs("quantize Q8_0").len(), 1);
    }

    #[test]
    fn a_record_cannot_have_anything_else_removed() {
        for path in ["../a", "gguf/../../a", "/etc/passwd", "latest", "checkpoints/step-1", "gguf"]
        {
            assert!(!is_made_here(Path::new(path)), "{path}");
        }
        assert!(is_made_here(Path::new("fragments/Q8_0")));
    }

    #[test]
    fn the_key_follows_stage_settings_and_inputs() {
        let run = tempfile::tempdir().unwrap();
        let (_, key) = finished(run.path());
        let input = run.path().join("in");
        assert_ne!(key, key_of("quantize", &"F32", std::slice::from_ref(&input)).unwrap());
        assert_ne!(key, key_of("export", &"F16", std::slice::from_ref(&input)).unwrap());
        std::fs::write(&input, "other").unwrap();
        assert_ne!(key, key_of("export", &"F32", &[input]).unwrap());
    }

    #[test]
    fn a_stage_that_only_started_is_not_current() {
        let run = tempfile::tempdir().unwrap();
        let mut record = Record::load(run.path()).unwrap();
        record.start(run.path(), "train", "k").unwrap();
        let record = Record::load(run.path()).unwrap();
        assert!(record.current(run.path(), "train", "k").unwrap().is_none());
    }

    #[test]
    fn a_folder_is_its_names_and_contents() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "1").unwrap();
        let before = digest_of(dir.path()).unwrap();
        std::fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        assert_ne!(before, digest_of(dir.path()).unwrap());
    }
}
