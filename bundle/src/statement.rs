//! What a key says of itself, signed by itself: that another key replaces it (a rotation), or that
//! nothing it signed counts any more (a revocation). Statements lie in files of their own and
//! travel in `bundle.sig`.
//!
//! This is what TUF's root role and signify's next key do, for one publisher and no server. Every
//! text that a key signs begins with a line that says what it is, so that none passes for another:
//!
//! ```text
//! pocketgpt-signature 2 bundle      and the bytes of bundle.json
//! pocketgpt-signature 2 rotation    and a line each for the old key and the new key
//! pocketgpt-signature 2 revocation  and a line for the key
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::keys::{hex, read_public, read_secret, read_small, unhex, write};

const FORMAT: &str = "pocketgpt-key-statement";
const VERSION: u32 = 1;

/// Larger than any statement.
const MAX_BYTES: u64 = 4096;

/// What a signature is of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Signed<'a> {
    /// The bytes of `bundle.json`.
    Bundle(&'a [u8]),
    Rotation {
        old: &'a str,
        new: &'a str,
    },
    Revocation {
        key: &'a str,
    },
}

impl Signed<'_> {
    /// What is signed; no kind's text is the beginning of another's.
    pub fn message(self) -> Vec<u8> {
        let (kind, content) = match self {
            Signed::Bundle(bytes) => ("bundle", bytes.to_vec()),
            Signed::Rotation { old, new } => ("rotation", format!("{old}\n{new}\n").into_bytes()),
            Signed::Revocation { key } => ("revocation", format!("{key}\n").into_bytes()),
        };
        [format!("pocketgpt-signature 2 {kind}\n").as_bytes(), &content].concat()
    }

    /// The signature, as hexadecimal digits.
    pub fn sign(self, key: &SigningKey) -> String {
        hex(&key.sign(&self.message()).to_bytes())
    }

    /// Whether `signature` is by `key`, both as hexadecimal digits.
    ///
    /// # Errors
    /// When it is not, or one of them cannot be read.
    pub fn verify(self, key: &str, signature: &str) -> anyhow::Result<()> {
        let public = VerifyingKey::from_bytes(&unhex(key)?)
            .ok()
            .with_context(|| format!("the public key {key} is no point of the curve"))?;
        let signature = Signature::from_bytes(&unhex(signature)?);
        // Strict: of keys and signatures that mean the same there is one spelling only.
        public
            .verify_strict(&self.message(), &signature)
            .ok()
            .with_context(|| format!("the signature is not by {key}, or not of this"))
    }
}

/// What a key says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Rotation,
    Revocation,
}

/// A statement, in a file of its own or in `bundle.sig`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Statement {
    format: String,
    version: u32,
    kind: Kind,
    /// Who says it, and of whom: 32 bytes as lower-case hexadecimal digits.
    key: String,
    /// The key that takes its place; a rotation has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    new_key: Option<String>,
    /// 64 bytes as lower-case hexadecimal digits.
    signature: String,
}

impl Statement {
    /// Reads a statement's file and checks its signature.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let place = || path.display().to_string();
        let statement: Statement =
            serde_json::from_str(&read_small(path, MAX_BYTES)?).with_context(place)?;
        statement.check().with_context(place)?;
        Ok(statement)
    }

    /// The first rule that it breaks.
    pub fn check(&self) -> anyhow::Result<()> {
        let known = (self.format.as_str(), self.version);
        ensure!(
            known == (FORMAT, VERSION),
            "format {}, version {}: expected {FORMAT}, {VERSION}",
            self.format,
            self.version
        );
        let signed = match (self.kind, &self.new_key) {
            (Kind::Rotation, Some(new)) => {
                unhex::<32>(new)?;
                ensure!(*new != self.key, "the rotation of {new} is to itself");
                Signed::Rotation { old: &self.key, new }
            }
            (Kind::Revocation, None) => Signed::Revocation { key: &self.key },
            (Kind::Rotation, None) => bail!("the rotation has no new_key"),
            (Kind::Revocation, Some(_)) => bail!("the revocation has a new_key"),
        };
        signed.verify(&self.key, &self.signature)
    }
}

/// Checked statements, which do not contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Statements(Vec<Statement>);

impl Statements {
    /// # Errors
    /// When a signature does not hold, or a key is replaced by two.
    pub fn new(all: Vec<Statement>) -> anyhow::Result<Self> {
        for (at, statement) in all.iter().enumerate() {
            statement.check()?;
            let same =
                |other: &&Statement| (other.kind, &other.key) == (statement.kind, &statement.key);
            ensure!(
                !all[..at].iter().any(|other| same(&other)),
                "{} has two statements of one kind: expected one",
                statement.key
            );
        }
        Ok(Statements(all))
    }

    /// These and `more`, of which those that are here already are left out.
    pub fn and(mut self, more: Vec<Statement>) -> anyhow::Result<Self> {
        for statement in more {
            if !self.0.contains(&statement) {
                self.0.push(statement);
            }
        }
        Statements::new(self.0)
    }

    pub fn is_revoked(&self, key: &str) -> bool {
        self.0.iter().any(|one| one.kind == Kind::Revocation && one.key == key)
    }

    /// The key that takes the place of `key`.
    pub fn successor(&self, key: &str) -> Option<&str> {
        let rotation = self.0.iter().find(|one| one.kind == Kind::Rotation && one.key == key)?;
        rotation.new_key.as_deref()
    }

    /// The keys from `trusted` to `signer`, both included, each replaced by the next. What a revoked
    /// key says of its successor does not count: whoever took it could say the same.
    pub fn path(&self, trusted: &str, signer: &str) -> anyhow::Result<Vec<String>> {
        let mut path = vec![trusted.to_owned()];
        let mut key = trusted;
        loop {
            ensure!(!self.is_revoked(key), "the key {key} is revoked: nothing it signed counts");
            if key == signer {
                return Ok(path);
            }
            key =
                self.successor(key).filter(|_| path.len() <= self.0.len()).with_context(|| {
                    format!("signed with {signer}: expected {trusted}, or a key that replaces it")
                })?;
            path.push(key.to_owned());
        }
    }
}

/// What [`rotate_key`] and [`revoke_key`] did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatementReport {
    /// The statement's file, for `bundle sign --statement`.
    pub output: PathBuf,
    /// The key that it is of.
    pub key: String,
    /// The key that takes its place; `None` where it is revoked.
    pub new_key: Option<String>,
}

impl std::fmt::Display for StatementReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let StatementReport { output, key, new_key } = self;
        match new_key {
            Some(new) => write!(f, "{}\n{new}\nreplaces {key}", output.display()),
            None => write!(f, "{}\nrevokes {key}", output.display()),
        }
    }
}

/// Writes the statement that the public key of the file `new` takes the place of the secret key of
/// the file `old`.
///
/// # Errors
/// When a key cannot be read, both are one, the output exists and `force` is off, or the system
/// refuses.
pub fn rotate_key(
    old: &Path,
    new: &Path,
    output: &Path,
    force: bool,
) -> anyhow::Result<StatementReport> {
    state(read_secret(old)?, Some(read_public(new)?), output, force)
}

/// Writes the statement that nothing counts any more which the secret key of the file `key` signed.
///
/// # Errors
/// As [`rotate_key`].
pub fn revoke_key(key: &Path, output: &Path, force: bool) -> anyhow::Result<StatementReport> {
    state(read_secret(key)?, None, output, force)
}

fn state(
    secret: SigningKey,
    new_key: Option<String>,
    output: &Path,
    force: bool,
) -> anyhow::Result<StatementReport> {
    let key = hex(secret.verifying_key().as_bytes());
    let (kind, signed) = match &new_key {
        Some(new) => (Kind::Rotation, Signed::Rotation { old: &key, new }),
        None => (Kind::Revocation, Signed::Revocation { key: &key }),
    };
    let statement = Statement {
        format: FORMAT.to_owned(),
        version: VERSION,
        kind,
        key: key.clone(),
        new_key: new_key.clone(),
        signature: signed.sign(&secret),
    };
    statement.check()?;
    let text = format!("{}\n", serde_json::to_string_pretty(&statement)?);
    write(output, text.as_bytes(), force)?;
    Ok(StatementReport { output: output.to_owned(), key, new_key })
}
