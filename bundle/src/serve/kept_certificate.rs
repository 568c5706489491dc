//! The certificate that is made once and kept: key and certificate in one file, so that they are
//! replaced together.

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail, ensure};
use checkpoint::atomic;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::certificate::Identity;
use super::hosts::HostName;

const FILE: &str = "server.pem";
const LOCK: &str = "server.lock";
/// Before the names in the file, outside of what PEM readers look at (RFC 7468, 2).
const NAMES: &str = "Names:";
/// Larger than any such file.
const MAX_BYTES: u64 = 64 << 10;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Browsers refuse more than 398 days.
const VALID: Duration = DAY.saturating_mul(365);
/// A certificate that ends sooner is made anew.
const RENEW: Duration = DAY.saturating_mul(30);
/// Clocks of devices that are behind.
const BACKDATED: Duration = DAY;
/// Names of earlier certificates that a new one has too, newest first: a machine that is carried
/// between networks has one certificate for all of them.
const MOST_NAMES: usize = 16;

/// How long another process may take to make a certificate.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// What became of the kept certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was there, and is good.
    Kept,
    /// There was none.
    Made,
    /// There was one, which would not do any longer: why.
    Renewed(&'static str),
}

/// Reads the certificate in `folder`, or makes one where there is none or it does not do for
/// `names` at `now`. Of several processes one makes it, and the others read that one.
///
/// # Errors
/// When the folder or the file cannot be read or written, is not the user's alone, or the file is
/// damaged.
pub(super) fn open_or_make(
    folder: &Path,
    names: &[HostName],
    now: SystemTime,
) -> anyhow::Result<(Identity, Origin)> {
    make_folder(folder)?;
    let _lock = lock(&folder.join(LOCK))?;
    let path = folder.join(FILE);
    let old = read(&path)?;
    let (origin, known) = match old {
        None => (Origin::Made, Vec::new()),
        Some(kept) => match kept.objection(names, now) {
            None => return Ok((kept.identity, Origin::Kept)),
            Some(why) => (Origin::Renewed(why), kept.names),
        },
    };
    let all = joined(names, known);
    let text = make(&all, now)?;
    atomic::write_secret_file(&path, true, |out| -> anyhow::Result<()> {
        Ok(out.write_all(text.as_bytes())?)
    })?;
    let made = read(&path)?.with_context(|| format!("{} is gone", path.display()))?;
    Ok((made.identity, origin))
}

/// What the file holds.
struct Kept {
    identity: Identity,
    names: Vec<HostName>,
}

impl Kept {
    fn parse(text: &str) -> Option<Self> {
        let certificate = CertificateDer::from_pem_slice(text.as_bytes()).ok()?;
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).ok()?;
        let list = text.lines().find_map(|line| line.strip_prefix(NAMES))?;
        let names = list.split(',').map(|name| name.trim().parse()).collect::<Result<_, _>>();
        let signer = default_provider().key_provider.load_private_key(key.clone_key()).ok()?;
        rustls::sign::CertifiedKey::new(vec![certificate.clone()], signer).keys_match().ok()?;
        let identity = Identity { chain: vec![certificate], key };
        Some(Kept { identity, names: names.ok()? })
    }

    /// Why it does not do any longer.
    fn objection(&self, names: &[HostName], now: SystemTime) -> Option<&'static str> {
        let certificate = self.identity.chain.first()?;
        if !is_valid(certificate, now) {
            Some("the dates do not include today")
        } else if !is_valid(certificate, now + RENEW) {
            Some("less than 30 days were left")
        } else if !names.iter().all(|name| is_for(certificate, name)) {
            Some("the names lack one that this machine has now")
        } else {
            None
        }
    }
}

fn is_valid(certificate: &CertificateDer<'_>, time: SystemTime) -> bool {
    let Ok(since) = time.duration_since(SystemTime::UNIX_EPOCH) else { return false };
    let (Ok(anchor), Ok(end)) = (
        webpki::anchor_from_trusted_cert(certificate),
        webpki::EndEntityCert::try_from(certificate),
    ) else {
        return false;
    };
    let algorithms = default_provider().signature_verification_algorithms;
    let usage = webpki::KeyUsage::server_auth();
    let time = UnixTime::since_unix_epoch(since);
    end.verify_for_usage(algorithms.all, &[anchor], &[], time, usage, None, None).is_ok()
}

fn is_for(certificate: &CertificateDer<'_>, name: &HostName) -> bool {
    let (Ok(name), Ok(end)) =
        (ServerName::try_from(name.as_str()), webpki::EndEntityCert::try_from(certificate))
    else {
        return false;
    };
    end.verify_is_valid_for_subject_name(&name).is_ok()
}

/// The wanted names and those of the certificate before, without repetitions.
fn joined(wanted: &[HostName], before: Vec<HostName>) -> Vec<HostName> {
    let mut names: Vec<HostName> = wanted.to_vec();
    for name in before {
        if names.len() < MOST_NAMES && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The text of a new file.
fn make(names: &[HostName], now: SystemTime) -> anyhow::Result<String> {
    let made = || -> Result<(KeyPair, rcgen::Certificate), rcgen::Error> {
        let texts: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(texts)?;
        params.not_before = (now - BACKDATED).into();
        params.not_after = (now + VALID).into();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "pocketgpt bundle serve");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok((key, certificate))
    };
    let (key, certificate) = made().context("cannot make a certificate")?;
    let list: Vec<&str> = names.iter().map(HostName::as_str).collect();
    Ok(format!(
        "The secret key and the certificate of `bundle serve --lan` on this machine.\n\
         {NAMES} {}\n{}{}",
        list.join(", "),
        key.serialize_pem(),
        certificate.pem()
    ))
}

/// The kept certificate; `None` where there is none.
fn read(path: &Path) -> anyhow::Result<Option<Kept>> {
    let Some(file) = open_own(path)? else { return Ok(None) };
    let mut text = String::new();
    let read = file.take(MAX_BYTES).read_to_string(&mut text);
    let kept = read.ok().and_then(|_| Kept::parse(&text));
    kept.map(Some).with_context(|| {
        format!(
            "{} is damaged: expected a key and its certificate; remove it to have a new one made, \
             whose fingerprint every device has to compare again",
            path.display()
        )
    })
}

/// Opens the user's own secret file, as ssh demands it of keys.
#[cfg(unix)]
fn open_own(path: &Path) -> anyhow::Result<Option<File>> {
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

    use rustix::fs::OFlags;

    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = File::options().read(true).custom_flags(flags.bits() as i32).open(path);
    let file = match opened {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("cannot open {}", path.display()))?,
    };
    let found = file.metadata()?;
    ensure!(found.is_file(), "{} is not a regular file", path.display());
    require_own(path, &found)?;
    let mode = found.mode() & 0o777;
    ensure!(
        mode & 0o077 == 0,
        "{} has mode {mode:o}, so that others can use the secret key; expected 600: chmod 600 it \
         if nobody did, otherwise remove it",
        path.display()
    );
    Ok(Some(file))
}

#[cfg(not(unix))]
fn open_own(path: &Path) -> anyhow::Result<Option<File>> {
    match plain_file::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some).with_context(|| format!("cannot open {}", path.display())),
    }
}

/// Makes the folder, for its owner only, and sees that nobody else can put a file there.
fn make_folder(folder: &Path) -> anyhow::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    #[cfg(unix)]
    {
        let found = std::fs::metadata(folder)?;
        require_own(folder, &found)?;
        let mode = std::os::unix::fs::MetadataExt::mode(&found) & 0o777;
        ensure!(
            mode & 0o022 == 0,
            "{} has mode {mode:o}, so that others can put a certificate there; expected 700",
            folder.display()
        );
    }
    Ok(())
}

#[cfg(unix)]
fn require_own(path: &Path, found: &std::fs::Metadata) -> anyhow::Result<()> {
    let (owner, own) =
        (std::os::unix::fs::MetadataExt::uid(found), rustix::process::geteuid().as_raw());
    ensure!(
        owner == own,
        "{} belongs to user {owner}; expected user {own}: --certificate-folder DIR takes another \
         folder",
        path.display()
    );
    Ok(())
}

/// One process at a time reads or makes the certificate.
fn lock(path: &Path) -> anyhow::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        options.mode(0o600).custom_flags(flags.bits() as i32);
    }
    let file = options.open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if start.elapsed() < PATIENCE => {
                std::thread::sleep(POLL);
            }
            Err(TryLockError::WouldBlock) => bail!(
                "{} is locked by another process for {} s",
                path.display(),
                PATIENCE.as_secs()
            ),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
    }
}

#[cfg(test)]
#[path = "kept_certificate_tests.rs"]
mod tests;
