//! A bundle over HTTP: what a browser needs to run the web chat from it.
//!
//! On the loopback address plain HTTP is enough. Anywhere else browsers give threads, storage and
//! hashes to encrypted pages only ("secure contexts"), so that is what `--lan` serves.
//!
//! | module | |
//! |---|---|
//! | `server`, `connections`, `limits` | who is served, how long it may take, who makes room |
//! | `hosts` | the names that are answered |
//! | `site`, `files` | the paths that exist, and how their files are opened |
//! | `certificate`, `kept_certificate` | what proves to a browser whom it talks to |

mod certificate;
mod connections;
mod files;
mod hosts;
mod kept_certificate;
mod limits;
mod network;
mod server;
mod site;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use serde::Serialize;

pub use certificate::Certificate;
pub use hosts::HostName;
pub use limits::Limits;
pub(crate) use site::HEADERS;
pub use site::Site;

use certificate::Prepared;
use hosts::Hosts;
use kept_certificate::Origin;
use server::{Local, Server};

/// For what still runs when the server has stopped.
const END: Duration = Duration::from_secs(1);

/// What [`serve`] is to do.
#[derive(Debug, Clone)]
pub struct ServeJob {
    /// The bundle's folder.
    pub input: PathBuf,
    /// TCP port; 0 takes any that is free.
    pub port: u16,
    /// Who can connect, and how.
    pub reach: Reach,
    /// Names of this machine that are answered, beside `localhost` and its addresses.
    pub hosts: Vec<HostName>,
    /// How long a client may take, and how much of the server it may hold.
    pub limits: Limits,
}

/// Who can connect, and how.
#[derive(Debug, Clone)]
pub enum Reach {
    /// This machine, over HTTP.
    Loopback,
    /// Everybody in this network, over HTTPS.
    Lan(Certificate),
}

/// What was served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServeReport {
    /// Where the page was.
    pub address: String,
    /// SHA-256 of the certificate, as browsers show it; `None` without encryption.
    pub certificate_sha256: Option<String>,
    /// Answers given.
    pub requests: u64,
}

impl std::fmt::Display for ServeReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} requests", self.address, cli::count(self.requests))
    }
}

/// Serves a bundle until `interrupt`. Where it is, as text and for other devices as a QR code with
/// the certificate's fingerprint, is said on stderr.
///
/// # Errors
/// When the folder holds no valid bundle, the port is taken, or the certificate cannot be used.
pub fn serve(job: &ServeJob, interrupt: &cli::Interrupt) -> anyhow::Result<ServeReport> {
    let site = Site::open(&job.input, Hosts::new(&job.hosts))?;
    let (host, bound, scheme) = match job.reach {
        Reach::Loopback => (Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, "http"),
        Reach::Lan(_) => (network::own_address()?, Ipv4Addr::UNSPECIFIED, "https"),
    };
    let prepared = match &job.reach {
        Reach::Loopback => None,
        Reach::Lan(certificate) => {
            Some(certificate::prepare(certificate, &certified_names(host, &job.hosts))?)
        }
    };
    let runtime = start_runtime()?;
    let listener = {
        let _inside = runtime.enter();
        server::bind(bound, job.port)?
    };
    let address = format!("{scheme}://{host}:{}/", listener.local_addr()?.port());
    announce(&site, &address, prepared.as_ref());
    let certificate_sha256 = prepared.as_ref().map(|prepared| prepared.fingerprint.clone());
    let server = Server {
        router: site::router(site.clone()),
        tls: prepared.map(|prepared| prepared.tls),
        limits: job.limits.clone(),
    };
    runtime.block_on(server.run(listener, interrupt));
    // A file of a network drive that does not answer must not keep the process.
    runtime.shutdown_timeout(END);
    Ok(ServeReport { address, certificate_sha256, requests: site.requests() })
}

/// Serves other routes than a bundle's on a port of the loopback address until `interrupt`, to
/// requests for this machine and for `hosts`, with the limits of [`serve`]. `announce` gets the
/// address.
///
/// # Errors
/// When the port is taken.
pub fn serve_routes(
    routes: Router,
    port: u16,
    hosts: &[HostName],
    limits: Limits,
    interrupt: &cli::Interrupt,
    announce: impl FnOnce(&str),
) -> anyhow::Result<()> {
    let runtime = start_runtime()?;
    let listener = {
        let _inside = runtime.enter();
        server::bind(Ipv4Addr::LOCALHOST, port)?
    };
    announce(&format!("http://{}", listener.local_addr()?));
    let hosts = Arc::new(Hosts::new(hosts));
    let router = routes.layer(from_fn_with_state(hosts, check_host));
    let server = Server { router, tls: None, limits };
    runtime.block_on(server.run(listener, interrupt));
    runtime.shutdown_timeout(END);
    Ok(())
}

fn start_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the server's threads")
}

/// Refuses what is meant for another host.
async fn check_host(
    State(hosts): State<Arc<Hosts>>,
    Extension(Local(local)): Extension<Local>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    match hosts.check(&parts, local) {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(status) => status.into_response(),
    }
}

/// What the page can be opened as.
fn certified_names(host: Ipv4Addr, named: &[HostName]) -> Vec<HostName> {
    let mut names = vec![HostName::from(IpAddr::from(host)), HostName::localhost()];
    names.extend(named.iter().cloned());
    names
}

fn announce(site: &Site, address: &str, prepared: Option<&Prepared>) {
    if !site.has_app() {
        eprintln!("this bundle has no web chat: only its files are served");
    }
    eprintln!("serving {} at {address} (Ctrl-C stops)", site.name());
    if let Some(prepared) = prepared {
        if let Some(code) = network::qr_code(address) {
            eprintln!("{code}");
        }
        eprintln!("SHA-256 fingerprint of the certificate:\n{}", two_lines(&prepared.fingerprint));
        if let Some(origin) = &prepared.origin {
            eprintln!("{}", explained(origin));
        }
    }
}

/// 32 bytes in the width of a terminal.
fn two_lines(fingerprint: &str) -> String {
    let middle = fingerprint.len() / 2;
    let (first, second) = fingerprint.split_at(middle + 1);
    format!("  {first}\n  {second}")
}

fn explained(origin: &Origin) -> String {
    let news = match origin {
        Origin::Kept => "It is the one of last time: a device that accepted it does not ask again.",
        Origin::Made => "It is new, and kept for the next time.",
        Origin::Renewed(why) => &format!("It is new: of the one before, {why}."),
    };
    format!(
        "{news} A browser that does not know it warns. Let it show the certificate then, and go on \
         only if it has this fingerprint: somebody in between can copy all but that, also a page \
         that shows it. --certificate takes one that the device trusts; with it the page also \
         starts without a network."
    )
}
