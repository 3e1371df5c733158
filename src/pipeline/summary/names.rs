//! What came of DNS names.

use std::fmt;

use serde_json::{Value, json};

use super::{Summary, some};
use crate::text::{count, grouped};

impl Summary {
    pub(super) fn names(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = &self.results.names;
        if !names.refused.is_empty() {
            writeln!(f, "  names that the DNS proxy refused; --include-refused writes rules for them")?;
        }
        // The most often asked first.
        let mut refused: Vec<_> = names.refused.iter().collect();
        refused.sort_by_key(|((who, name), queries)| (std::cmp::Reverse(**queries), who, name));
        some(f, refused.into_iter(), |f, ((who, name), queries)| {
            writeln!(f, "    {who}: {name}, {}", times(*queries))
        })?;
        if names.refused_beyond > 0 {
            writeln!(f, "    and {} more refusals of further names", grouped(names.refused_beyond))?;
        }
        some(f, names.guessed.iter(), |f, (subject, guess)| {
            writeln!(
                f,
                "  {subject} was not seen to ask the cluster's DNS: its rule for lookups names {guess}; --resolver names another"
            )
        })?;
        if !names.restricted.is_empty() {
            let policies = names.restricted.len() as u64;
            writeln!(
                f,
                "  {} got rules for lookups: once applied, every other name is refused there. Watch long enough, or add `matchPattern: \"*\"`",
                if policies == 1 { "1 policy".to_owned() } else { format!("{} policies", grouped(policies)) }
            )?;
        }
        if names.unusable > 0 {
            writeln!(
                f,
                "  {} that passed for names that no policy can hold: a rule for names refuses them",
                count(names.unusable, "lookup")
            )?;
        }
        Ok(())
    }

    pub(super) fn names_json(&self) -> Value {
        let names = &self.results.names;
        json!({
            "lookups": self.counters.lookups,
            "refused": names.refused.iter().map(|((who, name), queries)| json!({
                "subject": who, "name": name.as_str(), "queries": queries,
            })).collect::<Vec<_>>(),
            "refused_beyond": names.refused_beyond,
            "guessed_resolvers": names.guessed.iter().map(|(subject, guess)| json!({
                "subject": subject.to_string(), "resolver": guess,
            })).collect::<Vec<_>>(),
            "rules_for_lookups": names.restricted.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "unusable_queries": names.unusable,
        })
    }
}

fn times(n: u64) -> String {
    if n == 1 { "once".to_owned() } else { format!("{} times", grouped(n)) }
}
