//! Imports of the host tool's files. In: their texts. Out: the graph. Those for type checkers alone count too.

use super::graph::{Graph, Module};

/// The package's name.
const PACKAGE: &str = "fcam_tools";

/// The graph of files, each with its place in the package.
pub fn graph(files: &[(String, String)]) -> Graph {
    let known: Vec<Module> = files.iter().map(|(file, _)| module(file)).collect();
    let mut graph = Graph::default();
    for (file, text) in files {
        for path in imports(text) {
            graph.add(&module(file), &resolve(&path, &known));
        }
    }
    graph
}

fn module(file: &str) -> Module {
    let path = file.trim_end_matches(".py").trim_end_matches("__init__");
    path.split('/').filter(|name| !name.is_empty()).map(String::from).collect()
}

/// What `from fcam_tools.x import (a, b)` and `import fcam_tools.x` name, within the package.
fn imports(text: &str) -> Vec<Vec<String>> {
    let mut found = vec![];
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for (number, line) in lines.iter().enumerate() {
        if let Some((from, names)) = line.strip_prefix("from ").and_then(|rest| rest.split_once(" import ")) {
            let Some(within) = within(from) else { continue };
            let more = if names.starts_with('(') { &lines[number + 1..] } else { &[] };
            let open = more.iter().take_while(|_| !names.contains(')'));
            let end = open.clone().position(|line| line.contains(')')).map_or(0, |end| end + 1);
            let names = [names].into_iter().chain(open.take(end).copied()).collect::<Vec<_>>().join(" ");
            for name in names.split(['(', ')', ',']).filter_map(|name| name.split_whitespace().next()) {
                found.push([within.clone(), vec![name.to_owned()]].concat());
            }
        } else if let Some(name) = line.strip_prefix("import ") {
            found.extend(within(name.split_whitespace().next().unwrap_or_default()));
        }
    }
    found
}

fn within(dotted: &str) -> Option<Vec<String>> {
    let mut names = dotted.split('.');
    (names.next() == Some(PACKAGE)).then(|| names.map(String::from).collect())
}

/// The file in which a path ends.
fn resolve(path: &[String], known: &[Module]) -> Module {
    let mut file = path.to_vec();
    while !file.is_empty() && !known.contains(&file) {
        file.pop();
    }
    file
}

#[test]
fn imports_are_read_in_every_form() {
    let text = "import numpy\nfrom fcam_tools import a, data\nfrom fcam_tools.data.tree import (\n    X,\n    Y as Z,\n)\nimport fcam_tools.c\n\
        if TYPE_CHECKING:\n    from fcam_tools.d import D\n";
    let files = ["__init__.py", "a.py", "b.py", "c.py", "d.py", "data/__init__.py", "data/tree.py"];
    let files = files.map(|file| (file.to_owned(), if file == "b.py" { text.to_owned() } else { String::new() }));
    let graph = graph(&files);
    let arrows: Vec<String> = graph.arrows().map(|(_, to)| to.join(".")).collect();
    assert_eq!(arrows, ["a", "c", "d", "data", "data.tree"]);
}
