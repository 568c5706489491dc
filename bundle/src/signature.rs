//! `bundle.sig`: who vouches for a bundle.
//!
//! A signature over the bytes of `bundle.json` as they lie, which hold the hashes of all other
//! files, the release and the day on which the bundle expires. It says which key signed, so that an
//! app can remember the key of the first bundle it installs, and it has what earlier keys say of
//! their successors, so that an app can follow from the key that it remembers to this one.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use crate::archive;
use crate::keys::{hex, read_secret, read_small, write};
use crate::manifest::BUNDLE_NAME;
use crate::statement::{Signed, Statement, Statements};
use crate::verify::read_bundle;

/// Name of the signature in the bundle; `bundle.json` cannot list it.
pub const SIGNATURE_NAME: &str = "bundle.sig";

const FORMAT: &str = "pocketgpt-signature";
const VERSION: u32 = 2;
const ALGORITHM: &str = "Ed25519";

/// Largest `bundle.sig` that is read. The web chat has the same limits.
pub(crate) const MAX_BYTES: u64 = 64 << 10;
/// Most statements in it.
const MAX_STATEMENTS: usize = 64;

/// The whole of `bundle.sig`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureFile {
    format: String,
    version: u32,
    algorithm: String,
    /// 32 bytes as lower-case hexadecimal digits.
    public_key: String,
    /// 64 bytes as lower-case hexadecimal digits.
    signature: String,
    statements: Vec<Statement>,
}

/// Format and version alone, so that an older signature is called older and not broken.
#[derive(Deserialize)]
struct FormatVersion {
    format: String,
    version: u32,
}

/// A signature that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signature {
    /// Who signed, as hexadecimal digits.
    pub key: String,
    pub statements: Statements,
}

impl Signature {
    /// Checks `text`, a `bundle.sig`, against the bytes of `bundle.json`; `more` are statements that
    /// came another way.
    ///
    /// # Errors
    /// When it is malformed or of other bytes, a statement does not hold, or the key was revoked or
    /// replaced.
    pub fn check(bundle: &[u8], text: &str, more: Vec<Statement>) -> anyhow::Result<Self> {
        let found: FormatVersion = serde_json::from_str(text)?;
        ensure!(
            (found.format.as_str(), found.version) == (FORMAT, VERSION),
            "format {}, version {}: expected {FORMAT}, {VERSION}; sign the bundle again",
            found.format,
            found.version
        );
        let file: SignatureFile = serde_json::from_str(text)?;
        ensure!(file.algorithm == ALGORITHM, "algorithm {}: expected {ALGORITHM}", file.algorithm);
        let count = file.statements.len();
        ensure!(count <= MAX_STATEMENTS, "{count} statements: expected at most {MAX_STATEMENTS}");
        Signed::Bundle(bundle).verify(&file.public_key, &file.signature).with_context(|| {
            format!("the signature is not of this {BUNDLE_NAME}: one of both was changed")
        })?;
        let statements = Statements::new(file.statements)?.and(more)?;
        let signature = Signature { key: file.public_key, statements };
        signature.require_current()?;
        Ok(signature)
    }

    /// The key may still sign, as far as the statements say.
    fn require_current(&self) -> anyhow::Result<()> {
        self.statements.path(&self.key, &self.key)?;
        match self.statements.successor(&self.key) {
            Some(new) => anyhow::bail!("signed with {}, which {new} replaced", self.key),
            None => Ok(()),
        }
    }
}

/// Who signed a bundle: the public key as hexadecimal digits, from the bytes of `bundle.json` and the
/// text of `bundle.sig`.
///
/// # Errors
/// When the signature is malformed or of other bytes, or what it has of earlier keys does not hold.
pub fn signer(bundle: &[u8], signature: &str) -> anyhow::Result<String> {
    Signature::check(bundle, signature, Vec::new()).map(|signature| signature.key)
}

/// What [`sign`] did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignReport {
    /// The file that was written.
    pub output: PathBuf,
    /// The public key, as `bundle.sig` and the app show it.
    pub public_key: String,
    /// The bundle's archive, which has the signature too now; `None` where there is none.
    pub archive: Option<PathBuf>,
}

impl std::fmt::Display for SignReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\npublic key {}", self.output.display(), self.public_key)?;
        match &self.archive {
            Some(archive) => write!(f, "\n{}", archive.display()),
            None => Ok(()),
        }
    }
}

/// Signs the bundle in `folder` with the secret key of the file `key`, and puts the statements of
/// the files `statements` beside the signature. `FOLDER.zip`, where it is of the same bundle, gets
/// the signature too.
///
/// # Errors
/// When there is no valid `bundle.json` or it states no release, a key or a statement cannot be
/// read, the key was revoked or replaced, a signature is there and `force` is off, or the system
/// refuses.
pub fn sign(
    folder: &Path,
    key: &Path,
    statements: &[PathBuf],
    force: bool,
) -> anyhow::Result<SignReport> {
    let (bytes, manifest) = read_bundle(folder)?;
    ensure!(
        manifest.release.is_some(),
        "{} states no release, so an older bundle of this key would pass for it: pack it again \
         with --release N, 1 for the first",
        folder.join(BUNDLE_NAME).display()
    );
    let key = read_secret(key)?;
    let public_key = hex(key.verifying_key().as_bytes());
    let read = |path: &PathBuf| Statement::read(path);
    let file = SignatureFile {
        format: FORMAT.to_owned(),
        version: VERSION,
        algorithm: ALGORITHM.to_owned(),
        public_key: public_key.clone(),
        signature: Signed::Bundle(&bytes).sign(&key),
        statements: statements.iter().map(read).collect::<anyhow::Result<_>>()?,
    };
    let text = format!("{}\n", serde_json::to_string_pretty(&file)?);
    ensure!(text.len() as u64 <= MAX_BYTES, "the statements take more than {MAX_BYTES} bytes");
    Signature::check(&bytes, &text, Vec::new()).context("cannot sign")?;
    let output = folder.join(SIGNATURE_NAME);
    write(&output, text.as_bytes(), force)?;
    let archive = archive::path_beside(folder)?;
    let archive = archive::holds(&archive, &bytes).then_some(archive);
    if let Some(path) = &archive {
        checkpoint::atomic::write_file(path, true, |out| archive::write(folder, &manifest, out))
            .with_context(|| format!("cannot put the signature into {}", path.display()))?;
    }
    Ok(SignReport { output, public_key, archive })
}

/// The text of a folder's `bundle.sig`; `None` where there is no signature.
pub(crate) fn read_signature(folder: &Path) -> anyhow::Result<Option<String>> {
    let path = folder.join(SIGNATURE_NAME);
    if !path.try_exists().with_context(|| format!("cannot read {}", path.display()))? {
        return Ok(None);
    }
    read_small(&path, MAX_BYTES).map(Some)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails says where")]

    use serde_json::Value;

    use super::Signature;
    use crate::keys::unhex;
    use crate::statement::Signed;

    /// Made by Python's `cryptography` and by the authors of "Taming the many EdDSAs";
    /// `app/tests/signature.test.ts` reads the same cases.
    fn golden() -> Value {
        serde_json::from_str(include_str!("../tests/golden/signatures.json")).unwrap()
    }

    fn bytes(value: &Value) -> Vec<u8> {
        let digits = value.as_str().unwrap().as_bytes();
        let byte = |pair| unhex::<1>(std::str::from_utf8(pair).unwrap()).unwrap()[0];
        digits.chunks(2).map(byte).collect()
    }

    #[test]
    fn of_keys_and_signatures_one_spelling_is_accepted() {
        use ed25519_dalek::{Signature, VerifyingKey};
        for case in golden()["ed25519"].as_array().unwrap() {
            let key: [u8; 32] = bytes(&case["public_key"]).try_into().unwrap();
            let signature: [u8; 64] = bytes(&case["signature"]).try_into().unwrap();
            let accepted = VerifyingKey::from_bytes(&key).is_ok_and(|key| {
                key.verify_strict(&bytes(&case["message"]), &Signature::from_bytes(&signature))
                    .is_ok()
            });
            assert_eq!(accepted, case["accepted"].as_bool().unwrap(), "{}", case["what"]);
        }
    }

    #[test]
    fn a_signature_of_one_kind_of_text_is_none_of_another() {
        let (old, new) = ("ab".repeat(32), "cd".repeat(32));
        let rotation = Signed::Rotation { old: &old, new: &new }.message();
        let revocation = Signed::Revocation { key: &old }.message();
        let head = b"pocketgpt-signature 2 rotation\n".len();
        for other in [
            Signed::Bundle(&rotation).message(),
            Signed::Bundle(&rotation[head..]).message(),
            Signed::Bundle(b"").message(),
            revocation.clone(),
        ] {
            assert!(!other.starts_with(&rotation) && !rotation.starts_with(&other));
        }
    }

    #[test]
    fn bundles_are_judged_as_by_the_web_chat() {
        for case in golden()["bundles"].as_array().unwrap() {
            let what = case["what"].as_str().unwrap();
            let text = case["signature"].as_str().unwrap();
            let checked = Signature::check(&bytes(&case["bundle"]), text, Vec::new());
            let state = match &checked {
                Ok(_) => "valid",
                Err(error) if cli::one_line(error).contains("is revoked") => "revoked",
                Err(_) => "invalid",
            };
            assert_eq!(state, case["state"], "{what}: {checked:?}");
            let Ok(signature) = checked else { continue };
            assert_eq!(signature.key, case["key"], "{what}");
            if let Some(trusted) = case["trusted"].as_str() {
                let path = signature.statements.path(trusted, &signature.key);
                assert_eq!(path.is_ok(), case["follows"].as_bool().unwrap(), "{what}: {path:?}");
            }
        }
    }
}
