//! The training loop.

mod ending;
mod keeping;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use checkpoint::TrainerState;
use cli::memory::peak_resident;
use cli::{Interrupt, Meter, Progress};
use config::{Kernels, ModelConfig, Objective, RunFile};
use kernels::Precision;
use model::Model;
use tempfile::TempDir;

use crate::chat_tokenizer::RunTokenizer;
use crate::corpus::{Corpus, Split};
use crate::device::{self, Selected};
use crate::evaluate::{Evaluation, Reading};
use crate::folder::{RunFolder, Start};
use crate::init_from::{self, InitialModel};
use crate::journal::Journal;
use crate::metrics::{Metrics, MetricsLog};
use crate::objective::{self, StepLoss};
use crate::optimizer::{Optimizer, global_norm};
use crate::passes::{Passes, StepGradients};
use crate::plan::StepPlan;
use crate::qat::Qat;
use crate::reference::Reference;
use crate::report::{Losses, Report};
use crate::schedule::LearningRate;
use crate::state::{self, Restored};
use crate::teacher::Teacher;
use crate::{Options, Prospect, allocator, evaluate, sample};

/// Trains the model of a run file.
///
/// # Errors
/// [`cli::Interrupted`] once the user asked to stop and a checkpoint is written. Otherwise bad
/// input: a text too short for one step, a device that was not compiled in, a run folder that holds
/// another run or cannot be written, a loss that is not a number, a last checkpoint that cannot be
/// written.
pub fn train(run_file: &RunFile, options: &Options) -> anyhow::Result<Report> {
    run_file.validate()?;
    let _freed_memory_is_kept = allocator::KeepFreedMemory::until_dropped();
    match run_file.train.kernels {
        Kernels::Fused => train_here(run_file, options),
        Kernels::Plain => kernels::with_plain_operations(|| train_here(run_file, options)),
    }
}

fn train_here(run_file: &RunFile, options: &Options) -> anyhow::Result<Report> {
    let device = device::select(run_file.device, run_file.train.devices)?;
    let precision = device::precision(&run_file.train, &device)?;
    let (folder, start) = RunFolder::open(run_file, options)?;
    let parts = Parts { folder, start, device, precision };
    let mut session = Session::begin(run_file, options, parts)?;
    session.run()?;
    session.finish()
}

/// The state of a running training.
struct Session<'a> {
    run_file: &'a RunFile,
    interrupt: Interrupt,
    folder: RunFolder,
    corpus: Corpus,
    plan: StepPlan,
    schedule: LearningRate,
    device: Selected,
    precision: Precision,
    /// `None` only while the optimizer step replaces it.
    model: Option<Model>,
    qat: Option<Qat>,
    teacher: Option<Teacher>,
    /// Of training on pairs of answers.
    reference: Option<Reference>,
    optimizer: Optimizer,
    state: TrainerState,
    log: MetricsLog,
    samples: Journal,
    progress: Progress,
    tokenizer_json: String,
    /// The folder that the tokenizer came from.
    tokenizer_folder: Option<PathBuf>,
    /// Holds `tokenizer_folder` if it was made for this run.
    _made_folder: Option<TempDir>,
    resumed_from: Option<u64>,
    checkpoint: Option<PathBuf>,
    before: Losses,
    began: Instant,
    elapsed_before_s: f64,
    tokens_before: u64,
    step_seconds: Vec<f64>,
}

/// The parts of a run that are known before its text is read.
struct Parts {
    folder: RunFolder,
    start: Start,
    device: Selected,
    precision: Precision,
}

/// What a run file says of a run, once its text is encoded.
pub struct Prepared {
    /// What is minimised.
    pub objective: Objective,
    /// The model that the run starts from, if it starts from one.
    pub initial: Option<InitialModel>,
    /// The shape of the model.
    pub config: ModelConfig,
    /// The text.
    pub corpus: Corpus,
    /// The folder that the tokenizer came from.
    pub tokenizer_folder: Option<PathBuf>,
    /// Holds `tokenizer_folder` if it was made for this run.
    pub made: Option<TempDir>,
}

impl Prepared {
    /// Opens the model and the tokenizer of a run, and encodes its text into the run folder.
    ///
    /// # Errors
    /// When one of them cannot be read, or they do not fit each other.
    pub fn new(run_file: &RunFile, folder: &RunFolder, start: &Start) -> anyhow::Result<Self> {
        let objective = objective::of_run(run_file)?;
        let initial = InitialModel::open(run_file, start)?;
        let RunTokenizer { tokenizer, folder: tokenizer_folder, made } = RunTokenizer::new(
            run_file,
            init_from::tokenizer(run_file, initial.as_ref(), start)?,
            init_from::tokenizer_folder(run_file, initial.as_ref()),
        )?;
        let config = match &initial {
            // Tokens that a chat template adds get new rows.
            Some(initial) if made.is_some() => {
                let rows = initial.config().vocab_size.max(tokenizer.vocab_size());
                ModelConfig { vocab_size: rows, ..initial.config().clone() }
            }
            Some(initial) => initial.config().clone(),
            None => run_file.model.config(tokenizer.vocab_size()),
        };
        let corpus =
            Corpus::prepare(&run_file.data, objective, tokenizer, config.vocab_size, folder)?;
        Ok(Prepared { objective, initial, config, corpus, tokenizer_folder, made })
    }
}

impl<'a> Session<'a> {
    /// Runs all checks that can refuse the run before it deletes any file of an older run.
    fn begin(run_file: &'a RunFile, options: &Options, parts: Parts) -> anyhow::Result<Self> {
        let Parts { folder, start, device, precision } = parts;
        state::remove_all_leftovers(&folder);
        let prepared = Prepared::new(run_file, &folder, &start)?;
        let Prepared { objective, initial, config, mut corpus, tokenizer_folder, made } = prepared;
        let plan = StepPlan::new(run_file, corpus.windows(Split::Train))?;
        let tokens_hash = corpus.tokens_hash();
        let (model, optimizer, mut state, checkpoint) = match start {
            Start::Fresh => {
                let model = state::begin(run_file, &config, initial.as_ref(), device.first())?;
                let optimizer = Optimizer::new(run_file.optimizer.clone(), &model);
                (model, optimizer, fresh_state(run_file, tokens_hash), None)
            }
            Start::Resume(checkpoint) => {
                let Restored { model, optimizer, trainer } = state::restore(
                    &checkpoint,
                    run_file,
                    &config,
                    initial.as_ref(),
                    &tokens_hash,
                    device.first(),
                )?;
                (model, optimizer, trainer, Some(checkpoint))
            }
        };
        let resumed_from = checkpoint.is_some().then_some(state.step);
        if let (Some(initial), true) = (&initial, run_file.lora.rank > 0) {
            state.lora_base = initial.same_as_before(&state.lora_base)?;
        }
        let qat = Qat::new(run_file, &config, plan.total_steps, &state)?;
        let tokenizer_json = corpus.tokenizer().tokenizer_json()?;
        let teacher = Teacher::open(run_file, &config, &tokenizer_json, &corpus, &state)?;
        ensure!(
            teacher.is_none() || objective == Objective::NextToken,
            "pairs of answers are compared without a teacher: leave out [train.teacher]"
        );
        state.qat_start = qat.as_ref().map(Qat::start);
        state.teacher = teacher.as_ref().map(Teacher::digest).unwrap_or_default().to_owned();
        folder.require_steps_left(state.step, plan.total_steps)?;
        if state.step < plan.total_steps {
            let prospect = Prospect {
                run_file,
                config: &config,
                tokenizer: corpus.tokenizer(),
                tokenizer_json: &tokenizer_json,
                tokenizer_folder: tokenizer_folder.as_deref(),
            };
            require_savable(&prospect, &model, &folder, options)?;
        }
        folder.begin(run_file, options.overwrite)?;
        corpus.keep(&folder)?;
        let reference = match (objective, resumed_from) {
            (Objective::NextToken, _) => None,
            (Objective::Dpo, Some(_)) => {
                Some(Reference::open(&folder.reference(), &state.reference, corpus.pairs())?)
            }
            (Objective::Dpo, None) => {
                let reading = reading(run_file, precision, &options.interrupt);
                let path = folder.reference();
                Some(Reference::compute(&model, &corpus, &reading, device.first(), &path)?)
            }
        };
        state.reference = reference.as_ref().map(Reference::digest).unwrap_or_default().to_owned();
        let samples = sample::open(&folder.samples(), state.step)?;
        let log = MetricsLog::open(&folder.metrics(), resumed_from)?;
        let progress = Progress::new("train", plan.total_steps, Meter::Items);
        progress.set(state.step);
        if let Some(note) = device::precision_changed(&state.precision, precision) {
            progress.note(&note);
        }
        state.precision = device::precision_name(precision).to_owned();
        state.version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(Session {
            schedule: LearningRate::new(&run_file.optimizer, &run_file.schedule, plan.total_steps),
            tokenizer_json,
            tokenizer_folder,
            _made_folder: made,
            elapsed_before_s: state.elapsed_s,
            tokens_before: state.tokens,
            model: Some(model),
            qat,
            teacher,
            reference,
            before: Losses::default(),
            began: Instant::now(),
            step_seconds: Vec::new(),
            run_file,
            interrupt: options.interrupt.clone(),
            folder,
            corpus,
            plan,
            device,
            precision,
            optimizer,
            state,
            log,
            samples,
            progress,
            resumed_from,
            checkpoint,
        })
    }

    /// Runs all remaining steps.
    fn run(&mut self) -> anyhow::Result<()> {
        self.announce()?;
        if let Some(last) = self.state.step.checked_sub(1) {
            self.round_weights(last)?;
        }
        self.evaluate_first()?;
        if let (Some(teacher), true) = (&mut self.teacher, self.state.step < self.plan.total_steps)
        {
            teacher.wake(self.device.first())?;
        }
        while self.state.step < self.plan.total_steps {
            if self.interrupt.requested() {
                self.stop()?;
            }
            self.one_step()?;
        }
        self.progress.finish();
        Ok(())
    }

    /// Prints the facts of the run before the first step.
    fn announce(&self) -> anyhow::Result<()> {
        let model = self.model()?;
        if self.state.step >= self.plan.total_steps {
            self.progress.note(&format!(
                "{} holds a finished run of {} steps; --force starts over",
                self.folder.root().display(),
                self.state.step
            ));
            return Ok(());
        }
        let from = self.resumed_from.map(|step| format!(", going on after step {step}"));
        self.progress.note(&format!(
            "training {} parameters on {}: {} steps of {} windows, {} in an epoch{}",
            cli::count(model.config().parameter_count() as u64),
            self.device.name,
            cli::count(self.plan.total_steps),
            self.plan.batch_size * self.plan.accumulation,
            cli::count(self.plan.steps_per_epoch),
            from.unwrap_or_default(),
        ));
        if let Some(counts) = self.corpus.chat_counts() {
            self.progress.note(&counts.summary());
        }
        if let Some(qat) = &self.qat {
            self.progress.note(&format!(
                "after {} of them, forward passes see the weights as {} will store them",
                cli::count(qat.start()),
                qat.recipe(),
            ));
        }
        if self.corpus.windows(Split::Validation) == 0 {
            self.progress.note(
                "the validation split is shorter than one window: there will be no validation \
                 loss",
            );
        }
        Ok(())
    }

    /// The losses before the first step: measured, or read from the log.
    fn evaluate_first(&mut self) -> anyhow::Result<()> {
        if let Some(first) = self.log.lines().first().filter(|first| first.step == 0) {
            self.before = Losses { train: first.train_loss, validation: first.val_loss };
            return Ok(());
        }
        if self.resumed_from.is_some() {
            return Ok(()); // without the log, the losses are lost
        }
        let (train, validation) = (self.evaluate(Split::Train)?, self.evaluate(Split::Validation)?);
        self.before = Losses::of(train, validation);
        self.note_losses(self.before);
        let rewards = |found: Option<Evaluation>| found.and_then(|found| found.rewards);
        let written = self.log.append(Metrics {
            train_loss: self.before.train,
            val_loss: self.before.validation,
            rewards: rewards(train),
            val_rewards: rewards(validation).map(Into::into),
            elapsed_s: self.elapsed_s(),
            peak_rss_bytes: peak_resident(),
            ..Metrics::default()
        });
        self.note_failure(written);
        Ok(())
    }

    /// Runs one optimizer step and everything that is due after it.
    fn one_step(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        let step = self.state.step;
        let learning_rate = self.schedule.at(step);
        if self.qat.as_ref().is_some_and(|qat| qat.start() == step) {
            self.round_weights(step)?;
        }
        let StepGradients { loss, teacher_divergence, rewards, mut gradients } =
            self.gradients(step)?;
        let grad_norm = global_norm(&mut gradients);
        self.require_finite("loss", loss, step + 1)?;
        self.require_finite("gradient norm", grad_norm, step + 1)?;
        let model = self.model.take().context("the model is gone")?;
        self.model = Some(self.optimizer.step(model, gradients, grad_norm, learning_rate));
        self.round_weights(step)?;
        let seconds = began.elapsed().as_secs_f64();
        self.step_seconds.push(seconds);

        let tokens = self.tokens_of(step);
        self.state.step += 1;
        self.state.tokens += tokens;
        self.state.epoch = self.state.step / self.plan.steps_per_epoch;
        self.state.batch = self.state.step % self.plan.steps_per_epoch;
        let speed = tokens as f64 / seconds;
        self.progress.advance(1);
        self.progress.message(format!("loss {loss:.3}, {speed:.0} tokens/s"));
        self.after_step(Metrics {
            step: self.state.step,
            epoch: step / self.plan.steps_per_epoch,
            tokens: self.state.tokens,
            train_loss: Some(loss),
            teacher_divergence,
            rewards: rewards.means(),
            learning_rate: Some(learning_rate),
            grad_norm: Some(grad_norm),
            tokens_per_s: Some(speed),
            ..Metrics::default()
        })
    }

    /// Rounds the weights again, if the current step uses rounded weights.
    fn round_weights(&mut self, step: u64) -> anyhow::Result<()> {
        match (&mut self.qat, &self.model) {
            (Some(qat), Some(model)) if qat.start() <= step => {
                qat.refresh(model, self.device.first())
            }
            _ => Ok(()),
        }
    }

    /// Losses and gradients of one step, averaged over its forward passes.
    fn gradients(&self, step: u64) -> anyhow::Result<StepGradients> {
        let passes = Passes {
            run_file: self.run_file,
            corpus: &self.corpus,
            plan: &self.plan,
            precision: self.precision,
            step,
        };
        let loss = match &self.teacher {
            Some(teacher) => {
                let lessons = teacher.lessons().context("the teacher's weights were not read")?;
                StepLoss::Distilled(lessons, teacher.settings())
            }
            None => self.step_loss(),
        };
        let found = passes.backward(self.forward()?, loss, &self.device.devices)?;
        Ok(match &self.qat {
            Some(qat) => {
                StepGradients { gradients: qat.straight_through(found.gradients), ..found }
            }
            None => found,
        })
    }

    /// What is minimised, without a teacher.
    fn step_loss(&self) -> StepLoss<'_> {
        match &self.reference {
            Some(reference) => {
                StepLoss::Preference(objective::preference(&self.run_file.train), reference)
            }
            None => StepLoss::NextToken,
        }
    }

    /// Stops a run whose loss or gradients are not finite. The loss of a step belongs to the
    /// weights before it, so the last checkpoint may already hold weights that are not finite.
    fn require_finite(&self, what: &str, value: f64, step: u64) -> anyhow::Result<()> {
        if value.is_finite() {
            return Ok(());
        }
        let rate = self.schedule.at(step.saturating_sub(1));
        let last = match &self.checkpoint {
            Some(checkpoint) => format!(
                "the last checkpoint is {}; start over with --force, or go on with --resume from the \
                 one that {} names",
                checkpoint.display(),
                self.folder.latest().display()
            ),
            None => "there is no checkpoint yet".to_owned(),
        };
        bail!(
            "the {what} is {value} at step {step} with learning rate {rate:e}: lower \
             optimizer.learning_rate, or set optimizer.grad_clip; {last}"
        )
    }

    /// Runs evaluation, log, sample and checkpoint if they are due.
    fn after_step(&mut self, mut metrics: Metrics) -> anyhow::Result<()> {
        let (step, settings) = (self.state.step, &self.run_file.train);
        let is_last = step == self.plan.total_steps; // then `finish` does the rest
        if is_last || step.is_multiple_of(settings.eval_interval as u64) {
            // Not interruptible: the log line of the step and a resumed run need the result.
            let found = self.evaluate_unless(Split::Validation, &Interrupt::default())?;
            if let Some(Evaluation { loss, rewards }) = found {
                self.require_finite("validation loss", loss, step)?;
                metrics.val_loss = Some(loss);
                metrics.val_rewards = rewards.map(Into::into);
            }
            let losses = Losses { train: metrics.train_loss, validation: metrics.val_loss };
            if !is_last {
                self.note_losses(losses);
            }
        }
        self.log_step(metrics);
        if (self.state.batch == 0 || is_last) && settings.sample_tokens > 0 {
            self.sample()?;
        }
        if step.is_multiple_of(settings.checkpoint_interval as u64) && !is_last {
            self.checkpoint_or_note()?;
        }
        Ok(())
    }

    fn log_step(&mut self, metrics: Metrics) {
        if let Some(loss) = metrics.val_loss {
            let best = self.state.best_val_loss.get_or_insert(loss);
            *best = best.min(loss);
        }
        let known = [
            ("train_loss", metrics.train_loss),
            ("val_loss", metrics.val_loss),
            ("learning_rate", metrics.learning_rate),
            ("grad_norm", metrics.grad_norm),
        ];
        let known = known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        self.state.metrics.extend(known);
        self.state.elapsed_s = self.elapsed_s();
        let written = self.log.append(Metrics {
            elapsed_s: self.state.elapsed_s,
            peak_rss_bytes: peak_resident(),
            ..metrics
        });
        self.note_failure(written);
    }

    /// Evaluates a split; ends early if the user asks to stop.
    fn evaluate(&self, split: Split) -> anyhow::Result<Option<Evaluation>> {
        self.evaluate_unless(split, &self.interrupt)
    }

    fn evaluate_unless(
        &self,
        split: Split,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Option<Evaluation>> {
        let reading = reading(self.run_file, self.precision, interrupt);
        let (model, device) = (self.forward()?, self.device.first());
        evaluate::evaluate(model, &self.corpus, split, self.step_loss(), &reading, device)
    }

    fn note_losses(&self, losses: Losses) {
        let show = |loss: Option<f64>| loss.map_or("none".to_owned(), |loss| format!("{loss:.3}"));
        self.progress.note(&format!(
            "step {:>6}  training loss {}  validation loss {}  {}",
            self.state.step,
            show(losses.train),
            show(losses.validation),
            cli::seconds(self.elapsed_s()),
        ));
    }

    fn model(&self) -> anyhow::Result<&Model> {
        self.model.as_ref().context("the model is gone: a step before this one failed")
    }

    /// The model for forward passes: the rounded one, once it exists.
    fn forward(&self) -> anyhow::Result<&Model> {
        match self.qat.as_ref().and_then(Qat::model) {
            Some(rounded) => Ok(rounded),
            None => self.model(),
        }
    }

    /// The tokens of a step.
    fn tokens_of(&self, step: u64) -> u64 {
        let epoch = step / self.plan.steps_per_epoch;
        let places = self.plan.places_of_step(step);
        let windows = self.corpus.shuffled(self.run_file.run.seed, epoch, places);
        self.corpus.positions(Split::Train, &windows) as u64
    }

    fn elapsed_s(&self) -> f64 {
        self.elapsed_before_s + self.began.elapsed().as_secs_f64()
    }
}

fn reading<'a>(run_file: &RunFile, precision: Precision, interrupt: &'a Interrupt) -> Reading<'a> {
    let (limit, batch_size) = (run_file.train.eval_windows, run_file.train.batch_size);
    Reading { limit, batch_size, precision, interrupt }
}

/// Checks before the first step that the run can be saved and its model used.
fn require_savable(
    prospect: &Prospect<'_>,
    model: &Model,
    folder: &RunFolder,
    options: &Options,
) -> anyhow::Result<()> {
    if let Some(requirement) = options.requirement {
        requirement(prospect)?;
    }
    state::rehearse(folder, model, prospect)?;
    state::require_room(folder, prospect, options.overwrite)
}

fn fresh_state(run_file: &RunFile, tokens_hash: String) -> TrainerState {
    TrainerState { seed: run_file.run.seed, tokens_hash, ..TrainerState::default() }
}
