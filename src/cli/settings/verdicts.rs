//! Which verdicts ask for rules.

use crate::cli::args::VerdictArgs;
use crate::flow::Interest;

/// Lets these verdicts count.
pub(super) fn verdicts(args: &VerdictArgs, interest: &mut Interest) {
    let VerdictArgs { include_audit, learn } = args;
    interest.audit = *include_audit;
    interest.learn = *learn;
}
