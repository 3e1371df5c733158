//! The `cpg` program: nothing but the way into the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    cpg::cli::main()
}
