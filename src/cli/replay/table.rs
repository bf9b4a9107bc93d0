//! The lines of a replay on standard output: a table where a person reads, JSON where a program does.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anstyle::{AnsiColor, Style};

use super::report::ReplayRow;

/// Longer paths lose their beginning: which picture of a folder it is stands at the end.
const LONGEST: usize = 48;

/// Writes the line of each picture.
pub(super) struct Writer {
    /// None writes JSON.
    table: Option<Table>,
    out: anstream::Stdout,
}

impl Writer {
    /// A table if standard output is a terminal, unless JSON is asked for. Colours as NO_COLOR, CLICOLOR and TERM have
    /// them.
    pub(super) fn new(json: bool, pictures: &[PathBuf], classes: &[String]) -> Self {
        let out = anstream::stdout();
        let table = (!json && io::stdout().is_terminal()).then(|| Table::of(pictures, classes));
        Self { table, out }
    }

    pub(super) fn write(&mut self, line: &ReplayRow) -> io::Result<()> {
        match &mut self.table {
            Some(table) => writeln!(self.out, "{}", table.row(line)),
            None => writeln!(self.out, "{}", serde_json::to_string(line)?),
        }
    }
}

/// Columns as wide as what will stand in them, which is known before the first picture is judged.
struct Table {
    picture: usize,
    class: usize,
    has_header: bool,
}

impl Table {
    fn of(pictures: &[PathBuf], classes: &[String]) -> Self {
        let picture = pictures.iter().map(|path| shown(path).chars().count()).max();
        let class = classes.iter().map(|class| class.chars().count()).max();
        Self { picture: picture.unwrap_or(0).max(7), class: class.unwrap_or(0).max(5), has_header: false }
    }

    /// A picture's row, under the header if it is the first one.
    fn row(&mut self, line: &ReplayRow) -> String {
        let Self { picture, class, .. } = *self;
        let mut row = String::new();
        if !std::mem::replace(&mut self.has_header, true) {
            let bold = Style::new().bold();
            let _ = writeln!(
                row,
                "{bold}{:<picture$}  {:<7}  {:<class$}  {:>5}  {:>7}  {:>8}{bold:#}",
                "picture", "verdict", "class", "score", "regions", "ms"
            );
        }
        let color = color(line.verdict);
        let _ = write!(
            row,
            "{:<picture$}  {color}{:<7}{color:#}  {:<class$}  {:>5}  {:>7}  {:>8}",
            shown(Path::new(&*line.picture)),
            line.verdict,
            line.class.unwrap_or("-"),
            line.score.map_or("-".into(), |score| format!("{score:.3}")),
            line.regions.len(),
            line.ms.as_ref().map_or("-".into(), |ms| format!("{:.2}", ms.total)),
        );
        if let Some(reason) = &line.reason {
            let _ = write!(row, "  {reason}");
        }
        row
    }
}

fn color(verdict: &str) -> Style {
    let color = match verdict {
        "pass" => AnsiColor::Green,
        "reject" => AnsiColor::Red,
        _ => AnsiColor::Yellow,
    };
    color.on_default().bold()
}

/// A path as a row shows it.
fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    match text.chars().count().checked_sub(LONGEST) {
        None | Some(0) => text.into_owned(),
        Some(more) => std::iter::once('…').chain(text.chars().skip(more + 1)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_contents() {
        let long = PathBuf::from("folder/".repeat(9) + "0123.png");
        let pictures = [PathBuf::from("a.png"), long.clone()];
        let mut table = Table::of(&pictures, &["missing stitch".into()]);
        let rows = [
            table.row(&ReplayRow::fault(&pictures[0], "no picture".into())),
            table.row(&ReplayRow::fault(&long, "cut".into())),
        ];
        let plain = rows.map(|row| anstream::adapter::strip_str(&row).to_string());
        let (header, first) = plain[0].split_once('\n').unwrap();
        assert!(header.starts_with("picture") && header.ends_with("ms"), "{header}");
        let at = header.find("verdict").unwrap();
        assert_eq!((first.find("fault"), first.ends_with("  no picture")), (Some(at), true), "{first}");
        assert_eq!(plain[1].chars().take(at).collect::<String>().trim_end().chars().count(), LONGEST);
        assert!(plain[1].starts_with('…') && plain[1].contains("folder/0123.png") && !plain[1].contains("verdict"));
    }
}
