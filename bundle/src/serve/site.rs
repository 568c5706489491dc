//! Which paths exist, and how each is answered.
//!
//! A path exists if `bundle.json` lists it and a plain file lies there. It is looked up as it came,
//! never decoded, joined or cleaned, so there is nothing that could lead out of the bundle; and the
//! file is opened without following a link, whatever was put there since the start.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName};
use axum::http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use tower_http::compression::CompressionLayer;
use tower_http::services::ServeDir;

use super::files::Files;
use super::hosts::Hosts;
use super::server::Local;
use crate::files::list_files;
use crate::manifest::{APP_PAGE, BUNDLE_NAME};
use crate::signature::SIGNATURE_NAME;
use crate::verify::read_manifest;

/// Sent with every answer. The first three let a page use threads (`SharedArrayBuffer`) and keep
/// other sites from reading it; the fourth lets it load from here only.
pub(crate) const HEADERS: [(&str, &str); 6] = [
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-embedder-policy", "require-corp"),
    ("cross-origin-resource-policy", "same-origin"),
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
];

/// No foreign origin and no inline code. WebAssembly must be compiled; llama.cpp's threads start
/// from a `blob:`.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; \
    worker-src 'self' blob:; connect-src 'self' blob:; img-src 'self' data:; style-src 'self'; \
    manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Named by their content, so they never change.
const FOREVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// Kept, but asked about each time.
const ASK: HeaderValue = HeaderValue::from_static("no-cache");

/// A failure is over once its cause is.
const NOT_KEPT: HeaderValue = HeaderValue::from_static("no-store");

/// A bundle that is served. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Site(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    files: Files,
    name: String,
    paths: HashSet<String>,
    hosts: Hosts,
    requests: AtomicU64,
}

impl Site {
    /// Reads the list of a bundle's files, which are answered to requests for `hosts`.
    ///
    /// # Errors
    /// When `folder` has no valid `bundle.json`, or holds a link.
    pub(super) fn open(folder: &Path, hosts: Hosts) -> anyhow::Result<Self> {
        let files = Files::open(folder)
            .with_context(|| format!("cannot open the folder {}", folder.display()))?;
        let manifest = read_manifest(folder)?;
        let there: HashSet<String> = list_files(folder)?.into_iter().collect();
        let own = [BUNDLE_NAME, SIGNATURE_NAME].map(str::to_owned);
        let listed = manifest.files.into_iter().map(|file| file.path).chain(own);
        Ok(Site(Arc::new(Inner {
            files,
            hosts,
            name: manifest.name,
            paths: listed.filter(|path| there.contains(path)).collect(),
            requests: AtomicU64::new(0),
        })))
    }

    /// Name of the model.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether the bundle has a page to show.
    pub fn has_app(&self) -> bool {
        self.0.paths.contains(APP_PAGE)
    }

    /// Answers given so far.
    pub fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::Relaxed)
    }

    /// The listed file that a path names, from the bundle's folder.
    fn find(&self, path: &str) -> Option<&str> {
        let path = path.strip_prefix('/')?;
        let name = if path == "app/" { APP_PAGE } else { path };
        self.0.paths.get(name).map(String::as_str)
    }
}

/// Everything there is to answer.
pub fn router(site: Site) -> Router {
    let compress = CompressionLayer::new().compress_when(is_worth_compressing);
    Router::new().fallback(answer).with_state(site).layer(compress)
}

async fn answer(
    State(site): State<Site>,
    Extension(Local(local)): Extension<Local>,
    request: Request,
) -> Response {
    site.0.requests.fetch_add(1, Ordering::Relaxed);
    let cache = cache_control(request.uri().path());
    let (parts, body) = request.into_parts();
    let response = match site.0.hosts.check(&parts, local) {
        Ok(()) => respond(&site, Request::from_parts(parts, body)).await,
        Err(status) => refuse(status),
    };
    let is_found = response.status().is_success() || response.status().is_redirection();
    dress(response, if is_found { cache } else { NOT_KEPT })
}

async fn respond(site: &Site, mut request: Request) -> Response {
    // A part of the file as it was asked about before may not be a part of it as it is: the
    // whole is always right.
    if request.headers().contains_key(header::IF_RANGE) {
        request.headers_mut().remove(header::RANGE);
    }
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/" | "/app") => redirect(),
        (&Method::GET | &Method::HEAD, path) => match site.find(path) {
            Some(name) => send(site, name, request).await,
            None => (StatusCode::NOT_FOUND, "not found\n").into_response(),
        },
        _ => (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")]).into_response(),
    }
}

/// With the headers that every answer has.
fn dress(mut response: Response, cache: HeaderValue) -> Response {
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.insert(header::CACHE_CONTROL, cache);
    response
}

fn redirect() -> Response {
    (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/app/")]).into_response()
}

/// For a request that is meant for another host, or does not say for which.
fn refuse(status: StatusCode) -> Response {
    let text = match status {
        StatusCode::MISDIRECTED_REQUEST => {
            "this server does not answer to that name; `--host NAME` lets it\n"
        }
        _ => "the request does not say which host it is meant for\n",
    };
    (status, text).into_response()
}

/// For a client that has more answers under way than there is room for.
pub(super) fn busy() -> Response {
    let headers = [(header::RETRY_AFTER, "1")];
    let answer = (StatusCode::SERVICE_UNAVAILABLE, headers, "too many answers under way\n");
    dress(answer.into_response(), NOT_KEPT)
}

/// Ranges, validators and the media type are tower-http's work. `name` is a listed path, which
/// has no character that a URI writes otherwise.
async fn send(site: &Site, name: &str, mut request: Request<Body>) -> Response {
    let served = format!("/{name}").parse::<Uri>().map_err(std::io::Error::other);
    let result = match served {
        Ok(uri) => {
            *request.uri_mut() = uri;
            let mut files = ServeDir::with_backend("", site.0.files.clone())
                .append_index_html_on_directories(false);
            files.try_call(request).await
        }
        Err(error) => Err(error),
    };
    match result {
        Ok(response) => response.map(Body::new),
        Err(error) => {
            tracing::warn!("{name}: {error}");
            (StatusCode::INTERNAL_SERVER_ERROR, "the file cannot be read\n").into_response()
        }
    }
}

fn cache_control(path: &str) -> HeaderValue {
    let by_content = path.ends_with(".dat") || path.starts_with("/app/assets/");
    if by_content { FOREVER } else { ASK }
}

/// The page and its WebAssembly shrink to a third; weights do not shrink.
fn is_worth_compressing(
    status: StatusCode,
    _: Version,
    headers: &HeaderMap,
    _: &Extensions,
) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default();
    let texts = ["text/", "application/javascript", "application/json", "application/wasm"];
    status == StatusCode::OK && texts.iter().any(|text| kind.starts_with(text))
}
