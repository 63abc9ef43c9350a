//! Prints the candidates for a shell. Options are left out until the user types `-`. bash shows no descriptions, so a
//! list for bash has the titles of conversations after their ids.

use crate::choices::candidates::CONVERSATION_TAG;
use clap_complete::engine;
use clap_complete::env::EnvCompleter;
use codex_manager_core::io::Environment;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;

/// The `COMP_TYPE` of bash that lists candidates and inserts none.
const COMP_TYPE_LISTING: &str = "63";

/// The characters besides letters and digits that no shell expands. bash and PowerShell insert candidates without
/// quotes.
const UNEXPANDED_SYMBOLS: &str = "-_./:=@+,%~";

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
        let variable = |name| env.get(name).and_then(|value| value.to_str());
        // Without `_CLAP_COMPLETE_INDEX`, the last word is completed.
        let word_index = variable("_CLAP_COMPLETE_INDEX").and_then(|index| index.parse().ok());
        let word_index = word_index.unwrap_or_else(|| args.len().saturating_sub(1));

        let word = args.get(word_index).map(|word| word.to_string_lossy());
        let wants_options = word.is_some_and(|word| word.starts_with('-'));
        let separator = variable("_CLAP_IFS").unwrap_or("\n");

        let mut candidates = if self.is("bash") {
            let is_listing = variable("_CLAP_COMPLETE_COMP_TYPE") == Some(COMP_TYPE_LISTING);
            list_for_bash(cmd, args, word_index, current_dir, is_listing)?
        } else {
            let mut printed = Vec::new();
            self.0
                .write_complete(cmd, args, current_dir, &mut printed)?;
            let printed = String::from_utf8_lossy(&printed);
            printed.split(separator).map(str::to_owned).collect()
        };

        candidates.retain(|line| wants_options || !line.starts_with('-'));
        // PowerShell inserts candidates without quotes, so those with characters that it would expand are left out.
        if self.is("powershell") {
            let is_safe_in_path = |c| c == '\\' || is_never_expanded(c);
            candidates.retain(|line| line.chars().take_while(|c| *c != '\t').all(is_safe_in_path));
        }

        buf.write_all(candidates.join(separator).as_bytes())
    }
}

/// Returns the candidates, one line each. If bash only lists them, conversations have their titles, without the
/// characters that the completion script would expand. Files whose names have such characters are left out, because
/// bash completes and quotes them itself.
fn list_for_bash(
    cmd: &mut clap::Command,
    args: Vec<OsString>,
    word_index: usize,
    current_dir: Option<&Path>,
    is_listing: bool,
) -> io::Result<Vec<String>> {
    let candidates = engine::complete(cmd, args, word_index, current_dir)?;
    let lines = candidates.iter().filter_map(|candidate| {
        let value = candidate.get_value().to_str()?;
        if !value.chars().all(is_never_expanded) {
            return None;
        }

        let tag = candidate.get_tag().map(ToString::to_string);
        let is_titled = is_listing && tag.as_deref() == Some(CONVERSATION_TAG);
        let title = match candidate.get_help() {
            Some(title) if is_titled => format!("  {title}"),
            _ => String::new(),
        };
        let safe_title: String = title
            .chars()
            .filter(|c| *c == ' ' || is_never_expanded(*c))
            .collect();
        Some(format!("{value}{safe_title}"))
    });

    Ok(lines.collect())
}

fn is_never_expanded(c: char) -> bool {
    c.is_alphanumeric() || UNEXPANDED_SYMBOLS.contains(c)
}
