//! Joins a bundle's model into one file, which llama.cpp can map.
//!
//! A bundle holds its models in fragments. They are joined once, with every hash verified, into a
//! file in the user's cache that is named by the hash of its content; the next start finds it
//! there.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use fragment::{JoinJob, WholeFile, read_manifest};

/// The file name of a variant's manifest, after the variant's name.
const MANIFEST_SUFFIX: &str = ".manifest.json";

/// The GGUF of a variant of the bundle in `folder`; of the largest, if none is named. It is joined
/// into `cache` unless it exists there.
///
/// # Errors
/// When the bundle does not have the variant, a fragment is damaged, or the system returns an
/// error.
pub fn gguf_of(folder: &Path, variant: Option<&str>, cache: &Path) -> Result<PathBuf> {
    let (manifest, file) = choose(folder, variant)?;
    let path = cache.join(format!("{}.gguf", file.blake3));
    // Only complete files get this name, so the size shows whether the file was truncated later.
    if std::fs::metadata(&path).is_ok_and(|found| found.len() == file.size) {
        return Ok(path);
    }
    std::fs::create_dir_all(cache).with_context(|| format!("cannot create {}", cache.display()))?;
    fragment::join(&JoinJob { input: manifest, output: path.clone(), force: true })?;
    Ok(path)
}

/// The folder of joined models of this user.
///
/// # Errors
/// When the system does not name such a folder.
pub fn cache_folder() -> Result<PathBuf> {
    let caches = dirs::cache_dir().context("this system names no cache folder (HOME is unset)")?;
    Ok(caches.join("pocketgpt"))
}

fn choose(folder: &Path, variant: Option<&str>) -> Result<(PathBuf, WholeFile)> {
    let found = variants(folder)?;
    let names: Vec<&str> = found.iter().map(|(name, ..)| name.as_str()).collect();
    let at = match variant {
        Some(wanted) => names.iter().position(|name| *name == wanted),
        None => (0..found.len()).max_by_key(|&i| found[i].2.size),
    };
    match at {
        Some(at) => Ok((found[at].1.clone(), found[at].2.clone())),
        None => bail!(
            "{} has no variant {}: expected one of {}",
            folder.display(),
            variant.unwrap_or_default(),
            names.join(", ")
        ),
    }
}

/// Name, manifest and whole file of every variant, by name.
fn variants(folder: &Path) -> Result<Vec<(String, PathBuf, WholeFile)>> {
    let model = folder.join("model");
    let context = || format!("{}: expected a bundle's folder", folder.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&model).with_context(context)? {
        let path = entry.with_context(context)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(variant) = name.strip_suffix(MANIFEST_SUFFIX) {
            found.push((variant.to_owned(), path.clone(), read_manifest(&path)?.file));
        }
    }
    ensure!(!found.is_empty(), "{} holds no variant", model.display());
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bundle's folder with the variants `small` and `large`, of `bytes` and twice as many bytes.
    fn bundle(folder: &Path) {
        let model = folder.join("model");
        std::fs::create_dir(&model).unwrap();
        for (name, width) in [("small", 32), ("large", 64)] {
            let gguf = folder.join(format!("{name}.gguf"));
            std::fs::write(&gguf, tiny_gguf(width)).unwrap();
            fragment::split_into(&model, &format!("{name}{MANIFEST_SUFFIX}"), &gguf, 4096).unwrap();
        }
    }

    fn tiny_gguf(width: u64) -> Vec<u8> {
        let mut metadata = gguf::Metadata::new();
        metadata.set("general.architecture", gguf::Value::String("gpt2".into()));
        let tensors = [("a".to_owned(), vec![width, 64], gguf::TensorType::F32)];
        let mut writer = gguf::Writer::new(Vec::new(), &metadata, &tensors).unwrap();
        writer.write_tensor("a", &vec![7; width as usize * 64 * 4]).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn the_largest_variant_is_joined_once_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        bundle(folder.path());
        let cache = folder.path().join("cache");
        let path = gguf_of(folder.path(), None, &cache).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), tiny_gguf(64));
        // The second time the fragments are not needed.
        for entry in std::fs::read_dir(folder.path().join("model")).unwrap() {
            let piece = entry.unwrap().path();
            if piece.extension().is_some_and(|extension| extension == "dat") {
                std::fs::remove_file(piece).unwrap();
            }
        }
        assert_eq!(gguf_of(folder.path(), Some("large"), &cache).unwrap(), path);
        assert!(gguf_of(folder.path(), Some("small"), &cache).is_err(), "its fragments are gone");
    }

    #[test]
    fn a_file_that_was_cut_is_joined_again() {
        let folder = tempfile::tempdir().unwrap();
        bundle(folder.path());
        let cache = folder.path().join("cache");
        let path = gguf_of(folder.path(), Some("small"), &cache).unwrap();
        std::fs::write(&path, "cut").unwrap();
        gguf_of(folder.path(), Some("small"), &cache).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), tiny_gguf(32));
    }

    #[test]
    fn unknown_variants_and_folders_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = gguf_of(folder.path(), None, folder.path()).unwrap_err();
        assert!(error.to_string().contains("expected a bundle's folder"), "{error}");
        bundle(folder.path());
        let error = gguf_of(folder.path(), Some("Q2_K"), folder.path()).unwrap_err();
        assert!(error.to_string().ends_with("no variant Q2_K: expected one of large, small"));
    }
}
