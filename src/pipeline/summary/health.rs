//! The block of the summary on drops that no rule helps.

use std::fmt;

use super::Summary;
use crate::classify::{Class, why};
use crate::health::{Place, remedy};
use crate::text::{count, grouped, visible};

impl Summary {
    /// Drops of some classes, with what helps and the worst places.
    pub(super) fn health(
        &self,
        f: &mut fmt::Formatter<'_>,
        title: &str,
        wanted: fn(Class) -> bool,
    ) -> fmt::Result {
        const PLACES: usize = 3;
        let mut reasons: Vec<_> =
            self.counters.health.reasons().filter(|(class, _, _)| wanted(*class)).collect();
        if reasons.is_empty() {
            return Ok(());
        }
        reasons.sort_by_key(|(_, _, what)| std::cmp::Reverse(what.seen.packets()));
        writeln!(f, "  {title}")?;
        for (class, reason, what) in reasons {
            let seen = &what.seen;
            let old = seen.packets() - seen.new_packets().min(seen.packets());
            let old =
                if old > 0 { format!(", {} of them before the start", grouped(old)) } else { String::new() };
            let noise = match self.noise.of(reason) {
                0 => String::new(),
                n => format!(" (up to {} are known noise)", grouped(n)),
            };
            let when = seen.first.zip(seen.last).map(|(first, last)| format!(", {first:.0} to {last:.0}"));
            writeln!(
                f,
                "    {reason} ({class}): {}{old}{noise}{}",
                count(seen.packets(), "drop"),
                when.unwrap_or_default()
            )?;
            let help = remedy(class, reason);
            writeln!(f, "      {}; {}; {}", why(class, reason), help.text, help.page())?;
            let places = what.worst();
            for (Place { node, workload, peer }, at) in places.iter().take(PLACES) {
                let denied: Vec<&str> = at.denied_by.iter().map(|policy| &**policy).collect();
                let denied = if denied.is_empty() {
                    String::new()
                } else {
                    format!(", denied by {}", denied.join(", "))
                };
                let (workload, peer) = (workload.to_string(), peer.to_string());
                let (workload, peer) = (visible(&workload, 200), visible(&peer, 200));
                let drops = grouped(at.seen.packets());
                writeln!(f, "      {drops} on {node}: {workload} with {peer}{denied}")?;
            }
            if places.len() > PLACES || what.beyond > 0 {
                let more = grouped((places.len().saturating_sub(PLACES)) as u64);
                writeln!(f, "      … and {more} more places")?;
            }
        }
        Ok(())
    }
}
