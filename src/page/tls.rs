//! TLS. In: the page's address, a certificate or a folder for one. Out: what accepts connections, and none on the
//! machine's own address, where nobody is between.

use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{Error, PageOptions};
use crate::durable;

/// The files of a certificate that is made here.
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";

/// Years in which it holds: a camera has no clock of its own, and nobody who renews certificates.
const YEARS: [i32; 2] = [2024, 2054];

/// What accepts; none where the page speaks plain HTTP.
pub(super) fn acceptor(options: &PageOptions) -> Result<Option<TlsAcceptor>, Error> {
    let (certificate, key) = match &options.certificate {
        Some((certificate, key)) => (certificate.clone(), key.clone()),
        None if options.listen.ip().is_loopback() => return Ok(None),
        None => {
            make(options)?;
            (options.dir.join(CERTIFICATE), options.dir.join(KEY))
        }
    };
    let chain = read_chain(&certificate)?;
    let key = PrivateKeyDer::from_pem_file(&key).map_err(|error| wrong(&key, &error.to_string()))?;
    if let Some(first) = chain.first() {
        log::info!("the page's certificate has the SHA-256 fingerprint {}", fingerprint(first));
    }
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_no_client_auth())
        .and_then(|builder| builder.with_single_cert(chain, key))
        .map_err(|error| wrong(&certificate, &error.to_string()))?;
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match chain {
        Ok(chain) if chain.is_empty() => Err(wrong(path, "there is no certificate in it")),
        chain => chain.map_err(|error| wrong(path, &error.to_string())),
    }
}

fn wrong(path: &Path, problem: &str) -> Error {
    let path = path.display();
    Error::Certificate(format!(
        "cannot use {path} for the page's TLS: {problem}; page.certificate and page.key are PEM files that belong together, without them fcam makes its own"
    ))
}

fn fingerprint(certificate: &CertificateDer) -> String {
    let digest = Sha256::digest(certificate);
    digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

/// Makes a certificate that signs itself, and its key, unless they are there.
fn make(options: &PageOptions) -> Result<(), Error> {
    let [certificate, key] = [CERTIFICATE, KEY].map(|name| options.dir.join(name));
    if certificate.exists() && key.exists() {
        return Ok(());
    }
    let failed = |error: rcgen::Error| Error::Certificate(format!("cannot make a certificate: {error}"));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let names = [options.listen.ip().to_string(), host.trim().to_owned()].into_iter().filter(|name| !name.is_empty());
    let mut params = rcgen::CertificateParams::new(names.collect::<Vec<_>>()).map_err(failed)?;
    let [from, until] = YEARS.map(|year| rcgen::date_time_ymd(year, 1, 1));
    (params.not_before, params.not_after) = (from, until);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "fcam");
    let pair = rcgen::KeyPair::generate().map_err(failed)?;
    let made = params.self_signed(&pair).map_err(failed)?;
    let write = |path: &Path, text: &str| {
        durable::write_private(path, &[text.as_bytes()]).map_err(|source| Error::Dir {
            verb: "write",
            path: path.into(),
            source,
        })
    };
    write(&key, &pair.serialize_pem())?;
    write(&certificate, &made.pem())?;
    log::info!("made {}, because there was no certificate for the page", certificate.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::Layout;

    fn options(listen: &str, dir: &Path) -> PageOptions {
        PageOptions {
            listen: listen.parse().unwrap(),
            dir: dir.into(),
            certificate: None,
            scrapers: vec![],
            layout: Layout::default(),
            zones: 0,
            camera: String::new(),
        }
    }

    #[test]
    fn plain_http_is_for_this_machine_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert!(acceptor(&options("127.0.0.1:1", dir.path())).unwrap().is_none());
        assert!(acceptor(&options("[::1]:1", dir.path())).unwrap().is_none());
        assert!(acceptor(&options("192.168.1.10:443", dir.path())).unwrap().is_some());
    }

    #[test]
    fn the_certificate_is_made_once_and_its_key_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let options = options("192.168.1.10:443", dir.path());
        acceptor(&options).unwrap();
        let first = std::fs::read(dir.path().join(CERTIFICATE)).unwrap();
        acceptor(&options).unwrap();
        assert_eq!(std::fs::read(dir.path().join(CERTIFICATE)).unwrap(), first);
        let mode = std::fs::metadata(dir.path().join(KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let fingerprint = fingerprint(&read_chain(&dir.path().join(CERTIFICATE)).unwrap()[0]);
        assert_eq!((fingerprint.len(), fingerprint.matches(':').count()), (95, 31));
    }

    #[test]
    fn a_certificate_that_is_none_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mine.pem");
        std::fs::write(&file, "hello").unwrap();
        let own = PageOptions { certificate: Some((file.clone(), file)), ..options("127.0.0.1:1", dir.path()) };
        let error = acceptor(&own).err().unwrap().to_string();
        assert!(error.contains("mine.pem") && error.contains("page.key"), "{error}");
    }
}
