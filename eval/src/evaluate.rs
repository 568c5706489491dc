//! The evaluation: one model in memory at a time, and one window of logits for each pass.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use config::{EvalTask, Gates};
use generate::EngineKind;
use gguf::TensorSource;
use llama_cpp::{Arithmetic, Llama, Settings};
use reference::Model;

use crate::gates::{GateResult, judge};
use crate::metrics::{Comparison, Side};
use crate::report::{Engine, FORMAT, FileSize, Pair, Pass, Report, Tokens, VERSION};
use crate::tasks::{self, Task, TaskModel, TaskResult};
use crate::tokens::{Base, GoldenFile, TextTokens, tokenizer};

/// A model to evaluate: the path that each engine reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// The path for the reference: a GGUF, a folder of pieces, or a checkpoint.
    pub source: PathBuf,
    /// The path for llama.cpp; `None` skips its pass.
    pub gguf: Option<PathBuf>,
}

impl Variant {
    /// A variant at `path`; llama.cpp reads it too if it is a GGUF.
    pub fn at(path: &Path) -> Self {
        let is_gguf = path.is_file() && !fragment::is_fragments(path);
        Variant { source: path.to_owned(), gguf: is_gguf.then(|| path.to_owned()) }
    }
}

/// What to compare, and the limits that must hold.
#[derive(Debug, Clone)]
pub struct EvalJob {
    /// The checkpoint whose golden logits the unquantized file is compared with.
    pub checkpoint: Option<PathBuf>,
    /// The unquantized file: the base that every variant is compared with.
    pub base: Variant,
    /// The quantized files.
    pub variants: Vec<Variant>,
    /// Read windows of this text instead of the checkpoint's golden ones.
    pub tokens_from: Option<TextTokens>,
    /// Limits.
    pub gates: Gates,
    /// Questions that every model is asked, with their limits.
    pub tasks: Vec<EvalTask>,
    /// The path of `report.json`.
    pub output: Option<PathBuf>,
    /// Whether an existing report may be replaced.
    pub overwrite: bool,
    /// Checked between windows.
    pub interrupt: cli::Interrupt,
}

/// Runs every pass, checks the gates, and saves the report. A missed gate is not an error here;
/// [`Report::check`] turns it into one.
///
/// # Errors
/// When a file cannot be read, two files do not belong to one model, or there are no tokens to
/// read.
pub fn evaluate(job: &EvalJob) -> Result<Report> {
    check_inputs(job)?;
    let tasks = job.tasks.iter().map(|spec| Task::read(spec, &[])).collect::<Result<Vec<_>>>()?;
    let mut run = Run::new(job);
    let mut base = run.base_pass()?;
    run.llama_pass(&job.base, &mut base)?;
    for variant in &job.variants {
        run.variant_pass(variant, &mut base)?;
    }
    drop(base);
    run.ask(&tasks)?;
    let report = run.finish();
    if let Some(path) = &job.output {
        save(&report, path, job.overwrite)?;
    }
    Ok(report)
}

/// Checks that can refuse the job before minutes of computing.
fn check_inputs(job: &EvalJob) -> Result<()> {
    for variant in std::iter::once(&job.base).chain(&job.variants) {
        for path in std::iter::once(&variant.source).chain(&variant.gguf) {
            ensure!(path.exists(), "{}: no such file or folder", path.display());
        }
    }
    if let Some(path) = &job.output {
        ensure!(job.overwrite || !path.exists(), "{} exists: --force replaces it", path.display());
    }
    Ok(())
}

fn save(report: &Report, path: &Path, overwrite: bool) -> Result<()> {
    checkpoint::atomic::write_file(path, overwrite, |out| {
        serde_json::to_writer_pretty(&mut *out, report)?;
        std::io::Write::write_all(out, b"\n")?;
        anyhow::Ok(())
    })
}

/// The state of a running evaluation.
struct Run<'a> {
    job: &'a EvalJob,
    base_recipe: String,
    tokens: Option<Tokens>,
    files: Vec<FileSize>,
    pairs: Vec<Pair>,
    tasks: Vec<TaskResult>,
    task_gates: Vec<GateResult>,
    notes: Vec<String>,
}

impl<'a> Run<'a> {
    fn new(job: &'a EvalJob) -> Self {
        Run {
            job,
            base_recipe: String::new(),
            tokens: None,
            files: Vec::new(),
            pairs: Vec::new(),
            tasks: Vec::new(),
            task_gates: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Runs the reference on the unquantized file, and compares it with Burn's logits if training
    /// left them.
    fn base_pass(&mut self) -> Result<Base> {
        let path = &self.job.base.source;
        let source = open(path)?;
        self.base_recipe = self.describe(path, source.as_ref())?;
        let golden = self.job.checkpoint.as_deref().map(GoldenFile::open).transpose()?.flatten();
        let model = load(path, source.as_ref())?;
        let (vocab_size, context_length) =
            (model.config().vocab_size, model.config().context_length);
        let windows = self.windows(golden.as_ref(), source.as_ref(), context_length)?;
        drop(source);

        let mut base = Base::new(windows, vocab_size)?;
        let from_text = self.job.tokens_from.is_some();
        match golden {
            Some(golden) => {
                self.golden_pass(&model, &golden, (!from_text).then_some(&mut base))?;
            }
            None => self.notes.push(
                "Burn is not compared with: there are no golden logits (a checkpoint of this \
                 program has them)"
                    .to_owned(),
            ),
        }
        if !base.is_complete() {
            let progress = self.progress("reference", base.windows().len());
            for window in base.windows().to_vec() {
                self.check_interrupt()?;
                base.push(&model.logits(&window)?)?;
                progress.advance(1);
            }
            progress.finish();
        }
        Ok(base)
    }

    /// The tokens to read, and their description in the report.
    fn windows(
        &mut self,
        golden: Option<&GoldenFile>,
        source: &dyn TensorSource,
        context_length: usize,
    ) -> Result<Vec<Vec<u32>>> {
        let (from, windows) = match (&self.job.tokens_from, golden) {
            (Some(text), _) => {
                let tokenizer = tokenizer(self.job.checkpoint.as_deref(), source.metadata())?;
                (text.path.as_path(), text.read(&tokenizer, context_length)?)
            }
            (None, Some(golden)) => (golden.path(), golden.windows.clone()),
            (None, None) => anyhow::bail!(
                "there are no tokens to read: {}, or give --tokens-from TEXT",
                match &self.job.checkpoint {
                    Some(checkpoint) => format!(
                        "{} has no golden windows (only the last checkpoint of a whole run has \
                         some): train to the end",
                        checkpoint.display()
                    ),
                    None => "give --checkpoint with golden windows".to_owned(),
                }
            ),
        };
        let context = windows.first().map_or(0, Vec::len);
        self.tokens = Some(Tokens { source: name_of(from), windows: windows.len(), context });
        Ok(windows)
    }

    /// Compares the reference with Burn over the golden windows; the reference's logits are also
    /// added to `base`.
    fn golden_pass(
        &mut self,
        model: &Model,
        golden: &GoldenFile,
        mut base: Option<&mut Base>,
    ) -> Result<()> {
        let vocab_size = model.config().vocab_size;
        ensure!(
            golden.vocab_size == vocab_size,
            "{} has a vocabulary of {vocab_size}, but {} holds logits over {}: they are not of \
             the same model",
            self.job.base.source.display(),
            golden.path().display(),
            golden.vocab_size
        );
        let mut measure = Measure::default();
        let progress = self.progress("reference", golden.windows.len());
        for (index, window) in golden.windows.iter().enumerate() {
            self.check_interrupt()?;
            let logits =
                model.logits(window).map_err(|error| naming(golden.path(), error.into()))?;
            measure.add(index, window, &golden.logits(index)?, &logits);
            if let Some(base) = &mut base {
                base.push(&logits)?;
            }
            progress.advance(1);
        }
        progress.finish();
        let recipe = self.base_recipe.clone();
        self.conclude((Engine::Burn, &recipe), (Engine::Reference, &recipe), measure);
        Ok(())
    }

    /// Compares the reference and llama.cpp on a quantized file with the reference on the
    /// unquantized one.
    fn variant_pass(&mut self, variant: &Variant, base: &mut Base) -> Result<()> {
        let path = &variant.source;
        let recipe = {
            let source = open(path)?;
            let recipe = self.describe(path, source.as_ref())?;
            let model = load(path, source.as_ref())?;
            self.check_vocabulary(path, model.config().vocab_size, base)?;
            let measure = self.judge_pass(&recipe, base, |window| Ok(model.logits(window)?))?;
            let base_recipe = self.base_recipe.clone();
            let (from, to) = ((Engine::Reference, &*base_recipe), (Engine::Reference, &*recipe));
            self.conclude(from, to, measure);
            recipe
        };
        self.llama_pass_as(&recipe, variant, base)
    }

    fn llama_pass(&mut self, variant: &Variant, base: &mut Base) -> Result<()> {
        let recipe = self.base_recipe.clone();
        self.llama_pass_as(&recipe, variant, base)
    }

    fn llama_pass_as(&mut self, recipe: &str, variant: &Variant, base: &mut Base) -> Result<()> {
        let Some(path) = &variant.gguf else {
            self.notes.push(format!(
                "{recipe} llama.cpp is left out: it reads files only, and {} is none",
                variant.source.display()
            ));
            return Ok(());
        };
        // Our reader first: it names the problem where llama.cpp only refuses.
        open(path)?;
        let llama = Llama::load(&gguf::first_part(path))?;
        self.check_vocabulary(path, llama.vocab_size(), base)?;
        let longest = base.windows().iter().map(Vec::len).max().unwrap_or(0);
        let settings = Settings { context: longest, threads: 0, arithmetic: Arithmetic::Exact };
        let mut session = llama.session(settings)?;
        let title = format!("{recipe} llama");
        let measure = self.judge_pass(&title, base, |window| {
            session.clear();
            Ok(session.logits(window)?)
        })?;
        let base_recipe = self.base_recipe.clone();
        self.conclude((Engine::Reference, &base_recipe), (Engine::LlamaCpp, recipe), measure);
        Ok(())
    }

    /// Compares a pass over all windows with the stored logits of the base.
    fn judge_pass(
        &self,
        title: &str,
        base: &mut Base,
        mut logits: impl FnMut(&[u32]) -> Result<Vec<f32>>,
    ) -> Result<Measure> {
        let mut measure = Measure::default();
        let progress = self.progress(title, base.windows().len());
        for index in 0..base.windows().len() {
            self.check_interrupt()?;
            let trusted = base.logits(index)?;
            let window = &base.windows()[index];
            measure.add(index, window, &trusted, &logits(window)?);
            progress.advance(1);
        }
        progress.finish();
        Ok(measure)
    }

    fn conclude(&mut self, base: (Engine, &str), candidate: (Engine, &str), measure: Measure) {
        let pass = |(engine, recipe): (Engine, &str)| Pass { engine, recipe: recipe.to_owned() };
        let (base, candidate) = (pass(base), pass(candidate));
        let problem = measure.problem.map(|(side, text)| {
            let whose = if side == Side::Base { &base } else { &candidate };
            format!("{whose}, {text}")
        });
        let metrics = if problem.is_some() { None } else { measure.comparison.finish() };
        self.pairs.push(Pair { base, candidate, metrics, problem });
    }

    /// Asks every model the questions of every task, with llama.cpp if it reads all of them: only
    /// figures of one engine can be compared.
    fn ask(&mut self, tasks: &[Task]) -> Result<()> {
        if tasks.is_empty() {
            return Ok(());
        }
        let variants: Vec<&Variant> =
            std::iter::once(&self.job.base).chain(&self.job.variants).collect();
        let paths: Option<Vec<&PathBuf>> =
            variants.iter().map(|variant| variant.gguf.as_ref()).collect();
        let (engine, paths) = match paths {
            Some(paths) => (EngineKind::Llama, paths),
            None => {
                let sources = variants.iter().map(|variant| &variant.source).collect();
                (EngineKind::Reference, sources)
            }
        };
        for (file, path) in self.files.iter().zip(paths) {
            let model = TaskModel {
                label: self.label(file),
                path: path.clone(),
                tokenizer: None,
                engine,
                threads: 0,
                context: None,
            };
            self.tasks.extend(tasks::ask(&model, tasks, &self.job.interrupt, &mut |_| {})?);
        }
        for (index, (spec, task)) in self.job.tasks.iter().zip(tasks).enumerate() {
            let results: Vec<TaskResult> =
                self.tasks.iter().skip(index).step_by(tasks.len()).cloned().collect();
            self.task_gates.extend(tasks::judge(spec, task, &results)?);
        }
        Ok(())
    }

    /// The recipe, or the file's name where several have one recipe.
    fn label(&self, file: &FileSize) -> String {
        let alike = self.files.iter().filter(|other| other.recipe == file.recipe).count();
        if alike > 1 { file.name.clone() } else { file.recipe.clone() }
    }

    /// Records the file's size and returns its recipe.
    fn describe(&mut self, path: &Path, source: &dyn TensorSource) -> Result<String> {
        let recipe = gguf::recipe_of(path, source.metadata());
        let tensor_bytes = source.tensors().iter().map(|tensor| tensor.size).sum();
        let parameters = source.tensors().iter().map(|tensor| tensor.elements()).sum();
        self.files.push(FileSize {
            name: name_of(path),
            recipe: recipe.clone(),
            tensor_bytes,
            parameters,
            bits_per_weight: 8.0 * tensor_bytes as f64 / (parameters as f64).max(1.0),
            sha256: sha256_of(path)?,
        });
        Ok(recipe)
    }

    fn check_vocabulary(&self, path: &Path, found: usize, base: &Base) -> Result<()> {
        ensure!(
            found == base.vocab_size(),
            "{} has a vocabulary of {found}, but {} one of {}: they are not of the same model",
            path.display(),
            self.job.base.source.display(),
            base.vocab_size()
        );
        Ok(())
    }

    fn check_interrupt(&self) -> Result<()> {
        if self.job.interrupt.requested() { Err(cli::Interrupted.into()) } else { Ok(()) }
    }

    fn progress(&self, title: &str, windows: usize) -> cli::Progress {
        cli::Progress::new(title, windows as u64, cli::Meter::Items)
    }

    fn finish(self) -> Report {
        let (mut gates, mut notes) = (Vec::new(), self.notes);
        for pair in &self.pairs {
            match judge(pair, &self.job.gates) {
                Ok(results) => gates.extend(results),
                Err(note) => notes.push(note),
            }
        }
        gates.extend(self.task_gates);
        Report {
            format: FORMAT.to_owned(),
            version: VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            tokens: self.tokens.unwrap_or(Tokens { source: String::new(), windows: 0, context: 0 }),
            files: self.files,
            pairs: self.pairs,
            tasks: self.tasks,
            gates,
            notes,
        }
    }
}

/// One pair during its comparison; stops at the first logit that is not finite.
#[derive(Default)]
struct Measure {
    comparison: Comparison,
    problem: Option<(Side, String)>,
}

impl Measure {
    fn add(&mut self, index: usize, tokens: &[u32], base: &[f32], candidate: &[f32]) {
        if self.problem.is_some() {
            return;
        }
        if let Err(not_finite) = self.comparison.add(tokens, base, candidate) {
            self.problem = Some((not_finite.side, format!("window {index}: {not_finite}")));
        }
    }
}

fn open(path: &Path) -> Result<Box<dyn TensorSource>> {
    fragment::open_source(path).map_err(|error| naming(path, error))
}

fn load(path: &Path, source: &dyn TensorSource) -> Result<Model> {
    Model::load(source).map_err(|error| naming(path, error.into()))
}

/// Adds the file to an error that does not name it yet.
fn naming(path: &Path, error: anyhow::Error) -> anyhow::Error {
    let path = path.display().to_string();
    if format!("{error:#}").contains(&path) { error } else { error.context(path) }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Identifies this file among others of the same size; see [`FileSize::sha256`].
fn sha256_of(path: &Path) -> Result<Option<String>> {
    if path.is_file() && path.extension().is_none_or(|extension| extension != "json") {
        return Ok(Some(fragment::digests(path)?.sha256));
    }
    Ok(fragment::Located::find(path).ok().map(|found| found.manifest.file.sha256))
}
