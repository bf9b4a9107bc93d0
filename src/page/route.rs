//! What there is. In: a request. Out: an answer, if who asks may have it.
//!
//! Everything that the page answers is in [`ROUTES`]; a test holds it to the OpenAPI file. A request that changes
//! something must come from the page itself and bring the session's token.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method, Request, StatusCode};
use tokio::time::timeout;

use super::answer::{Answer, answer, json, redirect, refuse, with};
use super::sessions::Visitor;
use super::shared::{Shared, lock};
use super::users::Role;
use super::{assets, health, live, login, metrics, random};
use crate::clock;

/// Bytes of a body at most, and the time for all of them.
const BODY: usize = 4096;
const BODY_TIME: Duration = Duration::from_secs(5);

/// Something that can be asked for.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// GET or POST.
    pub method: &'static str,
    /// The path.
    pub path: &'static str,
    /// Who may: none is everybody.
    pub role: Option<Role>,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum What {
    Home,
    Health,
    Metrics,
    LogInPage,
    LogIn,
    LogOut,
    Session,
    State,
    Live,
    Picture,
    Audit,
    OpenApi,
}

const fn get(path: &'static str, role: Option<Role>, what: What) -> Route {
    Route { method: "GET", path, role, what }
}

const fn post(path: &'static str, role: Option<Role>, what: What) -> Route {
    Route { method: "POST", path, role, what }
}

/// All of them, besides the files of the page.
pub const ROUTES: [Route; 12] = [
    get("/", None, What::Home), // sends those away who are not logged in
    get("/healthz", None, What::Health),
    get("/metrics", None, What::Metrics), // asks by itself from where
    get("/login", None, What::LogInPage),
    post("/api/login", None, What::LogIn),
    post("/api/logout", Some(Role::See), What::LogOut),
    get("/api/session", Some(Role::See), What::Session),
    get("/api/state", Some(Role::See), What::State),
    get("/api/live", Some(Role::See), What::Live),
    get("/api/picture", Some(Role::See), What::Picture),
    get("/api/audit", Some(Role::Administer), What::Audit),
    get("/api/openapi.json", Some(Role::See), What::OpenApi),
];

/// Who asks.
struct Asker {
    from: IpAddr,
    /// By TLS.
    secure: bool,
    /// The secret of its cookie; empty without one.
    secret: String,
    visitor: Option<Visitor>,
}

/// Answers a request.
pub(super) async fn serve(
    shared: Arc<Shared>,
    from: SocketAddr,
    secure: bool,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let secret = secret(&head.headers, &login::cookie(&shared));
    let visitor = visitor(&shared, &secret);
    let asker = Asker { from: from.ip(), secure, secret, visitor };
    let path = head.uri.path();
    let method = if head.method == Method::HEAD { "GET" } else { head.method.as_str() };
    let Some(route) = ROUTES.iter().find(|route| route.path == path && route.method == method) else {
        return Ok(elsewhere(path, method));
    };
    if let Some(refusal) = refusal(route, &asker, &head.headers) {
        return Ok(refusal);
    }
    if route.method == "GET" {
        return Ok(show(&shared, route.what, asker, &head.headers, head.uri.query().unwrap_or("")).await);
    }
    Ok(match read(body).await {
        Ok(body) => act(&shared, route.what, &asker, &body).await,
        Err(refusal) => with(refusal, header::CONNECTION, "close"),
    })
}

/// A file of the page, or nothing.
fn elsewhere(path: &str, method: &str) -> Answer {
    let other = ROUTES.iter().find(|route| route.path == path);
    match (assets::find(path), other) {
        (Some(file), _) if method == "GET" => file,
        (Some(_), _) => with(refuse(StatusCode::METHOD_NOT_ALLOWED, "read it with GET"), header::ALLOW, "GET"),
        (None, Some(route)) => {
            let why = format!("ask with {}", route.method);
            with(refuse(StatusCode::METHOD_NOT_ALLOWED, &why), header::ALLOW, route.method)
        }
        (None, None) => refuse(StatusCode::NOT_FOUND, "there is nothing of this name"),
    }
}

/// Why this is not for whoever asks, if it is not.
fn refusal(route: &Route, asker: &Asker, headers: &HeaderMap) -> Option<Answer> {
    if let Some(role) = route.role {
        let Some(visitor) = &asker.visitor else {
            return Some(refuse(StatusCode::UNAUTHORIZED, "log in first: POST /api/login"));
        };
        if visitor.role < role {
            return Some(refuse(StatusCode::FORBIDDEN, &format!("this needs the role {}", role.name())));
        }
    }
    if route.method == "GET" {
        return None;
    }
    if !is_own(headers) {
        return Some(refuse(StatusCode::FORBIDDEN, "this comes from another page"));
    }
    if text(headers, header::CONTENT_TYPE).split(';').next().map(str::trim) != Some("application/json") {
        return Some(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send application/json"));
    }
    let token = text(headers, HeaderName::from_static("x-csrf-token"));
    let wanted = asker.visitor.as_ref().filter(|_| route.role.is_some());
    let missing = wanted.is_some_and(|visitor| !random::equal(&visitor.csrf, token));
    missing.then(|| refuse(StatusCode::FORBIDDEN, "the header X-CSRF-Token has not what /api/session gives"))
}

/// True unless a browser says that the request comes from another site.
fn is_own(headers: &HeaderMap) -> bool {
    let site = text(headers, HeaderName::from_static("sec-fetch-site"));
    let origin = text(headers, header::ORIGIN);
    let host = text(headers, header::HOST);
    let same = origin.split_once("://").is_some_and(|(_, origin)| origin == host);
    matches!(site, "" | "same-origin" | "none") && (origin.is_empty() || same)
}

fn text(headers: &HeaderMap, name: HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// The value of the cookie of this name; empty without one.
fn secret(headers: &HeaderMap, name: &str) -> String {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).next().unwrap_or_default()
}

/// Who has this secret.
fn visitor(shared: &Shared, secret: &str) -> Option<Visitor> {
    if secret.is_empty() {
        return None;
    }
    let mut users = lock(&shared.users);
    lock(&shared.sessions).visitor(secret, users.now(), clock::now())
}

async fn read(body: Incoming) -> Result<Bytes, Answer> {
    match timeout(BODY_TIME, Limited::new(body, BODY).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, &format!("{BODY} bytes are enough")))
        }
        Ok(Err(_)) => Err(refuse(StatusCode::BAD_REQUEST, "the body is not whole")),
        Err(_) => Err(refuse(StatusCode::REQUEST_TIMEOUT, "the body took too long")),
    }
}

async fn act(shared: &Arc<Shared>, what: What, asker: &Asker, body: &Bytes) -> Answer {
    match (what, &asker.visitor) {
        (What::LogIn, _) => login::log_in(shared, asker.from, asker.secure, body).await,
        (What::LogOut, Some(visitor)) => login::log_out(shared, asker.from, asker.secure, &asker.secret, visitor).await,
        _ => refuse(StatusCode::NOT_FOUND, "there is nothing of this name"),
    }
}

async fn show(shared: &Arc<Shared>, what: What, asker: Asker, headers: &HeaderMap, query: &str) -> Answer {
    match what {
        What::Home if asker.visitor.is_none() => redirect("/login"),
        What::Home => assets::HOME.answer(),
        What::LogInPage => assets::LOG_IN.answer(),
        What::OpenApi => assets::OPENAPI.answer(),
        What::Health => alive(shared),
        What::Metrics if !may_scrape(shared, &asker, headers) => {
            refuse(StatusCode::FORBIDDEN, "log in, or name this address in page.scrapers")
        }
        What::Metrics => numbers(shared),
        What::Session => session(shared, asker.visitor.as_ref()),
        What::State => json(&live::snapshot(shared, None)),
        What::Live => {
            let asked = shared.clone();
            live::look(shared.clone(), move || visitor(&asked, &asker.secret).is_some())
        }
        What::Picture => picture(shared, query),
        What::Audit => trail(shared).await,
        What::LogIn | What::LogOut => refuse(StatusCode::NOT_FOUND, "there is nothing of this name"),
    }
}

fn alive(shared: &Shared) -> Answer {
    let hung = shared.plc_link.watchdogs().hung(clock::now());
    let (lives, why) = health::health(&shared.plc_link.status(), &hung);
    let status = if lives { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer(status, "text/plain; charset=utf-8", format!("{why}\n"))
}

/// Who is on this machine, on the list, or logged in. A name in `Host` may be another site's that was made to lead here.
fn may_scrape(shared: &Shared, asker: &Asker, headers: &HeaderMap) -> bool {
    let host = text(headers, header::HOST);
    let named = host.parse::<SocketAddr>().is_err() && host.parse::<IpAddr>().is_err();
    let local = asker.from.is_loopback() && (!named || host.split(':').next() == Some("localhost"));
    local || asker.visitor.is_some() || shared.options.scrapers.contains(&asker.from.to_canonical())
}

fn numbers(shared: &Shared) -> Answer {
    match shared.metrics.text(&shared.plc_link.status(), shared.viewers()) {
        Ok(text) => answer(StatusCode::OK, metrics::TYPE, text),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn session(shared: &Shared, visitor: Option<&Visitor>) -> Answer {
    let Some(Visitor { user, role, csrf }) = visitor else {
        return refuse(StatusCode::UNAUTHORIZED, "log in first: POST /api/login");
    };
    let version = env!("CARGO_PKG_VERSION");
    let camera = &shared.options.camera;
    json(&serde_json::json!({ "user": user, "role": role, "csrf": csrf, "version": version, "camera": camera }))
}

/// The picture of the part in `part=`, or the newest.
fn picture(shared: &Shared, query: &str) -> Answer {
    let asked = query.split('&').find_map(|pair| pair.strip_prefix("part="));
    let part = match asked.map(str::parse) {
        Some(Err(_)) => return refuse(StatusCode::BAD_REQUEST, "part is the number of a part"),
        Some(Ok(part)) => Some(part),
        None => None,
    };
    match lock(&shared.album).get(part) {
        Some(jpeg) => answer(StatusCode::OK, "image/jpeg", jpeg),
        None => refuse(StatusCode::NOT_FOUND, "there is no picture of this part: they are made while somebody looks"),
    }
}

async fn trail(shared: &Arc<Shared>) -> Answer {
    let shared = shared.clone();
    match tokio::task::spawn_blocking(move || shared.audit.newest()).await {
        Ok(Ok(lines)) => answer(StatusCode::OK, "application/jsonl", lines),
        _ => refuse(StatusCode::SERVICE_UNAVAILABLE, "the audit trail cannot be read"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn another_page_is_known_by_what_browsers_say() {
        let host = ("host", "10.0.0.5:8443");
        assert!(is_own(&headers(&[host])), "a script, not a browser");
        assert!(is_own(&headers(&[host, ("origin", "https://10.0.0.5:8443"), ("sec-fetch-site", "same-origin")])));
        for (name, value) in [("origin", "https://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")]
        {
            assert!(!is_own(&headers(&[host, (name, value)])), "{value}");
        }
    }

    #[test]
    fn the_cookie_is_the_one_of_this_station() {
        let headers = headers(&[("cookie", "fcam-80=old; a=b; fcam-8080=secret")]);
        assert_eq!(secret(&headers, "fcam-8080"), "secret");
        assert_eq!(secret(&headers, "fcam-8081"), "");
    }

    /// The OpenAPI file has every route with its role, and no other.
    #[test]
    fn the_openapi_file_is_what_there_is() {
        let file: serde_json::Value = serde_json::from_str(include_str!("www/openapi.json")).unwrap();
        let mut described = vec![];
        for (path, methods) in file["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let role = operation["x-role"].as_str().map(String::from);
                let open = operation["security"].as_array().is_some_and(Vec::is_empty);
                assert_eq!(role.is_none(), open, "{method} {path}");
                assert!(operation["summary"].is_string() && operation["responses"].is_object(), "{method} {path}");
                described.push((path.clone(), method.to_uppercase(), role));
            }
        }
        let mut routes: Vec<_> = ROUTES
            .iter()
            .map(|route| {
                (route.path.to_owned(), route.method.to_owned(), route.role.map(|role| role.name().to_owned()))
            })
            .collect();
        routes.sort();
        described.sort();
        assert_eq!(described, routes);
    }
}
