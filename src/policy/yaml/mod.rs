//! The one place where policies become YAML and YAML becomes values.
//!
//! Options are fixed here: strings that Go would read as something else are quoted, no block
//! scalars (Go refuses some of them), octal numbers as Go reads them, budgets wide enough for dumps
//! of whole clusters.

pub(super) mod written;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A text that is not the YAML that was asked for; `Display` is one line with the position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct YamlError {
    message: String,
    place: Option<(u64, u64)>,
}

/// Writes one document, ending in a newline, without `---`.
pub fn write<T: Serialize>(value: &T) -> Result<String, YamlError> {
    let mut out = String::new();
    let options = serde_yaml::ser_options! { prefer_block_scalars: false };
    serde_yaml::to_fmt_writer_with_options(&mut out, value, options).map_err(|e| error(&e))?;
    Ok(out)
}

/// Reads every document of a text; empty documents are left out.
pub fn read_all<T: DeserializeOwned>(text: &str) -> Result<Vec<T>, YamlError> {
    let options = serde_yaml::options! {
        legacy_octal_numbers: true,
        budget: serde_yaml::budget! {
            max_documents: 1_000_000,
            max_nodes: 5_000_000,
            max_events: 20_000_000,
            max_total_scalar_bytes: 1 << 28,
        },
    };
    serde_yaml::from_multiple_with_options(text, options).map_err(|e| error(&e))
}

/// Reads one document, with room for no more than such a text can hold, so that aliases cannot make it
/// grow; `None` when it is empty.
pub(super) fn read_one<T: DeserializeOwned>(text: &str) -> Result<Option<T>, YamlError> {
    let options = serde_yaml::options! {
        legacy_octal_numbers: true,
        budget: serde_yaml::budget! {
            max_nodes: 100_000 + text.len(),
            max_events: 200_000 + 4 * text.len(),
            max_total_scalar_bytes: 1_000_000 + 4 * text.len(),
        },
    };
    let placed = |e: serde_yaml::Error| {
        let place = e.location().map(|place| (place.line(), place.column()));
        YamlError { place, ..error(&e) }
    };
    let mut all = serde_yaml::from_multiple_with_options(text, options).map_err(placed)?;
    Ok(if all.is_empty() { None } else { Some(all.swap_remove(0)) })
}

/// The first line of the parser's report (the rest is a picture of the source), made safe to print.
fn error(e: &impl std::fmt::Display) -> YamlError {
    let text = e.to_string();
    let first = text.lines().next().unwrap_or("not readable as YAML");
    YamlError { message: crate::text::visible(first, 300).into_owned(), place: None }
}

impl YamlError {
    /// Line and column, from 1, in the text that was read.
    pub(super) fn place(&self) -> Option<(u64, u64)> {
        self.place
    }
}
