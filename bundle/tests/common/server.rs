//! A server that runs in this process, and clients that send what they like.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use bundle::{Limits, Reach, ServeJob, ServeReport};
use ureq::http::Response;

use super::Fixture;

/// Longer than any of these servers lets a client wait.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server of a packed bundle, on a port of its own.
pub struct Server {
    pub fixture: Fixture,
    pub address: SocketAddr,
    interrupt: cli::Interrupt,
    thread: Option<JoinHandle<anyhow::Result<ServeReport>>>,
}

/// What is served if nothing else is said: this machine, with the usual limits.
pub fn job(fixture: &Fixture) -> ServeJob {
    ServeJob {
        input: fixture.output(),
        port: TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port(),
        reach: Reach::Loopback,
        hosts: Vec::new(),
        limits: Limits::of_this_process().unwrap(),
    }
}

impl Server {
    pub fn start() -> Self {
        let fixture = Fixture::packed();
        let job = job(&fixture);
        Self::run(fixture, job)
    }

    /// With files that no listing knows lying in the bundle's folder.
    pub fn with_files(strays: &[&str]) -> Self {
        let fixture = Fixture::packed();
        for stray in strays {
            std::fs::write(fixture.output().join(stray), "secret").unwrap();
        }
        let job = job(&fixture);
        Self::run(fixture, job)
    }

    /// With a listed file, `tokenizer.json`, of so many bytes.
    pub fn with_large_file(bytes: u64, limits: Limits) -> Self {
        let fixture = Fixture::packed();
        let file = std::fs::File::create(fixture.output().join("tokenizer.json")).unwrap();
        file.set_len(bytes).unwrap();
        let job = ServeJob { limits, ..job(&fixture) };
        Self::run(fixture, job)
    }

    pub fn run(fixture: Fixture, job: ServeJob) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], job.port));
        let interrupt = cli::Interrupt::default();
        let asked = interrupt.clone();
        let thread = std::thread::spawn(move || bundle::serve(&job, &asked));
        let server = Server { fixture, address, interrupt, thread: Some(thread) };
        while TcpStream::connect(address).is_err() {
            assert!(!server.thread.as_ref().unwrap().is_finished(), "the server did not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.fixture.output().join(name)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response<ureq::Body> {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .build()
            .new_agent();
        let mut request = agent.get(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.call().unwrap()
    }

    /// Sends a request, spelled as it is given, and reads until the server closes.
    pub fn raw(&self, method: &str, path: &str, headers: &str) -> Vec<u8> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\n{headers}connection: close\r\n\r\n"
        );
        let answer = self.exchange(request.as_bytes(), false);
        assert!(answer.starts_with(b"HTTP/1.1 "), "no answer to {request}");
        answer
    }

    /// Sends bytes, hangs up if asked to, and reads until the server closes.
    pub fn exchange(&self, bytes: &[u8], hang_up: bool) -> Vec<u8> {
        let mut stream = self.connect();
        // A server that has seen enough may close before it has read all.
        let _ = stream.write_all(bytes);
        if hang_up {
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    /// The first line of the answer to a request, spelled as it is given.
    pub fn status(&self, request: &str) -> String {
        let answer = self.exchange(request.as_bytes(), false);
        String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
    }

    pub fn stop(mut self) -> ServeReport {
        self.interrupt.request();
        self.thread.take().unwrap().join().unwrap().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.interrupt.request();
    }
}

pub fn body(mut response: Response<ureq::Body>) -> Vec<u8> {
    response.body_mut().read_to_vec().unwrap()
}
