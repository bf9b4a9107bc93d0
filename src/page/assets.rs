//! What the page is made of: files of `www`, as they are.

use hyper::StatusCode;

use super::answer::{Answer, answer};

/// A file by its path, with its type.
pub(super) struct Asset {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

pub(super) const HOME: Asset = Asset { path: "/", kind: HTML, bytes: include_bytes!("www/index.html") };
pub(super) const LOG_IN: Asset = Asset { path: "/login", kind: HTML, bytes: include_bytes!("www/login.html") };
pub(super) const OPENAPI: Asset =
    Asset { path: "/api/openapi.json", kind: "application/json", bytes: include_bytes!("www/openapi.json") };

/// What anybody may have: it tells nothing of the station.
const OPEN: [Asset; 6] = [
    Asset { path: "/page.css", kind: "text/css; charset=utf-8", bytes: include_bytes!("www/page.css") },
    Asset { path: "/page.js", kind: SCRIPT, bytes: include_bytes!("www/page.js") },
    Asset { path: "/login.js", kind: SCRIPT, bytes: include_bytes!("www/login.js") },
    Asset { path: "/words.js", kind: SCRIPT, bytes: include_bytes!("www/words.js") },
    Asset { path: "/words.json", kind: "application/json", bytes: include_bytes!("www/words.json") },
    Asset { path: "/icon.svg", kind: "image/svg+xml", bytes: include_bytes!("www/icon.svg") },
];

impl Asset {
    pub(super) fn answer(&self) -> Answer {
        answer(StatusCode::OK, self.kind, self.bytes)
    }
}

/// The file of this path; there are no others, whatever the path says.
pub(super) fn find(path: &str) -> Option<Answer> {
    OPEN.iter().find(|asset| asset.path == path).map(Asset::answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::Measure;

    #[test]
    fn all_of_it_is_below_150_kilobytes() {
        let bytes: usize = OPEN.iter().chain([&HOME, &LOG_IN, &OPENAPI]).map(|asset| asset.bytes.len()).sum();
        assert!(bytes < 150_000, "{bytes}");
    }

    /// The policy forbids code and styles within a page.
    #[test]
    fn pages_have_no_code_in_them() {
        for asset in [HOME, LOG_IN] {
            let text = std::str::from_utf8(asset.bytes).unwrap();
            assert!(
                !["style=", "<style", " onclick", " onload", "javascript:"].iter().any(|code| text.contains(code)),
                "{}",
                asset.path
            );
            assert_eq!(text.matches("<script").count(), text.matches("<script type=\"module\" src=\"/").count());
            assert!(!text.contains("http://") && !text.contains("https://"), "{}", asset.path);
        }
    }

    /// One table: every word in every language, and the faults as board/faults.md has them.
    #[test]
    fn every_word_is_there_in_three_languages() {
        let words = OPEN.iter().find(|asset| asset.path == "/words.json").unwrap();
        let words: std::collections::BTreeMap<String, [String; 3]> = serde_json::from_slice(words.bytes).unwrap();
        for (key, languages) in &words {
            assert!(languages.iter().all(|word| !word.is_empty()), "{key}");
        }
        let manual = include_str!("../../board/faults.md");
        let rows = manual.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
        for row in rows.filter(|row| row.get(1).is_some_and(|code| code.parse::<u8>().is_ok())) {
            let [_, code, _, meaning, cure, _] = row[..] else { panic!("{row:?}") };
            let plain = |text: &str| text.replace('`', "");
            assert_eq!(words[&format!("fault.{code}")][0], plain(meaning), "fault.{code}");
            assert_eq!(words[&format!("cure.{code}")][0], plain(cure), "cure.{code}");
        }
        for measure in Measure::ALL.map(Measure::name) {
            for key in ["more", "less"].map(|side| format!("drift.{measure}.{side}")) {
                assert!(words.contains_key(&key) && words.contains_key(&format!("cure.{key}")), "{key}");
            }
        }
        for asset in OPEN.iter().chain([&HOME, &LOG_IN]) {
            let text = std::str::from_utf8(asset.bytes).unwrap();
            for key in text.split("data-word=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(words.contains_key(key), "{} uses {key}", asset.path);
            }
            for key in text.split("word(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
                let family = key.ends_with('.') && words.keys().any(|known| known.starts_with(key));
                assert!(family || words.contains_key(key), "{} uses {key}", asset.path);
            }
        }
    }
}
