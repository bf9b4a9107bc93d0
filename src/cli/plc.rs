//! `fcam plc`: what the PLC's side of the serial line gets, before it is wired (`budget`) and when it is (`listen`).

use clap::Subcommand;

mod budget;
mod listen;

/// Plan and watch the serial line to the PLC
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Budget(budget::Args),
    Listen(listen::Args),
}

pub(super) fn run(args: &Args) -> anyhow::Result<u8> {
    match &args.verb {
        Verb::Budget(args) => budget::run(args),
        Verb::Listen(args) => listen::run(args),
    }
}
