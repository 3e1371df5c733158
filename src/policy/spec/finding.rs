//! What is wrong with a document, and where.

use std::fmt;

/// One thing that is wrong, or worth knowing, about one place of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which document of the text, from 0; empty documents do not count.
    pub document: usize,
    /// `kind`, as written.
    pub kind: Option<Box<str>>,
    /// `metadata.namespace`, as written.
    pub namespace: Option<Box<str>>,
    /// `metadata.name`, as written.
    pub name: Option<Box<str>>,
    /// Which place.
    pub path: Path,
    /// Line and column of that place (or of what holds it, when the place is something missing).
    pub mark: Option<Mark>,
    /// Who refuses the document for it.
    pub refusal: Refusal,
    /// What is wrong, in words.
    pub message: Box<str>,
}

/// Who refuses a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// The API server does not store it.
    ApiServer,
    /// The API server stores it, and every agent ignores it as a whole.
    Agent,
    /// Both would refuse it.
    Both,
    /// Nobody; but it does not do what it seems to do.
    Warning,
    /// Nobody; a thing to know.
    Information,
}

/// A place in a text, both from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

/// A place in a document, from its root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Path(Vec<Step>);

/// One step of a [`Path`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// A member of a map.
    Member(Box<str>),
    /// An item of a list.
    Item(usize),
}

// === impl Path ===

impl Path {
    /// The document itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// The steps.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The member of this map.
    #[must_use]
    pub fn member(&self, name: &str) -> Self {
        self.with(Step::Member(name.into()))
    }

    /// The item of this list.
    #[must_use]
    pub fn item(&self, index: usize) -> Self {
        self.with(Step::Item(index))
    }

    /// What holds this place; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        let (_, rest) = self.0.split_last()?;
        Some(Self(rest.to_vec()))
    }

    pub(in crate::policy) fn push(&mut self, step: Step) {
        self.0.push(step);
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for Path {
    /// `spec.ingress[1].toPorts[0]`; members that are no plain words are quoted: `matchLabels["k8s:app"]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Item(index) => write!(f, "[{index}]")?,
                Step::Member(name) if name.bytes().all(|b| b.is_ascii_alphanumeric()) && !name.is_empty() => {
                    write!(f, "{}{name}", if i == 0 { "" } else { "." })?;
                }
                Step::Member(name) => write!(f, "[\"{}\"]", crate::text::visible(name, 120))?,
            }
        }
        Ok(())
    }
}

// === impl Refusal ===

impl Refusal {
    /// Whether the document has no effect because of it.
    pub fn refuses(self) -> bool {
        matches!(self, Self::ApiServer | Self::Agent | Self::Both)
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ApiServer => "API server",
            Self::Agent => "agent",
            Self::Both => "API server and agent",
            Self::Warning => "warning",
            Self::Information => "information",
        }
    }
}

impl fmt::Display for Finding {
    /// One line: place, who refuses it, what is wrong.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(mark) = self.mark {
            write!(f, "{}:{}: ", mark.line, mark.column)?;
        }
        write!(f, "{}: ", self.refusal.as_str())?;
        if !self.path.steps().is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}
