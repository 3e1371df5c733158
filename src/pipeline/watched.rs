//! What a summary says of what was watched and missed.

use std::fmt;

use serde_json::{Value, json};

use crate::coverage::{Coverage, Gap, Share};
use crate::text::{count, visible};

/// Lines of one kind that are listed.
const SHOWN: usize = 10;

/// A few lines: the whole, namespaces and nodes with less than all, the longest gaps.
pub(super) fn lines(coverage: &Coverage, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let whole = coverage.whole();
    let nodes = count(coverage.nodes.len() as u64, "node");
    writeln!(f, "  watched {} of the time of {nodes} since {:.0}", percent(whole), coverage.from)?;
    if coverage.gaps.is_empty() {
        return Ok(());
    }
    let less = |share: &Share| share.watched < share.total;
    let namespaces = coverage.namespaces.iter().filter(|(_, share)| less(share));
    let nodes = coverage.nodes.iter().filter(|(_, share)| less(share));
    let rows: Vec<String> = namespaces
        .map(|(name, share)| {
            format!("namespace {name}: {} of the time of the nodes that told of it", percent(*share))
        })
        .chain(nodes.map(|(name, share)| format!("node {name}: {}", percent(*share))))
        .collect();
    for row in rows.iter().take(2 * SHOWN) {
        writeln!(f, "    {row}")?;
    }
    if rows.len() > 2 * SHOWN {
        writeln!(f, "    … and {} more with less than all", rows.len() - 2 * SHOWN)?;
    }
    let mut gaps: Vec<Gap> = coverage.gaps.iter().collect();
    gaps.sort_by_key(|gap| (std::cmp::Reverse(gap.to.duration_since(gap.from)), gap.from));
    for gap in gaps.iter().take(SHOWN) {
        let node = gap.node.as_ref().map_or("any node", |node| node.as_str());
        let seconds = gap.to.duration_since(gap.from).as_secs_f64();
        writeln!(
            f,
            "    MISSED {:.3} to {:.3} ({seconds:.1} s) on {}: {}",
            gap.from,
            gap.to,
            visible(node, 253),
            gap.reason.words()
        )?;
    }
    if gaps.len() > SHOWN {
        writeln!(f, "    … and {} more", count((gaps.len() - SHOWN) as u64, "gap"))?;
    }
    if coverage.gaps.widened() > 0 {
        writeln!(f, "    the table of gaps was full: some that are told are longer than they were")?;
    }
    Ok(())
}

/// The same facts as JSON, every gap among them.
pub(super) fn json(coverage: &Coverage) -> Value {
    let share = |share: &Share| json!({"percent": share.percent(), "watched_seconds": share.watched.as_secs_f64(), "seconds": share.total.as_secs_f64()});
    let gap = |gap: Gap| {
        json!({"node": gap.node.as_ref().map(|node| node.as_str()), "reason": gap.reason.as_str(),
               "from": gap.from.to_string(), "to": gap.to.to_string()})
    };
    json!({
        "from": coverage.from.to_string(),
        "to": coverage.to.to_string(),
        "whole": share(&coverage.whole()),
        "nodes": coverage.nodes.iter().map(|(name, s)| (name.to_string(), share(s))).collect::<serde_json::Map<_, _>>(),
        "namespaces": coverage.namespaces.iter().map(|(name, s)| (name.to_string(), share(s))).collect::<serde_json::Map<_, _>>(),
        "gaps": coverage.gaps.iter().map(gap).collect::<Vec<_>>(),
        "gaps_widened": coverage.gaps.widened(),
    })
}

/// Rounded down: 100% is said only of all.
fn percent(share: Share) -> String {
    format!("{:.2}%", (share.percent() * 100.0).floor() / 100.0)
}
