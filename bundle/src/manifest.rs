//! `bundle.json`: what is in a bundle, what it was measured to be, and how to tell that it works.
//!
//! The app on the device reads this one file first and needs no other to choose a variant. It may
//! come from anybody, so after [`BundleManifest::parse`] every path stays inside the bundle, every
//! size adds up and every list that refers to another one finds what it refers to.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, bail, ensure};
use checkpoint::hash::Digests;
use config::sampling;
use serde::{Deserialize, Serialize};

use crate::memory::MemoryNeed;

/// What `format` says in every `bundle.json`.
pub const FORMAT: &str = "pocketgpt-bundle";
/// The one version that is written and read.
pub const VERSION: u32 = 1;
/// Name of this file in the bundle.
pub const BUNDLE_NAME: &str = "bundle.json";

/// The page of the web chat.
pub const APP_PAGE: &str = "app/index.html";

/// Largest `bundle.json` that is read; 46,000 files take about 12 MiB.
pub const MAX_BYTES: u64 = 64 << 20;
/// Most tokens of the self-test, so that nobody's bundle keeps a device busy for hours.
pub const MAX_SELF_TEST_TOKENS: usize = 1024;

/// Most variants: far more than there are recipes, and few enough to look each up in the list.
pub const MAX_VARIANTS: usize = 64;

// What follows keeps a page from choking on what it shows. The web chat has the same limits, and
// both are held to tests/golden/limits.json.

/// Most characters of a text that is one line: name, family, licence, a special token.
pub const MAX_LINE: usize = 1000;
/// Most characters of the self-test's prompt.
pub const MAX_PROMPT: usize = 100_000;
/// Most characters of the text that a variant answers.
pub const MAX_ANSWER: usize = 1_000_000;
/// Most special tokens, and most tokens that end an answer.
pub const MAX_SPECIAL_TOKENS: usize = 1 << 16;
/// Browsers read JSON numbers as doubles, which count exactly up to here.
pub const MAX_COUNT: u64 = (1 << 53) - 1;

/// The whole of `bundle.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleManifest {
    /// Always [`FORMAT`].
    pub format: String,
    /// Always [`VERSION`].
    pub version: u32,
    /// Shown to the user.
    pub name: String,
    /// `general.architecture` of the GGUFs.
    pub architecture: String,
    /// Most tokens that the model can see.
    pub context_length: usize,
    /// Weights in the file; a tied head counts once.
    pub parameters: usize,
    /// SPDX expression for the weights.
    pub license: String,
    /// Which release of this model it is, within [`config::RELEASES`]: devices refuse a lower one
    /// than they have. `None` states no order; such a bundle cannot be signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<u64>,
    /// Last day, in UTC, on which devices should install it, as `YYYY-MM-DD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// The same model in several sizes, smallest first.
    pub variants: Vec<Variant>,
    /// How to sample if the user has not said.
    pub generation: Generation,
    /// How the tokens are spelled that a message must not be able to make, the longest first; the
    /// app keeps them text.
    #[serde(default)]
    pub special_tokens: Vec<String>,
    /// Where the weights come from.
    pub provenance: Provenance,
    /// A prompt whose continuation is known.
    pub self_test: SelfTest,
    /// Every other file of the bundle, by path.
    pub files: Vec<FileEntry>,
}

/// One size of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// llama.cpp's name of the quantization, for example `Q4_K_M`.
    pub recipe: String,
    /// Path of its fragments' manifest in the bundle.
    pub manifest: String,
    /// Bytes of the whole GGUF.
    pub size: u64,
    /// SHA-256 of the whole GGUF.
    pub sha256: String,
    /// BLAKE3 of the whole GGUF.
    pub blake3: String,
    /// Bits of the file for each weight.
    pub bits_per_weight: f64,
    /// As measured on exactly this file.
    pub quality: Quality,
    /// What it takes at the full context.
    pub memory: MemoryNeed,
}

/// How far a variant is from the model that was trained; `None` where it was not measured.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quality {
    /// Mean KL divergence of the next-token distribution from the unquantized file's, in nats.
    pub mean_kl: Option<f64>,
    /// Share of positions where both hold the same token for the likeliest.
    pub top1_agreement: Option<f64>,
    /// Perplexity on the evaluation tokens.
    pub perplexity: Option<f64>,
    /// Perplexity of the unquantized file on the same tokens.
    pub reference_perplexity: Option<f64>,
    /// What it answered of the run file's tasks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskScore>,
}

/// A variant's figure on a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskScore {
    /// `hellaswag`, ...
    pub task: String,
    /// Name of the file of questions.
    pub file: String,
    /// `acc`, ...
    pub metric: String,
    /// From 0 to 1.
    pub value: f64,
    /// Its standard error; `None` for one question.
    pub standard_error: Option<f64>,
    /// The unquantized file's on the same questions.
    pub unquantized: Option<f64>,
    /// Questions asked.
    pub questions: usize,
}

/// How to sample if the user has not said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// Divides the logits; 0 is greedy.
    pub temperature: f64,
    /// Likeliest tokens to choose from; 0 is all.
    pub top_k: usize,
    /// Smallest set of likeliest tokens whose probabilities reach this.
    pub top_p: f64,
    /// Logits of tokens seen before are divided by this.
    pub repetition_penalty: f64,
    /// Tokens of an answer.
    pub max_new_tokens: usize,
    /// Tokens that end an answer.
    #[serde(default)]
    pub eos_token_ids: Vec<u32>,
}

impl Default for Generation {
    fn default() -> Self {
        Generation {
            temperature: sampling::TEMPERATURE,
            top_k: sampling::TOP_K,
            top_p: sampling::TOP_P,
            repetition_penalty: sampling::REPETITION_PENALTY,
            max_new_tokens: 128,
            eos_token_ids: Vec::new(),
        }
    }
}

/// Where the weights come from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The whole run file, as TOML.
    pub run_file: Option<String>,
    /// BLAKE3 of the tokens that were trained on.
    pub data_blake3: Option<String>,
    /// Version of the program that packed this.
    pub program_version: String,
}

/// A prompt whose greedy continuation is known for each variant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfTest {
    /// The text.
    pub prompt: String,
    /// The text as token ids.
    pub prompt_tokens: Vec<u32>,
    /// Quantization may change the answer, so each variant has its own.
    pub expected: Vec<Expected>,
}

/// What one variant answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// [`Variant::recipe`].
    pub recipe: String,
    /// The likeliest token, again and again; the lower id where two are equally likely. One that
    /// ends an answer is the last.
    pub tokens: Vec<u32>,
    /// The text that llama.cpp shows for them, where it is known: it has no ids for the tokens of
    /// a character in several.
    #[serde(default)]
    pub text: Option<String>,
}

/// One file of the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// From the bundle's folder, with `/`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 as 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// BLAKE3 as 64 lower-case hexadecimal digits.
    pub blake3: String,
}

impl FileEntry {
    /// The entry of a file with this content.
    pub fn new(path: String, digests: Digests) -> Self {
        let Digests { size, sha256, blake3 } = digests;
        FileEntry { path, size, sha256, blake3 }
    }

    /// Size and hashes.
    pub fn digests(&self) -> Digests {
        let FileEntry { size, sha256, blake3, .. } = self.clone();
        Digests { size, sha256, blake3 }
    }
}

/// Format and version alone: read first, so that a newer bundle is called newer and not broken.
#[derive(Deserialize)]
struct FormatVersion {
    format: String,
    version: u32,
}

impl BundleManifest {
    /// Whether the bundle holds the web chat.
    pub fn has_app(&self) -> bool {
        self.files.iter().any(|file| file.path == APP_PAGE)
    }

    /// Whether `day`, as `YYYY-MM-DD`, is past the last one of this bundle.
    pub(crate) fn is_expired_on(&self, day: &str) -> bool {
        // Days in this form are ordered as their texts are.
        self.expires.as_deref().is_some_and(|last| last < day)
    }

    /// The listed files by path.
    pub(crate) fn by_path(&self) -> HashMap<&str, &FileEntry> {
        self.files.iter().map(|file| (file.path.as_str(), file)).collect()
    }

    /// Reads and checks `bundle.json`.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn parse(text: &[u8]) -> anyhow::Result<Self> {
        let found: FormatVersion = serde_json::from_slice(text).context("not a bundle.json")?;
        ensure!(found.format == FORMAT, "format is {:?}: expected {FORMAT:?}", found.format);
        ensure!(
            found.version == VERSION,
            "bundle version {}: this program reads version {VERSION}; take a newer one",
            found.version
        );
        let manifest: BundleManifest = serde_json::from_slice(text).context("not a bundle.json")?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The text of `bundle.json`. The same bundle always gives the same bytes.
    ///
    /// # Errors
    /// When this manifest would not be read again.
    pub fn to_json(&self) -> anyhow::Result<String> {
        self.check()?;
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// What `recipe` answers to the self-test's prompt.
    ///
    /// # Errors
    /// When the self-test has no answer for it.
    pub fn expected(&self, recipe: &str) -> anyhow::Result<&[u32]> {
        let expected = self.self_test.expected.iter().find(|expected| expected.recipe == recipe);
        let expected =
            expected.with_context(|| format!("the self-test has no answer for {recipe}"))?;
        Ok(&expected.tokens)
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.variants.is_empty(), "a bundle needs at least one variant");
        for (what, count) in [
            ("variants", self.variants.len()),
            ("self-test answers", self.self_test.expected.len()),
        ] {
            ensure!(count <= MAX_VARIANTS, "{count} {what}: expected at most {MAX_VARIANTS}");
        }
        for (key, text) in [
            ("name", &self.name),
            ("architecture", &self.architecture),
            ("license", &self.license),
            ("provenance.program_version", &self.provenance.program_version),
        ] {
            check_length(key, text, MAX_LINE)?;
            // They are shown to the user, and a terminal obeys some of these.
            ensure!(
                !text.contains(char::is_control),
                "{key} is {text:?}: expected no control characters"
            );
        }
        if let Some(release) = self.release {
            let range = config::RELEASES;
            ensure!(
                range.contains(&release),
                "release is {release}: expected {} to {}",
                range.start(),
                range.end()
            );
        }
        if let Some(day) = &self.expires {
            ensure!(config::is_day(day), "expires is {day:?}: expected {}", config::DAY_FORM);
        }
        check_count("context_length", self.context_length as u64, 1)?;
        check_count("parameters", self.parameters as u64, 0)?;
        self.generation.check()?;
        check_list("special_tokens", self.special_tokens.len())?;
        for token in &self.special_tokens {
            check_length("special_tokens", token, MAX_LINE)?;
        }
        let paths = self.check_files()?;
        let mut recipes = HashSet::new();
        for variant in &self.variants {
            let recipe = &variant.recipe;
            check_recipe(recipe)?;
            ensure!(recipes.insert(recipe), "variant {recipe} is listed twice");
            variant.check_sizes()?;
            ensure!(
                variant.manifest == manifest_path(recipe),
                "variant {recipe}: manifest is {:?}, expected {:?}",
                variant.manifest,
                manifest_path(recipe)
            );
            ensure!(
                paths.contains(variant.manifest.as_str()),
                "{} is not listed",
                variant.manifest
            );
            self.expected(recipe)?;
        }
        self.check_self_test()
    }

    fn check_files(&self) -> anyhow::Result<HashSet<&str>> {
        let mut paths = HashSet::with_capacity(self.files.len());
        for file in &self.files {
            check_path(&file.path)?;
            ensure!(file.path != BUNDLE_NAME, "{BUNDLE_NAME} cannot list itself");
            ensure!(paths.insert(file.path.as_str()), "{} is listed twice", file.path);
            check_count(&format!("{}: size", file.path), file.size, 0)?;
            for hash in [&file.sha256, &file.blake3] {
                let hex = hash.len() == 64
                    && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
                ensure!(hex, "{}: {hash:?} is no hash of 64 hexadecimal digits", file.path);
            }
        }
        Ok(paths)
    }

    fn check_self_test(&self) -> anyhow::Result<()> {
        let SelfTest { prompt, prompt_tokens, expected } = &self.self_test;
        ensure!(!prompt_tokens.is_empty(), "the self-test has no prompt");
        check_length("self_test.prompt", prompt, MAX_PROMPT)?;
        for Expected { recipe, tokens, text } in expected {
            let text = text.as_deref().unwrap_or_default();
            check_length(&format!("self_test of {recipe}: text"), text, MAX_ANSWER)?;
            ensure!(
                self.variants.iter().any(|variant| variant.recipe == *recipe),
                "the self-test answers for {recipe}, which is no variant"
            );
            let all = prompt_tokens.len().saturating_add(tokens.len());
            ensure!(
                (1..=MAX_SELF_TEST_TOKENS).contains(&tokens.len()) && all <= self.context_length,
                "the self-test of {recipe} has {} tokens after {}: expected 1 to \
                 {MAX_SELF_TEST_TOKENS}, all within the context of {}",
                tokens.len(),
                prompt_tokens.len(),
                self.context_length
            );
        }
        Ok(())
    }
}

impl Variant {
    fn check_sizes(&self) -> anyhow::Result<()> {
        let Variant { recipe, memory, quality, .. } = self;
        for (key, value, least) in [
            ("size", self.size, 1),
            ("memory.context", memory.context as u64, 1),
            ("memory.weights", memory.weights, 0),
            ("memory.kv_cache", memory.kv_cache, 0),
            ("memory.compute", memory.compute, 0),
            ("memory.total", memory.total, 0),
        ] {
            check_count(&format!("{recipe}: {key}"), value, least)?;
        }
        for (key, value) in
            [("top1_agreement", quality.top1_agreement), ("perplexity", quality.perplexity)]
        {
            check_range(&format!("{recipe}: {key}"), value.unwrap_or(0.0), 0.0, f64::MAX)?;
        }
        Ok(())
    }
}

impl Generation {
    fn check(&self) -> anyhow::Result<()> {
        check_range("temperature", self.temperature, 0.0, 100.0)?;
        check_range("top_p", self.top_p, 0.0, 1.0)?;
        check_range("repetition_penalty", self.repetition_penalty, 0.01, 100.0)?;
        check_count("top_k", self.top_k as u64, 0)?;
        check_count("max_new_tokens", self.max_new_tokens as u64, 1)?;
        check_list("eos_token_ids", self.eos_token_ids.len())
    }
}

fn check_range(key: &str, value: f64, least: f64, most: f64) -> anyhow::Result<()> {
    ensure!(
        (least..=most).contains(&value),
        "{key} is {value}: expected a number from {least} to {most}"
    );
    Ok(())
}

fn check_count(key: &str, value: u64, least: u64) -> anyhow::Result<()> {
    ensure!(value >= least, "{key} is {value}: expected at least {least}");
    ensure!(value <= MAX_COUNT, "{key} is {value}: expected at most {MAX_COUNT}");
    Ok(())
}

fn check_length(key: &str, text: &str, most: usize) -> anyhow::Result<()> {
    // A text has no more characters than bytes, which need not be counted.
    ensure!(
        text.len() <= most || text.chars().count() <= most,
        "{key} is longer than {most} characters: shorten it"
    );
    Ok(())
}

fn check_list(key: &str, count: usize) -> anyhow::Result<()> {
    ensure!(
        count <= MAX_SPECIAL_TOKENS,
        "{key} has {count} entries: expected at most {MAX_SPECIAL_TOKENS}"
    );
    Ok(())
}

/// Where a variant's fragments are listed.
pub fn manifest_path(recipe: &str) -> String {
    format!("model/{recipe}.manifest.json")
}

/// Where a piece lies that a variant's manifest lists.
pub(crate) fn piece_path(file: &str) -> String {
    format!("model/{file}")
}

/// A name that is a file name, too: `Q4_K_M`.
pub fn check_recipe(recipe: &str) -> anyhow::Result<()> {
    let plain = recipe.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    ensure!(
        plain && (1..=32).contains(&recipe.len()) && !fragment::is_device_name(recipe),
        "recipe {recipe:?}: expected letters, digits and _, at most 32, and no name of a device \
         (CON, NUL and others of Windows)"
    );
    Ok(())
}

/// A relative path that stays where it starts, on every system.
pub(crate) fn check_path(path: &str) -> anyhow::Result<()> {
    let plain = |part: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        !part.is_empty()
            && !part.starts_with('.')
            && !part.ends_with('.')
            && !fragment::is_device_name(part)
            && part.bytes().all(allowed)
    };
    if path.len() > 255 || !path.split('/').all(plain) {
        bail!(
            "path {path:?}: expected names of letters, digits, . _ - joined by /, within the \
             bundle, none that Windows has for a device (CON, NUL and others)"
        );
    }
    Ok(())
}
