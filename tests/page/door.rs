//! Who gets in, and who does not.

use fcam::page::ROUTES;
use fcam::page::users::{Role, Users};
use serde_json::Value;

use super::http::{self, JSON};
use super::running::{PASSWORD, Running};

#[test]
fn nothing_is_shown_to_whoever_is_not_logged_in() {
    let station = Running::start();
    let home = station.get("/", "");
    assert_eq!((home.status, home.header("location")), (303, Some("/login")));
    for route in ROUTES.iter().filter(|route| route.role.is_some()) {
        let answer = match route.method {
            "GET" => station.get(route.path, "fcam-1=x"),
            _ => http::post(station.address, route.path, "", JSON, "{}"),
        };
        assert_eq!(answer.status, 401, "{route:?}");
        assert!(answer.json()["error"].as_str().unwrap().contains("log in"), "{route:?}");
    }
    for path in ["/login", "/page.css", "/page.js", "/login.js", "/words.js", "/words.json", "/icon.svg", "/healthz"] {
        let answer = station.get(path, "");
        assert_eq!(answer.status, 200, "{path}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
    station.end();
}

#[test]
fn a_session_begins_with_the_password_and_ends_with_the_log_out() {
    let station = Running::start();
    assert_eq!(http::log_in(station.address, "see", "wrong password").status, 401);
    assert_eq!(http::log_in(station.address, "nobody", PASSWORD).status, 401);
    let answer = http::log_in(station.address, "see", PASSWORD);
    let flags = answer.header("set-cookie").unwrap();
    assert!(
        flags.contains("; HttpOnly") && flags.contains("; SameSite=Strict") && !flags.contains("Secure"),
        "{flags}"
    );
    let cookie = answer.cookie().unwrap();
    assert_eq!(station.get("/", &cookie).status, 200);
    let session = station.get("/api/session", &cookie).json();
    assert_eq!((&session["user"], &session["role"]), (&"see".into(), &"see".into()));

    // Another site cannot act for the user, with or without a token that it made up.
    let token = session["csrf"].as_str().unwrap();
    let out = |more: &str| http::post(station.address, "/api/logout", &cookie, more, "");
    let with = |token: &str| format!("{JSON}X-CSRF-Token: {token}\r\n");
    assert_eq!(out(JSON).status, 403);
    assert_eq!(out(&with(&"0".repeat(64))).status, 403);
    assert_eq!(out(&format!("{}Origin: http://evil.example\r\n", with(token))).status, 403);
    assert_eq!(out(&format!("{}Sec-Fetch-Site: cross-site\r\n", with(token))).status, 403);
    assert_eq!(out(&format!("X-CSRF-Token: {token}\r\nContent-Type: text/plain\r\n")).status, 415);
    assert_eq!(station.get("/", &cookie).status, 200, "nobody was logged out");
    let own = format!("{}Origin: http://{}\r\nSec-Fetch-Site: same-origin\r\n", with(token), station.address);
    assert_eq!(out(&own).status, 204);
    assert_eq!(station.get("/", &cookie).status, 303);

    let station = station.end();
    let trail = std::fs::read_to_string(station.path("page/audit.jsonl")).unwrap();
    let trail: Vec<Value> = trail.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let done: Vec<_> = trail.iter().map(|entry| (entry["what"].as_str().unwrap(), &entry["user"])).collect();
    let (see, nobody) = (&Value::from("see"), &Value::from("nobody"));
    assert_eq!(done, [("log-in refused", see), ("log-in refused", nobody), ("log-in", see), ("log-out", see)]);
    assert!(trail.iter().all(|entry| entry["from"] == "127.0.0.1" && entry["at"].as_str().unwrap().ends_with('Z')));
    assert!(!format!("{trail:?}").contains(PASSWORD));
}

#[test]
fn roles_are_held_and_taken_from_the_file_each_time() {
    let station = Running::start();
    let (see, admin) = (station.cookie("see"), station.cookie("admin"));
    assert_eq!(station.get("/api/audit", &see).status, 403);
    let trail = station.get("/api/audit", &admin);
    assert_eq!((trail.status, trail.text().lines().count()), (200, 2));
    // One is removed, the other one gets another password, while both are logged in.
    let dir = station.path("page");
    let mut users = Users::load(&dir).unwrap();
    assert!(users.remove("see"));
    users.set("admin", Role::Administer, "battery staple").unwrap();
    users.save(&dir).unwrap();
    assert_eq!(station.get("/api/session", &see).status, 401);
    assert_eq!(station.get("/api/session", &admin).status, 401);
    assert_eq!(http::log_in(station.address, "admin", "battery staple").status, 204);
    station.end();
}

#[test]
fn guessing_passwords_is_slow_and_keeps_nobody_from_judging() {
    let station = Running::start();
    let before = station.parts();
    let tries: Vec<_> =
        (0..40).map(|index| http::log_in(station.address, "admin", &format!("guess {index:06}"))).collect();
    let refused = tries.iter().filter(|answer| answer.status == 401).count();
    let stopped: Vec<_> = tries.iter().filter(|answer| answer.status == 429).collect();
    assert!((5..8).contains(&refused) && refused + stopped.len() == 40, "{refused}");
    let wait: u64 = stopped[0].header("retry-after").unwrap().parse().unwrap();
    assert!((1..=12).contains(&wait), "{wait}");
    // The right one waits as well: otherwise the answer would say that it is right.
    assert_eq!(http::log_in(station.address, "admin", PASSWORD).status, 429);
    assert!(station.parts() > before, "parts went on");
    station.end();
}

#[test]
fn no_path_leads_out_of_the_page() {
    let station = Running::start();
    let cookie = station.cookie("admin");
    for path in [
        "/../page/users.toml",
        "/..%2f..%2fetc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/page.css/../../users.toml",
        "/api/picture/../audit",
        "/users.toml",
        "/page/key.pem",
        "/api/picture?part=../../users.toml",
        "/page.css%00.js",
    ] {
        let answer = station.get(path, &cookie);
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
        assert!(!answer.text().contains("argon2"), "{path}");
    }
    let patched = http::raw(station.address, b"DELETE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!((patched.status, patched.header("allow")), (405, Some("GET")));
    station.end();
}

/// Without a users file the page is there, and says what to do.
#[test]
fn without_users_nobody_gets_in() {
    let station = Running::start();
    std::fs::remove_file(station.path("page/users.toml")).unwrap();
    assert_eq!(http::log_in(station.address, "admin", PASSWORD).status, 401);
    assert_eq!(station.get("/", "").status, 303);
    assert_eq!(station.get("/healthz", "").status, 200);
    station.end();
}
