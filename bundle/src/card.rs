//! `MODEL_CARD.md`: what to know before using the model.

use std::fmt::Write;

use crate::manifest::{BundleManifest, Quality, Variant};
use crate::memory::megabytes;

/// The card as Markdown. All figures are those of the manifest.
pub fn model_card(manifest: &BundleManifest) -> String {
    let mut card = String::new();
    // Writing to a String cannot fail.
    let _ = write_card(&mut card, manifest);
    card
}

fn write_card(card: &mut String, manifest: &BundleManifest) -> std::fmt::Result {
    let parameters = cli::count(manifest.parameters as u64);
    writeln!(card, "# {}\n", one_line(&manifest.name))?;
    writeln!(
        card,
        "A language model of the {} architecture with {parameters} parameters and a context of {} \
         tokens. It continues text; it was not tuned to follow instructions, and what it writes \
         may be wrong, offensive or a quotation of what it was trained on.\n",
        manifest.architecture, manifest.context_length
    )?;
    writeln!(card, "Licence of the weights: {}.\n", one_line(&manifest.license))?;
    write_quality(card, &manifest.variants)?;
    write_tasks(card, &manifest.variants)?;
    write_memory(card, manifest)?;
    writeln!(card, "## Origin\n")?;
    let origin = &manifest.provenance;
    writeln!(card, "Packed by pocketgpt {}.", origin.program_version)?;
    if let Some(hash) = &origin.data_blake3 {
        writeln!(card, "Trained on tokens with the BLAKE3 hash `{hash}`.")?;
    }
    if let Some(run_file) = &origin.run_file {
        writeln!(card, "\nThe run file, from which the run can be repeated:\n")?;
        for line in run_file.lines() {
            writeln!(card, "    {line}")?;
        }
    }
    writeln!(
        card,
        "\n## Check\n\n`bundle verify --input FOLDER` compares every file with `bundle.json` and \
         lets each variant continue the prompt {:?}.",
        manifest.self_test.prompt
    )
}

fn write_quality(card: &mut String, variants: &[Variant]) -> std::fmt::Result {
    writeln!(
        card,
        "## Quality\n\nMeasured on exactly these files, against the unquantized one.\n\n\
         | variant | size, MB | bits per weight | mean KL, nats | same top token | perplexity | unquantized |\n\
         |---|---|---|---|---|---|---|"
    )?;
    for variant in variants {
        let &Quality { mean_kl, top1_agreement, perplexity, reference_perplexity, .. } =
            &variant.quality;
        writeln!(
            card,
            "| {} | {} | {:.2} | {} | {} | {} | {} |",
            variant.recipe,
            megabytes(variant.size),
            variant.bits_per_weight,
            figure(mean_kl, |x| format!("{x:.2e}")),
            figure(top1_agreement, |x| format!("{:.2} %", 100.0 * x)),
            figure(perplexity, |x| format!("{x:.3}")),
            figure(reference_perplexity, |x| format!("{x:.3}")),
        )?;
    }
    writeln!(card)
}

/// What the variants answered of the run file's tasks.
fn write_tasks(card: &mut String, variants: &[Variant]) -> std::fmt::Result {
    if variants.iter().all(|variant| variant.quality.tasks.is_empty()) {
        return Ok(());
    }
    writeln!(
        card,
        "| variant | task | questions | metric | value | standard error | unquantized |\n\
         |---|---|---|---|---|---|---|"
    )?;
    for (variant, score) in variants
        .iter()
        .flat_map(|variant| variant.quality.tasks.iter().map(move |it| (variant, it)))
    {
        writeln!(
            card,
            "| {} | {} | {} | {} | {:.4} | {} | {} |",
            variant.recipe,
            score.task,
            score.questions,
            score.metric,
            score.value,
            figure(score.standard_error, |x| format!("{x:.4}")),
            figure(score.unquantized, |x| format!("{x:.4}")),
        )?;
    }
    writeln!(card)
}

fn write_memory(card: &mut String, manifest: &BundleManifest) -> std::fmt::Result {
    writeln!(
        card,
        "## Memory\n\nAt the full context of {} tokens, in MB.\n\n\
         | variant | weights | KV cache | compute | total |\n|---|---|---|---|---|",
        manifest.context_length
    )?;
    for variant in &manifest.variants {
        let memory = variant.memory;
        writeln!(
            card,
            "| {} | {} | {} | {} | {} |",
            variant.recipe,
            megabytes(memory.weights),
            megabytes(memory.kv_cache),
            megabytes(memory.compute),
            megabytes(memory.total)
        )?;
    }
    writeln!(card)
}

fn figure(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "not measured".to_owned(), show)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
