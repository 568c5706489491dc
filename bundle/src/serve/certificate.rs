//! What proves to a browser that it talks to this machine.
//!
//! A certificate that nobody else vouches for proves something only to whom has compared its
//! fingerprint, or has accepted it before. So one is kept for each machine and user, as ssh keeps a
//! host's key, and what could make it change in silence is an error.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;

use super::hosts::HostName;
use super::kept_certificate::{self, Origin};

/// Where the certificate comes from.
#[derive(Debug, Clone)]
pub enum Certificate {
    /// One that this program makes and keeps in a folder; a browser warns of it once.
    Kept {
        /// The folder; `None` for that of the user's state.
        folder: Option<PathBuf>,
    },
    /// PEM files of somebody whom the device trusts, for example of `mkcert`.
    Files {
        /// The certificate and those above it.
        chain: PathBuf,
        /// Its secret key.
        key: PathBuf,
    },
}

/// A certificate, those above it, and its key.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// What the server's side of encrypted connections needs, and what the user is told of it.
pub(super) struct Prepared {
    pub(super) tls: TlsAcceptor,
    pub(super) fingerprint: String,
    /// What became of the kept certificate; `None` for files of the user's own.
    pub(super) origin: Option<Origin>,
}

/// Reads the certificate, or makes it, for `names`.
///
/// # Errors
/// When the certificate's files cannot be read or written, are not the user's alone, or do not
/// belong together.
pub(super) fn prepare(certificate: &Certificate, names: &[HostName]) -> anyhow::Result<Prepared> {
    let (identity, origin) = match certificate {
        Certificate::Kept { folder } => {
            let folder = match folder {
                Some(folder) => folder.clone(),
                None => default_folder()?,
            };
            let (identity, origin) =
                kept_certificate::open_or_make(&folder, names, SystemTime::now())?;
            (identity, Some(origin))
        }
        Certificate::Files { chain, key } => (read_files(chain, key)?, None),
    };
    let first = identity.chain.first().context("the certificate's file holds no certificate")?;
    let fingerprint = fingerprint(first);
    Ok(Prepared { tls: acceptor(identity)?, fingerprint, origin })
}

/// The SHA-256 of a certificate, as browsers and `openssl x509 -fingerprint` show it.
pub(super) fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let bytes = Sha256::digest(certificate);
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

/// In the folder for what a program keeps of a machine, not for what moves with the user.
fn default_folder() -> anyhow::Result<PathBuf> {
    let state = dirs::state_dir().or_else(dirs::data_local_dir);
    let state = state.context(
        "this system names no folder for the certificate (HOME is unset); \
         --certificate-folder DIR names one",
    )?;
    Ok(state.join("pocketgpt").join("serve"))
}

fn read_files(chain: &Path, key: &Path) -> anyhow::Result<Identity> {
    let bytes = plain_file::read(chain).with_context(|| chain.display().to_string())?;
    let certificates = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("{}: expected PEM certificates", chain.display()))?;
    let bytes = plain_file::read(key).with_context(|| key.display().to_string())?;
    let secret = PrivateKeyDer::from_pem_slice(&bytes)
        .with_context(|| format!("{}: expected a PEM key", key.display()))?;
    Ok(Identity { chain: certificates, key: secret })
}

fn acceptor(identity: Identity) -> anyhow::Result<TlsAcceptor> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(identity.chain, identity.key)
        .context("the certificate cannot be used")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
