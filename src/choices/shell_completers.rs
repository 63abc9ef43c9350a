//! Prints the candidates for a shell. Options are left out until the user types `-`.

use crate::io::environment::Environment;
use clap_complete::env::EnvCompleter;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;

/// The characters besides letters and digits that no shell expands. bash and PowerShell insert candidates without
/// quotes.
const HARMLESS: &str = "-_./:=@+,%~";

/// The completer of a shell, which filters the candidates that clap prints for it.
pub(crate) struct ShellCompleter<'a>(pub(crate) &'a dyn EnvCompleter);

impl EnvCompleter for ShellCompleter<'_> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn is(&self, name: &str) -> bool {
        self.0.is(name)
    }

    fn write_registration(
        &self,
        var: &str,
        name: &str,
        bin: &str,
        completer: &str,
        buf: &mut dyn Write,
    ) -> io::Result<()> {
        self.0.write_registration(var, name, bin, completer, buf)
    }

    fn write_complete(
        &self,
        cmd: &mut clap::Command,
        args: Vec<OsString>,
        current_dir: Option<&Path>,
        buf: &mut dyn Write,
    ) -> io::Result<()> {
        let env = Environment::from_process();
        let text = |name| env.get(name).and_then(|value| value.to_str());
        let index = text("_CLAP_COMPLETE_INDEX").and_then(|index| index.parse().ok());
        let index: usize = index.unwrap_or_else(|| args.len().saturating_sub(1));
        let word = args.get(index).map(|word| word.to_string_lossy());
        let wants_options = word.is_some_and(|word| word.starts_with('-'));
        let separator = text("_CLAP_IFS").unwrap_or("\n");
        let mut printed = Vec::new();
        self.0
            .write_complete(cmd, args, current_dir, &mut printed)?;
        let printed = String::from_utf8_lossy(&printed);
        let mut offered: Vec<_> = printed.split(separator).collect();
        offered.retain(|line| wants_options || !line.starts_with('-'));
        if self.is("bash") {
            // bash completes and quotes the names of files itself.
            offered.retain(|line| line.chars().all(is_harmless));
        }
        if self.is("powershell") {
            let is_path_sign = |c| c == '\\' || is_harmless(c);
            offered.retain(|line| line.chars().take_while(|c| *c != '\t').all(is_path_sign));
        }
        buf.write_all(offered.join(separator).as_bytes())
    }
}

fn is_harmless(c: char) -> bool {
    c.is_alphanumeric() || HARMLESS.contains(c)
}
