//! The server under attack: whoever holds it up is let go, others get in, and Ctrl-C ends it.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::common::Fixture;
use super::common::server::{Server, body, job};
use bundle::{Limits, ServeJob};
use socket2::{Domain, Socket, Type};

/// How HTTP/2 begins (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const GET: &[u8] = b"GET /tokenizer.json HTTP/1.1\r\nhost: localhost\r\n\r\n";
/// More than the system keeps on both sides of a connection.
const LARGE: u64 = 64 << 20;

/// The usual limits, but a test does not wait for minutes.
fn quick() -> Limits {
    Limits {
        header: Duration::from_millis(300),
        idle: Duration::from_millis(1500),
        ..Limits::of_this_process().unwrap()
    }
}

/// Waits for the server to close a connection, and returns how much it sent until then.
fn read_to_the_end(stream: &mut TcpStream) -> u64 {
    let mut buffer = vec![0; 64 << 10];
    let mut bytes = 0;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return bytes,
            Ok(read) => bytes += read as u64,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return bytes,
            Err(error) => panic!("the server does not close the connection: {error}"),
        }
    }
}

fn h2_with_no_window() -> Vec<u8> {
    // SETTINGS with INITIAL_WINDOW_SIZE (4) = 0, then GET / of localhost as the only request:
    // HPACK's indexed `:method GET`, `:scheme http`, and literals for `:path` and `:authority`.
    let mut bytes = PREFACE.to_vec();
    bytes.extend([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
    let mut block = vec![0x82, 0x86];
    for (index, text) in [(4, "/tokenizer.json"), (1, "localhost")] {
        block.extend([index, text.len() as u8]);
        block.extend(text.as_bytes());
    }
    bytes.extend([0, 0, block.len() as u8, 1, 5, 0, 0, 0, 1]);
    bytes.extend(block);
    bytes
}

#[test]
fn who_does_not_finish_a_request_is_let_go() {
    let limits = quick();
    let server = Server::with_large_file(LARGE, limits);
    let no_window = h2_with_no_window();
    let client_hello = [&[0x16, 3, 1, 2, 0, 1][..], &[0; 40]].concat();
    let started = [PREFACE, EMPTY_SETTINGS].concat();
    let beginnings: [&[u8]; 9] = [
        b"",
        b"G",
        b"\x16",
        PREFACE,
        &PREFACE[..10],
        &started,
        &client_hello,
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx: ",
        &no_window,
    ];
    let mut streams: Vec<TcpStream> = beginnings.iter().map(|_| server.connect()).collect();
    for (stream, bytes) in streams.iter_mut().zip(beginnings) {
        stream.write_all(bytes).unwrap();
    }
    streams.iter_mut().for_each(|stream| {
        read_to_the_end(stream);
    });
}

/// Bytes that trickle in are no progress until they are a request.
#[test]
fn a_request_that_trickles_in_is_not_waited_for() {
    let server = Server::with_large_file(LARGE, quick());
    let mut stream = server.connect();
    stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let start = Instant::now();
    while stream.write_all(b"x: y\r\n").is_ok() {
        assert!(start.elapsed() < Duration::from_secs(20), "the server goes on reading");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_idle_connection_ends_after_its_answer() {
    let server = Server::with_large_file(4, quick());
    let mut stream = server.connect();
    stream.write_all(GET).unwrap();
    assert!(read_to_the_end(&mut stream) > 4);
}

/// On a busy machine the system's buffers take a while to fill, and that is progress.
#[test]
fn a_client_that_stops_reading_is_let_go() {
    let server = Server::with_large_file(LARGE, quick());
    let is_let_go_within = |wait: Duration| {
        let mut streams: Vec<TcpStream> = (0..20).map(|_| server.connect()).collect();
        for stream in &mut streams {
            stream.write_all(GET).unwrap();
        }
        std::thread::sleep(wait);
        streams.iter_mut().all(|stream| read_to_the_end(stream) < LARGE)
    };
    let waits = [2, 4, 8, 16].map(|times| quick().idle * times);
    assert!(waits.into_iter().any(is_let_go_within), "whole files came, so nothing was stopped");
}

/// The download takes several times as long as a client may make no progress.
#[test]
fn a_slow_client_that_goes_on_gets_everything() {
    const SLOW: u64 = 12 << 20;
    let limits = quick();
    let idle = limits.idle;
    let server = Server::with_large_file(SLOW, limits);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(128 << 10).unwrap();
    socket.connect(&server.address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.write_all(GET).unwrap();
    let start = Instant::now();
    let mut buffer = vec![0; 128 << 10];
    let mut bytes = 0;
    while bytes < SLOW {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "closed after {bytes} bytes");
        bytes += read as u64;
        std::thread::sleep(Duration::from_micros(read as u64 / 2));
    }
    assert!(start.elapsed() > idle * 3, "too fast to show anything: {:?}", start.elapsed());
}

fn from_address(host: u8, server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let own: IpAddr = Ipv4Addr::new(127, 0, 0, host).into();
    socket.bind(&SocketAddr::from((own, 0)).into()).unwrap();
    socket.connect(&server.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Whether a request on a new connection is answered with the file.
fn is_served(mut stream: TcpStream) -> bool {
    let request = b"GET /bundle.json HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let mut answer = Vec::new();
    let _ = stream.write_all(request);
    let _ = stream.read_to_end(&mut answer);
    answer.starts_with(b"HTTP/1.1 200")
}

/// Only Linux has the whole of 127.0.0.0/8 without being told.
#[cfg(target_os = "linux")]
#[test]
fn a_client_address_keeps_no_other_out() {
    let limits = Limits {
        yielding: Duration::MAX,
        total: 24,
        per_address: 16,
        ..Limits::of_this_process().unwrap()
    };
    let fixture = Fixture::packed();
    let server = Server::run(Fixture::packed(), ServeJob { limits, ..job(&fixture) });
    let silent: Vec<TcpStream> = (0..80).map(|_| from_address(2, server.address)).collect();
    assert!(is_served(from_address(3, server.address)));
    drop(silent);
}

/// A server in a process of its own, with a limit of open files.
struct Process(Child, SocketAddr);

impl Process {
    fn start(fixture: &Fixture, descriptors: u32) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", "ulimit -n \"$0\" && exec \"$@\""])
            .arg(descriptors.to_string())
            .args([crate::program::PATH, "bundle"])
            .args(["serve", "--port", "0", "--input"])
            .arg(fixture.output())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line =
            lines.find_map(|line| line.ok().filter(|line| line.contains("http://"))).unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap();
        Process(child, address.parse().unwrap())
    }

    #[cfg(target_os = "linux")]
    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.0.id())).unwrap().count()
    }

    /// Sends what Ctrl-C sends, and returns how the process ended.
    fn interrupt(mut self) -> Option<i32> {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        self.0.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// All come from one address, as on the loopback address they must.
#[test]
fn eighty_silent_clients_do_not_shut_others_out_of_a_process_of_64_files() {
    let fixture = Fixture::packed();
    let server = Process::start(&fixture, 64);
    let silent: Vec<TcpStream> = (0..80).map(|_| TcpStream::connect(server.1).unwrap()).collect();
    let start = Instant::now();
    while !is_served(TcpStream::connect(server.1).unwrap()) {
        assert!(start.elapsed() < Duration::from_secs(60), "nobody is let in");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(server.interrupt(), Some(0));
    drop(silent);
}

#[cfg(target_os = "linux")]
#[test]
fn slow_readers_do_not_use_up_the_open_files() {
    let fixture = Fixture::packed();
    let file = std::fs::File::create(fixture.output().join("tokenizer.json")).unwrap();
    file.set_len(LARGE).unwrap();
    let server = Process::start(&fixture, 256);
    let mut readers: Vec<TcpStream> = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(server.1).unwrap();
        let _ = stream.write_all(GET);
        readers.push(stream);
        assert!(server.descriptors() < 256 - 16, "{} files are open", server.descriptors());
    }
    let start = Instant::now();
    while !is_served(TcpStream::connect(server.1).unwrap()) {
        assert!(start.elapsed() < Duration::from_secs(60), "nobody is let in");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(server.interrupt(), Some(0));
}

#[test]
fn only_the_names_of_this_machine_are_answered() {
    let fixture = Fixture::packed();
    let hosts = vec!["model.local".parse().unwrap()];
    let server = Server::run(Fixture::packed(), ServeJob { hosts, ..job(&fixture) });
    let port = server.address.port();
    let status = |target: &str, headers: &str| {
        let request = format!("GET {target} HTTP/1.1\r\n{headers}connection: close\r\n\r\n");
        server.status(&request)
    };
    for host in [
        format!("localhost:{port}"),
        "LOCALHOST.".to_owned(),
        "127.0.0.1:1".to_owned(),
        "[::1]".to_owned(),
        "Model.Local".to_owned(),
    ] {
        let found = status("/bundle.json", &format!("host: {host}\r\n"));
        assert_eq!(found, "HTTP/1.1 200 OK", "{host}");
    }
    for host in [format!("attacker.example:{port}"), "192.0.2.7".to_owned(), "[::2]".to_owned()] {
        let found = status("/bundle.json", &format!("host: {host}\r\n"));
        assert_eq!(found, "HTTP/1.1 421 Misdirected Request", "{host}");
        let found = status(&format!("http://{host}/bundle.json"), "host: localhost\r\n");
        assert_eq!(found, "HTTP/1.1 421 Misdirected Request", "{host} as target");
    }
    for headers in ["", "host: localhost\r\nhost: localhost\r\n", "host: a b\r\n"] {
        assert!(status("/bundle.json", headers).starts_with("HTTP/1.1 400"), "{headers:?}");
    }
    assert!(server.status("GET /bundle.json HTTP/1.0\r\n\r\n").contains(" 400 "));
}

#[test]
fn http2_is_answered_for_these_names_too() {
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ask = |authority: &'static str, host: Option<&'static str>| {
        runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
            let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            let mut request =
                ureq::http::Request::builder().uri(format!("http://{authority}/bundle.json"));
            if let Some(host) = host {
                request = request.header("host", host);
            }
            let (answer, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
            answer.await.unwrap().status().as_u16()
        })
    };
    assert_eq!(ask("localhost", None), 200);
    assert_eq!(ask("127.0.0.1:8080", Some("localhost")), 200);
    assert_eq!(ask("attacker.example", None), 421);
    assert_eq!(ask("localhost", Some("attacker.example")), 421);
}

/// Puts something in place of a listed file, asks for it, and returns the whole answer.
fn planted(plant: impl FnOnce(&Server)) -> String {
    let server = Server::start();
    plant(&server);
    let answer = String::from_utf8_lossy(&server.raw("GET", "/tokenizer.json", "")).into_owned();
    let head = server.raw("HEAD", "/tokenizer.json", "");
    assert!(!head.starts_with(b"HTTP/1.1 200"));
    assert_eq!(body(server.get("/bundle.json", &[])).first(), Some(&b'{'), "the rest is served");
    server.stop();
    answer
}

#[test]
fn a_link_put_there_after_the_start_is_not_followed() {
    let answer = planted(|server| {
        let path = server.path("tokenizer.json");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(server.fixture.folder.path().join("private"), "secret").unwrap();
        std::os::unix::fs::symlink("../private", path).unwrap();
    });
    assert!(answer.starts_with("HTTP/1.1 500") && !answer.contains("secret"), "{answer}");
}

#[test]
fn a_folder_that_becomes_a_link_is_not_followed() {
    let server = Server::start();
    let manifest = bundle::read_manifest(&server.fixture.output()).unwrap();
    let piece = manifest.files.iter().find(|file| file.path.ends_with(".dat")).unwrap();
    let away = server.fixture.folder.path().join("away");
    std::fs::rename(server.path("model"), &away).unwrap();
    std::os::unix::fs::symlink(&away, server.path("model")).unwrap();
    let answer = server.raw("GET", &format!("/{}", piece.path), "");
    assert!(answer.starts_with(b"HTTP/1.1 500"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn a_pipe_put_there_after_the_start_keeps_nobody_waiting() {
    let answer = planted(|server| {
        let path = server.path("tokenizer.json");
        std::fs::remove_file(&path).unwrap();
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    });
    assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_stop_ends_the_server_whatever_its_clients_do() {
    let limits = Limits { grace: Duration::from_millis(200), ..Limits::of_this_process().unwrap() };
    let server = Server::with_large_file(LARGE, limits);
    let path = server.path("bundle.json");
    std::fs::remove_file(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let no_window = h2_with_no_window();
    let pipe = b"GET /bundle.json HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut clients = Vec::new();
    for bytes in [b"", &b"G"[..], PREFACE, GET, &no_window, pipe] {
        let mut client = server.connect();
        client.write_all(bytes).unwrap();
        clients.push(client);
    }
    std::thread::sleep(Duration::from_millis(100));
    server.stop();
}
