//! Runs all stages of a run file in order: train, export, quantize, fragment, eval, bundle.
//!
//! Stages pass data only through files in the run folder. A stage is skipped when [`crate::record`]
//! finds that inputs, settings and program are the same as when it last ran. A missed gate ends the
//! run before the bundle is written.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, ensure};
use bundle::License;
use checkpoint::{RunLock, atomic};
use cli::Interrupt;
use config::{RunFile, Stage, TokenizerKind};
use quantize::{CalibrationText, Recipe};
use serde::Serialize;

use crate::prospect;
use crate::record::{Record, key_of};
use crate::summary::{Row, Summary};

/// Shown below the help text.
pub const EXAMPLES: &str = "\
Example:
  pocketgpt run --config configs/quickstart.toml --set run.dir=runs/first";

/// The command's arguments.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where the settings come from.
    #[command(flatten)]
    pub run_file: cli::RunFileArgs,
    /// Let training go on from its last checkpoint, also with changed settings [default: off; an
    /// unfinished run with the same settings resumes automatically].
    #[arg(long, conflicts_with = "force")]
    pub resume: bool,
    /// Run every stage, also those with nothing new to do; training starts over [default: off].
    #[arg(long)]
    pub force: bool,
    /// Print the summary as JSON [default: a table].
    #[arg(long)]
    pub json: bool,
}

/// The stage that makes the run folder.
const TRAIN: &str = "train";

/// The result of a stage.
struct Done {
    outputs: Vec<PathBuf>,
    bytes: u64,
    quality: String,
}

/// The state of a run.
struct Pipeline {
    run_file: RunFile,
    run_dir: PathBuf,
    record: Record,
    force: bool,
    resume: bool,
    interrupt: Interrupt,
    lock: RunLock,
    rows: Vec<Row>,
}

/// Runs every stage.
///
/// # Errors
/// When a later stage could not do what the run file says, which is checked first; when a stage
/// fails; [`cli::GateFailed`] when a gate is missed.
pub fn run(args: Args) -> anyhow::Result<Summary> {
    let mut run_file = RunFile::load(&args.run_file.config, &args.run_file.overrides)?;
    let recipes = recipes(&run_file)?;
    // Folders are named after recipes, so the saved run file has the full names, not `q4_k`.
    run_file.quantize.recipes = recipes.iter().map(|recipe| recipe.name().to_owned()).collect();
    // Checked here because the licence, or its file, may be missing.
    License::of(
        run_file.bundle.license.as_deref(),
        run_file.bundle.license_file.as_deref(),
        run_file.train.init_from.as_slice(),
    )?;
    for task in &run_file.eval.task {
        // Hours later it would be too late.
        eval::tasks::Task::read(task, &[])?;
    }
    let run_dir = run_file.run.dir.clone();
    train::check_device(run_file.device)?;
    let lock = train::claim(&run_dir, "pocketgpt run")?;
    let record = Record::load(&run_dir)?;
    let mut pipeline = Pipeline {
        run_file,
        run_dir,
        record,
        force: args.force,
        resume: args.resume,
        interrupt: Interrupt::install()?,
        lock,
        rows: Vec::new(),
    };
    let checkpoint = pipeline.train()?;
    pipeline.forget_other_recipes(&recipes)?;
    let base = pipeline.export(&checkpoint)?;
    let mut variants = Vec::new();
    for recipe in recipes {
        let file = pipeline.quantize(&base, recipe)?;
        let pieces = pipeline.fragment(&file, recipe)?;
        variants.push((file, pieces));
    }
    pipeline.eval(&checkpoint, &base, &variants)?;
    let bundle = pipeline.bundle(&checkpoint, &variants)?;
    pipeline.verify(&bundle)?;
    Ok(Summary { run_dir: pipeline.run_dir, stages: pipeline.rows, bundle })
}

/// The recipes of a run file: at least one, none twice, each with a gate to pass.
fn recipes(run_file: &RunFile) -> anyhow::Result<Vec<Recipe>> {
    let mut recipes = Vec::new();
    for name in &run_file.quantize.recipes {
        let recipe: Recipe = name.parse().context("quantize.recipes")?;
        ensure!(
            !recipe.needs_importance(),
            "quantize.recipes: {recipe} needs importance data, which a run does not make; use \
             `quantize imatrix` and `quantize --imatrix`, or take Q2_K"
        );
        ensure!(
            run_file.eval.gates.mean_kl.contains_key(recipe.name()),
            "{recipe} has no gate: set eval.gates.mean_kl.{recipe} to the largest mean KL \
             divergence from the F32 file, in nats"
        );
        recipes.push(recipe);
    }
    ensure!(
        !recipes.is_empty(),
        "quantize.recipes is empty: a bundle needs at least one, for example [\"Q8_0\"]"
    );
    Ok(recipes)
}

impl Pipeline {
    /// Runs one stage, or skips it if its output is current.
    ///
    /// `settings` is what the stage reads of the run file, `inputs` the files it reads.
    fn stage(
        &mut self,
        name: &str,
        settings: &impl Serialize,
        inputs: &[PathBuf],
        work: impl FnOnce(&Self) -> anyhow::Result<Done>,
    ) -> anyhow::Result<()> {
        if self.interrupt.requested() {
            return Err(cli::Interrupted.into());
        }
        let key = key_of(name, settings, inputs)?;
        if !self.force
            && let Some(entry) = self.record.current(&self.run_dir, name, &key)?
        {
            self.rows.push(Row { skipped: true, ..entry.row.clone() });
            return Ok(());
        }
        cli::note(&format!("{name} ..."));
        let start = Instant::now();
        // The entry of training stays, because training may still refuse to change the folder. Its
        // outputs name the last checkpoint, so the entry is invalid as soon as that changes.
        let before = self.record.outputs(name);
        if name != TRAIN {
            self.record.start(&self.run_dir, name, &key)?;
        }
        let done = work(self).with_context(|| format!("{name} failed"))?;
        self.record.start(&self.run_dir, name, &key)?;
        if name != TRAIN {
            self.record.remove_outdated(&self.run_dir, before, &done.outputs)?;
        }
        let first = done.outputs.first().cloned().unwrap_or_default();
        let row = Row {
            stage: name.to_owned(),
            seconds: start.elapsed().as_secs_f64(),
            output: first.strip_prefix(&self.run_dir).map(Path::to_owned).unwrap_or(first),
            bytes: done.bytes,
            quality: done.quality,
            skipped: false,
        };
        self.record.finish(&self.run_dir, name, &done.outputs, row.clone())?;
        self.rows.push(row);
        Ok(())
    }

    /// Trains, or resumes an interrupted run; returns the last checkpoint.
    fn train(&mut self) -> anyhow::Result<PathBuf> {
        let settings = self.run_file.training_settings()?;
        let inputs = training_inputs(&self.run_file)?;
        self.stage(TRAIN, &settings, &inputs, |this| {
            let options = train::Options {
                resume: this.resume,
                overwrite: this.force,
                interrupt: this.interrupt.clone(),
                lock: Some(this.lock.clone()),
                requirement: Some(prospect::require_usable),
            };
            let report = train::train(&this.run_file, &options)?;
            let loss = |loss: Option<f64>| loss.map_or("-".to_owned(), |loss| format!("{loss:.3}"));
            Ok(Done {
                quality: format!(
                    "train loss {} -> {}, validation {} -> {}",
                    loss(report.before.train),
                    loss(report.after.train),
                    loss(report.before.validation),
                    loss(report.after.validation),
                ),
                bytes: size_of(&report.checkpoint)?,
                outputs: vec![report.checkpoint, this.run_dir.join("latest")],
            })
        })?;
        self.save_run_file()?;
        Ok(checkpoint::latest(&self.run_dir)?)
    }

    /// What later stages read of the run file may differ from what training saved.
    fn save_run_file(&self) -> anyhow::Result<()> {
        let text = self.run_file.to_toml().context("cannot write the run file as TOML")?;
        atomic::write_file(&self.run_dir.join("config.toml"), true, |out| -> anyhow::Result<()> {
            out.write_all(text.as_bytes())?;
            Ok(())
        })
    }

    /// Removes what this command made for recipes that the run file no longer names.
    fn forget_other_recipes(&mut self, recipes: &[Recipe]) -> anyhow::Result<()> {
        let is_wanted = |stage: &str| match stage.split_once(' ') {
            Some(("quantize" | "fragment", name)) => {
                recipes.iter().any(|recipe| recipe.name() == name)
            }
            _ => true,
        };
        self.record.forget(&self.run_dir, is_wanted)
    }

    /// Writes the checkpoint as the GGUF that everything after it starts from.
    fn export(&mut self, checkpoint: &Path) -> anyhow::Result<PathBuf> {
        let name = self.run_file.bundle.name.clone();
        let tensor_type = self.run_file.export.tensor_type.parse()?;
        let output = self.gguf(&self.run_file.export.tensor_type);
        let settings = self.run_file.settings(Stage::Export)?;
        self.stage("export", &settings, &[checkpoint.to_owned()], |_| {
            let report = export::export_gguf(&export::ExportJob {
                input: checkpoint.to_owned().into(),
                output: Some(output.clone()),
                tensor_type,
                name: Some(name),
                overwrite: true,
            })?;
            let quality = format!("{} tensors", report.tensors);
            Ok(Done { outputs: vec![output.clone()], bytes: report.size, quality })
        })?;
        Ok(output)
    }

    /// Writes one smaller file.
    fn quantize(&mut self, base: &Path, recipe: Recipe) -> anyhow::Result<PathBuf> {
        let output = self.gguf(recipe.name());
        let search = self.run_file.quantize.search && !self.was_trained_for(recipe)?;
        let settings = (recipe.name(), self.run_file.settings(Stage::Quantize)?);
        self.stage(&format!("quantize {recipe}"), &settings, &[base.to_owned()], |pipeline| {
            let report = quantize::quantize_file(&quantize::QuantizeJob {
                output: Some(output.clone()),
                overwrite: true,
                search,
                calibration: Some(CalibrationText::Run(pipeline.run_dir.clone())),
                interrupt: pipeline.interrupt.clone(),
                ..quantize::QuantizeJob::new(base, recipe)
            })?;
            // Only tensors, as in the evaluation: in a small file the header would matter.
            let tensors: u64 = report.tensors.iter().map(|tensor| tensor.bytes).sum();
            let bits = tensors as f64 * 8.0 / report.weights as f64;
            let mut quality = format!("{bits:.2} bits per weight");
            // Such a file is as good as one without a search, and the gates apply to it too.
            if report.search.is_some_and(|search| !search.used) {
                quality.push_str(", rounded: the search was no better");
            }
            Ok(Done { outputs: vec![output.clone()], bytes: report.bytes_after, quality })
        })?;
        Ok(output)
    }

    /// Whether the weights were trained for the codes that this recipe gives without a search.
    fn was_trained_for(&self, recipe: Recipe) -> anyhow::Result<bool> {
        match &self.run_file.train.qat {
            Some(qat) => Ok(qat.format.parse::<Recipe>().context("train.qat.format")? == recipe),
            None => Ok(false),
        }
    }

    /// Cuts one file into pieces.
    fn fragment(&mut self, file: &Path, recipe: Recipe) -> anyhow::Result<PathBuf> {
        let output = self.run_dir.join("fragments").join(recipe.name());
        let max_bytes = self.run_file.fragment.max_bytes;
        let settings = self.run_file.settings(Stage::Fragment)?;
        self.stage(&format!("fragment {recipe}"), &settings, &[file.to_owned()], |_| {
            let report = fragment::split(&fragment::SplitJob {
                input: file.to_owned(),
                output: output.clone(),
                max_bytes,
                force: true,
            })?;
            let quality = format!("{} pieces", report.pieces);
            Ok(Done { outputs: vec![output.clone()], bytes: report.size, quality })
        })?;
        Ok(output)
    }

    /// Compares every file with the model that was trained; a missed gate ends the run.
    fn eval(
        &mut self,
        checkpoint: &Path,
        base: &Path,
        variants: &[(PathBuf, PathBuf)],
    ) -> anyhow::Result<()> {
        let output = self.run_dir.join("report.json");
        let mut inputs = vec![checkpoint.to_owned(), base.to_owned()];
        inputs.extend(variants.iter().flat_map(|(file, pieces)| [file.clone(), pieces.clone()]));
        for task in &self.run_file.eval.task {
            inputs.push(task.path.clone());
            inputs.extend(task.shots_from.clone());
        }
        let settings = self.run_file.settings(Stage::Eval)?;
        self.stage("eval", &settings, &inputs, |this| {
            let report = eval::evaluate(&eval::EvalJob {
                checkpoint: Some(checkpoint.to_owned()),
                base: eval::Variant::at(base),
                // The reference reads the pieces that go onto the device, llama.cpp the file.
                variants: variants
                    .iter()
                    .map(|(file, pieces)| eval::Variant {
                        source: pieces.clone(),
                        gguf: Some(file.clone()),
                    })
                    .collect(),
                tokens_from: None,
                gates: this.run_file.eval.gates.clone(),
                tasks: this.run_file.eval.task.clone(),
                output: Some(output.clone()),
                overwrite: true,
                interrupt: this.interrupt.clone(),
            })?;
            cli::note(&report.to_string());
            report.check()?;
            let quality = format!("{} gates met", report.gates.len());
            Ok(Done { outputs: vec![output.clone()], bytes: size_of(&output)?, quality })
        })
    }

    /// Packs the files that were measured.
    fn bundle(
        &mut self,
        checkpoint: &Path,
        variants: &[(PathBuf, PathBuf)],
    ) -> anyhow::Result<PathBuf> {
        let output = self.run_dir.join("bundle");
        let mut inputs = vec![checkpoint.to_owned(), self.run_dir.join("report.json")];
        inputs.extend(variants.iter().map(|(_, pieces)| pieces.clone()));
        inputs.extend(self.run_file.bundle.license_file.clone());
        let settings = serde_json::json!({
            "run_file": self.run_file.settings(Stage::Bundle)?,
            "web_chat": bundle::app_digest(),
        });
        self.stage("bundle", &settings, &inputs, |this| {
            let job = bundle::PackJob::from_run(&this.run_dir, Some(output.clone()))?;
            let report =
                bundle::pack(&bundle::PackJob { force: true, replace_signed: this.force, ..job })?;
            let mut quality = format!("{} variants", report.variants.len());
            if report.signature_kept {
                quality.push_str(", signature kept");
            }
            let bytes = size_of(&output)?;
            let outputs = std::iter::once(output.clone()).chain(report.archive).collect();
            Ok(Done { outputs, bytes, quality })
        })?;
        Ok(output)
    }

    /// Checks the bundle as the device does: every hash, then the self-test. Never skipped.
    fn verify(&mut self, bundle: &Path) -> anyhow::Result<()> {
        cli::note("verify ...");
        let start = Instant::now();
        let report = bundle::verify(bundle)?;
        report.require_sound()?;
        self.rows.push(Row {
            stage: "verify".to_owned(),
            seconds: start.elapsed().as_secs_f64(),
            output: PathBuf::from("bundle"),
            bytes: size_of(bundle)?,
            quality: "all hashes and the self-test hold".to_owned(),
            skipped: false,
        });
        Ok(())
    }

    fn gguf(&self, kind: &str) -> PathBuf {
        self.run_dir.join("gguf").join(self.run_file.gguf_name(kind))
    }
}

/// What training reads: the text, and the tokenizer or the model that it starts from, and a chat
/// template.
fn training_inputs(run_file: &RunFile) -> anyhow::Result<Vec<PathBuf>> {
    let mut inputs = Vec::new();
    match data::TokenFile::of_run_file(&run_file.data)? {
        Some(tokens) => inputs.extend_from_slice(tokens.sources()),
        None => {
            let corpus = data::Corpus::of_run_file(&run_file.data)?;
            inputs.extend(corpus.files().map(Path::to_owned));
        }
    }
    if let (TokenizerKind::HuggingFace, Some(path)) =
        (run_file.data.tokenizer, &run_file.data.tokenizer_path)
    {
        let in_folder = path.join(checkpoint::TOKENIZER_FILE);
        inputs.push(if path.is_dir() { in_folder } else { path.clone() });
    }
    let template = run_file.data.chat_template.iter();
    inputs.extend(template.filter(|path| path.as_os_str() != data::chat::CHATML).cloned());
    if let Some(folder) = &run_file.train.init_from {
        inputs.push(checkpoint::locate(folder)?);
    }
    if let Some(teacher) = &run_file.train.teacher {
        match (&teacher.recorded, &teacher.model) {
            (Some(file), _) => inputs.push(file.clone()),
            (None, Some(folder)) if folder.is_dir() => inputs.push(checkpoint::locate(folder)?),
            (None, model) => inputs.extend(model.clone()),
        }
    }
    Ok(inputs)
}

/// Bytes of a file, or of all files in a folder.
fn size_of(path: &Path) -> anyhow::Result<u64> {
    let metadata =
        std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    let mut total = 0;
    for entry in std::fs::read_dir(path)? {
        total += size_of(&entry?.path())?;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> anyhow::Result<Vec<Recipe>> {
        let mut run_file = RunFile::default();
        run_file.quantize.recipes = names.iter().map(|&name| name.to_owned()).collect();
        recipes(&run_file)
    }

    #[test]
    fn every_recipe_has_a_gate_by_default() {
        let recipes: Vec<Recipe> =
            Recipe::ALL.into_iter().filter(|recipe| !recipe.needs_importance()).collect();
        let names: Vec<&str> = recipes.iter().map(|recipe| recipe.name()).collect();
        assert_eq!(of(&names).unwrap(), recipes);
        assert_eq!(of(&["q4_k"]).unwrap(), [Recipe::Q4_K_M]);
    }

    #[test]
    fn what_later_stages_would_refuse_is_refused_first() {
        let refusal = |names: &[&str]| cli::one_line(&of(names).unwrap_err());
        assert!(refusal(&["Q8_0", "Q9_0"]).contains("quantize.recipes: unknown recipe Q9_0"));
        assert!(refusal(&["Q2_K_S"]).contains("needs importance data"));
        assert!(refusal(&[]).contains("at least one"));
        let mut run_file = RunFile::default();
        run_file.eval.gates.mean_kl.remove("Q4_K_M");
        let refusal = recipes(&run_file).unwrap_err().to_string();
        assert!(refusal.contains("set eval.gates.mean_kl.Q4_K_M"), "{refusal}");
    }
}
