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
#[error("{0}")]
pub struct YamlError(String);

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
            max_nodes: 5_000_000,
            max_events: 20_000_000,
            max_total_scalar_bytes: 1 << 28,
        },
    };
    serde_yaml::from_multiple_with_options(text, options).map_err(|e| error(&e))
}

/// The first line of the parser's report (the rest is a picture of the source), made safe to print.
fn error(e: &impl std::fmt::Display) -> YamlError {
    let text = e.to_string();
    let first = text.lines().next().unwrap_or("not readable as YAML");
    YamlError(crate::text::visible(first, 300).into_owned())
}
