//! The server in a network: which certificate it shows, and what it says of it.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::common::Fixture;
use super::common::server::{Server, job};
use bundle::{Certificate, Limits, Reach, ServeJob};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

fn start(folder: &Path) -> Server {
    let fixture = Fixture::packed();
    let reach = Reach::Lan(Certificate::Kept { folder: Some(folder.to_owned()) });
    let hosts = vec!["model.local".parse().unwrap()];
    let job = ServeJob { reach, hosts, ..job(&fixture) };
    Server::run(fixture, job)
}

/// As a device that has accepted the certificate in `folder`.
fn client(folder: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("server.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

fn status(server: &Server, config: &Arc<ClientConfig>, name: &str) -> std::io::Result<String> {
    let expected = ServerName::try_from(name.to_owned()).unwrap();
    let connection = ClientConnection::new(config.clone(), expected).unwrap();
    let mut stream = StreamOwned::new(connection, server.connect());
    let request = format!("GET /bundle.json HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn a_device_that_accepted_the_certificate_accepts_it_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let first = start(folder.path());
    let config = client(folder.path());
    for name in ["localhost", "model.local"] {
        assert_eq!(status(&first, &config, name).unwrap(), "HTTP/1.1 200", "{name}");
    }
    assert!(status(&first, &config, "other.local").is_err(), "it was not made for that name");
    let first = first.stop();
    let own = first.address.strip_prefix("https://").unwrap().split(':').next().unwrap();
    let second = start(folder.path());
    assert_eq!(status(&second, &config, "localhost").unwrap(), "HTTP/1.1 200");
    let connection = ClientConnection::new(config, ServerName::try_from(own.to_owned()).unwrap());
    let stream = TcpStream::connect((own, second.address.port())).unwrap();
    let mut stream = StreamOwned::new(connection.unwrap(), stream);
    let request = format!("GET / HTTP/1.1\r\nhost: {own}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 307", "the address that the QR code has");
    assert_eq!(second.stop().certificate_sha256, first.certificate_sha256);
}

/// OpenSSL computes it from what the server sends.
#[test]
fn the_fingerprint_is_the_one_that_openssl_shows() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path());
    let to = server.address.to_string();
    let shown = Command::new("openssl")
        .args(["s_client", "-connect", &to])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let Ok(shown) = shown else {
        eprintln!("skipped: the_fingerprint_is_the_one_that_openssl_shows needs openssl");
        return;
    };
    let mut openssl = Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-ext", "extendedKeyUsage"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    openssl.stdin.take().unwrap().write_all(&shown.stdout).unwrap();
    let output = openssl.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let expected = text.lines().find_map(|line| line.split_once('=')).unwrap().1;
    assert!(text.contains("TLS Web Server Authentication"), "{text}");
    assert_eq!(server.stop().certificate_sha256.as_deref(), Some(expected));
}

#[test]
fn a_client_that_does_not_finish_the_handshake_is_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::packed();
    let limits = Limits {
        header: std::time::Duration::from_millis(300),
        ..Limits::of_this_process().unwrap()
    };
    let reach = Reach::Lan(Certificate::Kept { folder: Some(folder.path().to_owned()) });
    let server = Server::run(Fixture::packed(), ServeJob { reach, limits, ..job(&fixture) });
    for bytes in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"] {
        let mut stream = server.connect();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
    }
}

#[test]
fn the_terminal_shows_the_fingerprint_and_what_it_is_for() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::packed();
    let mut child = crate::program::stage("bundle")
        .args(["serve", "--json", "--lan", "--port", "0", "--certificate-folder"])
        .arg(folder.path())
        .arg("--input")
        .arg(fixture.output())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut shown = String::new();
    let mut stderr = child.stderr.take().unwrap();
    while !shown.contains("--certificate takes one") {
        let mut buffer = [0; 4096];
        let read = stderr.read(&mut buffer).unwrap();
        assert!(read > 0, "the server ended: {shown}");
        shown.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let fingerprint = report["certificate_sha256"].as_str().unwrap();
    let lines: Vec<&str> = shown.lines().collect();
    let heading = lines.iter().position(|line| line.contains("SHA-256 fingerprint")).unwrap();
    let joined = format!("{}{}", lines[heading + 1].trim(), lines[heading + 2].trim());
    assert_eq!(joined, fingerprint);
    assert!(shown.contains("go on only if it has this fingerprint"), "{shown}");
}
