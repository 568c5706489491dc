//! Finds everything in a run folder that can be evaluated, at the paths that `pocketgpt run` uses.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use config::{Gates, RunFile};

use crate::evaluate::{EvalJob, Variant};

/// Recipes that can be the base of a comparison, the best first.
const UNQUANTIZED: [&str; 3] = ["F32", "BF16", "F16"];

impl EvalJob {
    /// The latest checkpoint of `dir`, its unquantized GGUF as the base, and every other GGUF and
    /// folder of pieces. If a recipe has both, the reference reads the pieces, which devices
    /// download, and llama.cpp the file. Of several unquantized files of one type, the base is the
    /// one that `pocketgpt run` writes. The report replaces `dir/report.json`.
    ///
    /// # Errors
    /// When the folder cannot be read, or holds no unquantized GGUF, or several of which none has
    /// the name that the run file implies.
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
        if let Some(checkpoint) = &checkpoint {
            note_if_older(&base, checkpoint);
        }
        Ok(EvalJob {
            checkpoint,
            base,
            variants: found.into_iter().map(|(_, variant)| variant).collect(),
            tokens_from: None,
            gates,
            tasks: Vec::new(),
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
            _ => {
                let own = own_file(dir, wanted);
                let is_own = |&&place: &&usize| {
                    own.as_ref().is_some_and(|own| found[place].1.gguf.as_ref() == Some(own))
                };
                match places.iter().find(is_own) {
                    Some(&place) => return Ok(found.remove(place).1),
                    None => bail!("{}", several(dir, wanted, &places, found)),
                }
            }
        }
    }
    bail!(
        "{}: no unquantized GGUF to judge by; make one with `export --input {}`",
        dir.join("gguf").display(),
        dir.display()
    )
}

/// The file that `pocketgpt run` writes for a type, according to the run's own run file.
fn own_file(dir: &Path, kind: &str) -> Option<PathBuf> {
    let run_file = RunFile::load(&dir.join("config.toml"), &[]).ok()?;
    Some(dir.join("gguf").join(run_file.gguf_name(kind)))
}

fn several(dir: &Path, kind: &str, places: &[usize], found: &[(String, Variant)]) -> String {
    let names = places.iter().filter_map(|&place| found[place].1.gguf.as_ref()?.file_name());
    let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
    format!(
        "{gguf}: several {kind} files ({names}), and none is called as bundle.name in {config} says: \
         remove those that are out of date, or judge one without --run: eval --checkpoint {run} \
         --f32 {gguf}/FILE --quantized FILE",
        gguf = dir.join("gguf").display(),
        names = names.join(", "),
        config = dir.join("config.toml").display(),
        run = dir.display(),
    )
}

/// A file that is older than the checkpoint holds other weights, unless it was copied. This adds a
/// note and does not refuse the file.
fn note_if_older(base: &Variant, checkpoint: &Path) {
    let modified = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
    let weights = checkpoint.join(checkpoint::WEIGHTS_FILE);
    let Some(file) = &base.gguf else { return };
    if let (Some(file_time), Some(weights_time)) = (modified(file), modified(&weights))
        && file_time < weights_time
    {
        cli::note(&format!(
            "{} is older than {}: if they differ, export and quantize again",
            file.display(),
            checkpoint.display()
        ));
    }
}

fn recipe(path: &Path) -> Result<String> {
    let source =
        fragment::open_source(path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(gguf::recipe_of(path, source.metadata()))
}

/// The visible entries of a folder, sorted by name; empty if the folder does not exist.
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
