//! A camera's store in a folder of its own, with releases of the tiny bundle, made in process.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

use fcam::bundle::{Parcel, Release, SigningKey, generate};
use fcam::station::control::Socket;
use fcam::station::{Releases, TrialLimits};
use fcam::store::{Id, Room, Store};
use tempfile::TempDir;

use crate::common;

pub struct Installed {
    pub dir: TempDir,
    pub store: Store,
    key: SigningKey,
}

pub fn id(text: &str) -> Id {
    Id::try_from(text.to_owned()).unwrap()
}

impl Installed {
    /// With `tiny.1`, which is active, and `tiny.2`; the proof of `tiny.3` cannot be kept.
    pub fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let (public, secret) = generate(false, None).unwrap();
        std::fs::create_dir(dir.path().join("keys")).unwrap();
        std::fs::write(dir.path().join("keys/a.pub"), public).unwrap();
        let store = Store::new(dir.path().join("store"), dir.path().join("keys"));
        let new = Self { dir, store, key: SigningKey::parse(&secret, None).unwrap() };
        new.install(&common::tiny(), "tiny", 1);
        new.install(&common::tiny(), "tiny", 2);
        let logits = ("logits = [-2.456693, 2.456693]", "logits = [-0.5, 0.5]");
        new.install(&new.changed("unproven", &[logits]), "tiny", 3);
        new.store
            .update(|state| {
                state.activate(&id("tiny.1"));
                state.pass(&id("tiny.1"));
            })
            .unwrap();
        new
    }

    /// A copy of the tiny bundle with another text in its manifest.
    pub fn changed(&self, name: &str, changes: &[(&str, &str)]) -> PathBuf {
        let copy = self.dir.path().join(name);
        common::copy_tiny(&copy);
        let mut text = std::fs::read_to_string(copy.join("manifest.toml")).unwrap();
        for (from, to) in changes {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        std::fs::write(copy.join("manifest.toml"), text).unwrap();
        copy
    }

    pub fn install(&self, bundle: &Path, name: &str, counter: u64) {
        let mut parcel = Parcel::pack(bundle, &[]).unwrap();
        let version = parcel.open(&[]).unwrap().manifest().version.clone();
        parcel.sign(&self.key, &Release { name: name.into(), version, counter, targets: vec!["any".into()] }).unwrap();
        self.store.install(&parcel, &[], Room { keep: 10, free_mb: 0 }).unwrap();
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    /// For a station that starts with `tiny.1`.
    pub fn releases(&self, limits: TrialLimits) -> Releases {
        Releases {
            store: self.store.clone(),
            socket: Some(Socket::open(&self.socket()).unwrap()),
            running: Some(id("tiny.1")),
            spare: vec![],
            trial: false,
            jobs: Default::default(),
            limits,
        }
    }
}
