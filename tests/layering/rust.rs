//! Imports of Rust files. In: their texts. Out: the graph.
//!
//! A path counts wherever it stands, in a `use` or within code, if it begins with `crate`, `super` or `self`, or is
//! imported. A name that a module hands on from one of its parts leads to that part. What is compiled for tests alone
//! is no import: a test looks at its module from outside.

use std::collections::BTreeMap;

use super::graph::{Graph, Module};

/// What a file says of others.
#[derive(Default)]
struct Source {
    /// The paths in its code from the root on, without `crate`.
    paths: Vec<Vec<String>>,
    /// What the names that it imports stand for.
    names: BTreeMap<String, Vec<String>>,
}

/// The graph of files, each with its place below `src`.
pub fn graph(files: &[(String, String)]) -> Graph {
    let tested = |file: &&(String, String)| !file.0.ends_with("tests.rs");
    let known: Vec<Module> = files.iter().filter(tested).map(|(file, _)| module(file)).collect();
    let read = |(file, text): &(String, String)| (module(file), source(&module(file), &known, text));
    let sources: BTreeMap<Module, Source> = files.iter().filter(tested).map(read).collect();
    let mut graph = Graph::default();
    for (from, source) in &sources {
        for path in &source.paths {
            graph.add(from, &resolve(path, &sources, 8));
        }
    }
    graph
}

fn module(file: &str) -> Module {
    let names: Module = file.trim_end_matches(".rs").split('/').map(String::from).collect();
    if names == ["lib"] { vec![] } else { names }
}

/// The file in which a path ends, through `hops` imports at most.
fn resolve(path: &[String], sources: &BTreeMap<Module, Source>, hops: usize) -> Module {
    let mut at = 0;
    while at < path.len() && sources.contains_key(&path[..=at]) {
        at += 1;
    }
    let stood_for = path.get(at).and_then(|name| sources.get(&path[..at])?.names.get(name));
    match stood_for {
        Some(target) if hops > 0 => resolve(&[target, &path[at + 1..]].concat(), sources, hops - 1),
        _ => path[..at].to_vec(),
    }
}

fn source(own: &Module, known: &[Module], text: &str) -> Source {
    let mut reader = Reader { tokens: tokens(text), at: 0, own, known, inner: vec![], source: Source::default() };
    reader.run();
    reader.source
}

/// Words, `::` and single signs; comments, strings and lifetimes aside.
fn tokens(text: &str) -> Vec<String> {
    let mut found = vec![];
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = match first {
            _ if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            _ if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => quoted(rest, '"'),
            '\'' if is_character(rest) => quoted(rest, '\''),
            '\'' => 1,
            _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            _ if rest.starts_with("::") => 2,
            _ => first.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        if !(first.is_whitespace() || token.starts_with("//") || token.starts_with("/*") || "\"'".contains(first)) {
            found.push(token.to_owned());
        }
        rest = after;
    }
    found
}

/// 'a' and '\n' are characters, 'a without an end is a lifetime.
fn is_character(text: &str) -> bool {
    let mut signs = text.chars().skip(1);
    let first = signs.next();
    first == Some('\\') || signs.next() == Some('\'')
}

/// The length of what stands between two quotation marks, with them.
fn quoted(text: &str, mark: char) -> usize {
    let mut escaped = false;
    for (at, sign) in text.char_indices().skip(1) {
        match sign {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if sign == mark => return at + 1,
            _ => {}
        }
    }
    text.len()
}

struct Reader<'a> {
    tokens: Vec<String>,
    at: usize,
    own: &'a Module,
    known: &'a [Module],
    /// The blocks that are open; true: a module within the file, which `super` leaves first.
    inner: Vec<bool>,
    source: Source,
}

impl Reader<'_> {
    fn run(&mut self) {
        while self.at < self.tokens.len() {
            match self.token(0) {
                "#" if self.is_next(&["#", "[", "cfg", "(", "test", ")", "]"]) => self.skip_item(),
                "use" => {
                    self.at += 1;
                    self.tree(vec![], true);
                }
                "crate" | "super" | "self" if self.token(1) == "::" => self.tree(vec![], false),
                "{" => {
                    self.inner.push(self.opens_module());
                    self.at += 1;
                }
                "}" => {
                    self.inner.pop();
                    self.at += 1;
                }
                _ => self.at += 1,
            }
        }
    }

    fn token(&self, ahead: usize) -> &str {
        self.tokens.get(self.at + ahead).map_or("", String::as_str)
    }

    fn before(&self, back: usize) -> &str {
        self.at.checked_sub(back).map_or("", |at| &self.tokens[at])
    }

    /// `mod name {`, or `mod $name {` in a macro.
    fn opens_module(&self) -> bool {
        self.before(2) == "mod" || self.before(2) == "$" && self.before(3) == "mod"
    }

    fn is_next(&self, tokens: &[&str]) -> bool {
        tokens.iter().enumerate().all(|(ahead, token)| self.token(ahead) == *token)
    }

    /// Passes over an attribute and what it stands before: to its `;`, or to the end of its block.
    fn skip_item(&mut self) {
        let mut depth = 0;
        while self.at < self.tokens.len() {
            let token = self.token(0).to_owned();
            self.at += 1;
            match token.as_str() {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            if depth == 0 && (token == ";" || token == "}") {
                return;
            }
        }
    }

    /// One path, or several in braces, from `before` on.
    fn tree(&mut self, before: Vec<String>, imported: bool) {
        let mut path = before;
        loop {
            if self.token(0) == "{" {
                self.at += 1;
                while !["}", ""].contains(&self.token(0)) {
                    self.tree(path.clone(), imported);
                    self.at += usize::from(self.token(0) == ",");
                }
                self.at += 1;
                return;
            }
            path.push(self.token(0).to_owned());
            self.at += 1;
            let goes_on = self.token(1).chars().next().is_some_and(|c| c.is_alphanumeric() || "_{*".contains(c));
            if self.token(0) != "::" || !goes_on {
                break;
            }
            self.at += 1;
        }
        let alias = (self.token(0) == "as").then(|| self.token(1).to_owned());
        self.at += if alias.is_some() { 2 } else { 0 };
        self.note(path, alias, imported);
    }

    fn note(&mut self, path: Vec<String>, alias: Option<String>, imported: bool) {
        let Some(absolute) = self.absolute(&path) else { return };
        if imported && let Some(name) = alias.or(absolute.last().cloned()) {
            self.source.names.insert(name, absolute.clone());
        }
        self.source.paths.push(absolute);
    }

    /// From the root on; none for a path into another crate.
    fn absolute(&self, path: &[String]) -> Option<Vec<String>> {
        let mut place = self.own.clone();
        let mut inner = self.inner.iter().filter(|module| **module).count();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => {
                place.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {}
            first => {
                place.push(first.to_owned());
                let is_part = self.known.contains(&place);
                place.pop();
                if !is_part {
                    return None;
                }
            }
        }
        while rest.first().is_some_and(|name| name == "super") {
            if inner > 0 {
                inner -= 1;
            } else {
                place.pop();
            }
            rest = &rest[1..];
        }
        place.extend(rest.iter().filter(|name| *name != "self" && *name != "*").cloned());
        Some(place)
    }
}

/// The arrows of a file among others, which are empty.
#[cfg(test)]
fn arrows(file: &str, text: &str, others: &[(&str, &str)]) -> Vec<String> {
    let mut files: Vec<_> = others.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect();
    files.push((file.into(), text.into()));
    let graph = graph(&files);
    let own = module(file);
    graph.arrows().filter(|(from, _)| **from == own).map(|(_, to)| to.join("::")).collect()
}

#[test]
fn imports_are_read_in_every_form() {
    let others = ["lib.rs", "a.rs", "a/c.rs", "a/d.rs", "clock.rs", "mask.rs", "mask/run.rs", "cli.rs", "verdict.rs"];
    let others = others.map(|file| (file, ""));
    let arrows = |text: &str| arrows("a/b.rs", text, &others);
    let text = "use crate::clock::Timestamp;\n// crate::hidden\nuse crate::{mask::{Mask, run::{self, Run}}, verdict as v};\nlet x = crate::cli::main();";
    assert_eq!(arrows(text), ["cli", "clock", "mask", "mask::run", "verdict"]);
    assert_eq!(arrows("use super::c; fn f(x: &'a super::d::D) { super::g() }"), ["a", "a::c", "a::d"]);
    assert_eq!(arrows("mod inner { use super::X; fn f() { super::super::c::f() } } use self::inner::Y;"), ["a::c"]);
    assert_eq!(arrows("macro_rules! m { ($n:ident) => { mod $n { use super::X; } } } use super::c::X;"), ["a::c"]);
    assert!(arrows("/* crate::clock */ let s = \"crate::clock\"; let c = '\"'; let d = '\\''; use std::fmt; pub(crate) fn f() {}").is_empty());
    assert!(
        arrows("#[cfg(test)]\nmod tests { use crate::clock; fn f() {} } #[cfg(test)] use crate::mask; fn f() {}")
            .is_empty()
    );
    assert_eq!(arrows("#[cfg(test)] tests::f(1); use crate::clock;"), ["clock"]);
}

#[test]
fn a_name_that_is_handed_on_leads_to_where_it_is_defined() {
    let others = [
        ("lib.rs", ""),
        ("a.rs", "pub mod b;\npub use b::{Thing, other as One};\nuse crate::c::Far;"),
        ("a/b.rs", ""),
        ("c.rs", ""),
    ];
    let arrows = |text: &str| arrows("a/d.rs", text, &others);
    assert_eq!(arrows("use super::Thing;"), ["a::b"]);
    assert_eq!(arrows("use crate::a::One;"), ["a::b"]);
    assert_eq!(arrows("use super::Far;"), ["c"]);
    assert_eq!(arrows("use super::Own;"), ["a"]);
}
