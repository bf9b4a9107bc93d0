//! In: the [page] section. Out: every problem in it, and what the page is started with.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::raw::Page;
use super::{Error, Raw, read};

pub(super) fn validate(page: &Page, problems: &mut Vec<String>) {
    let Page { listen, dir, certificate, key, .. } = page;
    if listen.is_empty() {
        return;
    }
    if !cfg!(feature = "page") {
        problems.push("page.listen needs an fcam that was built with its feature page".into());
    }
    if listen.parse::<SocketAddr>().is_err() {
        problems.push(format!(
            "page.listen = {listen:?} is no address with a port: \"192.168.1.10:443\", say, or \"127.0.0.1:8080\""
        ));
    }
    if dir.as_os_str().is_empty() {
        problems.push("page.dir is empty: name a folder for the page's users".into());
    }
    if certificate.is_some() != key.is_some() {
        problems.push("page.certificate and page.key go together: set both or none".into());
    }
}

/// The folder of the page of a station file, of which the spelling and the types alone are looked at.
pub fn page_dir(path: &Path) -> Result<PathBuf, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
    let mut problems = vec![];
    let Raw { page, .. } = read::read(&text, &mut problems);
    match problems.is_empty() {
        true => Ok(page.dir),
        false => Err(Error::Invalid { name: path.display().to_string(), problems }),
    }
}

/// What the page is started with; none unless it listens.
#[cfg(feature = "page")]
pub(super) fn options(raw: &Raw, camera: String) -> Option<crate::page::PageOptions> {
    let Page { listen, dir, certificate, key, scrapers } = raw.page.clone();
    Some(crate::page::PageOptions {
        listen: listen.parse().ok()?, // it was validated
        dir,
        certificate: certificate.zip(key),
        scrapers,
        layout: raw.inspect.layout(),
        zones: super::zones::build(&raw.zones).count(),
        camera,
    })
}
