//! Logging in and out. In: a name and a password. Out: a session's cookie, or how long to wait; each try is in the audit
//! trail.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header;
use serde::Deserialize;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::answer::{Answer, done, refuse, with};
use super::audit::Entry;
use super::sessions::{LIFE, Visitor};
use super::shared::{Shared, lock};
use super::users::PASSWORD;
use crate::clock;

/// How long a try waits for its turn: passwords are looked at one after the other.
const TURN: Duration = Duration::from_secs(10);

/// Letters of a typed name that go into the audit trail.
const SHOWN: usize = 32;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Typed {
    user: String,
    password: String,
}

/// What the cookie is called: two stations on one machine have different ones.
pub(super) fn cookie(shared: &Shared) -> String {
    format!("fcam-{}", shared.options.listen.port())
}

pub(super) async fn log_in(shared: &Arc<Shared>, from: IpAddr, secure: bool, body: &Bytes) -> Answer {
    let Ok(Typed { user, password }) = serde_json::from_slice(body) else {
        return refuse(StatusCode::BAD_REQUEST, "user and password as JSON are wanted");
    };
    let taken = lock(&shared.throttle).take(from, clock::now());
    if let Err(wait) = taken {
        return wait_for(wait);
    }
    let Ok(Ok(turn)) = timeout(TURN, shared.hashing.acquire()).await else { return wait_for(TURN) };
    let hash = check(shared, &user, password).await;
    drop(turn);
    let name: String = user.chars().take(SHOWN).collect();
    let what = if hash.is_some() { "log-in" } else { "log-in refused" };
    if let Err(error) = write(shared, what, name, from).await {
        return unwritten(&error);
    }
    let Some(hash) = hash else {
        return refuse(StatusCode::UNAUTHORIZED, "no user of this name has this password");
    };
    match lock(&shared.sessions).begin(&user, &hash, clock::now()) {
        Ok(secret) => with(done(), header::SET_COOKIE, &set_cookie(shared, &secret, LIFE, secure)),
        Err(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, &format!("no session can be made: {error}")),
    }
}

pub(super) async fn log_out(
    shared: &Arc<Shared>,
    from: IpAddr,
    secure: bool,
    secret: &str,
    visitor: &Visitor,
) -> Answer {
    lock(&shared.sessions).end(secret);
    if let Err(error) = write(shared, "log-out", visitor.user.clone(), from).await {
        return unwritten(&error);
    }
    with(done(), header::SET_COOKIE, &set_cookie(shared, "", Duration::ZERO, secure))
}

/// The hash of the user's password, if it is the right one.
async fn check(shared: &Arc<Shared>, user: &str, password: String) -> Option<String> {
    let users = lock(&shared.users).now().clone();
    let user = user.to_owned();
    let look = move || {
        // One that is too long is none, and costs no more than another.
        let password = password.chars().take(PASSWORD.end() + 1).collect::<String>();
        users.check(&user, &password).map(|user| user.password.clone())
    };
    spawn_blocking(look).await.ok().flatten()
}

async fn write(shared: &Arc<Shared>, what: &'static str, user: String, from: IpAddr) -> std::io::Result<()> {
    let shared = shared.clone();
    let write = move || shared.audit.write(&Entry { what, user: &user, from });
    spawn_blocking(write).await.map_err(std::io::Error::other)?
}

fn unwritten(error: &std::io::Error) -> Answer {
    log::error!("the page's audit trail cannot be written: {error}; nobody can log in");
    refuse(StatusCode::SERVICE_UNAVAILABLE, "the audit trail cannot be written: is the disk full?")
}

fn wait_for(wait: Duration) -> Answer {
    let seconds = wait.as_secs_f64().ceil().to_string();
    with(refuse(StatusCode::TOO_MANY_REQUESTS, "too many tries: wait"), header::RETRY_AFTER, &seconds)
}

fn set_cookie(shared: &Shared, secret: &str, life: Duration, secure: bool) -> String {
    let (name, life, secure) = (cookie(shared), life.as_secs(), if secure { "; Secure" } else { "" });
    format!("{name}={secret}; Path=/; Max-Age={life}; HttpOnly; SameSite=Strict{secure}")
}
