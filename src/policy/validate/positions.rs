//! Lines and columns of places in a document, from the YAML parser's events.
//!
//! serde-saphyr gives positions only to types that ask for them field by field, and yaml-edit reads
//! another YAML than Go does; so this reads the text a second time, and only when there is something
//! to point at.

use std::collections::HashMap;

use granit_parser::{Event, Parser};

use crate::policy::spec::{Mark, Path, Step};

/// For each path the place where it is, or where the nearest thing above it is that is there.
pub(super) fn locate(text: &str, lines: u32, paths: &[&Path]) -> Vec<Option<Mark>> {
    let mut tree = Tree::default();
    let leaves: Vec<Vec<usize>> = paths.iter().map(|path| tree.add(path)).collect();
    tree.walk(text, lines);
    let mark =
        |nodes: &Vec<usize>| nodes.iter().rev().find_map(|node| tree.marks.get(*node).copied().flatten());
    leaves.iter().map(mark).collect()
}

/// The wanted paths as a tree; nodes are numbers.
#[derive(Default)]
struct Tree {
    next: HashMap<(usize, Step), usize>,
    marks: Vec<Option<Mark>>,
}

/// A map or list that is being read.
struct Open {
    /// Its node, when something in it is wanted.
    node: Option<usize>,
    /// In a list, the index of the next item.
    index: usize,
    /// In a map, whether a key comes next, and the node of the key before.
    map: bool,
    key: bool,
    value: Option<usize>,
}

impl Tree {
    /// The nodes from the root down to this path.
    fn add(&mut self, path: &Path) -> Vec<usize> {
        if self.marks.is_empty() {
            self.marks.push(None);
        }
        let mut nodes = vec![0];
        let mut node = 0;
        for step in path.steps() {
            let fresh = self.marks.len();
            node = *self.next.entry((node, step.clone())).or_insert(fresh);
            if node == fresh {
                self.marks.push(None);
            }
            nodes.push(node);
        }
        nodes
    }

    fn walk(&mut self, text: &str, lines: u32) {
        let mut open: Vec<Open> = Vec::new();
        for event in Parser::new_from_str(text) {
            let Ok((event, span)) = event else { return };
            let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let mark = Mark { line: lines + number(span.start.line()), column: number(span.start.col()) + 1 };
            match event {
                Event::MappingStart(..) | Event::SequenceStart(..) => {
                    let node = self.enter(&mut open, mark, None);
                    let map = matches!(event, Event::MappingStart(..));
                    open.push(Open { node, index: 0, map, key: true, value: None });
                }
                Event::MappingEnd | Event::SequenceEnd => {
                    open.pop();
                }
                Event::Scalar(text, ..) => {
                    self.enter(&mut open, mark, Some(&text));
                }
                Event::Alias(..) => {
                    self.enter(&mut open, mark, None);
                }
                Event::DocumentEnd => return,
                _ => {}
            }
        }
    }

    /// Takes note of a node of the document; its number, when it or something in it is wanted.
    fn enter(&mut self, open: &mut [Open], mark: Mark, text: Option<&str>) -> Option<usize> {
        let Some(holder) = open.last_mut() else {
            if let Some(root) = self.marks.first_mut() {
                *root = Some(mark);
            }
            return Some(0);
        };
        if holder.map && !holder.key {
            holder.key = true;
            return holder.value.take();
        }
        let step = if holder.map {
            holder.key = false;
            text.map(|text| Step::Member(text.into()))
        } else {
            holder.index += 1;
            Some(Step::Item(holder.index - 1))
        };
        let parent = holder.node?;
        let node = self.next.get(&(parent, step?)).copied();
        if let Some(slot) = node.and_then(|node| self.marks.get_mut(node)) {
            slot.get_or_insert(mark);
        }
        if holder.map {
            // The key itself holds nothing.
            holder.value = node;
            return None;
        }
        node
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let text = "spec:\n  ingress:\n  - {}\n  - toPorts:\n    - ports:\n      - {port: \"1\"}\n      - port: 53\n  \"k8s:x\": 1\n";
        let root = Path::root();
        let ports = root.member("spec").member("ingress").item(1).member("toPorts").item(0).member("ports");
        let paths = [
            root.clone(),
            ports.item(1).member("port"),
            ports.item(0).member("port"),
            ports.item(0).member("protocol"),
            root.member("spec").member("k8s:x"),
            root.member("metadata").member("name"),
        ];
        let found = locate(text, 10, &paths.iter().collect::<Vec<_>>());
        let found: Vec<_> = found.into_iter().map(|m| m.map(|m| (m.line, m.column))).collect();
        let expected = [(11, 1), (17, 9), (16, 10), (16, 9), (18, 3), (11, 1)];
        assert_eq!(found, expected.map(Some));
    }
}
