//! The keys that sign bundles: Ed25519 (RFC 8032) in PEM files of the usual kinds (PKCS#8 version 1,
//! SubjectPublicKeyInfo), which `openssl pkey` and Python's `cryptography` read too. Version 2, which
//! has the public key as well, they do not.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use checkpoint::atomic;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes,
};
use ed25519_dalek::{SECRET_KEY_LENGTH, SigningKey, VerifyingKey};
use serde::Serialize;

/// Larger than any key file.
const MAX_BYTES: u64 = 4096;

/// What [`keygen`] did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyReport {
    /// The file that was written.
    pub output: PathBuf,
    /// The public key, as `bundle.sig` and the app show it.
    pub public_key: String,
}

impl std::fmt::Display for KeyReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\npublic key {}", self.output.display(), self.public_key)
    }
}

/// Makes a key from the system's randomness: `output` holds the secret, readable by its owner
/// only, and `output` with `.pub` added the public half.
///
/// The public half is written last, and an old one is removed first: a process that is killed on
/// the way leaves it out and never beside another key's secret. A secret without it, which such a
/// process left, is kept: the public half is made from it.
///
/// # Errors
/// When a file exists and `force` is off, a secret without its public half is no key, or the
/// system refuses.
pub fn keygen(output: &Path, force: bool) -> anyhow::Result<KeyReport> {
    let public = public_path(output)?;
    let exists = |path: &Path| path.symlink_metadata().is_ok();
    let key = match (force, exists(output), exists(&public)) {
        (false, true, false) => {
            let key = read_secret(output)?;
            cli::note(&format!(
                "{} is there without its public half, which is made from it; --force makes a new \
                 key",
                output.display()
            ));
            key
        }
        (false, secret, other) if secret || other => {
            let found = if secret { output } else { public.as_path() };
            bail!("{} exists: add --force to replace it", found.display());
        }
        _ => new_secret(output, &public, force)?,
    };
    let public_key = key.verifying_key();
    write(&public, public_key.to_public_key_pem(LineEnding::LF)?.as_bytes(), false)?;
    Ok(KeyReport { output: output.to_owned(), public_key: hex(public_key.as_bytes()) })
}

/// Writes a new secret, when no public half is there any more.
fn new_secret(output: &Path, public: &Path, force: bool) -> anyhow::Result<SigningKey> {
    let mut secret_key = [0_u8; SECRET_KEY_LENGTH];
    getrandom::fill(&mut secret_key).context("the system gives no random numbers")?;
    let pem = KeypairBytes { secret_key, public_key: None }.to_pkcs8_pem(LineEnding::LF)?;
    if public.symlink_metadata().is_ok() {
        std::fs::remove_file(public)
            .with_context(|| format!("cannot remove the old {}", public.display()))?;
    }
    atomic::write_secret_file(output, force, |out| -> anyhow::Result<()> {
        use std::io::Write;
        Ok(out.write_all(pem.as_bytes())?)
    })?;
    Ok(SigningKey::from_bytes(&secret_key))
}

pub(crate) fn read_secret(path: &Path) -> anyhow::Result<SigningKey> {
    SigningKey::from_pkcs8_pem(&read_small(path, MAX_BYTES)?).ok().with_context(|| {
        format!("{}: expected an Ed25519 key in PKCS#8 PEM, as keygen writes it", path.display())
    })
}

/// The public key of a file, as hexadecimal digits.
pub(crate) fn read_public(path: &Path) -> anyhow::Result<String> {
    let key = VerifyingKey::from_public_key_pem(&read_small(path, MAX_BYTES)?).ok().with_context(
        || {
            let path = path.display();
            format!("{path}: expected an Ed25519 public key in PEM, as keygen writes it")
        },
    )?;
    Ok(hex(key.as_bytes()))
}

fn public_path(secret: &Path) -> anyhow::Result<PathBuf> {
    let mut name = secret
        .file_name()
        .with_context(|| format!("{} does not end in a name", secret.display()))?
        .to_owned();
    name.push(".pub");
    Ok(secret.with_file_name(name))
}

/// The text of a file that has at most `most` bytes.
pub(crate) fn read_small(path: &Path, most: u64) -> anyhow::Result<String> {
    let mut text = String::new();
    fragment::open_plain(path)?
        .take(most + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(text.len() as u64 <= most, "{} is larger than {most} bytes", path.display());
    Ok(text)
}

pub(crate) fn write(path: &Path, bytes: &[u8], force: bool) -> anyhow::Result<()> {
    use std::io::Write;
    atomic::write_file(path, force, |out| Ok(out.write_all(bytes)?))
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of exactly so many lower-case hexadecimal digits.
pub(crate) fn unhex<const N: usize>(text: &str) -> anyhow::Result<[u8; N]> {
    let digits = text.as_bytes();
    let plain = digits.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    ensure!(
        plain && digits.len() == 2 * N,
        "{text:?}: expected {} lower-case hexadecimal digits",
        2 * N
    );
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair)?, 16)?;
    }
    Ok(bytes)
}
