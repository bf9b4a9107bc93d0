//! Files and who imports whom. In: arrows between modules. Out: the circles among them.
//!
//! A module that stands above another in the tree has no arrow to it: `foo` puts `foo::bar` together and hands its
//! names on, which is the tree itself. The arrow back, from `foo::bar` to what `foo` defines for all of its parts,
//! counts.

use std::collections::{BTreeMap, BTreeSet};

/// A file, by the path of its module; the root's is empty.
pub type Module = Vec<String>;

#[derive(Default)]
pub struct Graph(BTreeMap<Module, BTreeSet<Module>>);

impl Graph {
    /// One file takes something from another.
    pub fn add(&mut self, from: &Module, to: &Module) {
        if !to.starts_with(from) {
            self.0.entry(from.clone()).or_default().insert(to.clone());
        }
    }

    pub fn arrows(&self) -> impl Iterator<Item = (&Module, &Module)> {
        self.0.iter().flat_map(|(from, all)| all.iter().map(move |to| (from, to)))
    }

    /// The shortest circle through each file that is on one; those of the same files once.
    pub fn circles(&self) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let circles = self.0.keys().filter_map(|start| self.circle(start));
        circles.filter(|circle| seen.insert(circle.iter().cloned().collect::<BTreeSet<_>>())).map(words).collect()
    }

    /// The shortest way from a file back to itself, that file at both ends.
    fn circle(&self, start: &Module) -> Option<Vec<Module>> {
        let mut ways = vec![vec![start.clone()]];
        let mut reached = BTreeSet::new();
        while !ways.is_empty() {
            let mut longer = vec![];
            for way in ways {
                for to in self.0.get(way.last()?).into_iter().flatten() {
                    let mut on = way.clone();
                    on.push(to.clone());
                    if to == start {
                        return Some(on);
                    }
                    if reached.insert(to.clone()) {
                        longer.push(on);
                    }
                }
            }
            ways = longer;
        }
        None
    }
}

fn words(circle: Vec<Module>) -> String {
    let name = |module: Module| if module.is_empty() { "the root".into() } else { module.join("::") };
    circle.into_iter().map(name).collect::<Vec<_>>().join(" -> ")
}

#[test]
fn circles_are_found() {
    let module = |name: &str| name.split("::").map(String::from).collect::<Module>();
    let graph = |arrows: &[(&str, &str)]| {
        let mut graph = Graph::default();
        arrows.iter().for_each(|(from, to)| graph.add(&module(from), &module(to)));
        graph.circles()
    };
    assert!(graph(&[("a", "b"), ("b", "c"), ("a", "c")]).is_empty());
    assert_eq!(graph(&[("a", "b"), ("b", "c"), ("c", "b")]), ["b -> c -> b"]);
    assert_eq!(
        graph(&[("a", "b"), ("b", "c"), ("c", "a"), ("x", "y"), ("y", "x")]),
        ["a -> b -> c -> a", "x -> y -> x"]
    );
    assert!(graph(&[("a", "a::b"), ("a::b", "a"), ("a", "a")]).is_empty(), "a module and its parts");
    assert_eq!(graph(&[("a::b", "a"), ("a", "c"), ("c", "a::b")]).len(), 1);
}
