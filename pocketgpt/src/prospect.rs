//! Checks before training what the later stages need of a model.

use anyhow::{Context, ensure};
use checkpoint::Vocabulary;
use gguf::TensorType;
use quantize::Recipe;
use train::Prospect;

/// Refuses a model that could be trained but not quantized or packed.
///
/// # Errors
/// The later stage's objection, and that `train` alone does not need it.
pub fn require_usable(prospect: &Prospect<'_>) -> anyhow::Result<()> {
    device_can_tokenize(prospect)?;
    can_be_quantized(prospect)?;
    prompt_fits(prospect)
}

/// Every tokenizer goes into a GGUF, but a bundle is for a device whose llama.cpp has to turn text
/// into tokens.
fn device_can_tokenize(prospect: &Prospect<'_>) -> anyhow::Result<()> {
    let vocabulary = match prospect.tokenizer_folder {
        Some(folder) => Vocabulary::of_folder(folder, prospect.tokenizer_json),
        None => Vocabulary::parse(prospect.tokenizer_json),
    }?;
    let form = vocabulary.gguf_form(prospect.config.vocab_size);
    ensure!(
        form.llama_cpp_encodes(),
        "this model can be trained, but not packed into the bundle that `pocketgpt run` ends with: \
         {form}; `train`, `export`, `quantize` and `eval` take it one by one"
    );
    Ok(())
}

fn can_be_quantized(prospect: &Prospect<'_>) -> anyhow::Result<()> {
    let exported: TensorType =
        prospect.run_file.export.tensor_type.parse().context("export.tensor_type")?;
    for name in &prospect.run_file.quantize.recipes {
        let recipe: Recipe = name.parse().context("quantize.recipes")?;
        quantize::planned(prospect.config, exported, recipe)
            .with_context(|| format!("this model cannot be quantized to {recipe}"))?;
    }
    Ok(())
}

/// The bundle's self-test continues the prompt by at least one token.
fn prompt_fits(prospect: &Prospect<'_>) -> anyhow::Result<()> {
    let prompt = &prospect.run_file.bundle.prompt;
    let tokens = prospect.tokenizer.encode(prompt).context("bundle.prompt")?.len();
    ensure!(
        tokens > 0,
        "bundle.prompt = {prompt:?} has no tokens; expected a text for the self-test to continue"
    );
    let all = tokens + prospect.tokenizer.begin_of_text().iter().count();
    let context = prospect.config.context_length;
    ensure!(
        all < context,
        "bundle.prompt has {all} tokens; expected less than the context of {context}, so that the \
         self-test can continue it"
    );
    Ok(())
}
