//! As much of HTTP as the tests need, without anything that would mend what they send.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The cookie that it sets, as a request brings it.
    pub fn cookie(&self) -> Option<String> {
        self.header("set-cookie").map(|cookie| cookie.split(';').next().unwrap().to_owned())
    }
}

pub fn connect(address: SocketAddr) -> TcpStream {
    try_connect(address).unwrap()
}

fn try_connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

/// The head of an answer; none if the other side hangs up.
pub fn head(reader: &mut impl BufRead) -> Option<Answer> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let status = line.split(' ').nth(1)?.parse().ok()?;
    let mut headers = vec![];
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_lowercase(), value.to_owned())),
            None => return Some(Answer { status, headers, body: vec![] }),
        }
    }
}

/// The answer to what was sent; none if the other side hangs up.
pub fn answer(stream: impl Read) -> Option<Answer> {
    let mut reader = BufReader::new(stream);
    let mut answer = head(&mut reader)?;
    let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
    answer.body = vec![0; length];
    reader.read_exact(&mut answer.body).ok()?;
    Some(answer)
}

/// The answer to these bytes, sent on a connection of their own; none if the other side hangs up, or is not there.
pub fn raw(address: SocketAddr, bytes: &[u8]) -> Option<Answer> {
    let mut stream = try_connect(address).ok()?;
    let _ = stream.write_all(bytes); // it may hang up before all is sent
    answer(stream)
}

pub fn get(address: SocketAddr, path: &str, cookie: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n");
    raw(address, request.as_bytes()).unwrap()
}

/// `more` are header lines.
pub fn post(address: SocketAddr, path: &str, cookie: &str, more: &str, body: &str) -> Answer {
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nCookie: {cookie}\r\nContent-Length: {length}\r\n{more}Connection: close\r\n\r\n{body}"
    );
    raw(address, request.as_bytes()).unwrap()
}

pub const JSON: &str = "Content-Type: application/json\r\n";

pub fn log_in(address: SocketAddr, user: &str, password: &str) -> Answer {
    let body = serde_json::json!({ "user": user, "password": password }).to_string();
    post(address, "/api/login", "", JSON, &body)
}
