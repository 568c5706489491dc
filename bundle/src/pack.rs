//! Packs measured GGUFs into the folder for the device.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use checkpoint::hash::Digests;
use checkpoint::{atomic, hash};
use config::ModelConfig;
use fragment::{FragmentFolder, Located, Manifest};
use gguf::{Metadata, TensorSource, Value};
use serde_json::json;

use crate::app;
use crate::archive;
use crate::card::model_card;
use crate::device::DeviceTokenizer;
use crate::files::list_files;
use crate::license::License;
use crate::manifest::{
    BUNDLE_NAME, BundleManifest, Expected, FORMAT, FileEntry, Generation, Provenance, Quality,
    SelfTest, VERSION, Variant, check_recipe, manifest_path, piece_path,
};
use crate::memory::MemoryNeed;
use crate::plan::weight_bytes;
use crate::quality::MeasuredFile;
use crate::report::PackReport;
use crate::self_test::continuation;
use crate::signed_output::keep_signature;

/// The input of [`pack`].
#[derive(Debug, Clone)]
pub struct PackJob {
    /// The bundle's folder.
    pub output: PathBuf,
    /// Also write the bundle as `OUTPUT.zip`. With `force`, an existing archive of that name is
    /// replaced, or removed if no new one is written, because it is of another bundle.
    pub zip: bool,
    /// Replace folder and archive if they exist.
    pub force: bool,
    /// Replace a signed bundle also where its signature does not hold for the new one. A signature
    /// that does hold is kept in any case.
    pub replace_signed: bool,
    /// Whether the web chat goes in.
    pub app: AppChoice,
    /// Shown to the user.
    pub name: String,
    /// The licence of the weights.
    pub license: License,
    /// Which release of this model it is; `None` states no order.
    pub release: Option<u64>,
    /// Last day, in UTC, on which devices should install it, as `YYYY-MM-DD`.
    pub expires: Option<String>,
    /// The same model in one or more sizes.
    pub variants: Vec<VariantInput>,
    /// Most bytes in one fragment, where a variant is not in fragments yet.
    pub max_bytes: u64,
    /// Text of `tokenizer.json`.
    pub tokenizer_json: String,
    /// The default sampling settings.
    pub generation: Generation,
    /// Text that the self-test continues.
    pub prompt: String,
    /// That text as the ids of the model's tokenizer, for a GGUF whose own keys do not say them.
    pub prompt_tokens: Vec<u32>,
    /// Tokens that the self-test expects, at most; the context may leave room for fewer.
    pub self_test_tokens: usize,
    /// The origin of the weights.
    pub provenance: Provenance,
}

/// Whether the web chat goes into a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AppChoice {
    /// Included if this program has it.
    #[default]
    IfBuilt,
    /// Included; packing fails if this program does not have it.
    Required,
    /// Left out, for bundles that another app opens.
    Left,
}

impl AppChoice {
    fn wants_app(self) -> bool {
        match self {
            AppChoice::IfBuilt => app::is_built(),
            AppChoice::Required => true,
            AppChoice::Left => false,
        }
    }
}

/// One size of the model.
#[derive(Debug, Clone)]
pub struct VariantInput {
    /// llama.cpp's name of the quantization.
    pub recipe: String,
    /// A GGUF, or the folder (or manifest) of its fragments.
    pub source: PathBuf,
    /// As measured.
    pub quality: Quality,
    /// The file that was measured; it must be the one that is packed.
    pub measured: MeasuredFile,
}

/// Writes the bundle: the folder, then the archive. A failure does not leave an incomplete one.
///
/// # Errors
/// When a variant is damaged, is not the file that was measured or does not share its settings
/// with the others, when it lies inside of the output, when the output exists and `force` is off,
/// when it is signed, the signature does not hold for the new bundle and `replace_signed` is off,
/// or when the system refuses.
pub fn pack(job: &PackJob) -> anyhow::Result<PackReport> {
    ensure!(!job.variants.is_empty(), "a bundle needs at least one variant");
    ensure!(job.self_test_tokens > 0, "the self-test needs at least one token");
    fragment::guard_replaced(&job.output, BUNDLE_NAME)?;
    for variant in &job.variants {
        atomic::ensure_outside(&variant.source, &job.output)?;
    }
    let archive_path = archive::path_beside(&job.output)?;
    ensure!(
        job.force || !job.zip || !archive_path.exists(),
        "{} exists: add --force to replace it",
        archive_path.display()
    );
    let (manifest, signed, archive) = atomic::write_dir(&job.output, job.force, |folder| {
        let manifest = fill(folder, job)?;
        let signed = keep_signature(folder, job)?;
        // Before the folder is renamed: if the disk is too small for the archive, neither is
        // written.
        let archive = job.zip.then(|| {
            atomic::prepare_file(&archive_path, job.force, |out| {
                archive::write(folder, &manifest, out)
            })
        });
        let archive = archive.transpose()?.map(|((), archive)| archive);
        anyhow::Ok((manifest, signed, archive))
    })?;
    if let Some(archive) = archive {
        archive.publish()?;
    } else if job.force && archive::is_bundle(&archive_path) {
        // The archive of the bundle that was replaced could be mistaken for one of the new bundle.
        std::fs::remove_file(&archive_path)
            .with_context(|| format!("cannot remove the old {}", archive_path.display()))?;
    }
    Ok(PackReport::new(&job.output, job.zip.then_some(archive_path), &manifest, signed))
}

fn fill(folder: &Path, job: &PackJob) -> anyhow::Result<BundleManifest> {
    let model = folder.join("model");
    std::fs::create_dir(&model).with_context(|| format!("cannot create {}", model.display()))?;
    let progress = cli::Progress::new("pack", job.variants.len() as u64, cli::Meter::Items);
    let mut packed = Vec::new();
    for input in &job.variants {
        progress.message(input.recipe.clone());
        packed.push(pack_variant(folder, input, job)?);
        progress.advance(1);
    }
    progress.finish();
    packed.sort_by_key(|packed| packed.variant.size);
    let config = shared_config(&packed)?.clone();
    let first = &packed[0];
    let generation = first.generation(&job.generation);
    let generation_config = first.generation_config(&generation);
    let (prompt_tokens, special_tokens) = (first.prompt_tokens.clone(), first.device.specials());
    let with_app = with_app(job.app, &first.metadata)?;
    let pieces: HashMap<String, Digests> =
        packed.iter_mut().flat_map(|packed| std::mem::take(&mut packed.pieces)).collect();
    let (variants, expected): (Vec<Variant>, Vec<Expected>) =
        packed.into_iter().map(|packed| (packed.variant, packed.expected)).unzip();
    let mut manifest = BundleManifest {
        format: FORMAT.to_owned(),
        version: VERSION,
        name: job.name.clone(),
        architecture: config.architecture.name().to_owned(),
        context_length: config.context_length,
        parameters: config.parameter_count(),
        license: job.license.expression().to_owned(),
        release: job.release,
        expires: job.expires.clone(),
        variants,
        generation,
        special_tokens,
        provenance: job.provenance.clone(),
        self_test: SelfTest { prompt: job.prompt.clone(), prompt_tokens, expected },
        files: Vec::new(),
    };
    write_text(folder, "tokenizer.json", &job.tokenizer_json)?;
    write_text(folder, "generation_config.json", &generation_config)?;
    write_text(folder, "LICENSE", &job.license.text(&job.name))?;
    write_text(folder, "MODEL_CARD.md", &model_card(&manifest))?;
    if with_app {
        app::write(folder)?;
    }
    manifest.files = entries(folder, &pieces)?;
    write_text(folder, BUNDLE_NAME, &manifest.to_json()?)?;
    Ok(manifest)
}

/// Whether the web chat is included: it cannot be used if llama.cpp cannot tokenize text.
fn with_app(choice: AppChoice, metadata: &gguf::Metadata) -> anyhow::Result<bool> {
    const REASON: &str = "llama.cpp has no tokenizer for this model (the GGUF says no_vocab), so \
                          the web chat could not read what is typed";
    match choice {
        _ if DeviceTokenizer::reads_text(metadata) => Ok(choice.wants_app()),
        AppChoice::Required => bail!("{REASON}: pass --no-app to pack without it"),
        AppChoice::IfBuilt => {
            cli::note(&format!("the web chat is left out: {REASON}"));
            Ok(false)
        }
        AppChoice::Left => Ok(false),
    }
}

/// A variant in the bundle, and the settings in its header.
struct Packed {
    variant: Variant,
    prompt_tokens: Vec<u32>,
    expected: Expected,
    config: ModelConfig,
    metadata: gguf::Metadata,
    device: DeviceTokenizer,
    /// Its pieces by their paths in the bundle.
    pieces: Vec<(String, Digests)>,
}

impl Packed {
    /// The job's settings with the tokens at which this file's answers end.
    fn generation(&self, settings: &Generation) -> Generation {
        Generation { eos_token_ids: self.device.ends.clone(), ..settings.clone() }
    }

    /// `generation_config.json`, with Hugging Face's names.
    fn generation_config(&self, generation: &Generation) -> String {
        let id = |key: &str| self.metadata.unsigned(key).ok();
        let eos = match generation.eos_token_ids.as_slice() {
            [] => serde_json::Value::Null,
            [id] => json!(id),
            ids => json!(ids),
        };
        let config = json!({
            "bos_token_id": id("tokenizer.ggml.bos_token_id"),
            "eos_token_id": eos,
            "do_sample": generation.temperature > 0.0,
            "temperature": generation.temperature,
            "top_k": generation.top_k,
            "top_p": generation.top_p,
            "repetition_penalty": generation.repetition_penalty,
            "max_new_tokens": generation.max_new_tokens,
        });
        format!("{config:#}\n")
    }
}

fn pack_variant(folder: &Path, input: &VariantInput, job: &PackJob) -> anyhow::Result<Packed> {
    let recipe = &input.recipe;
    check_recipe(recipe)?;
    let manifest_path = manifest_path(recipe);
    let path = folder.join(&manifest_path);
    ensure!(!path.exists(), "variant {recipe} is given twice");
    let manifest = place_fragments(&path, input, job.max_bytes)
        .with_context(|| format!("variant {recipe}: {}", input.source.display()))?;
    let source = FragmentFolder::open(&path)?;
    check_measured(input, &manifest, weight_bytes(&source))?;
    check_tokenizer(source.metadata()).with_context(|| format!("variant {recipe}"))?;
    let config = checkpoint::gguf_config(&source)?;
    let device = DeviceTokenizer::of(source.metadata());
    let prompt_tokens = device.prompt(&job.prompt).unwrap_or_else(|| job.prompt_tokens.clone());
    let room = config.context_length.saturating_sub(prompt_tokens.len());
    let count = job.self_test_tokens.min(room);
    ensure!(count > 0, "the prompt fills the context of {} tokens", config.context_length);
    let tokens = continuation(&source, &prompt_tokens, count, &device.ends)
        .with_context(|| format!("the self-test of {recipe}"))?;
    let memory = MemoryNeed::of(&config, weight_bytes(&source), config.context_length);
    let file = &manifest.file;
    let variant = Variant {
        recipe: recipe.clone(),
        manifest: manifest_path,
        size: file.size,
        sha256: file.sha256.clone(),
        blake3: file.blake3.clone(),
        bits_per_weight: file.size as f64 * 8.0 / config.parameter_count().max(1) as f64,
        quality: input.quality.clone(),
        memory,
    };
    let text = device.shown(&tokens);
    let expected = Expected { recipe: recipe.clone(), tokens, text };
    let metadata = source.metadata().clone();
    let pieces = manifest.fragments.iter().map(|piece| (piece_path(&piece.file), piece.digests()));
    let pieces = pieces.collect();
    Ok(Packed { variant, prompt_tokens, expected, config, metadata, device, pieces })
}

/// On the device, only llama.cpp tokenizes text, from the keys of the file.
fn check_tokenizer(metadata: &Metadata) -> anyhow::Result<()> {
    ensure!(
        metadata.get("tokenizer.ggml.add_eos_token") != Some(&Value::Bool(true)),
        "tokenizer.ggml.add_eos_token is true, so every prompt would end before it is answered: \
         export or quantize the model again, which leaves the key out"
    );
    Ok(())
}

/// Refuses figures that were measured on another file.
fn check_measured(input: &VariantInput, manifest: &Manifest, bytes: u64) -> anyhow::Result<()> {
    let VariantInput { recipe, source, measured, .. } = input;
    let same_hash = measured.sha256.as_ref().is_none_or(|hash| *hash == manifest.file.sha256);
    let same_size = measured.tensor_bytes.is_none_or(|measured| measured == bytes);
    ensure!(
        same_hash && same_size,
        "variant {recipe}: the report is of another file than {}: run eval again",
        source.display()
    );
    Ok(())
}

/// Puts a variant's fragments and their manifest, called `path`, into the bundle: by cutting a
/// GGUF, or by copying fragments that exist. Every hash that their manifest states, of the pieces
/// and of the whole, is verified first: the bundle repeats them as its own claims.
fn place_fragments(path: &Path, input: &VariantInput, max_bytes: u64) -> anyhow::Result<Manifest> {
    let folder = path.parent().context("a manifest lies in a folder")?;
    let name = path.file_name().and_then(|name| name.to_str()).context("a manifest has a name")?;
    let is_manifest = input.source.extension().is_some_and(|extension| extension == "json");
    if !input.source.is_dir() && !is_manifest {
        return fragment::split_into(folder, name, &input.source, max_bytes);
    }
    let Located { path: source, manifest, pieces } = Located::find(&input.source)?;
    fragment::verify(&source)?.require_sound()?;
    let mut buffer = Vec::new();
    for piece in &manifest.fragments {
        let target = folder.join(&piece.file);
        if !target.exists() {
            pieces.read(piece, &mut buffer)?;
            write(&target, &buffer)?;
        }
    }
    write(path, manifest.to_json()?.as_bytes())?;
    Ok(manifest)
}

/// The settings that all variants share, because they are one model.
fn shared_config(packed: &[Packed]) -> anyhow::Result<&ModelConfig> {
    let first = packed.first().context("a bundle needs at least one variant")?;
    for other in packed {
        ensure!(
            other.config == first.config && other.prompt_tokens == first.prompt_tokens,
            "variants {} and {} are of different models, or read the prompt as different tokens: \
             {:?} and {:?}",
            first.variant.recipe,
            other.variant.recipe,
            first.config,
            other.config
        );
    }
    Ok(&first.config)
}

/// Every file with its hashes. Those of the pieces are known: they were hashed when they were cut,
/// or verified when they were copied, and the self-test has read them back.
fn entries(folder: &Path, pieces: &HashMap<String, Digests>) -> anyhow::Result<Vec<FileEntry>> {
    let hashed = |path: String| {
        if let Some(digests) = pieces.get(&path) {
            return Ok(FileEntry::new(path, digests.clone()));
        }
        let file = folder.join(&path);
        let digests =
            hash::hash_file(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(FileEntry::new(path, digests))
    };
    list_files(folder)?.into_iter().map(hashed).collect()
}

fn write_text(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    write(&folder.join(name), text.as_bytes())
}

/// Writes into the folder that `atomic` syncs and renames when it is complete.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::File::create_new(path)
        .and_then(|mut file| file.write_all(bytes))
        .with_context(|| format!("cannot write {}", path.display()))
}
