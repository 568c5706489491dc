//! Files in stores: HTTP servers, S3, Google Cloud Storage and Azure, through the crate
//! `object_store`. TLS is rustls with ring; which authorities are trusted is the system's list.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::StreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::{HttpClient, HttpConnector};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, GetOptions, GetRange, ObjectStore, PutMode, PutOptions,
    RetryConfig,
};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::transport::{
    Fault, FaultKind, Patience, Put, Transport, Wanted, check_length, expected_length, reserve,
};

/// Times that a request which failed at once is repeated before the place counts as broken.
const RETRIES: usize = 2;
/// Redirects that are followed, from `http` and `https` addresses only.
const MAX_REDIRECTS: usize = 5;
/// Longest text of a store that is passed on in a message.
const MAX_MESSAGE_CHARS: usize = 300;

/// The files below one address.
pub(crate) struct ObjectTransport {
    name: String,
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    patience: Patience,
    runtime: Runtime,
}

impl std::fmt::Debug for ObjectTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The store's own text could show credentials.
        f.debug_struct("ObjectTransport").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ObjectTransport {
    /// The files below `address`, which was checked.
    pub fn new(address: &str, patience: Patience) -> anyhow::Result<Self> {
        let (store, prefix) = open(address, patience)
            .map_err(|error| anyhow::anyhow!("{address}: {}", message(&error)))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("fetch")
            .enable_all()
            .build()
            .context("cannot start a thread for the network")?;
        Ok(ObjectTransport { name: address.to_owned(), store, prefix, patience, runtime })
    }

    fn path(&self, file: &str) -> Path {
        self.prefix.clone().join(file)
    }

    async fn fetch(&self, file: &str, wanted: Wanted, out: &mut Vec<u8>) -> Result<(), Fault> {
        let started = Instant::now();
        let range = match &wanted {
            Wanted::Range(range) => Some(GetRange::Bounded(range.clone())),
            Wanted::Whole(_) | Wanted::UpTo(_) => None,
        };
        let options = GetOptions { range, ..GetOptions::default() };
        let path = self.path(file);
        let answer = timeout(self.patience.stall, self.store.get_opts(&path, options));
        let answer = answer.await.map_err(|_| self.stalled(file))?;
        let answer = answer.map_err(|error| fault(file, &error))?;
        let length = expected_length(file, answer.meta.size, &wanted)?;
        check_length(file, answer.range.end.saturating_sub(answer.range.start), length)?;
        reserve(out, length)?;
        let (mut body, longest) = (answer.into_stream(), self.patience.for_bytes(length));
        while let Some(bytes) =
            timeout(self.patience.stall, body.next()).await.map_err(|_| self.stalled(file))?
        {
            let bytes = bytes.map_err(|error| fault(file, &error))?;
            if bytes.len() as u64 > length - out.len() as u64 {
                let what = format!("{file} does not end after {length} bytes");
                return Err(Fault::new(FaultKind::Wrong, what));
            }
            out.extend_from_slice(&bytes);
            if started.elapsed() > longest {
                let what = format!(
                    "{file} is sent too slowly: {} of {length} bytes in {}",
                    out.len(),
                    cli::seconds(started.elapsed().as_secs_f64())
                );
                return Err(Fault::new(FaultKind::Broken, what));
            }
        }
        check_length(file, out.len() as u64, length)
    }

    async fn store(&self, file: &str, bytes: &[u8]) -> Result<Put, Fault> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let (path, longest) = (self.path(file), self.patience.for_bytes(bytes.len() as u64));
        let put = self.store.put_opts(&path, bytes.to_vec().into(), options);
        match timeout(longest, put).await.map_err(|_| self.stalled(file))? {
            Ok(_) => Ok(Put::Created),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Put::Exists),
            Err(error) => Err(fault(file, &error)),
        }
    }

    async fn names(&self) -> Result<HashMap<String, u64>, Fault> {
        let mut found = HashMap::new();
        let mut files = self.store.list(Some(&self.prefix));
        while let Some(file) = timeout(self.patience.stall, files.next())
            .await
            .map_err(|_| self.stalled("the list"))?
        {
            let file = file.map_err(|error| fault("the list", &error))?;
            // Files of folders below are none of ours, even if they have the name of a piece.
            let below = file.location.prefix_match(&self.prefix).map(|parts| parts.count());
            if let (Some(1), Some(name)) = (below, file.location.filename()) {
                found.insert(name.to_owned(), file.size);
            }
        }
        Ok(found)
    }

    fn stalled(&self, what: &str) -> Fault {
        let stall = cli::seconds(self.patience.stall.as_secs_f64());
        Fault::new(FaultKind::Broken, format!("{what}: no byte came for {stall}"))
    }

    /// Whether the address has a scheme whose stores can be written to.
    fn is_writable(&self) -> Result<(), Fault> {
        match self.name.starts_with("http") {
            false => Ok(()),
            true => Err(Fault::new(
                FaultKind::Broken,
                "servers of http cannot be told to create a file only if it is missing: expected \
                 an address of s3, gs or az, or copy the folder to where the server has its files",
            )),
        }
    }
}

impl Transport for ObjectTransport {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, file: &str, wanted: Wanted, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.runtime.block_on(self.fetch(file, wanted, out))
    }

    fn put(&self, file: &str, bytes: &[u8]) -> Result<Put, Fault> {
        self.is_writable()?;
        self.runtime.block_on(self.store(file, bytes))
    }

    fn list(&self) -> Result<HashMap<String, u64>, Fault> {
        self.is_writable()?;
        self.runtime.block_on(self.names())
    }
}

/// The store of an address, and the path in it.
fn open(address: &str, patience: Patience) -> object_store::Result<(Arc<dyn ObjectStore>, Path)> {
    let (scheme, rest) = address.split_once("://").unwrap_or_default();
    let path = Path::parse(rest.split_once('/').map_or("", |(_, path)| path))?;
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: RETRIES,
        retry_timeout: patience.stall,
    };
    let options = ClientOptions::new();
    let connector = Connector { patience, redirects: scheme.starts_with("http") };
    // The environment may name an endpoint of a test on this machine, which has no TLS.
    let store: Arc<dyn ObjectStore> = match scheme {
        "s3" => Arc::new(
            AmazonS3Builder::from_env()
                .with_url(address)
                .with_retry(retry)
                .with_http_connector(connector)
                .build()?,
        ),
        "gs" => Arc::new(
            GoogleCloudStorageBuilder::from_env()
                .with_url(address)
                .with_retry(retry)
                .with_http_connector(connector)
                .build()?,
        ),
        "az" => Arc::new(
            MicrosoftAzureBuilder::from_env()
                .with_url(address)
                .with_retry(retry)
                .with_http_connector(connector)
                .build()?,
        ),
        _ => {
            let store = HttpBuilder::new()
                .with_url(address)
                .with_client_options(options)
                .with_retry(retry)
                .with_http_connector(connector)
                .build()?;
            return Ok((Arc::new(store), Path::default()));
        }
    };
    Ok((store, path))
}

/// Makes the HTTP client of a store.
#[derive(Debug)]
struct Connector {
    patience: Patience,
    /// Servers of files may redirect; a store that signs its requests has no reason to.
    redirects: bool,
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Generic {
            store: "HTTP",
            source,
        };
        // The provider is named here, so that nothing depends on one for the whole process.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(BuilderVerifierExt::with_platform_verifier)
            .map_err(|error| failed(error.into()))?
            .with_no_client_auth();
        let redirect = match self.redirects {
            true => reqwest::redirect::Policy::custom(follow),
            false => reqwest::redirect::Policy::none(),
        };
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(redirect)
            .connect_timeout(self.patience.stall)
            .user_agent(concat!("pocketgpt/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| failed(error.into()))?;
        Ok(HttpClient::new(client))
    }
}

/// A few redirects, and none that leaves encryption.
fn follow(attempt: reqwest::redirect::Attempt<'_>) -> reqwest::redirect::Action {
    let encrypted = attempt.previous().last().is_some_and(|from| from.scheme() == "https");
    if encrypted && attempt.url().scheme() != "https" {
        return attempt.error("a redirect from https to http");
    }
    match attempt.previous().len() > MAX_REDIRECTS {
        true => attempt.error("more than 5 redirects"),
        false => attempt.follow(),
    }
}

fn fault(file: &str, error: &Error) -> Fault {
    match error {
        Error::NotFound { .. } => Fault::new(FaultKind::Missing, format!("{file} is missing")),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Fault::new(
            FaultKind::Broken,
            format!(
                "{file}: access was refused ({}); credentials are read from the environment",
                message(error)
            ),
        ),
        error => Fault::new(FaultKind::Broken, format!("{file}: {}", message(error))),
    }
}

/// The innermost causes say the most, in one line.
fn message(error: &Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(this) = cause {
        let text: String = this.to_string().replace(char::is_control, " ");
        // A parent's text often contains its cause's.
        if let Some(last) = texts.last_mut().filter(|last| last.contains(&text)) {
            *last = text;
        } else {
            texts.push(text);
        }
        cause = this.source();
    }
    let line = texts.join(": ");
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_MESSAGE_CHARS) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}
