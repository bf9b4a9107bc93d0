//! What is shown: the live page, health and numbers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::http;
use super::running::{PASSWORD, Running};

/// A viewer's events.
struct Events(BufReader<TcpStream>);

impl Events {
    fn open(station: &Running, cookie: &str) -> Self {
        let mut stream = http::connect(station.address);
        let host = station.address;
        write!(stream, "GET /api/live HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n").unwrap();
        let mut reader = BufReader::new(stream);
        let answer = http::head(&mut reader).unwrap();
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream")));
        Self(reader)
    }

    /// The next event of this name.
    fn next(&mut self, name: &str) -> Value {
        let (mut line, wanted) = (String::new(), format!("event: {name}\n"));
        while line != wanted {
            line.clear();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the events end");
        }
        line.clear();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(line.strip_prefix("data: ").unwrap()).unwrap()
    }
}

#[test]
fn a_viewer_sees_the_parts_and_their_pictures() {
    let station = Running::start();
    let cookie = station.cookie("see");
    assert_eq!(station.get("/api/picture", &cookie).status, 404, "nobody looks yet");
    let mut events = Events::open(&station, &cookie);
    let first = events.next("live");
    assert!(first["outputs"]["run"].is_boolean() && first["inputs"]["trigger"].is_boolean(), "{first}");
    let last = |event: &Value| event["parts"].as_array().unwrap().last().map(|part| part["sequence"].as_u64().unwrap());
    let (mut known, mut seen) = (last(&first).unwrap(), 0);
    while seen < 20 {
        let event = events.next("live");
        // What the first event had may come once more.
        let new = |part: &&Value| part["sequence"].as_u64().unwrap() > known;
        for part in event["parts"].as_array().unwrap().iter().filter(new).collect::<Vec<_>>() {
            assert_eq!(part["sequence"], known + 1, "no part is left out");
            (known, seen) = (known + 1, seen + 1);
            assert_eq!(part["verdict"] == "reject", part["class"].is_string(), "{part}");
            assert!(part["threshold"].as_f64().unwrap() > 0.0 && part["told_us"].as_u64().unwrap() > 0, "{part}");
        }
    }
    for _ in 0..3 {
        let part = events.next("picture")["sequence"].as_u64().unwrap();
        let jpeg = station.get(&format!("/api/picture?part={part}"), &cookie);
        assert_eq!((jpeg.status, jpeg.header("content-type")), (200, Some("image/jpeg")));
        let picture = image::load_from_memory(&jpeg.body).unwrap();
        assert_eq!((picture.width(), picture.height()), (320, 240), "at full resolution");
    }
    assert_eq!(station.get("/api/picture?part=x", &cookie).status, 400);
    // The pictures go with the last viewer.
    drop(events);
    let start = Instant::now();
    while station.get("/api/picture", &cookie).status == 200 {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(100));
    }
    station.end();
}

/// One reads nothing, and one asks for everything: the others see what happens when it happens.
#[test]
fn viewers_are_nothing_to_each_other() {
    let station = Running::start();
    let cookie = station.cookie("see");
    let mut sleeper = http::connect(station.address);
    let host = station.address;
    write!(sleeper, "GET /api/live HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n").unwrap();
    let before = station.parts();
    std::thread::scope(|scope| {
        let greedy = scope.spawn(|| {
            let start = Instant::now();
            let mut asked = 0;
            while start.elapsed() < Duration::from_secs(3) {
                for path in ["/api/state", "/api/picture", "/metrics", "/words.json", "/"] {
                    station.get(path, &cookie);
                    asked += 1;
                }
            }
            asked
        });
        for _ in 0..3 {
            scope.spawn(|| {
                let mut events = Events::open(&station, &cookie);
                let start = Instant::now();
                while start.elapsed() < Duration::from_secs(3) {
                    let event = events.next("live");
                    assert!(event["hung"].as_array().unwrap().is_empty(), "{event}");
                }
            });
        }
        assert!(greedy.join().unwrap() > 10);
    });
    assert!(station.parts() > before + 50, "parts went on");
    station.end();
}

/// Whoever is removed sees nothing more, in the middle of the events too.
#[test]
fn events_end_with_the_session() {
    let station = Running::start();
    let cookie = station.cookie("see");
    let mut events = Events::open(&station, &cookie);
    events.next("live");
    std::fs::remove_file(station.path("page/users.toml")).unwrap();
    let start = Instant::now();
    let mut rest = vec![];
    events.0.read_to_end(&mut rest).unwrap();
    assert!(start.elapsed() < Duration::from_secs(18), "{:?}", start.elapsed());
    station.end();
}

#[test]
fn health_and_numbers_are_told() {
    let station = Running::start();
    let health = station.get("/healthz", "");
    assert_eq!((health.status, health.text()), (200, "ready\n"));
    station.wait_for(10);
    let numbers = station.get("/metrics", "");
    assert_eq!(numbers.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    let value = |name: &str| -> f64 {
        let line =
            numbers.text().lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}"));
        line.trim().parse().unwrap()
    };
    let parts = value("fcam_parts_total{verdict=\"pass\"}") + value("fcam_parts_total{verdict=\"reject\"}");
    assert!(parts >= 10.0 && value("fcam_parts_total{verdict=\"fault\"}") == 0.0, "{}", numbers.text());
    assert_eq!(value("fcam_stage_seconds_count{stage=\"engine\"}"), parts);
    assert_eq!((value("fcam_ready"), value("fcam_fault_code")), (1.0, 0.0));
    // A site whose name was made to lead here learns nothing.
    let lured = http::raw(station.address, b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
    assert_eq!(lured.unwrap().status, 403);
    station.end();
}

#[test]
fn the_state_is_what_the_openapi_file_says() {
    let station = Running::start();
    let cookie = station.cookie("see");
    let file = station.get("/api/openapi.json", &cookie).json();
    for (path, name) in [("/api/state", "State"), ("/api/session", "Session")] {
        let value = station.get(path, &cookie).json();
        hold(&file, &file["components"]["schemas"][name], &value, path);
    }
    station.end();
}

/// The value has exactly the properties of the schema, and theirs.
fn hold(file: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        return hold(file, file.pointer(name.strip_prefix('#').unwrap()).unwrap(), value, at);
    }
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kinds = [schema["type"].clone()];
    let kinds = schema["type"].as_array().map_or(&kinds[..], Vec::as_slice);
    let fits = |kind: &Value| kind == is || (kind == "number" && is == "integer");
    let listed = schema["enum"].as_array().is_some_and(|values| values.contains(value));
    assert!(listed || kinds.iter().any(fits), "{at} is {value}, the file says {schema}");
    for item in value.as_array().into_iter().flatten() {
        hold(file, &schema["items"], item, at);
    }
    for (key, inner) in value.as_object().into_iter().flatten() {
        let of =
            if schema["properties"].is_object() { &schema["properties"][key] } else { &schema["additionalProperties"] };
        assert!(of.is_object(), "{at}.{key} is not in the file");
        hold(file, of, inner, &format!("{at}.{key}"));
    }
    let required = schema["required"].as_array().filter(|_| value.is_object()); // null has no keys
    for key in required.into_iter().flatten() {
        assert!(value.get(key.as_str().unwrap()).is_some(), "{at} has no {key}");
    }
}

/// At an address of a network it speaks TLS alone, with a certificate of its own whose fingerprint is in the log.
#[test]
fn other_machines_are_spoken_to_by_tls() {
    let station = Running::with("", "0.0.0.0");
    let log = station.log();
    assert!(log.contains("https://0.0.0.0:") && log.contains("SHA-256 fingerprint"), "{log}");
    let address = format!("127.0.0.1:{}", station.address.port()).parse().unwrap();
    let plain = http::raw(address, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(plain.is_none(), "{plain:?}");

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(station.path("page/certificate.pem")).unwrap()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned();
    let connection = ClientConnection::new(Arc::new(config), host.try_into().unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, http::connect(address));
    let body = serde_json::json!({ "user": "see", "password": PASSWORD }).to_string();
    let length = body.len();
    write!(stream, "POST /api/login HTTP/1.1\r\nHost: x\r\n{}Content-Length: {length}\r\n\r\n{body}", http::JSON)
        .unwrap();
    let answer = http::answer(stream).unwrap();
    assert_eq!(answer.status, 204);
    assert!(answer.header("set-cookie").unwrap().ends_with("; Secure"));
    station.end();
}
