//! The integration tests, in one binary: the program as its users run it, and the layout of `src/`.

mod bad_input;
mod demo;
mod layers;
mod live;
mod peers;
mod recorded;
mod replay;
mod support;
