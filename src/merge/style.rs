//! How a file indents its lists, so that what is inserted looks like what stands there (and linters
//! that want one style are content).

/// Whether most block lists of a text stand deeper than the key they belong to.
pub(super) fn indents_lists(text: &str) -> bool {
    let (mut deeper, mut level) = (0usize, 0usize);
    let mut key: Option<usize> = None;
    for line in text.lines() {
        let content = line.trim_start();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let indent = line.len() - content.len();
        if let (Some(column), true) = (key, content.starts_with("- ")) {
            if indent > column {
                deeper += 1;
            } else if indent == column {
                level += 1;
            }
        }
        // `- a:` holds a key two columns further right.
        let dashes = content.len() - content.trim_start_matches("- ").len();
        let ends_open = content.split(" #").next().unwrap_or_default().trim_end().ends_with(':');
        key = ends_open.then_some(indent + dashes);
    }
    deeper > level
}

/// Text from our own writer, whose lists stand at the column of their key, with all lists two columns
/// deeper.
pub(super) fn with_indented_lists(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut dashes: Vec<usize> = Vec::new();
    for line in text.lines() {
        let content = line.trim_start_matches(' ');
        let column = line.len() - content.len();
        let is_item = content.starts_with("- ");
        dashes.retain(|dash| *dash < column || (*dash == column && is_item));
        if is_item && dashes.last() != Some(&column) {
            dashes.push(column);
        }
        out.push_str(&" ".repeat(column + 2 * dashes.len()));
        out.push_str(content);
        out.push('\n');
    }
    out
}

/// A piece that is a list of rules, perhaps after its key, with the list two columns further left.
pub(super) fn with_level_list(piece: &str) -> String {
    let first = piece.trim_start();
    let key_first = !first.starts_with("- ");
    if key_first && !first.starts_with("ingress:") && !first.starts_with("egress:") {
        return piece.to_owned();
    }
    let mut out = String::with_capacity(piece.len());
    for (i, line) in piece.split_inclusive('\n').enumerate() {
        let is_key = i == 0 && key_first;
        out.push_str(if is_key { line } else { line.strip_prefix("  ").unwrap_or(line) });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_style_of_a_file() {
        assert!(!indents_lists("a:\n- b\n"));
        assert!(indents_lists("a: # c\n  # d\n  - b:\n      - c\n"));
        assert!(!indents_lists("a:\n  - b:\n    - c\n    d:\n    - e\n"));
        assert!(!indents_lists("a: [b]\n"));
        assert_eq!(
            with_indented_lists("x:\n  a:\n  - b:\n    - c: 1\n      d: 2\n    e:\n    - f\n  - g: 3\n"),
            "x:\n  a:\n    - b:\n        - c: 1\n          d: 2\n      e:\n        - f\n    - g: 3\n"
        );
        assert_eq!(with_level_list("    - b\n      c: d\n"), "  - b\n    c: d\n");
        assert_eq!(with_level_list("  egress:\n    - b\n    - c\n"), "  egress:\n  - b\n  - c\n");
    }
}
