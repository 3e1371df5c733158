//! A file for the policies of many subjects, one document each, read once however many of them get rules.
//!
//! One that is the rendering of its own meaning is rendered anew: its documents stand by namespace and name,
//! so that the same rules give the same bytes in whatever order they came. In any other file documents are
//! inserted into as they are in a file of their own, and new ones go to the end.

use super::refusal::is_template;
use super::{Merged, Outcome, Refusal, create, insert, join, read_documents};
use crate::names::Namespace;
use crate::policy::{NAMESPACE_KEY, Policy};

/// The text of a file, as far as it is joined.
#[derive(Debug, Clone)]
pub struct Stream(Text);

#[derive(Debug, Clone)]
enum Text {
    /// The rendering of these, in this order.
    Rendered(Vec<Policy>),
    /// It has been in people's hands.
    Hands(String),
}

// === impl Stream ===

impl Stream {
    /// From the text of a file, if there is one.
    pub fn read(text: Option<&str>) -> Self {
        Self(match text {
            None => Text::Rendered(Vec::new()),
            Some(text) => match Policy::all_from_canonical(text) {
                Some(policies) => Text::Rendered(policies),
                None => Text::Hands(text.to_owned()),
            },
        })
    }

    /// Joins the rules of one subject. With `begin` it gets a document of its own where it has none, by the name of
    /// `additions`. The text of what comes back is empty: [`Stream::text`] has it. A refusal changes nothing.
    pub fn join(
        &mut self,
        home: Option<&Namespace>,
        additions: &Policy,
        begin: bool,
    ) -> Result<Merged, Refusal> {
        let merged = match &mut self.0 {
            Text::Rendered(policies) => join_rendered(policies, additions, begin)?,
            Text::Hands(text) => {
                let documents = read_documents(text).map_err(|e| Refusal::unreadable(text, &e))?;
                let merged = match insert(text, &documents, home, additions) {
                    Err(Refusal::NoDocument(_) | Refusal::ForeignKind(_)) if begin => {
                        append(text, additions)?
                    }
                    merged => merged?,
                };
                if merged.outcome != Outcome::Unchanged {
                    text.clone_from(&merged.text);
                }
                merged
            }
        };
        Ok(Merged { text: String::new(), ..merged })
    }

    /// The whole text.
    pub fn text(&self) -> Result<String, Refusal> {
        match &self.0 {
            Text::Rendered(policies) => {
                Policy::render_all(policies).map_err(|e| Refusal::NotEditable(e.to_string()))
            }
            Text::Hands(text) => Ok(text.clone()),
        }
    }
}

fn join_rendered(policies: &mut Vec<Policy>, additions: &Policy, begin: bool) -> Result<Merged, Refusal> {
    // A selector that names the policy's own namespace means the same without it.
    let may_be = |known: &Policy| {
        known.subject == additions.subject
            || (known.subject.namespace == additions.subject.namespace
                && known.subject.selector.get(NAMESPACE_KEY).is_some())
    };
    for known in policies.iter_mut().filter(|known| may_be(known)) {
        let merged = match join("", known.clone(), additions) {
            Err(Refusal::NoDocument(_)) => continue,
            merged => merged?,
        };
        if !merged.added.is_empty() {
            *known = Policy::from_canonical(&merged.text)
                .ok_or_else(|| Refusal::NotEditable("its rendering means something else".to_owned()))?;
        }
        return Ok(merged);
    }
    if !begin {
        return Err(Refusal::NoDocument(additions.subject.to_string()));
    }
    let mut merged = create(additions)?;
    if merged.outcome == Outcome::Created {
        let at = policies.partition_point(|known| known.place() < additions.place());
        if policies.get(at).is_some_and(|known| known.place() == additions.place()) {
            return Err(Refusal::NotEditable(format!("its name {} is taken", additions.name.as_str())));
        }
        if !policies.is_empty() {
            merged.outcome = Outcome::Updated;
        }
        policies.insert(at, additions.clone());
    }
    Ok(merged)
}

/// One document more at the end of a text that people wrote.
fn append(text: &str, additions: &Policy) -> Result<Merged, Refusal> {
    let odd = |what: &str| Refusal::NotEditable(what.to_owned());
    if is_template(text) {
        return Err(Refusal::Templated);
    }
    let before = read_documents(text).map_err(|e| Refusal::unreadable(text, &e))?;
    if before.iter().any(|document| document.value.get("sops").is_some_and(serde_json::Value::is_object)) {
        return Err(Refusal::Encrypted);
    }
    let created = create(additions)?;
    if created.outcome == Outcome::Unchanged {
        return Ok(created);
    }
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let mut new = text.to_owned();
    if !new.is_empty() && !new.ends_with('\n') {
        new.push_str(end);
    }
    new.push_str("---");
    new.push_str(end);
    new.push_str(&created.text.replace('\n', end));
    let after = read_documents(&new).map_err(|_| odd("the result would not be readable"))?;
    let own = after.last().and_then(|last| Policy::from_value(&last.value));
    let same = after.len() == before.len() + 1 && before.iter().zip(&after).all(|(a, b)| a.value == b.value);
    if !same || own.as_ref() != Some(additions) {
        return Err(odd("the result would mean something else"));
    }
    Ok(Merged { text: new, outcome: Outcome::Updated, ..created })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::flow::{Direction, Port, Protocol};
    use crate::names::PolicyName;
    use crate::policy::{Allow, Entity, Peer, Rule, Selector, Subject};

    fn policy(namespace: &str, app: &str, ports: &[u16]) -> Policy {
        let namespace = Namespace::parse(namespace).unwrap();
        let subject = Subject { namespace, selector: Selector::new([("app", app)]).unwrap() };
        let mut policy = Policy::new(PolicyName::parse(&format!("cpg-{app}")).unwrap(), subject);
        for port in ports {
            let allow = Allow::Port(Protocol::Tcp, Port::new(*port).unwrap());
            policy.add(Rule::plain(Direction::Ingress, Peer::Entity(Entity::Host), allow));
        }
        policy
    }

    fn joined(text: Option<&str>, all: &[Policy]) -> String {
        let mut stream = Stream::read(text);
        all.iter().for_each(|policy| drop(stream.join(None, policy, true).unwrap()));
        stream.text().unwrap()
    }

    #[test]
    fn documents_of_people_stay_and_new_ones_go_to_the_end() {
        let mine = "# the shop's\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: x} # mine\n---\n\
                    apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: web, namespace: shop}\n\
                    spec:\n  endpointSelector: {matchLabels: {app: web}}\n  ingress:\n  - fromEntities: [host]\n    \
                    toPorts:\n    - ports:\n      - port: \"80\"\n        protocol: TCP # health";
        let text = joined(Some(mine), &[policy("shop", "web", &[80]), policy("shop", "api", &[81])]);
        let appended = text.strip_prefix(&format!("{mine}\n---\n")).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(Policy::from_canonical(appended), Some(policy("shop", "api", &[81])));
        assert_eq!(joined(Some(&text), &[policy("shop", "api", &[81])]), text);
        let text = joined(Some(&text), &[policy("shop", "web", &[82]), policy("shop", "api", &[83])]);
        assert!(text.contains("# mine") && text.contains("\"82\"") && text.contains("\"83\""), "{text}");
        assert_eq!(read_documents(&text).unwrap().len(), 3);
        let windows = joined(Some(&mine.replace('\n', "\r\n")), &[policy("shop", "api", &[81])]);
        assert!(!windows.replace("\r\n", "").contains('\n'), "{windows:?}");
    }

    #[test]
    fn what_cannot_be_appended_to_is_refused_and_stays() {
        let check = |text: &str, why: &str| {
            let mut stream = Stream::read(Some(text));
            let refused = stream.join(None, &policy("shop", "api", &[81]), true).unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
            assert_eq!(stream.text().unwrap(), text);
        };
        check("a: {{ .Values.x }}\n", "template");
        check("a: [\n", "not readable");
        check("a: 1\nsops: {mac: x}\n", "SOPS");
        let mut stream = Stream::read(None);
        assert!(stream.join(None, &policy("shop", "api", &[81]), false).is_err());
    }

    proptest! {
        #[test]
        fn in_any_order_the_same_bytes_and_twice_no_change(
            needs in prop::collection::vec((0usize..2, 0usize..3, 1u16..5), 1..12),
            turn in 0usize..12,
        ) {
            let all: Vec<Policy> = needs
                .iter()
                .map(|(n, a, port)| policy(["pay", "shop"][*n], ["api", "db", "web"][*a], &[*port]))
                .collect();
            let text = joined(None, &all);
            let mut turned = all.clone();
            turned.rotate_left(turn % all.len());
            turned.reverse();
            prop_assert_eq!(&joined(None, &turned), &text);
            let (first, second) = all.split_at(all.len() / 2);
            if !first.is_empty() {
                prop_assert_eq!(&joined(Some(&joined(None, first)), second), &text);
            }
            prop_assert_eq!(&joined(Some(&text), &all), &text);
            let read = Policy::all_from_canonical(&text).unwrap();
            prop_assert!(read.windows(2).all(|pair| pair[0].place() < pair[1].place()));
            let edited = format!("{text}# mine\n");
            prop_assert!(Policy::all_from_canonical(&edited).is_none());
        }
    }
}
