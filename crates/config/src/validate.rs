//! Ranges and relations of a run file that types cannot express.

use crate::run_file::{recipe_name, recipe_names};
use crate::{
    Architecture, ChatFormat, ConfigError, DAY_FORM, DataFormat, Objective, QatStart, RELEASES,
    ROPE_BASE, RopeScaling, RunFile, TokenizerKind, TooLong, TrainOn, canonical_license, is_day,
    limits,
};

impl RunFile {
    /// Checks ranges and relations that types cannot express.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with the first key that does not hold.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let positive = [
            ("data.context", self.data.context),
            ("data.stride", self.data.stride()),
            ("train.batch_size", self.train.batch_size),
            ("train.gradient_accumulation", self.train.gradient_accumulation),
            ("train.devices", self.train.devices),
            ("train.epochs", self.train.epochs),
            ("train.max_steps", self.train.max_steps.unwrap_or(1)),
            ("train.eval_interval", self.train.eval_interval),
            ("train.eval_windows", self.train.eval_windows.unwrap_or(1)),
            ("train.checkpoint_interval", self.train.checkpoint_interval),
            ("train.keep_checkpoints", self.train.keep_checkpoints),
            ("eval.golden_windows", self.eval.golden_windows),
            ("bundle.self_test_tokens", self.bundle.self_test_tokens),
        ];
        for (key, value) in positive {
            require(key, value, value >= 1, "at least 1")?;
        }
        let passes = self.train.gradient_accumulation;
        require(
            "train.devices",
            self.train.devices,
            passes.is_multiple_of(self.train.devices),
            &format!("a divisor of train.gradient_accumulation = {passes}"),
        )?;
        self.check_model()?;
        self.check_data()?;
        self.check_optimizer()?;
        self.check_objective()?;
        self.check_qat()?;
        self.check_teacher()?;
        self.check_license()?;
        self.check_release()?;
        self.check_recipes()?;
        self.check_tasks()?;
        require(
            "bundle.prompt",
            "\"\"",
            !self.bundle.prompt.is_empty(),
            "a text for the self-test to continue",
        )?;
        require(
            "export.tensor_type",
            &self.export.tensor_type,
            ["F32", "F16", "BF16"].contains(&self.export.tensor_type.as_str()),
            "F32, F16 or BF16",
        )?;
        require(
            "fragment.max_bytes",
            self.fragment.max_bytes,
            (4096..=1 << 30).contains(&self.fragment.max_bytes),
            "4096 to 1073741824",
        )
    }

    fn check_model(&self) -> Result<(), ConfigError> {
        let model = &self.model;
        require(
            "model.architecture",
            model.architecture.name(),
            Architecture::trained().any(|family| family == model.architecture),
            "a family without experts: those with experts are exported, quantized and run, but not \
             trained here",
        )?;
        for (key, value, most) in [
            ("model.context_length", model.context_length, limits::CONTEXT_LENGTH),
            ("model.n_layer", model.n_layer, limits::N_LAYER),
            ("model.n_head", model.n_head, limits::N_HEAD),
            ("model.n_embd", model.n_embd, limits::N_EMBD),
            ("model.n_inner", model.n_inner.unwrap_or(1), limits::N_INNER),
        ] {
            require(key, value, (1..=most).contains(&value), &format!("1 to {most}"))?;
        }
        let has_own_width = model.attention.head_width.is_some();
        require(
            "model.n_head",
            model.n_head,
            has_own_width || model.n_embd.is_multiple_of(model.n_head),
            &format!("a divisor of model.n_embd = {}, or model.attention.head_width", model.n_embd),
        )?;
        let kv = model.n_kv_head.unwrap_or(model.n_head);
        require(
            "model.n_kv_head",
            kv,
            kv >= 1 && model.n_head.is_multiple_of(kv),
            &format!("a divisor of model.n_head = {}", model.n_head),
        )?;
        self.check_attention()?;
        require(
            "model.n_kv_head",
            kv,
            // The folder's family is known once it is opened.
            self.train.init_from.is_some() || model.architecture.is_gated() || kv == model.n_head,
            "model.n_head: gpt2 and gptneox do not share keys and values between heads",
        )?;
        require(
            "model.qkv_bias",
            "true",
            model.architecture.block().qkv_bias || model.qkv_bias != Some(true),
            &format!("false in a {}; qwen2 has these biases", model.architecture.name()),
        )?;
        require(
            "model.rope_base",
            model.rope_base,
            model.rope_base > 1.0 && model.rope_base.is_finite(),
            "a finite number above 1",
        )?;
        require(
            "model.dropout",
            model.dropout,
            (0.0..1.0).contains(&model.dropout),
            "from 0 to below 1",
        )?;
        require(
            "model.norm_epsilon",
            model.norm_epsilon,
            model.norm_epsilon > 0.0 && model.norm_epsilon < 1.0,
            "between 0 and 1, both excluded",
        )
    }

    /// What `[[eval.task]]` asks for.
    fn check_tasks(&self) -> Result<(), ConfigError> {
        for task in &self.eval.task {
            let has_path = !task.path.as_os_str().is_empty();
            require("eval.task.path", "\"\"", has_path, "a file of questions")?;
            let of =
                |value: &dyn std::fmt::Display| format!("{value} (of {})", task.path.display());
            for (key, count) in [
                ("eval.task.limit", task.limit.unwrap_or(1)),
                ("eval.task.max_tokens", task.max_tokens),
            ] {
                require(key, of(&count), count >= 1, "at least 1")?;
            }
            for (key, share) in
                [("eval.task.minimum", task.minimum), ("eval.task.largest_loss", task.largest_loss)]
            {
                let share = share.unwrap_or(0.0);
                let is_share = (0.0..=1.0).contains(&share);
                require(key, of(&share), is_share, "0 to 1; 0.02 are two points of a hundred")?;
            }
        }
        Ok(())
    }

    /// What `[model.attention]` asks for.
    fn check_attention(&self) -> Result<(), ConfigError> {
        let (model, attention) = (&self.model, &self.model.attention);
        let own = attention.head_width.unwrap_or(model.n_embd / model.n_head);
        require(
            "model.attention.head_width",
            own,
            (1..=limits::HEAD_WIDTH).contains(&own),
            &format!("1 to {}", limits::HEAD_WIDTH),
        )?;
        let family = model.architecture.name();
        // The folder's family is known once it is opened.
        let is_taken_over = self.train.init_from.is_some();
        let misplaced = attention.misplaced(model.architecture).filter(|_| !is_taken_over);
        require(
            misplaced.unwrap_or_default(),
            "(something)",
            misplaced.is_none(),
            &format!("nothing, or something else: files of a {family} have no place for it"),
        )?;
        let rotated = attention.rotated_width.unwrap_or(own);
        require(
            if attention.rotated_width.is_some() {
                "model.attention.rotated_width"
            } else {
                "model.n_head"
            },
            attention.rotated_width.unwrap_or(model.n_head),
            model.architecture.rope_pairs().is_none()
                || rotated.is_multiple_of(2) && (1..=own).contains(&rotated),
            "heads of an even width: rotary positions turn pairs of channels",
        )?;
        require(
            "model.attention.rope_scaling",
            "factors",
            !matches!(attention.rope_scaling, RopeScaling::Factors { .. }),
            "none, linear or llama3: a checkpoint's config.json has no place for factors",
        )?;
        if let Some((name, value, expected)) = attention.rope_scaling.objection(rotated / 2) {
            let (value, expected) =
                (format!("{name} = {value}"), format!("{name} to be {expected}"));
            require("model.attention.rope_scaling", value, false, &expected)?;
        }
        if let Some(window) = attention.window {
            require("model.attention.window.size", window.size, window.size >= 1, "at least 1")?;
            let base = window.rope_base.unwrap_or(ROPE_BASE);
            require(
                "model.attention.window.rope_base",
                base,
                base > 1.0 && base.is_finite(),
                "a finite number above 1",
            )?;
        }
        let scale = attention.scale.unwrap_or(1.0);
        require(
            "model.attention.scale",
            scale,
            scale > 0.0 && scale.is_finite(),
            "a finite number above 0",
        )
    }

    fn check_sources(&self) -> Result<(), ConfigError> {
        let data = &self.data;
        let sources = data.source.iter().map(|source| &source.path);
        for path in std::iter::once(&data.path).chain(sources) {
            require("data.path", "[]", !path.as_slice().is_empty(), "at least one path")?;
        }
        require("data.text_field", "\"\"", !data.text_field.is_empty(), "the name of a field")?;
        let Some(last) = data.source.last() else { return Ok(()) };
        require(
            "data.path",
            &data.path,
            data.path == crate::Data::default().path,
            "nothing beside [[data.source]], which names what is read",
        )?;
        for source in &data.source {
            let weight = source.weight;
            require("data.source.weight", weight, (1..=1000).contains(&weight), "1 to 1000")?;
        }
        require(
            "data.source.weight",
            last.weight,
            last.weight == 1,
            "1 for the last source: what validates comes from the end, and must not train as well",
        )
    }

    fn check_data(&self) -> Result<(), ConfigError> {
        let is_taken_over = self.train.init_from.is_some();
        require(
            "data.context",
            self.data.context,
            // The folder's context length is known once it is opened.
            is_taken_over || self.data.context <= self.model.context_length,
            &format!("at most model.context_length = {}", self.model.context_length),
        )?;
        require(
            "data.tokenizer",
            "(something)",
            !is_taken_over || self.data.tokenizer == TokenizerKind::default(),
            "nothing: the tokenizer comes from train.init_from",
        )?;
        self.check_sources()?;
        let fraction = self.data.train_fraction;
        require(
            "data.train_fraction",
            fraction,
            fraction > 0.0 && fraction < 1.0,
            "between 0 and 1, both excluded",
        )?;
        require(
            "data.tokenizer_path",
            "(nothing)",
            self.data.tokenizer != TokenizerKind::HuggingFace || self.data.tokenizer_path.is_some(),
            "a tokenizer.json, which data.tokenizer = \"huggingface\" reads",
        )?;
        // Byte-level BPE starts from 256 bytes and the end of a text.
        let vocab_size = self.data.vocab_size;
        require(
            "data.vocab_size",
            vocab_size,
            (257..=limits::VOCAB_SIZE).contains(&vocab_size),
            &format!("257 to {}", limits::VOCAB_SIZE),
        )?;
        self.check_chat()
    }

    fn check_chat(&self) -> Result<(), ConfigError> {
        let data = &self.data;
        let is_chat = data.format == DataFormat::Chat;
        let stays_default = |key, is_set: bool| {
            require(
                key,
                "(something)",
                is_chat || !is_set,
                "nothing: only data.format = \"chat\" reads it",
            )
        };
        stays_default("data.chat_format", data.chat_format.is_some())?;
        stays_default("data.chat_template", data.chat_template.is_some())?;
        stays_default("data.train_on", data.train_on != TrainOn::default())?;
        stays_default("data.too_long", data.too_long != TooLong::default())?;
        require(
            "data.stride",
            "(something)",
            !is_chat || data.stride.is_none(),
            "nothing: conversations are packed into windows, which do not overlap",
        )?;
        require(
            "data.tokenizer",
            "not one that exists before the run",
            !is_chat || matches!(data.tokenizer, TokenizerKind::Gpt2 | TokenizerKind::HuggingFace),
            "\"gpt2\" or \"huggingface\" where data.format = \"chat\", or that of train.init_from: the \
             words of conversations are not a text to take a vocabulary from",
        )
    }

    fn check_objective(&self) -> Result<(), ConfigError> {
        let (data, train) = (&self.data, &self.train);
        let beta = train.dpo_beta;
        require("train.dpo_beta", beta, beta > 0.0 && beta.is_finite(), "a finite number above 0")?;
        let smoothing = train.dpo_label_smoothing;
        require(
            "train.dpo_label_smoothing",
            smoothing,
            (0.0..0.5).contains(&smoothing),
            "from 0 to below 0.5: the share of pairs that are labelled the wrong way round",
        )?;
        let is_of_pairs = data.chat_format == Some(ChatFormat::Preference);
        require(
            "train.objective",
            "next-token",
            !(is_of_pairs && train.objective == Some(Objective::NextToken)),
            "dpo, which is what data.chat_format = \"preference\" is for; to learn the preferred \
             answers alone, keep them as `messages`",
        )?;
        if !is_of_pairs && train.objective != Some(Objective::Dpo) {
            return Ok(());
        }
        self.check_preference()
    }

    /// What training on pairs of answers asks for, once it is known to be that.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with the first key that does not hold.
    pub fn check_preference(&self) -> Result<(), ConfigError> {
        let (data, train) = (&self.data, &self.train);
        require(
            "train.objective",
            "dpo",
            data.format == DataFormat::Chat,
            "data.format = \"chat\" beside it, with records of `chosen` and `rejected`",
        )?;
        require(
            "data.chat_format",
            data.chat_format.map_or("", ChatFormat::name),
            matches!(data.chat_format, None | Some(ChatFormat::Preference)),
            "preference, or nothing, where train.objective = \"dpo\"",
        )?;
        require(
            "train.init_from",
            "(nothing)",
            train.init_from.is_some(),
            "the model whose answers are compared, where train.objective = \"dpo\"",
        )?;
        require(
            "train.teacher",
            "(something)",
            train.teacher.is_none(),
            "nothing where train.objective = \"dpo\": pairs of answers are compared without a teacher",
        )?;
        for (key, is_set) in [
            ("data.train_on", data.train_on != TrainOn::default()),
            ("data.documents", data.documents.is_some()),
        ] {
            let expected = "nothing: of a pair the answers behind the prompt are compared, each read \
                            by itself";
            require(key, "(something)", !is_set, expected)?;
        }
        Ok(())
    }

    fn check_optimizer(&self) -> Result<(), ConfigError> {
        let lora = &self.lora;
        require(
            "lora.rank",
            lora.rank,
            lora.rank == 0 || self.train.init_from.is_some(),
            "0, or train.init_from with the model to adapt",
        )?;
        require(
            "lora.rank",
            lora.rank,
            lora.rank == 0 || !lora.targets.is_empty(),
            "0, or at least one of lora.targets",
        )?;
        require(
            "lora.alpha",
            lora.alpha,
            lora.alpha > 0.0 && lora.alpha.is_finite(),
            "a finite number above 0",
        )?;
        require(
            "lora.dropout",
            lora.dropout,
            (0.0..1.0).contains(&lora.dropout) && (lora.dropout == 0.0 || lora.rank > 0),
            "from 0 to below 1, and 0 without adapters",
        )?;
        let rate = self.optimizer.learning_rate;
        require(
            "optimizer.learning_rate",
            rate,
            rate > 0.0 && rate.is_finite(),
            "a finite number above 0",
        )?;
        for (key, beta) in [
            ("optimizer.beta1", self.optimizer.beta1),
            ("optimizer.beta2", self.optimizer.beta2),
            ("optimizer.momentum", self.optimizer.momentum),
        ] {
            require(key, beta, (0.0..1.0).contains(&beta), "from 0 to below 1")?;
        }
        for (key, value) in [
            ("optimizer.weight_decay", self.optimizer.weight_decay),
            ("optimizer.grad_clip", self.optimizer.grad_clip),
        ] {
            require(key, value, value >= 0.0 && value.is_finite(), "a finite number, 0 or above")?;
        }
        // Where a gradient has always been zero, 0 / 0 would be the step.
        let epsilon = self.optimizer.epsilon;
        require(
            "optimizer.epsilon",
            epsilon,
            epsilon > 0.0 && epsilon.is_finite(),
            "a finite number above 0",
        )?;
        let decay = self.schedule.decay_fraction;
        require(
            "schedule.decay_fraction",
            decay,
            decay > 0.0 && decay <= 1.0,
            "above 0 and at most 1",
        )?;
        let floor = self.schedule.min_learning_rate;
        require(
            "schedule.min_learning_rate",
            floor,
            (0.0..=rate).contains(&floor),
            &format!("from 0 to optimizer.learning_rate = {rate}"),
        )
    }

    fn check_license(&self) -> Result<(), ConfigError> {
        let Some(license) = &self.bundle.license else { return Ok(()) };
        match canonical_license(license, self.bundle.license_file.is_some()) {
            Ok(_) => Ok(()),
            Err(expected) => require("bundle.license", format!("{license:?}"), false, &expected),
        }
    }

    fn check_release(&self) -> Result<(), ConfigError> {
        if let Some(release) = self.bundle.release {
            let expected = format!("from {} to {}", RELEASES.start(), RELEASES.end());
            require("bundle.release", release, RELEASES.contains(&release), &expected)?;
        }
        match &self.bundle.expires {
            Some(day) => require("bundle.expires", format!("{day:?}"), is_day(day), DAY_FORM),
            None => Ok(()),
        }
    }

    /// Each is one that exists, and none is there twice.
    fn check_recipes(&self) -> Result<(), ConfigError> {
        let mut seen = Vec::new();
        for recipe in &self.quantize.recipes {
            let name = check_recipe("quantize.recipes", recipe)?;
            require("quantize.recipes", recipe, !seen.contains(&name), "each recipe once")?;
            seen.push(name);
        }
        Ok(())
    }

    fn check_teacher(&self) -> Result<(), ConfigError> {
        let Some(teacher) = &self.train.teacher else { return Ok(()) };
        require(
            "train.teacher.model",
            "(nothing)",
            teacher.model.is_some() || teacher.recorded.is_some(),
            "a model, or train.teacher.recorded with the predictions of one",
        )?;
        let share = teacher.share;
        require("train.teacher.share", share, (0.0..=1.0).contains(&share), "from 0 to 1")?;
        let temperature = teacher.temperature;
        require(
            "train.teacher.temperature",
            temperature,
            temperature > 0.0 && temperature.is_finite(),
            "a finite number above 0",
        )?;
        require(
            "train.teacher.recorded_tokens",
            teacher.recorded_tokens,
            (1..=limits::RECORDED_TOKENS).contains(&teacher.recorded_tokens),
            &format!("1 to {}", limits::RECORDED_TOKENS),
        )
    }

    fn check_qat(&self) -> Result<(), ConfigError> {
        let Some(qat) = &self.train.qat else { return Ok(()) };
        check_recipe("train.qat.format", &qat.format)?;
        if let Some(start @ QatStart::Share(share)) = qat.start {
            require(
                "train.qat.start",
                start,
                (0.0..1.0).contains(&share),
                "a step, or a share from 0.0 to below 1.0",
            )?;
        }
        require(
            "lora.rank",
            self.lora.rank,
            self.lora.rank == 0,
            "0: train.qat rounds the weights that are trained, and adapters are trained beside \
             frozen ones",
        )
    }
}

/// The name of the recipe that `value` means.
fn check_recipe(key: &'static str, value: &str) -> Result<&'static str, ConfigError> {
    recipe_name(value).ok_or_else(|| ConfigError::Invalid {
        key,
        value: format!("{value:?}"),
        expected: format!("one of {}", recipe_names()),
    })
}

fn require(
    key: &'static str,
    value: impl std::fmt::Display,
    holds: bool,
    expected: &str,
) -> Result<(), ConfigError> {
    if holds {
        return Ok(());
    }
    Err(ConfigError::Invalid { key, value: value.to_string(), expected: expected.to_owned() })
}
