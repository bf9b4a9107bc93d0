//! Answers. In: a status, a type and bytes, or a stream of events. Out: HTTP, with the headers that every answer has.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::sync::mpsc;

/// What a browser may do with what it gets: nothing that is not from here, no code in a page, no page in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; \
                      manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// On every answer.
const ALWAYS: [(&str, &str); 7] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
    ("cache-control", "no-store"),
];

/// An answer.
pub(super) type Answer = Response<Content>;

/// What is in it.
pub(super) enum Content {
    Whole(Option<Bytes>),
    /// Events, until one side hangs up.
    Events(mpsc::Receiver<Bytes>),
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = match self.get_mut() {
            Self::Whole(bytes) => bytes.take(),
            Self::Events(events) => std::task::ready!(events.poll_recv(context)),
        };
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Events(_) => SizeHint::default(),
        }
    }
}

/// An answer of this type.
pub(super) fn answer(status: StatusCode, kind: &'static str, bytes: impl Into<Bytes>) -> Answer {
    let bytes = bytes.into();
    made(status, kind, Content::Whole((!bytes.is_empty()).then_some(bytes)))
}

/// Server-sent events.
pub(super) fn events(events: mpsc::Receiver<Bytes>) -> Answer {
    made(StatusCode::OK, "text/event-stream", Content::Events(events))
}

fn made(status: StatusCode, kind: &'static str, content: Content) -> Answer {
    let mut answer = Response::new(content);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    for (name, value) in ALWAYS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    answer
}

/// Nothing but the status.
pub(super) fn done() -> Answer {
    answer(StatusCode::NO_CONTENT, "text/plain", Bytes::new())
}

/// JSON.
pub(super) fn json(value: &impl serde::Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(bytes) => answer(StatusCode::OK, "application/json", bytes),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// Why not, and what to do about it.
pub(super) fn refuse(status: StatusCode, why: &str) -> Answer {
    let text = serde_json::json!({ "error": why }).to_string();
    answer(status, "application/json", text)
}

/// Look there.
pub(super) fn redirect(to: &'static str) -> Answer {
    with(answer(StatusCode::SEE_OTHER, "text/plain", Bytes::new()), header::LOCATION, to)
}

/// One more header; a value that cannot be one is left out.
pub(super) fn with(mut answer: Answer, name: HeaderName, value: &str) -> Answer {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
    answer
}
