//! `bundle.sig`: who vouches for a bundle.
//!
//! An Ed25519 signature (RFC 8032) over the bytes of `bundle.json` as they lie, which hold the
//! hashes of all other files. It says which key signed, so that an app can remember the key of
//! the first bundle it installs and ask when a later one has another. Keys are PEM files of the
//! usual kinds (PKCS#8 version 1, SubjectPublicKeyInfo), which `openssl pkey` and Python's
//! `cryptography` read too. Version 2, which has the public key as well, they do not.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use checkpoint::atomic;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes,
};
use ed25519_dalek::{SECRET_KEY_LENGTH, Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::manifest::BUNDLE_NAME;
use crate::verify::read_manifest;

/// Name of the signature in the bundle; `bundle.json` cannot list it.
pub const SIGNATURE_NAME: &str = "bundle.sig";

const FORMAT: &str = "pocketgpt-signature";
const VERSION: u32 = 1;
const ALGORITHM: &str = "Ed25519";

/// Larger than any `bundle.sig` or key file.
const MAX_BYTES: u64 = 4096;

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
}

/// What [`keygen`] and [`sign`] did.
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

fn read_secret(path: &Path) -> anyhow::Result<SigningKey> {
    SigningKey::from_pkcs8_pem(&read_small(path)?).ok().with_context(|| {
        format!("{}: expected an Ed25519 key in PKCS#8 PEM, as keygen writes it", path.display())
    })
}

/// Signs the bundle in `folder` with the secret key of the file `key`.
///
/// # Errors
/// When there is no valid `bundle.json`, the key cannot be read, a signature is there and `force`
/// is off, or the system refuses.
pub fn sign(folder: &Path, key: &Path, force: bool) -> anyhow::Result<KeyReport> {
    read_manifest(folder)?;
    let key = read_secret(key)?;
    let public_key = hex(key.verifying_key().as_bytes());
    let file = SignatureFile {
        format: FORMAT.to_owned(),
        version: VERSION,
        algorithm: ALGORITHM.to_owned(),
        public_key: public_key.clone(),
        signature: hex(&key.sign(&bundle_bytes(folder)?).to_bytes()),
    };
    let output = folder.join(SIGNATURE_NAME);
    write(&output, format!("{}\n", serde_json::to_string_pretty(&file)?).as_bytes(), force)?;
    Ok(KeyReport { output, public_key })
}

/// The public key, as hexadecimal digits, whose signature of the bundle in `folder` holds; `None`
/// where there is no signature.
///
/// # Errors
/// When the signature is malformed or of other bytes.
pub fn signer(folder: &Path) -> anyhow::Result<Option<String>> {
    let path = folder.join(SIGNATURE_NAME);
    if !path.try_exists().with_context(|| format!("cannot read {}", path.display()))? {
        return Ok(None);
    }
    let file: SignatureFile =
        serde_json::from_str(&read_small(&path)?).with_context(|| path.display().to_string())?;
    let known = (file.format.as_str(), file.version, file.algorithm.as_str());
    ensure!(
        known == (FORMAT, VERSION, ALGORITHM),
        "{}: format {}, version {}, algorithm {}: expected {FORMAT}, {VERSION}, {ALGORITHM}",
        path.display(),
        file.format,
        file.version,
        file.algorithm
    );
    let place = || path.display().to_string();
    let public = VerifyingKey::from_bytes(&unhex(&file.public_key).with_context(place)?)
        .ok()
        .with_context(|| format!("{}: the public key is no point of the curve", place()))?;
    let signature = Signature::from_bytes(&unhex(&file.signature).with_context(place)?);
    // Strict: of keys and signatures that mean the same there is one spelling only.
    public.verify_strict(&bundle_bytes(folder)?, &signature).ok().with_context(|| {
        format!("{}: the signature is not of this {BUNDLE_NAME}: one of both was changed", place())
    })?;
    Ok(Some(file.public_key))
}

/// Holds the bundle's signature against the public key in the file `key`.
///
/// # Errors
/// When there is no signature, it does not hold, or it is by another key.
pub fn require_signed_by(folder: &Path, key: &Path) -> anyhow::Result<()> {
    let expected =
        VerifyingKey::from_public_key_pem(&read_small(key)?).ok().with_context(|| {
            format!("{}: expected an Ed25519 public key in PEM, as keygen writes it", key.display())
        })?;
    let expected = hex(expected.as_bytes());
    match signer(folder)? {
        Some(found) if found == expected => Ok(()),
        Some(found) => bail!("signed with {found}: expected {expected}, of {}", key.display()),
        None => bail!("{} has no {SIGNATURE_NAME}: expected one by {expected}", folder.display()),
    }
}

fn bundle_bytes(folder: &Path) -> anyhow::Result<Vec<u8>> {
    let path = folder.join(BUNDLE_NAME);
    plain_file::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

fn public_path(secret: &Path) -> anyhow::Result<PathBuf> {
    let mut name = secret
        .file_name()
        .with_context(|| format!("{} does not end in a name", secret.display()))?
        .to_owned();
    name.push(".pub");
    Ok(secret.with_file_name(name))
}

fn read_small(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    fragment::open_plain(path)?
        .take(MAX_BYTES)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text)
}

fn write(path: &Path, bytes: &[u8], force: bool) -> anyhow::Result<()> {
    use std::io::Write;
    atomic::write_file(path, force, |out| Ok(out.write_all(bytes)?))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> anyhow::Result<[u8; N]> {
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
