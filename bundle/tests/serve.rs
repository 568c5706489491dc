//! The server: what is listed comes whole or in parts, and nothing else comes, whoever asks how.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use crate::common::Fixture;
use crate::common::server::{Server, body, job};
use checkpoint::hash::Hasher;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use ureq::http::StatusCode;

#[test]
fn every_listed_file_comes_as_it_was_packed() {
    let server = Server::start();
    let manifest = bundle::read_manifest(&server.fixture.output()).unwrap();
    for file in &manifest.files {
        let response = server.get(&format!("/{}", file.path), &[]);
        assert_eq!(response.status(), StatusCode::OK, "{}", file.path);
        let mut hasher = Hasher::new();
        hasher.update(&body(response));
        assert_eq!(hasher.finish(), file.digests(), "{}", file.path);
    }
    let asked = manifest.files.len() as u64;
    assert_eq!(server.stop().requests, asked);
}

#[test]
fn every_answer_lets_a_page_use_threads_and_load_nothing_foreign() {
    let server = Server::start();
    for path in ["/bundle.json", "/nothing", "/"] {
        let response = server.get(path, &[]);
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("cross-origin-opener-policy"), "same-origin");
        assert_eq!(header("cross-origin-embedder-policy"), "require-corp");
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("http"), "{policy}");
        assert!(!policy.contains("unsafe-inline") && !policy.contains("'unsafe-eval'"), "{policy}");
    }
}

#[test]
fn parts_and_validators_follow_rfc_9110() {
    let server = Server::start();
    let whole = std::fs::read(server.fixture.output().join("tokenizer.json")).unwrap();
    let ask = |headers: &[(&str, &str)]| server.get("/tokenizer.json", headers);
    let last = whole.len() - 1;
    for (range, expected) in [
        ("bytes=0-0".to_owned(), &whole[..1]),
        (format!("bytes=1-{last}"), &whole[1..]),
        ("bytes=-1".to_owned(), &whole[last..]),
    ] {
        let response = ask(&[("range", &range)]);
        assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT, "{range}");
        assert_eq!(body(response), expected, "{range}");
    }
    let beyond = format!("bytes={}-", whole.len());
    assert_eq!(ask(&[("range", &beyond)]).status(), StatusCode::RANGE_NOT_SATISFIABLE);

    let tag = ask(&[]).headers()["etag"].to_str().unwrap().to_owned();
    assert!(tag.starts_with('"'), "{tag} is weak");
    assert_eq!(ask(&[("if-none-match", &tag)]).status(), StatusCode::NOT_MODIFIED);
    // A part of what the file once was is of no use: the whole comes.
    let stale = ask(&[("range", "bytes=0-0"), ("if-range", "\"stale\"")]);
    assert_eq!(stale.status(), StatusCode::OK);
    assert_eq!(body(stale), whole);
}

#[test]
fn pieces_are_kept_for_ever_and_the_list_is_asked_about() {
    let server = Server::start();
    let manifest = bundle::read_manifest(&server.fixture.output()).unwrap();
    let piece = manifest.files.iter().find(|file| file.path.ends_with(".dat")).unwrap();
    let cache = |path: &str| server.get(path, &[]).headers()["cache-control"].clone();
    assert!(cache(&format!("/{}", piece.path)).to_str().unwrap().contains("immutable"));
    assert_eq!(cache("/bundle.json"), "no-cache");
}

#[test]
fn what_is_not_listed_does_not_exist() {
    let server = Server::with_files(&["release.pem", "model.bak"]);
    for path in [
        "/release.pem",
        "/model.bak",
        "/model",
        "/model/",
        "/../pocket/bundle.json",
        "/%2e%2e/F16.gguf",
        "/..%2fF16.gguf",
        "/model/..%5c..%5cF16.gguf",
        "/./bundle.json",
        "//bundle.json",
        "/bundle.json/",
        "/bundle.json%00",
        "/BUNDLE.JSON",
        "/C:/bundle.json",
    ] {
        let answer = server.raw("GET", path, "");
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with("HTTP/1.1 404") || text.starts_with("HTTP/1.1 400"), "{path}");
    }
}

/// A bundle from anywhere may list a file that is a link to something of ours.
#[cfg(unix)]
#[test]
fn a_link_in_a_bundle_leads_nowhere() {
    let fixture = Fixture::packed();
    let manifest = bundle::read_manifest(&fixture.output()).unwrap();
    let listed = fixture.output().join(&manifest.files[0].path);
    std::fs::remove_file(&listed).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &listed).unwrap();
    let interrupt = cli::Interrupt::default();
    interrupt.request();
    let error = bundle::serve(&job(&fixture), &interrupt).unwrap_err().to_string();
    assert!(error.contains("is no plain file"), "{error}");
    let copy = fixture.output().with_extension("static");
    let error = bundle::export_static(&fixture.output(), &copy, false).unwrap_err().to_string();
    assert!(error.contains("is no plain file"), "{error}");
    assert!(!copy.exists());
}

#[test]
fn failures_are_not_kept() {
    let server = Server::start();
    let answer = server.get("/app/assets/old.js", &[]);
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["cache-control"]),
        (404, &"no-store".parse().unwrap())
    );
}

#[test]
fn only_reading_is_allowed() {
    let server = Server::start();
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"] {
        let answer = server.raw(method, "/bundle.json", "");
        assert!(answer.starts_with(b"HTTP/1.1 405"), "{method}");
    }
}

fn anonymous_memory() -> Option<u64> {
    let now = cli::memory::AnonymousPeak::default();
    now.sample();
    now.bytes()
}

/// A request as nobody's browser makes it, or plain noise.
#[derive(Debug, Clone)]
enum Hostile {
    Request { method: String, path: String, headers: String },
    Noise(Vec<u8>),
}

fn hostile() -> impl Strategy<Value = Hostile> {
    let part = prop_oneof![
        Just("..".to_owned()),
        Just("%2e%2e".to_owned()),
        Just("%00".to_owned()),
        Just("model".to_owned()),
        Just("bundle.json".to_owned()),
        "[ -~]{0,40}",
        Just("a/".repeat(2000)),
    ];
    let path = prop::collection::vec(part, 0..5).prop_map(|parts| format!("/{}", parts.join("/")));
    let range = prop_oneof![
        Just("bytes=0-".to_owned()),
        Just("bytes=18446744073709551615-18446744073709551616".to_owned()),
        Just("bytes=5-2".to_owned()),
        Just(format!("bytes={}0-1", "0-1,".repeat(500))),
        "[ -~]{0,60}",
    ];
    let headers = (range, "x-[a-z]{1,20}", "[ -~]{0,80}")
        .prop_map(|(range, name, value)| format!("range: {range}\r\n{name}: {value}\r\n"));
    let method = prop_oneof![Just("GET".to_owned()), Just("HEAD".to_owned()), "[A-Z]{1,9}"];
    let request = (method, path, headers).prop_map(|(method, path, headers)| Hostile::Request {
        method,
        path,
        headers,
    });
    prop_oneof![
        4 => request,
        1 => prop::collection::vec(any::<u8>(), 0..2000).prop_map(Hostile::Noise),
    ]
}

#[test]
fn thousands_of_hostile_requests_change_nothing() {
    let server = Server::with_files(&["release.pem"]);
    let listed = std::fs::read(server.fixture.output().join("bundle.json")).unwrap();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = hostile();
    let mut before = None;
    for round in 0..4000 {
        let request = strategy.new_tree(&mut runner).unwrap().current();
        let answer = match &request {
            Hostile::Request { method, path, headers } => server.raw(method, path, headers),
            Hostile::Noise(bytes) => server.exchange(bytes, true),
        };
        let leaked = answer.windows(6).any(|window| window == b"secret");
        assert!(!leaked, "{request:?}");
        if round == 1000 {
            before = anonymous_memory();
        }
    }
    assert_eq!(body(server.get("/bundle.json", &[])), listed, "the server still answers");
    if let (Some(before), Some(after)) = (before, anonymous_memory()) {
        assert!(after < before + (16 << 20), "memory grew from {before} to {after} bytes");
    }
}
