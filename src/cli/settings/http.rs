//! What is made of HTTP requests.

use crate::build::Collapse;
use crate::cli::args::HttpArgs;

/// Whether requests are asked for, and what opens places of their paths.
#[derive(Debug, Clone, Default)]
pub(in crate::cli) struct Http {
    pub(super) wanted: bool,
    pub(super) collapse: Option<Collapse>,
}

// === impl Http ===

impl Http {
    pub(super) fn new(args: &HttpArgs, warnings: &mut Vec<String>) -> Self {
        let HttpArgs { l7, l7_collapse_paths, l7_collapse_above } = *args;
        if l7_collapse_paths && !l7 {
            warnings.push("--l7-collapse-paths changes something only together with --l7".to_owned());
        }
        let above = (l7_collapse_above > 0).then_some(l7_collapse_above);
        Self { wanted: l7, collapse: (l7 && l7_collapse_paths).then(|| Collapse::new(above)) }
    }
}
