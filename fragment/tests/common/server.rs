//! A small HTTP server that can misbehave: every way in which a source of pieces may fail.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the server does with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manner {
    /// Answers as it should, ranges too.
    Honest,
    /// Ignores ranges: sends the whole file.
    NoRanges,
    /// Sends one bit wrong.
    Flip,
    /// Says and sends one byte less.
    Shorter,
    /// Says the right length and closes halfway.
    CutShort,
    /// Says no length and sends without end.
    Endless,
    /// Says a length that nobody has room for.
    Huge,
    /// Takes the request and sends nothing.
    Silent,
    /// Sends half and then nothing.
    StallHalfway,
    /// Sends a byte now and then, more often than a stall.
    Drip,
    /// Redirects to this address, file by file.
    Redirect(String),
    /// Answers with this status.
    Status(u16),
    /// Is not HTTP.
    Garbage,
}

/// A server of the files of one folder, until it is dropped.
pub struct Server {
    pub address: String,
    shared: Arc<Shared>,
}

struct Shared {
    folder: PathBuf,
    manners: Mutex<HashMap<String, Manner>>,
    /// For files that have no manner of their own.
    general: Mutex<Manner>,
    /// Bytes of bodies that were sent.
    sent: AtomicU64,
    requests: AtomicU64,
    /// After this many requests nobody answers any more.
    dies_after: AtomicU64,
    gone: AtomicBool,
}

impl Server {
    pub fn new(folder: &Path, general: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/model", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            folder: folder.to_owned(),
            manners: Mutex::default(),
            general: Mutex::new(general),
            sent: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            dies_after: AtomicU64::new(u64::MAX),
            gone: AtomicBool::new(false),
        });
        let served = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if served.gone.load(Ordering::SeqCst) {
                    break;
                }
                let (Ok(stream), served) = (stream, served.clone()) else { continue };
                std::thread::spawn(move || served.connection(stream));
            }
        });
        Server { address, shared }
    }

    pub fn manner(&self, file: &str, manner: Manner) {
        self.shared.manners.lock().unwrap().insert(file.to_owned(), manner);
    }

    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    pub fn dies_after(&self, requests: u64) {
        self.shared.dies_after.store(requests, Ordering::SeqCst);
    }

    pub fn origin(&self) -> fragment::Origin {
        fragment::Origin::parse(Path::new(&self.address)).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.gone.store(true, Ordering::SeqCst);
        let host = self.address.trim_start_matches("http://").trim_end_matches("/model");
        // Wakes the listener, which then ends and closes the port.
        let _ = TcpStream::connect(host);
    }
}

impl Shared {
    fn connection(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while self.request(&mut reader, &stream).is_some() {}
    }

    /// Answers one request; `None` closes the connection.
    fn request(&self, reader: &mut BufReader<TcpStream>, mut out: &TcpStream) -> Option<()> {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|&read| read > 0)?;
        let path = line.split(' ').nth(1)?.to_owned();
        let mut range = None;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok().filter(|&read| read > 0)?;
            if header.trim().is_empty() {
                break;
            }
            let (name, value) = header.split_once(':')?;
            if name.eq_ignore_ascii_case("range") {
                let (from, to) = value.trim().strip_prefix("bytes=")?.split_once('-')?;
                range = Some((from.parse::<usize>().ok()?, to.parse::<usize>().ok()?));
            }
        }
        let count = self.requests.fetch_add(1, Ordering::SeqCst);
        if self.gone.load(Ordering::SeqCst) || count >= self.dies_after.load(Ordering::SeqCst) {
            return None;
        }
        let name = path.rsplit('/').next()?;
        let own = self.manners.lock().unwrap().get(name).cloned();
        let manner = own.unwrap_or_else(|| self.general.lock().unwrap().clone());
        let Ok(mut bytes) = std::fs::read(self.folder.join(name)) else {
            return answer(&mut out, "404 Not Found", "Content-Length: 0\r\n", &[]);
        };
        let length = |n: usize| format!("Content-Length: {n}\r\n");
        match manner {
            Manner::Redirect(to) => {
                let location = format!("Location: {to}/{name}\r\nContent-Length: 0\r\n");
                return answer(&mut out, "302 Found", &location, &[]);
            }
            Manner::Status(status) => {
                let status = format!("{status} No");
                return answer(&mut out, &status, "Content-Length: 0\r\n", &[]);
            }
            Manner::Garbage => {
                out.write_all(b"220 welcome to another protocol\r\n\r\n").ok()?;
                return None;
            }
            Manner::Silent => {
                std::thread::sleep(Duration::from_secs(5));
                return None;
            }
            Manner::Huge => {
                answer(&mut out, "200 OK", "Content-Length: 9000000000000000000\r\n", &[])?;
                return None;
            }
            Manner::Endless => {
                out.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
                // Far more than any file of these tests has.
                (0..4096).try_for_each(|_| out.write_all(&[7; 65536])).ok()?;
                return None;
            }
            Manner::Drip => {
                answer(&mut out, "200 OK", &length(bytes.len()), &[])?;
                for byte in &bytes {
                    out.write_all(std::slice::from_ref(byte)).ok()?;
                    std::thread::sleep(Duration::from_millis(100));
                }
                return None;
            }
            Manner::Flip => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
            Manner::Shorter => {
                bytes.pop();
            }
            Manner::CutShort | Manner::StallHalfway => {
                let half = &bytes[..bytes.len() / 2];
                answer(&mut out, "200 OK", &length(bytes.len()), half)?;
                if manner == Manner::StallHalfway {
                    std::thread::sleep(Duration::from_secs(5));
                }
                return None;
            }
            Manner::Honest | Manner::NoRanges => {}
        }
        match range.filter(|_| manner != Manner::NoRanges) {
            Some((from, to)) => {
                let body = bytes.get(from..=to.min(bytes.len() - 1))?;
                self.sent.fetch_add(body.len() as u64, Ordering::SeqCst);
                let to = from + body.len() - 1;
                let place = format!("Content-Range: bytes {from}-{to}/{}\r\n", bytes.len());
                answer(&mut out, "206 Partial", &(place + &length(body.len())), body)
            }
            None => {
                self.sent.fetch_add(bytes.len() as u64, Ordering::SeqCst);
                answer(&mut out, "200 OK", &length(bytes.len()), &bytes)
            }
        }
    }
}

fn answer(out: &mut impl Write, status: &str, headers: &str, body: &[u8]) -> Option<()> {
    out.write_all(format!("HTTP/1.1 {status}\r\n{headers}\r\n").as_bytes()).ok()?;
    out.write_all(body).ok()
}
