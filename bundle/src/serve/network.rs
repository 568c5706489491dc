//! Addresses and certificates: what it takes to be reached from another device.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// What proves to a browser that it talks to this machine.
#[derive(Debug, Clone)]
pub enum Certificate {
    /// Made for this run; a browser warns of it.
    SelfSigned,
    /// PEM files of somebody whom the device trusts, for example of `mkcert`.
    Files {
        /// The certificate and those above it.
        chain: PathBuf,
        /// Its secret key.
        key: PathBuf,
    },
}

/// This machine's address in the network that leads outside.
///
/// # Errors
/// When there is no such network.
pub fn own_address() -> anyhow::Result<Ipv4Addr> {
    // Nothing is sent: connecting a datagram socket only picks the way, and with it the address
    // that others see. The target is of a block for documentation (RFC 5737).
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket
        .connect((Ipv4Addr::new(192, 0, 2, 1), 9))
        .context("--lan: this machine is in no network")?;
    match socket.local_addr()? {
        SocketAddr::V4(address) => Ok(*address.ip()),
        SocketAddr::V6(address) => bail!("--lan: {address} is no IPv4 address"),
    }
}

/// What the server's side of an encrypted connection needs.
///
/// # Errors
/// When the certificate's files cannot be read, or do not belong together.
pub fn tls(certificate: &Certificate, host: Ipv4Addr) -> anyhow::Result<RustlsConfig> {
    let (chain, key) = match certificate {
        Certificate::SelfSigned => self_signed(host)?,
        Certificate::Files { chain, key } => {
            let certificates = CertificateDer::pem_file_iter(chain)
                .and_then(|found| found.collect::<Result<Vec<_>, _>>())
                .with_context(|| format!("{}: expected PEM certificates", chain.display()))?;
            let secret = PrivateKeyDer::from_pem_file(key)
                .with_context(|| format!("{}: expected a PEM key", key.display()))?;
            (certificates, secret)
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("the certificate cannot be used")?;
    Ok(RustlsConfig::from_config(Arc::new(config)))
}

fn self_signed(
    host: Ipv4Addr,
) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let made = rcgen::generate_simple_self_signed([host.to_string(), "localhost".to_owned()])
        .context("cannot make a certificate")?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    Ok((vec![made.cert.der().clone()], key.into()))
}

/// The address as a picture for a phone's camera; none where it is too long for one.
pub fn qr_code(address: &str) -> Option<String> {
    let code = fast_qr::QRBuilder::new(address).build().ok()?;
    Some(code.to_str())
}
