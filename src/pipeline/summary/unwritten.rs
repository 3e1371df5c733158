//! What is not written, and what would help: needs that are held back, rules that are missing at the other
//! end.

use std::fmt;

use super::{Summary, some};
use crate::pipeline::requests::no_requests;
use crate::pipeline::{Closed, Held};
use crate::text::count;

impl Summary {
    pub(super) fn held(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = &self.results.held;
        if held.iter().next().is_some() {
            writeln!(f, "  held back, not written")?;
        }
        some(f, held.iter(), |f, (held, flows)| {
            let Held { reason, who, what, proposal } = held;
            writeln!(f, "    {reason} {who}: {what} ({}); {proposal}", count(flows, "flow"))
        })?;
        match held.others() {
            0 => Ok(()),
            flows => writeln!(f, "    and {} of things that there was no room for", count(flows, "flow")),
        }
    }

    /// What was opened beyond the requests that were seen, and why there is nothing of them.
    pub(super) fn requests(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = &self.results;
        if !r.opened.is_empty() {
            let rules = count(r.opened.len() as u64, "rule");
            writeln!(f, "  {rules} with open places, where any segment may stand (--l7-collapse-paths)")?;
        }
        some(f, r.opened.iter(), |f, ((subject, rule), paths)| {
            let about = if paths.is_exact() { "" } else { "about " };
            writeln!(f, "    {subject}: {rule}, of which {about}{} seen", count(paths.count(), "path"))
        })?;
        if r.paths_beyond > 0 {
            let paths = count(r.paths_beyond, "path");
            writeln!(f, "  {paths} not remembered where values are counted: there were too many")?;
        }
        if self.http_asked && self.counters.http_records == 0 {
            writeln!(f, "  {}", no_requests(&self.namespaces_asked))?;
        }
        Ok(())
    }

    pub(super) fn other_side(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = &self.results;
        if !r.inferred.is_empty() {
            let rules = count(r.inferred.len() as u64, "rule");
            writeln!(f, "  {rules} of the other end written without a drop there (--both-sides)")?;
        }
        some(f, r.inferred.iter(), |f, ((subject, rule), from)| {
            writeln!(f, "    {subject}: {rule}, for {from}")
        })?;
        if !r.other_side.is_empty() {
            let rules = count(r.other_side.len() as u64, "rule");
            writeln!(f, "  {rules} missing at the other end: the next drop will come there")?;
        }
        some(f, r.other_side.iter(), |f, ((subject, rule), closed)| {
            let what = if closed.is_denied { "denied by" } else { "in default deny by" };
            let help = if closed.is_denied { "; no allow rule can help" } else { "" };
            let Closed { subject: whose, rule: needs, why, .. } = closed;
            writeln!(f, "    {subject}: {rule}, for {whose}: {needs}; {what} {why}{help}")
        })?;
        match r.not_asked {
            0 => Ok(()),
            n => writeln!(f, "  the other end of {} was not asked: there were too many", count(n, "rule")),
        }
    }
}
