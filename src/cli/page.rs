//! `fcam page`: the users of the page, who are made here and nowhere else.
//!
//! Exit code 0 if it was done, 2 if it was refused. The station that runs takes up a change with the next request.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Subcommand;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::EXIT_CLEAN;
use crate::config;
use crate::page::users::{Role, Users};

/// The station file of a camera.
const STATION: &str = "/etc/fcam/station.toml";

/// Make, list and remove the users of the page
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
    /// The folder of the page [default: page.dir of the station file]
    #[arg(long, value_name = "DIR", global = true)]
    dir: Option<PathBuf>,
    /// The station file that names the folder
    #[arg(long, value_name = "FILE", default_value = STATION, global = true)]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a user, or change role and password of one
    User {
        /// What the user logs in with
        #[arg(value_name = "NAME")]
        name: String,
        /// What the user may do: see, label, setup or administer; each may do what those before it may
        #[arg(long, value_name = "ROLE", default_value = "see")]
        role: Role,
        /// Take the password from the first line of a file, in place of the terminal
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// List the users and their roles
    Users,
    /// Remove a user, who is out with the next request
    Remove {
        /// Whom
        #[arg(value_name = "NAME")]
        name: String,
    },
}

pub(super) fn run(args: &Args) -> anyhow::Result<u8> {
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => config::page_dir(&args.config).context("--dir names the folder without a station file")?,
    };
    let mut users = Users::load(&dir)?;
    match &args.verb {
        Verb::User { name, role, password_file } => {
            let password = password(password_file.as_deref())?;
            users.set(name, *role, &password)?;
            make(&dir)?;
            users.save(&dir)?;
            println!("{name} may {}", role.name());
        }
        Verb::Users => users.iter().for_each(|(name, user)| println!("{name}\t{}", user.role.name())),
        Verb::Remove { name } => {
            ensure!(users.remove(name), "there is no user {name}: `fcam page users` lists them");
            users.save(&dir)?;
            println!("{name} is removed");
        }
    }
    Ok(EXIT_CLEAN)
}

/// The folder, which is its owner's alone; whoever owns the one around it owns it.
fn make(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
    if dir.is_dir() {
        return Ok(());
    }
    let around = dir.parent().filter(|around| !around.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let make = || {
        let owner = std::fs::metadata(around)?;
        std::fs::DirBuilder::new().mode(0o700).create(dir)?;
        match (owner.uid(), owner.gid()) == (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()) {
            true => Ok(()),
            false => chown(dir, Some(owner.uid()), Some(owner.gid())),
        }
    };
    make().with_context(|| format!("cannot make {}", dir.display()))
}

/// From a file, or typed twice at a terminal, or the first line of standard input.
fn password(file: Option<&Path>) -> anyhow::Result<String> {
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the password file {}", path.display()))?;
        return Ok(text.lines().next().unwrap_or("").to_owned());
    }
    if !std::io::stdin().is_terminal() {
        return line();
    }
    let first = hidden("Password: ")?;
    if hidden("The same again: ")? != first {
        bail!("the two are not the same: nothing was changed");
    }
    Ok(first)
}

/// A line that is not shown while it is typed.
fn hidden(prompt: &str) -> anyhow::Result<String> {
    let stdin = std::io::stdin();
    eprint!("{prompt}");
    std::io::stderr().flush()?;
    let before = tcgetattr(&stdin)?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Now, &quiet)?;
    let typed = line();
    tcsetattr(&stdin, OptionalActions::Now, &before)?;
    eprintln!();
    typed
}

fn line() -> anyhow::Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
