//! The signature of a bundle that a new one replaces: kept where it holds for the new one too, and
//! never lost without a word.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, ensure};

use crate::archive;
use crate::manifest::BUNDLE_NAME;
use crate::pack::PackJob;
use crate::signature::{SIGNATURE_NAME, read_signature};

/// Copies the signature of the bundle at `job.output` into `folder`, where the new bundle lies, if
/// both have the same `bundle.json`: a signature covers that file and nothing else. Returns whether
/// the new bundle is signed.
///
/// # Errors
/// When the signature would be lost and the job does not allow it, or the system refuses.
pub fn keep_signature(folder: &Path, job: &PackJob) -> anyhow::Result<bool> {
    if is_signed(&job.output)? {
        if same_manifest(folder, &job.output)?
            && let Some(text) = read_signature(&job.output)?
        {
            let path = folder.join(SIGNATURE_NAME);
            std::fs::File::create_new(&path)
                .and_then(|mut file| file.write_all(text.as_bytes()))
                .with_context(|| format!("cannot write {}", path.display()))?;
            return Ok(true);
        }
        allow_loss(&job.output, job)?;
        return Ok(false);
    }
    // An archive alone: a new one replaces it, or it is removed since it is of another bundle.
    let archive = archive::path_beside(&job.output)?;
    if job.force && archive::is_signed(&archive) {
        allow_loss(&archive, job)?;
    }
    Ok(false)
}

/// Says that the signed bundle in `output` is replaced by a copy of the unsigned `input`, if that
/// is the case.
///
/// # Errors
/// When the system refuses to look.
pub fn note_unsigned_copy(input: &Path, output: &Path) -> anyhow::Result<()> {
    if is_signed(output)? && !is_signed(input)? {
        cli::note(&format!(
            "{} was signed and is replaced by a copy of {}, which is not: sign that with `bundle \
             sign --input {} --key KEY` and copy it again",
            output.display(),
            input.display(),
            input.display()
        ));
    }
    Ok(())
}

fn is_signed(folder: &Path) -> anyhow::Result<bool> {
    let path = folder.join(SIGNATURE_NAME);
    path.try_exists().with_context(|| format!("cannot read {}", path.display()))
}

/// Whether the `bundle.json` of both folders has the same bytes; a missing one has none.
fn same_manifest(new: &Path, old: &Path) -> anyhow::Result<bool> {
    let path = new.join(BUNDLE_NAME);
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(archive::file_holds(&old.join(BUNDLE_NAME), &bytes))
}

/// Lets the signature of `signed` go if the job says so, and says so itself.
fn allow_loss(signed: &Path, job: &PackJob) -> anyhow::Result<()> {
    let output = job.output.display();
    let sign = format!("`bundle sign --input {output} --key KEY`");
    ensure!(
        job.replace_signed,
        "{} is signed, and its signature does not hold for the new {BUNDLE_NAME}: state the next \
         release, move {} away or remove its {SIGNATURE_NAME}, run this again, and sign the new \
         bundle with {sign}",
        signed.display(),
        signed.display()
    );
    cli::note(&format!(
        "the signature of {} is gone, since {BUNDLE_NAME} changed: sign the new bundle with {sign}",
        signed.display()
    ));
    Ok(())
}
