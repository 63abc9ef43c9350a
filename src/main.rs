//! Entry point of the `codex-manager` binary. All logic is in the library, so that tests can call it.

use std::process::ExitCode;

fn main() -> ExitCode {
    codex_manager::cli::main()
}
