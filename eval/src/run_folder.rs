//! Everything of a run that can be judged, found by where `pocketgpt run` puts it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use config::Gates;

use crate::evaluate::{EvalJob, Variant};
use crate::recipe::recipe_of;

/// Recipes that can be the base of a comparison, the best first.
const UNQUANTIZED: [&str; 3] = ["F32", "BF16", "F16"];

impl EvalJob {
    /// The latest checkpoint of `dir`, its unquantized GGUF as the base, and every other GGUF
    /// and folder of pieces. Where there are both of one recipe, the reference reads the pieces,
    /// which is what a device gets, and llama.cpp the file. The report replaces
    /// `dir/report.json`.
    ///
    /// # Errors
    /// When the folder cannot be read, or holds no unquantized GGUF or several.
    pub fn from_run(dir: &Path, gates: Gates) -> Result<Self> {
        ensure!(dir.is_dir(), "{}: no such run folder", dir.display());
        let checkpoint = match checkpoint::latest(dir) {
            Ok(checkpoint) => Some(checkpoint),
            Err(_) if !dir.join("latest").exists() => None,
            Err(error) => return Err(error.into()),
        };
        let mut found: Vec<(String, Variant)> = Vec::new();
        for path in entries(&dir.join("gguf"))? {
            if path.extension().is_some_and(|extension| extension == "gguf") {
                found.push((recipe(&path)?, Variant::at(&path)));
            }
        }
        for path in entries(&dir.join("fragments"))? {
            if !path.join("manifest.json").is_file() {
                continue;
            }
            let recipe = recipe(&path)?;
            match found.iter_mut().find(|(known, _)| *known == recipe) {
                Some((_, variant)) => variant.source = path,
                None => found.push((recipe, Variant::at(&path))),
            }
        }
        let base = take_base(dir, &mut found)?;
        Ok(EvalJob {
            checkpoint,
            base,
            variants: found.into_iter().map(|(_, variant)| variant).collect(),
            tokens_from: None,
            gates,
            output: Some(dir.join("report.json")),
            overwrite: true,
            interrupt: cli::Interrupt::default(),
        })
    }
}

fn take_base(dir: &Path, found: &mut Vec<(String, Variant)>) -> Result<Variant> {
    for wanted in UNQUANTIZED {
        let places: Vec<usize> = (0..found.len()).filter(|&i| found[i].0 == wanted).collect();
        match places[..] {
            [] => {}
            [place] => return Ok(found.remove(place).1),
            _ => bail!(
                "{}: several {wanted} files: name the one to judge by with --f32",
                dir.join("gguf").display()
            ),
        }
    }
    bail!("{}: no unquantized GGUF to judge by: run export first", dir.join("gguf").display())
}

fn recipe(path: &Path) -> Result<String> {
    let source =
        fragment::open_source(path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(recipe_of(path, source.metadata()))
}

/// The visible entries of a folder in the order of their names; none if there is no folder.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut paths = fs::read_dir(dir)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>())
        .with_context(|| format!("cannot list {}", dir.display()))?;
    paths.retain(|path| {
        path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.'))
    });
    paths.sort();
    Ok(paths)
}
