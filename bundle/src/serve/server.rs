//! Accepts connections, speaks HTTP on each, and ends those that hold it up.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use anyhow::Context as _;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::{Extension, Router};
use http_body::{Frame, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::connections::{Answer, Connection, Connections};
use super::limits::Limits;
use super::site::busy;

/// Between two looks at whether the user wants to stop, and after a failure to accept.
const POLL: Duration = Duration::from_millis(100);
/// What the system keeps of an answer that a client has not taken yet. A client is seen to take
/// something whenever a third of this is free again, so it sets how slow one may be.
const SEND_BUFFER: u32 = 256 << 10;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// Longest header of a request.
const MAX_HEADER: usize = 64 << 10;
/// Answers at once in one HTTP/2 connection.
const MAX_STREAMS: u32 = 32;
/// How much of answers HTTP/2 keeps for each stream.
const STREAM_BUFFER: usize = 128 << 10;
/// An HTTP/2 client that is still there answers this often.
const PING_INTERVAL: Duration = Duration::from_secs(20);

type Builder = auto::Builder<TokioExecutor>;

/// The address that a client has connected to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Local(pub(super) IpAddr);

/// What every connection is served with.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) router: Router,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) limits: Limits,
}

/// Listens on a port of an address of this machine.
pub(super) fn bind(address: Ipv4Addr, port: u16) -> anyhow::Result<TcpListener> {
    let bound = || -> std::io::Result<TcpListener> {
        let socket = TcpSocket::new_v4()?;
        // Elsewhere this would let another program take the port.
        socket.set_reuseaddr(cfg!(unix))?;
        // Connections take it over from the listener.
        socket.set_send_buffer_size(SEND_BUFFER)?;
        socket.bind(SocketAddr::from((address, port)))?;
        socket.listen(BACKLOG)
    };
    bound().with_context(|| format!("cannot listen on {address}:{port}; --port takes another"))
}

impl Server {
    /// Serves until `interrupt`; then answers under way have [`Limits::grace`] to end.
    pub(super) async fn run(&self, listener: TcpListener, interrupt: &cli::Interrupt) {
        let connections = Connections::new(self.limits.clone());
        let builder = self.builder();
        let (stop, stopped) = watch::channel(());
        loop {
            let accepted = tokio::select! {
                () = requested(interrupt) => break,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, peer)) = accepted else {
                tokio::time::sleep(POLL).await;
                continue;
            };
            let Some(connection) = connections.admit(peer.ip().to_canonical()) else {
                tracing::debug!("{peer}: no room for another connection");
                continue;
            };
            let talk =
                self.clone().talk(stream, connection.clone(), builder.clone(), stopped.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = connection.used_up() => tracing::debug!("{peer}: closed"),
                    () = talk => {}
                }
            });
        }
        drop((listener, stopped));
        stop.send_replace(());
        // The sender's other side is gone when the last connection has ended.
        tokio::time::timeout(self.limits.grace, stop.closed()).await.ok();
    }

    fn builder(&self) -> Builder {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header)
            .max_buf_size(MAX_HEADER);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADER as u32)
            .max_send_buf_size(STREAM_BUFFER)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(self.limits.header);
        builder
    }

    async fn talk(
        self,
        stream: TcpStream,
        connection: Connection,
        builder: Builder,
        stopped: watch::Receiver<()>,
    ) {
        let Ok(local) = stream.local_addr() else { return };
        stream.set_nodelay(true).ok();
        let router = self
            .router
            .layer(Extension(Local(local.ip())))
            .layer(from_fn_with_state(connection, attend));
        match self.tls {
            None => speak(stream, router, &builder, stopped).await,
            Some(tls) => match tls.accept(stream).await {
                Ok(stream) => speak(stream, router, &builder, stopped).await,
                Err(error) => tracing::debug!("TLS: {error}"),
            },
        }
    }
}

async fn requested(interrupt: &cli::Interrupt) {
    while !interrupt.requested() {
        tokio::time::sleep(POLL).await;
    }
}

/// Answers what comes in on one connection until it is closed.
async fn speak<S>(stream: S, router: Router, builder: &Builder, mut stopped: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let result = tokio::select! {
        result = serving.as_mut() => result,
        _ = stopped.changed() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = result {
        tracing::debug!("connection: {error}");
    }
}

/// Counts a request, and its answer until the client has it.
async fn attend(State(connection): State<Connection>, request: Request, next: Next) -> Response {
    connection.asked();
    match connection.begin_answer() {
        Some(answer) => next.run(request).await.map(|body| Body::new(Counted { body, answer })),
        None => busy(),
    }
}

/// A body whose parts are progress of its connection.
struct Counted {
    body: Body,
    answer: Answer,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        self.answer.progressed();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
