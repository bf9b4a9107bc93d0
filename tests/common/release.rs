//! Whoever signs: a folder with a key, and the tiny bundle packed and signed in it.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use tempfile::TempDir;

use crate::common;

pub struct Workshop(TempDir);

impl Workshop {
    /// With `shop.key`, and `keys/shop.pub`, the folder of a camera that trusts it.
    pub fn new() -> Self {
        let shop = Self(TempDir::new().unwrap());
        std::fs::create_dir(shop.path("keys")).unwrap();
        let (secret, public) = (shop.path("shop.key"), shop.path("keys/shop.pub"));
        ok(&["bundle", "keygen", "--no-password", "--secret", &secret, "--public", &public]);
        shop
    }

    pub fn dir(&self) -> &Path {
        self.0.path()
    }

    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    pub fn keys(&self) -> String {
        self.path("keys")
    }

    /// The tiny bundle as one file.
    pub fn packed(&self) -> String {
        self.pack(&common::tiny(), "packed.fcam")
    }

    pub fn pack(&self, bundle: &Path, name: &str) -> String {
        let out = self.path(name);
        ok(&["bundle", "pack", bundle.to_str().unwrap(), "-o", &out]);
        out
    }

    /// The tiny bundle, signed as this release.
    pub fn signed(&self, counter: u64) -> String {
        self.sign(&self.packed(), counter)
    }

    pub fn sign(&self, packed: &str, counter: u64) -> String {
        let out = self.path(&format!("signed-{counter}.fcam"));
        let counter = counter.to_string();
        ok(&["bundle", "sign", packed, "--key", &self.path("shop.key"), "--counter", &counter, "-o", &out]);
        out
    }
}

/// What the program prints; it must succeed.
pub fn ok(args: &[&str]) -> String {
    let output = common::fcam(args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What the program says when it refuses.
pub fn refused(args: &[&str]) -> String {
    let output = common::fcam(args);
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {words}");
    let first = words.lines().find(|line| !line.starts_with('[')); // behind the log
    assert!(first.is_some_and(|line| line.starts_with("fcam: ")) && !words.contains("panicked"), "{words}");
    words
}

/// The contents of a member of an archive.
pub fn member(archive: &[u8], name: &str) -> Vec<u8> {
    use std::io::Read;
    let mut archive = tar::Archive::new(archive);
    let mut entry =
        archive.entries().unwrap().map(Result::unwrap).find(|entry| entry.path_bytes() == name.as_bytes()).unwrap();
    let mut bytes = vec![];
    entry.read_to_end(&mut bytes).unwrap();
    bytes
}

/// A release with a proof that no machine can keep: the verdicts are right, the scores are others.
pub fn unproven(shop: &Workshop, counter: u64) -> String {
    let copy = shop.path("unproven");
    common::copy_tiny(Path::new(&copy));
    let manifest = format!("{copy}/manifest.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let other = text.replace("logits = [-2.456693, 2.456693]", "logits = [-0.5, 0.5]");
    assert_ne!(text, other);
    std::fs::write(&manifest, other).unwrap();
    shop.sign(&shop.pack(Path::new(&copy), "unproven.fcam"), counter)
}
