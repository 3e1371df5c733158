//! The integration tests, in one binary: the program as its users run it, and the layout of `src/`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, and says what it saw"
)]

mod bad_input;
mod captures;
mod caution;
mod cluster;
mod config;
mod conformance;
mod cron;
mod dedup;
mod demo;
mod disk;
mod dry_run;
mod evidence;
mod exit_codes;
mod explain;
mod fake_api;
mod faults;
mod follow;
mod fqdn;
mod hands_off;
mod health;
mod hostile;
mod http;
mod join;
mod judge;
mod judged_policies;
mod k9s;
mod kube;
mod layers;
mod live;
mod metrics;
mod odd_cases;
mod peers;
mod recorded;
mod replay;
mod resume;
mod roles;
mod screen;
mod service;
mod sides;
mod support;
mod testbed;
mod tls;
mod validate;
mod verdicts;
