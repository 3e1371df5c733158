//! What is known of the cluster's policies, over all kinds and namespaces: within a bound, with a revision, and
//! with what people should hear of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::{ROLE, Scope};
use crate::screen::{ClusterPolicy, PolicyId};
use crate::text::count;

/// Policies that are kept at most, and bytes of their JSON.
pub(super) const MOST: Bound = Bound { policies: 20_000, bytes: 32 << 20 };

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    pub(super) policies: usize,
    pub(super) bytes: usize,
}

/// Everything that is known.
#[derive(Debug)]
pub(super) struct Held {
    parts: Vec<Part>,
    most: Bound,
    /// Bytes of what is kept.
    bytes: usize,
    revision: u64,
    /// Every scope was decided once, and that was told.
    begun: bool,
    told_full: bool,
    told_late: bool,
}

#[derive(Debug)]
struct Part {
    scope: Scope,
    phase: Phase,
    policies: BTreeMap<PolicyId, Kept>,
    /// Policies for which there was no room.
    left_out: u64,
}

#[derive(Debug)]
struct Kept {
    policy: Arc<ClusterPolicy>,
    bytes: usize,
}

/// Where one scope is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// Never known so far; this is being asked.
    Asking(&'static str),
    /// Never known so far; the last try failed.
    Failing(String),
    /// Known and followed.
    Watching,
    /// Known, but not followed since then.
    Stale(Timestamp, String),
    /// The cluster does not have the kind.
    Missing,
    /// It may not be read: the verb, and what the API server says.
    Forbidden(&'static str, String),
}

/// Something that people should hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// As a line of the log.
    Info(String),
    /// As a warning.
    Warning(String),
    /// So many policies are known.
    Begun(usize),
}

// === impl Held ===

impl Held {
    pub(super) fn new(scopes: Vec<Scope>) -> Self {
        Self::bound(scopes, MOST)
    }

    pub(super) fn bound(scopes: Vec<Scope>, most: Bound) -> Self {
        let part =
            |scope| Part { scope, phase: Phase::Asking("list"), policies: BTreeMap::new(), left_out: 0 };
        let parts = scopes.into_iter().map(part).collect();
        Self { parts, most, bytes: 0, revision: 0, begun: false, told_full: false, told_late: false }
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn snapshot(&self) -> (u64, Vec<Arc<ClusterPolicy>>) {
        let all = self.parts.iter().flat_map(|part| part.policies.values());
        (self.revision, all.map(|kept| Arc::clone(&kept.policy)).collect())
    }

    /// What a list says: all of one scope, and how many more there are. What says the same as before stays,
    /// with its first sight.
    pub(super) fn replace(&mut self, number: usize, policies: Vec<ClusterPolicy>, more: u64) -> Option<Told> {
        let part = self.parts.get_mut(number)?;
        let mut before = std::mem::take(&mut part.policies);
        part.left_out = more;
        self.bytes -= before.values().map(|kept| kept.bytes).sum::<usize>();
        let mut changed = false;
        let mut full = if more > 0 { self.full() } else { None };
        for policy in policies {
            match before.remove(&policy.id) {
                Some(kept) if kept.policy.object == policy.object => {
                    full = self.keep(number, Arc::clone(&kept.policy), kept.bytes).or(full);
                }
                _ => {
                    changed = true;
                    full = self.put(number, policy).or(full);
                }
            }
        }
        if changed || !before.is_empty() {
            self.revision += 1;
        }
        full
    }

    /// A policy that is new or another one.
    pub(super) fn apply(&mut self, number: usize, policy: ClusterPolicy, is_new: bool) -> Option<Told> {
        let part = self.parts.get_mut(number)?;
        match part.policies.remove(&policy.id) {
            Some(kept) if kept.policy.object == policy.object => {
                part.policies.insert(policy.id, kept);
                return None;
            }
            Some(kept) => self.bytes -= kept.bytes,
            // It had no room before, and is counted already.
            None if !is_new && part.left_out > 0 => part.left_out -= 1,
            None => {}
        }
        self.revision += 1;
        self.put(number, policy)
    }

    /// A policy that is gone.
    pub(super) fn delete(&mut self, number: usize, id: &PolicyId) {
        let Some(part) = self.parts.get_mut(number) else { return };
        match part.policies.remove(id) {
            Some(kept) => {
                self.bytes -= kept.bytes;
                self.revision += 1;
            }
            None => part.left_out = part.left_out.saturating_sub(1),
        }
    }

    fn put(&mut self, number: usize, policy: ClusterPolicy) -> Option<Told> {
        let bytes = policy.object.to_string().len();
        self.keep(number, Arc::new(policy), bytes)
    }

    fn keep(&mut self, number: usize, policy: Arc<ClusterPolicy>, bytes: usize) -> Option<Told> {
        let kept: usize = self.parts.iter().map(|part| part.policies.len()).sum();
        let room = kept < self.most.policies && self.bytes + bytes <= self.most.bytes;
        let part = self.parts.get_mut(number)?;
        if room {
            self.bytes += bytes;
            part.policies.insert(policy.id.clone(), Kept { policy, bytes });
            return None;
        }
        part.left_out += 1;
        self.full()
    }

    /// That there is no room for more, once.
    fn full(&mut self) -> Option<Told> {
        let first = !std::mem::replace(&mut self.told_full, true);
        first.then(|| {
            Told::Warning(format!(
                "the cluster has more policies than cpg keeps ({} or {} MiB): what the others allow is not known, \
                 so it may be written once more. Narrow the run with --namespace",
                self.most.policies,
                self.most.bytes >> 20
            ))
        })
    }

    /// Goes on to a phase; gives what people should hear.
    pub(super) fn enter(&mut self, number: usize, phase: Phase, now: Timestamp) -> Vec<Told> {
        let stale_since = self.stale_since();
        let Some(part) = self.parts.get_mut(number) else { return Vec::new() };
        let phase = match (phase, &part.phase) {
            // What was known goes on counting: asking again does not make it unknown.
            (Phase::Asking(_), Phase::Stale(..) | Phase::Watching | Phase::Failing(_)) => return Vec::new(),
            (Phase::Failing(why), Phase::Stale(since, _)) => Phase::Stale(*since, why),
            (Phase::Failing(why), Phase::Watching) => Phase::Stale(now, why),
            (phase, _) => phase,
        };
        part.phase = phase;
        let mut told = Vec::new();
        if !self.begun && self.undecided().is_none() {
            self.begun = true;
            let all = self.parts.iter().map(|part| part.policies.len()).sum();
            // Where none may be read, the next line says all there is to say.
            if self.parts.iter().any(|part| part.phase == Phase::Watching) {
                told.push(Told::Begun(all));
            }
            told.extend(self.refused().map(Told::Info));
            told.extend(self.missing().map(Told::Info));
        }
        let failing = self.parts.iter().find_map(|part| match &part.phase {
            Phase::Failing(why) => Some(why.clone()),
            _ => None,
        });
        if let Some(why) = failing.filter(|_| !self.told_late) {
            self.told_late = true;
            told.push(Told::Warning(format!(
                "the cluster's policies are not known yet, and are asked for again: {why}"
            )));
        }
        match (stale_since, self.stale_since()) {
            (None, Some(_)) => told.extend(self.stale().map(Told::Warning)),
            (Some(since), None) => {
                let seconds = now.duration_since(since).as_secs_f64();
                told.push(Told::Info(format!(
                    "the cluster's policies are followed again after {seconds:.1} s"
                )));
            }
            _ => {}
        }
        told
    }

    /// Whether it was known once what this scope holds.
    pub(super) fn is_known(&self, number: usize) -> bool {
        let phase = self.parts.get(number).map(|part| &part.phase);
        matches!(phase, Some(Phase::Watching | Phase::Stale(..)))
    }

    /// The first scope of which it is not known yet what it holds, with the verb.
    pub(super) fn undecided(&self) -> Option<String> {
        self.parts.iter().find_map(|part| match &part.phase {
            Phase::Asking(verb) => Some(format!("{verb} on {}", part.scope)),
            Phase::Failing(why) => Some(why.clone()),
            _ => None,
        })
    }

    /// The first refusal that will not go away by itself.
    pub(super) fn refusal(&self) -> Option<String> {
        self.parts.iter().find_map(|part| match &part.phase {
            Phase::Forbidden(_, why) => Some(format!("{why}. {ROLE} grants it")),
            _ => None,
        })
    }

    /// What is not as it should be.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self.refused().into_iter().chain(self.stale()).collect();
        notes.extend(self.undecided().map(|what| {
            format!("not all policies of the cluster became known ({what}): what they allow was not left out")
        }));
        let left_out: u64 = self.parts.iter().map(|part| part.left_out).sum();
        if left_out > 0 {
            notes.push(format!(
                "{} of the cluster found no room: what they allow is not known",
                count(left_out, "policy object")
            ));
        }
        notes
    }

    /// What may not be read.
    fn refused(&self) -> Option<String> {
        let list: Vec<String> = self
            .parts
            .iter()
            .filter_map(|part| match &part.phase {
                Phase::Forbidden(verb, _) => Some(format!("{verb} on {}", part.scope)),
                _ => None,
            })
            .collect();
        (!list.is_empty()).then(|| {
            format!(
                "what these policies of the cluster allow is not known, because you may not {}: {ROLE} grants it",
                list.join(", ")
            )
        })
    }

    fn missing(&self) -> Option<String> {
        let missing = self.parts.iter().filter(|part| part.phase == Phase::Missing);
        let list: Vec<String> = missing.map(|part| part.scope.to_string()).collect();
        (!list.is_empty()).then(|| format!("the cluster does not have {}: left out", list.join(", ")))
    }

    /// Since when something is not followed.
    fn stale_since(&self) -> Option<Timestamp> {
        let since = self.parts.iter().filter_map(|part| match &part.phase {
            Phase::Stale(since, _) => Some(*since),
            _ => None,
        });
        since.min()
    }

    fn stale(&self) -> Option<String> {
        let since = self.stale_since()?;
        let why = self.parts.iter().find_map(|part| match &part.phase {
            Phase::Stale(_, why) => Some(why.as_str()),
            _ => None,
        });
        Some(format!(
            "the cluster's policies cannot be followed since {since:.0}, and count as they were then: {}",
            why.unwrap_or_default()
        ))
    }
}

// === impl Told ===

impl Told {
    /// Logs it.
    pub(super) fn tell(&self, of: &str) {
        match self {
            Self::Info(line) => tracing::info!("{line}"),
            Self::Warning(line) => tracing::warn!("{line}"),
            Self::Begun(policies) => {
                tracing::info!(policies, "what the policies of {of} allow is not written again");
            }
        }
    }
}
