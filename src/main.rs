//! The `codex-manager` binary: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    codex_manager::cli::main()
}
