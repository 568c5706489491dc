//! Which paths exist.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body::Frame;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use super::answer::{Failure, Finish, Head, Usage};
use super::request::{self, Asked, MAX_BYTES, Refusal};
use super::worker::{Event, Worker};

/// Everything there is to answer; with a key, only those who send it.
pub fn router(worker: Worker, api_key: Option<String>) -> Router {
    let routes = Router::new()
        .route("/v1/models", get(models))
        .route("/v1/models/{name}", get(model))
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(completion))
        .layer(DefaultBodyLimit::max(MAX_BYTES))
        .layer(from_fn_with_state(Arc::new(api_key), check_key));
    let health = get(|| async { json_response(StatusCode::OK, &json!({ "status": "ok" })) });
    routes.route("/health", health).fallback(unknown).with_state(worker)
}

async fn unknown() -> Response {
    let paths = "/v1/models, /v1/chat/completions, /v1/completions, /health";
    let message = format!("no such path; expected one of {paths}");
    Failure::new(StatusCode::NOT_FOUND, message).into_response()
}

/// The comparison takes the same time wherever the first difference is.
async fn check_key(
    State(key): State<Arc<Option<String>>>,
    request: Request,
    next: Next,
) -> Response {
    if let Some(key) = key.as_deref() {
        let expected = blake3::hash(format!("Bearer {key}").as_bytes());
        let sent = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
        // Hashes of this crate compare in constant time.
        if sent.is_none_or(|sent| blake3::hash(sent) != expected) {
            let code = Some("invalid_api_key");
            let message =
                "expected the key that the server was started with, as Authorization: Bearer KEY";
            return Failure { code, ..Failure::new(StatusCode::UNAUTHORIZED, message) }
                .into_response();
        }
    }
    next.run(request).await
}

fn model_json(worker: &Worker) -> Value {
    json!({ "id": worker.name(), "object": "model", "created": 0, "owned_by": "local" })
}

async fn models(State(worker): State<Worker>) -> Response {
    let list = json!({ "object": "list", "data": [model_json(&worker)] });
    json_response(StatusCode::OK, &list)
}

async fn model(State(worker): State<Worker>, Path(name): Path<String>) -> Response {
    if name == worker.name() {
        return json_response(StatusCode::OK, &model_json(&worker));
    }
    let message = format!("this server has one model, {}", worker.name());
    Failure { code: Some("model_not_found"), ..Failure::new(StatusCode::NOT_FOUND, message) }
        .into_response()
}

async fn chat(State(worker): State<Worker>, body: Bytes) -> Response {
    respond(worker, request::chat(&body), true).await
}

async fn completion(State(worker): State<Worker>, body: Bytes) -> Response {
    respond(worker, request::completion(&body), false).await
}

/// There is one model, whatever name the client gives it.
async fn respond(worker: Worker, asked: Result<Asked, Refusal>, is_chat: bool) -> Response {
    let asked = match asked {
        Ok(asked) => asked,
        Err(Refusal { param, message }) => {
            let failure = Failure::new(StatusCode::BAD_REQUEST, message);
            return Failure { param, ..failure }.into_response();
        }
    };
    let (stream, include_usage) = (asked.stream, asked.include_usage);
    let (id, mut events) = match worker.ask(asked) {
        Ok(found) => found,
        Err(failure) => return failure.into_response(),
    };
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let head = Head { id, created, model: worker.name().to_owned(), is_chat };
    if !stream {
        return match whole(&mut events).await {
            Ok((text, finish, usage)) => {
                json_response(StatusCode::OK, &head.whole(&text, finish, usage))
            }
            Err(failure) => failure.into_response(),
        };
    }
    // What fails before the first part is an error of HTTP, not one in the middle of an answer.
    let first = match events.recv().await {
        Some(Event::Failed(failure)) => return failure.into_response(),
        None => return ended().into_response(),
        first => first,
    };
    let parts = Parts { head, events, first, include_usage, begun: false, over: false };
    let mut response = Response::new(Body::new(parts));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// The server is being stopped.
fn ended() -> Failure {
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, "the server is being stopped")
}

async fn whole(events: &mut UnboundedReceiver<Event>) -> Result<(String, Finish, Usage), Failure> {
    let mut text = String::new();
    loop {
        match events.recv().await {
            Some(Event::Part(part)) => text.push_str(&part),
            Some(Event::End(finish, usage)) => return Ok((text, finish, usage)),
            Some(Event::Failed(failure)) => return Err(failure),
            None => return Err(ended()),
        }
    }
}

/// An answer in parts, as server-sent events. When the client goes this is dropped, and the answer ends.
struct Parts {
    head: Head,
    events: UnboundedReceiver<Event>,
    first: Option<Event>,
    include_usage: bool,
    begun: bool,
    over: bool,
}

impl Parts {
    /// The bytes of an event; more than one message where something begins or ends.
    fn messages(&mut self, event: Event) -> String {
        let mut list = Vec::new();
        if !std::mem::replace(&mut self.begun, true) {
            list.extend(self.head.begin());
        }
        match event {
            Event::Part(text) => list.push(self.head.part(&text)),
            Event::Failed(failure) => {
                self.over = true;
                list.push(failure.json());
            }
            Event::End(finish, usage) => {
                self.over = true;
                list.push(self.head.end(finish));
                if self.include_usage {
                    list.push(self.head.usage(usage));
                }
            }
        }
        let mut text: String = list.iter().map(|message| format!("data: {message}\n\n")).collect();
        if self.over {
            text.push_str("data: [DONE]\n\n");
        }
        text
    }
}

impl HttpBody for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let event = match self.first.take() {
            Some(event) => event,
            None => match ready!(self.events.poll_recv(context)) {
                Some(event) => event,
                None => Event::Failed(ended()),
            },
        };
        let bytes = Bytes::from(self.messages(event));
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = json_response(self.status, &self.json());
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

fn json_response(status: StatusCode, body: &Value) -> Response {
    let content = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
    (status, [content], body.to_string()).into_response()
}
