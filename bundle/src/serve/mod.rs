//! A bundle over HTTP: what a browser needs to run the web chat from it.
//!
//! On the loopback address plain HTTP is enough. Anywhere else browsers give threads, storage and
//! hashes to encrypted pages only ("secure contexts"), so that is what `--lan` serves.

mod network;
mod site;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use axum_server::Handle;
use hyper_util::rt::TokioTimer;
use serde::Serialize;

pub use network::Certificate;
pub(crate) use site::HEADERS;
pub use site::{Site, router};

/// A client that has not said what it wants by then is let go.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// For answers under way when the server is asked to stop.
const GRACE: Duration = Duration::from_secs(2);
/// Between two looks at whether the user wants to stop.
const POLL: Duration = Duration::from_millis(100);

/// What [`serve`] is to do.
#[derive(Debug, Clone)]
pub struct ServeJob {
    /// The bundle's folder.
    pub input: PathBuf,
    /// TCP port; 0 takes any that is free.
    pub port: u16,
    /// Who can connect, and how.
    pub reach: Reach,
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
    /// Answers given.
    pub requests: u64,
}

impl std::fmt::Display for ServeReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} requests", self.address, cli::count(self.requests))
    }
}

/// Serves a bundle until `interrupt`. Where it is, as text and for other devices as a QR code,
/// is said on stderr.
///
/// # Errors
/// When the folder holds no valid bundle, the port is taken, or the certificate cannot be used.
pub fn serve(job: &ServeJob, interrupt: &cli::Interrupt) -> anyhow::Result<ServeReport> {
    let site = Site::open(&job.input)?;
    let (host, scheme) = match job.reach {
        Reach::Loopback => (Ipv4Addr::LOCALHOST, "http"),
        Reach::Lan(_) => (network::own_address()?, "https"),
    };
    let bound = match job.reach {
        Reach::Loopback => Ipv4Addr::LOCALHOST,
        Reach::Lan(_) => Ipv4Addr::UNSPECIFIED,
    };
    let listener = TcpListener::bind((bound, job.port))
        .with_context(|| format!("cannot listen on {bound}:{}; --port takes another", job.port))?;
    listener.set_nonblocking(true)?;
    let address = format!("{scheme}://{host}:{}/", listener.local_addr()?.port());
    announce(&site, &address, &job.reach);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the server's threads")?;
    runtime.block_on(listen(listener, &site, &job.reach, host, interrupt))?;
    Ok(ServeReport { address, requests: site.requests() })
}

fn announce(site: &Site, address: &str, reach: &Reach) {
    if !site.has_app() {
        eprintln!("this bundle has no web chat: only its files are served");
    }
    eprintln!("serving {} at {address} (Ctrl-C stops)", site.name());
    if let Reach::Lan(certificate) = reach {
        if let Some(code) = network::qr_code(address) {
            eprintln!("{code}");
        }
        if matches!(certificate, Certificate::SelfSigned) {
            eprintln!(
                "The certificate is made for this run, so the browser warns once: what it shows \
                 as the certificate's host must be {address}. A certificate that the device \
                 trusts (--certificate) avoids that, and lets the page start without a network."
            );
        }
    }
}

async fn listen(
    listener: TcpListener,
    site: &Site,
    reach: &Reach,
    host: Ipv4Addr,
    interrupt: &cli::Interrupt,
) -> anyhow::Result<()> {
    let handle: Handle<SocketAddr> = Handle::new();
    tokio::spawn(stop_when_asked(handle.clone(), interrupt.clone()));
    let service = router(site.clone()).into_make_service();
    match reach {
        Reach::Loopback => {
            let mut server = axum_server::from_tcp(listener)?.handle(handle);
            limit_patience(server.http_builder());
            server.serve(service).await?;
        }
        Reach::Lan(certificate) => {
            let config = network::tls(certificate, host)?;
            let mut server = axum_server::from_tcp_rustls(listener, config)?.handle(handle);
            limit_patience(server.http_builder());
            server.serve(service).await?;
        }
    }
    Ok(())
}

fn limit_patience<E>(builder: &mut hyper_util::server::conn::auto::Builder<E>) {
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
}

async fn stop_when_asked(handle: Handle<SocketAddr>, interrupt: cli::Interrupt) {
    while !interrupt.requested() {
        tokio::time::sleep(POLL).await;
    }
    handle.graceful_shutdown(Some(GRACE));
}
