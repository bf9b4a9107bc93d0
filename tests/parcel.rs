//! A bundle as one signed file: the same bytes each time, checked by the `minisign` program too, and refused when one
//! bit of it is not as it was signed.

use std::fs;
use std::path::Path;
use std::process::Command;

use fcam::bundle::{Keys, Parcel, Release, SigningKey, generate};
use random::Random;
use release::{Workshop, ok, refused};
use serde_json::Value;
use skip::skip;
use tar::{EntryType, Header};

use crate::{common, random, release, skip};

/// A header as another program writes it.
fn header(path: &str, size: u64, kind: EntryType) -> Header {
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    header
}

/// Members and the end, as they are given.
fn archive(members: &[(Header, &[u8])]) -> Vec<u8> {
    let mut out = vec![];
    for (header, bytes) in members {
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

fn file<'a>(path: &str, bytes: &'a [u8]) -> (Header, &'a [u8]) {
    (header(path, bytes.len() as u64, EntryType::Regular), bytes)
}

/// The refusal of a file with this bundle in it.
fn refusal(inner: &[u8]) -> String {
    let outer = archive(&[file("bundle.tar", inner)]);
    Parcel::parse("a file", &outer).unwrap().open(&[]).unwrap_err().to_string()
}

#[test]
fn the_same_bundle_is_the_same_file() {
    let shop = Workshop::new();
    let again = shop.path("again.fcam");
    ok(&["bundle", "pack", common::tiny().to_str().unwrap(), "-o", &again]);
    let packed = shop.packed();
    assert_eq!(fs::read(&packed).unwrap(), fs::read(&again).unwrap());
    // From a copy with other times and owners too.
    let copy = shop.path("copy");
    common::copy_tiny(Path::new(&copy));
    ok(&["bundle", "pack", &copy, "-o", &again]);
    assert_eq!(fs::read(&packed).unwrap(), fs::read(&again).unwrap());
    // It runs wherever a directory does.
    assert!(ok(&["check", &packed]).ends_with("  ok\n"));
}

#[test]
fn minisign_itself_checks_it() {
    if Command::new("minisign").arg("-v").output().is_err() {
        return skip("signatures before minisign (it is not installed)");
    }
    let shop = Workshop::new();
    let signed = shop.signed(7);
    let run = |program: &str, args: &[&str]| Command::new(program).args(args).current_dir(shop.dir()).output().unwrap();
    let taken_out = run("tar", &["-xf", &signed]);
    assert!(taken_out.status.success(), "{taken_out:?}");
    let checked = run("minisign", &["-Vm", "bundle.tar", "-p", "keys/shop.pub"]);
    let words = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(
        checked.status.success() && words.contains("Trusted comment: fcam bundle 1: name=tiny counter=7 target=any"),
        "{checked:?}"
    );
    let mut bytes = fs::read(shop.path("bundle.tar")).unwrap();
    bytes[700] ^= 1;
    fs::write(shop.path("bundle.tar"), bytes).unwrap();
    assert!(!run("minisign", &["-Vm", "bundle.tar", "-p", "keys/shop.pub"]).status.success());
}

#[test]
fn a_key_with_a_password_signs_with_it_alone() {
    let (public, secret) = generate(false, None).unwrap();
    assert!(public.contains("minisign public key") && SigningKey::parse(&secret, None).is_ok());
    let (_, secret) = generate(true, Some("correct horse".into())).unwrap();
    assert!(
        SigningKey::parse(&secret, Some("battery".into())).is_err_and(|error| error.to_string().contains("password"))
    );
    assert!(SigningKey::parse(&secret, Some("correct horse".into())).is_ok());
    assert!(SigningKey::parse("no key", Some(String::new())).is_err());
}

#[test]
fn keys_are_not_overwritten_and_the_secret_one_is_nobody_elses() {
    use std::os::unix::fs::PermissionsExt;
    let shop = Workshop::new();
    let secret = shop.path("shop.key");
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&secret).unwrap();
    let words = refused(&["bundle", "keygen", "--no-password", "--secret", &secret, "--public", &shop.path("new.pub")]);
    assert!(words.contains("shop.key is there already"), "{words}");
    assert_eq!(fs::read(&secret).unwrap(), before);
}

#[test]
fn verify_says_what_it_is_and_who_signed_it() {
    let shop = Workshop::new();
    let signed = shop.signed(3);
    let keys = shop.keys();
    let said: Value = serde_json::from_str(&ok(&["bundle", "verify", &signed, "--keys", &keys, "--json"])).unwrap();
    assert_eq!((&said["release"]["name"], &said["release"]["counter"]), (&"tiny".into(), &3.into()));
    assert_eq!(said["runs_here"], true);
    let text = ok(&["bundle", "verify", &signed, "--keys", &keys]);
    assert!(text.starts_with("bundle   tiny.3\n") && text.contains("targets  any\n"), "{text}");

    let unsigned = refused(&["bundle", "verify", &shop.packed(), "--keys", &keys]);
    assert!(unsigned.contains("it is not signed"), "{unsigned}");
    let nobody = refused(&["bundle", "verify", &signed, "--keys", &shop.path("none")]);
    assert!(nobody.contains("cannot read") && nobody.contains("none"), "{nobody}");
    fs::create_dir(shop.path("empty")).unwrap();
    let empty = refused(&["bundle", "verify", &signed, "--keys", &shop.path("empty")]);
    assert!(empty.contains("there is no key"), "{empty}");

    let stranger = Workshop::new();
    let unknown = refused(&["bundle", "verify", &signed, "--keys", &stranger.keys()]);
    assert!(unknown.contains("signed by a key that is not in"), "{unknown}");
    fs::write(shop.path("keys/bad.pub"), "untrusted comment: x\nnot a key\n").unwrap();
    let bad = refused(&["bundle", "verify", &signed, "--keys", &keys]);
    assert!(bad.contains("bad.pub is no minisign public key"), "{bad}");
}

#[test]
fn a_damaged_bundle_is_not_packed() {
    let shop = Workshop::new();
    let copy = shop.path("copy");
    common::copy_tiny(Path::new(&copy));
    fs::write(format!("{copy}/model.onnx"), "no network").unwrap();
    let words = refused(&["bundle", "pack", &copy, "-o", &shop.path("x.fcam")]);
    assert!(words.contains("model.onnx is not the file that was exported"), "{words}");
    assert!(!Path::new(&shop.path("x.fcam")).exists());
}

#[test]
fn what_is_no_plain_file_in_its_place_is_refused_by_name() {
    let manifest = fs::read(common::tiny().join("manifest.toml")).unwrap();
    let link = |kind| {
        let mut header = header("manifest.toml", 0, kind);
        header.as_old_mut().linkname[..11].copy_from_slice(b"/etc/passwd");
        header.set_cksum();
        archive(&[(header, &[])])
    };
    let whole = archive(&[file("manifest.toml", &manifest)]);
    let mut owned = header("manifest.toml", 1, EntryType::Regular);
    owned.set_uid(1000);
    owned.set_cksum();
    let mut wrong_sum = header("manifest.toml", 1, EntryType::Regular);
    wrong_sum.as_old_mut().cksum[0] ^= 1;
    let huge = header("manifest.toml", u64::MAX >> 8, EntryType::Regular);
    let many: Vec<String> = (0..10_001).map(|index| format!("{index:06}")).collect();
    let many: Vec<(Header, &[u8])> = many.iter().map(|name| file(name, b"")).collect();
    let cases = [
        (link(EntryType::Symlink), "`manifest.toml` is a symlink"),
        (link(EntryType::Link), "`manifest.toml` is a hard link"),
        (link(EntryType::Directory), "is a folder"),
        (link(EntryType::Char), "is a device"),
        (link(EntryType::Fifo), "is a device"),
        (link(EntryType::GNULongName), "is no regular file"),
        (archive(&[file("../../etc/passwd", b"x")]), "leaves the bundle"),
        (archive(&[file("/etc/passwd", b"x")]), "is absolute"),
        (archive(&[file("a/./b", b"x")]), "leaves the bundle or has an empty part"),
        (archive(&[file("a\\b", b"x")]), "backslash"),
        (archive(&[file("a\nb", b"x")]), "control characters"),
        (archive(&[file("a", b"x"), file("a", b"y")]), "a is in it twice"),
        (archive(&[file("b", b"x"), file("a", b"y")]), "a is out of order"),
        (archive(&[(owned, b"x")]), "damaged, or of another program"),
        (archive(&[(wrong_sum, b"x")]), "damaged, or of another program"),
        (archive(&[(huge, b"x")]), "truncated in manifest.toml"),
        (archive(&many), "more than 10000 members"),
        (whole[..whole.len() - 1].to_vec(), "truncated: its end is missing"),
        (whole[..whole.len() - 1024 - 512].to_vec(), "truncated"),
        ([&whole[..], b"more"].concat(), "4 bytes after its end"),
        (vec![], "truncated"),
        (archive(&[]), "there is no manifest.toml"),
        (whole.clone(), "is in [files] and not in the bundle"),
    ];
    for (inner, words) in cases {
        let refusal = refusal(&inner);
        assert!(refusal.contains(words), "no `{words}`: {refusal}");
    }
}

#[test]
fn what_is_no_fcam_file_is_refused() {
    let parse = |bytes: &[u8]| Parcel::parse("a file", bytes).unwrap_err().to_string();
    assert!(parse(b"").contains("truncated"));
    assert!(parse(&archive(&[file("other", b"x")])).contains("is this an fcam file?"));
    assert!(parse(&archive(&[file("bundle.tar", b"x"), file("more", b"x")])).contains("something else in it: more"));
    let long = vec![b'x'; 5000];
    assert!(
        parse(&archive(&[file("bundle.tar", b"x"), file("bundle.tar.minisig", &long)])).contains("it is no signature")
    );
}

/// A changed file with the right hash in the manifest needs the key; without it the signature does not fit.
#[test]
fn a_swapped_file_is_refused_whatever_the_manifest_says() {
    let shop = Workshop::new();
    let keys = Keys::read(Path::new(&shop.keys())).unwrap();
    let signed = Parcel::read(Path::new(&shop.signed(1))).unwrap();
    let (ours, theirs) = (Workshop::new(), fs::read(shop.signed(1)).unwrap());
    // Another bundle under the first one's signature.
    let copy = ours.path("copy");
    common::copy_tiny(Path::new(&copy));
    let manifest = format!("{copy}/manifest.toml");
    let text = fs::read_to_string(&manifest).unwrap().replace("score = 0.5", "score = 0.9");
    fs::write(&manifest, text).unwrap();
    let other = Parcel::pack(Path::new(&copy), &[]).unwrap().to_bytes().unwrap();
    let outer: Vec<(String, Vec<u8>)> = [(&other, "bundle.tar"), (&theirs, "bundle.tar.minisig")]
        .map(|(bytes, name)| (name.to_owned(), release::member(bytes, name)))
        .into();
    let mixed = archive(&outer.iter().map(|(name, bytes)| file(name, bytes)).collect::<Vec<_>>());
    let refusal = Parcel::parse("mixed", &mixed).unwrap().open_signed(&keys, &[]).unwrap_err().to_string();
    assert!(refusal.contains("changed after it was signed"), "{refusal}");
    // A release of another name under a right signature.
    let key = SigningKey::parse(&fs::read_to_string(shop.path("shop.key")).unwrap(), None).unwrap();
    let mut renamed = signed.clone();
    let release = signed.verify(&keys).unwrap();
    renamed.sign(&key, &Release { name: "other".into(), ..release }).unwrap();
    let refusal = renamed.open_signed(&keys, &[]).unwrap_err().to_string();
    assert!(refusal.contains("signed as other"), "{refusal}");
}

/// Whatever is done to the bytes: nothing panics, and what is still taken is the bundle and the release that were
/// signed.
#[test]
fn no_mutation_is_taken_for_something_else() {
    let shop = Workshop::new();
    let keys = Keys::read(Path::new(&shop.keys())).unwrap();
    let bytes = fs::read(shop.signed(5)).unwrap();
    let whole = Parcel::parse("whole", &bytes).unwrap();
    let release = whole.verify(&keys).unwrap();
    let cases = std::env::var("FCAM_FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(3000);
    let (mut taken, mut parsed) = (0, 0);
    for seed in 0..cases {
        let mutated = mutate(&bytes, &mut Random(seed));
        let Ok(parcel) = Parcel::parse("mutated", &mutated) else { continue };
        parsed += 1;
        let _ = parcel.open(&[]);
        if let Ok(signed) = parcel.open_signed(&keys, &[]) {
            taken += 1;
            assert!(signed.release == release && parcel.same_bundle(&whole), "seed {seed}");
        }
    }
    println!("{cases} mutations, {parsed} were archives, {taken} of them the signed bundle");
    assert!(parsed > 0);
}

/// Flipped bits, cut ends, copied and removed blocks, at random places and at headers.
fn mutate(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..=random.below(3) {
        let blocks = out.len() / 512;
        let block = random.below(blocks.max(1)) * 512;
        match random.below(7) {
            0 => out.truncate(random.below(out.len() + 1)),
            1 => out.extend_from_slice(&bytes[..random.below(bytes.len())]),
            2 if out.len() > block + 512 => drop(out.drain(block..block + 512)),
            3 if out.len() > block + 512 => {
                let copy = out[block..block + 512].to_vec();
                let to = random.below(blocks) * 512;
                out.splice(to..to, copy);
            }
            4 if !out.is_empty() => {
                let at = random.below(out.len());
                out[at] = random.below(256) as u8;
            }
            5 if out.len() > block + 160 => out[block + random.below(160)] ^= 1 << random.below(8),
            _ if !out.is_empty() => {
                let at = random.below(out.len());
                out[at] ^= 1 << random.below(8);
            }
            _ => {}
        }
    }
    out
}

/// In a service or a pipeline nobody can type a password: the error says what to do, and leaves no file.
#[test]
fn without_a_terminal_a_password_comes_from_a_file() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name).display().to_string();
    let (secret, public) = (path("s.key"), path("s.pub"));
    let keygen = |more: &[&str]| {
        let mut command = Command::new("setsid");
        let args = ["-w", env!("CARGO_BIN_EXE_fcam"), "bundle", "keygen", "--secret", &secret, "--public", &public];
        command.args(args).args(more).output().unwrap()
    };
    let refused = keygen(&[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--password-file"), "{refused:?}");
    assert!(!Path::new(&secret).exists());
    fs::write(path("password"), "long and plain\n").unwrap();
    assert!(keygen(&["--password-file", &path("password")]).status.success());
    assert!(Path::new(&secret).exists());
}
