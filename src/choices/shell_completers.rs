//! Prints the candidates for a shell: no options until the user types `-`, and for bash, which shows no descriptions,
//! the titles of conversations behind their ids.

use crate::choices::candidates::CONVERSATION;
use crate::io::environment::Environment;
use clap_complete::engine;
use clap_complete::env::EnvCompleter;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;

/// The `COMP_TYPE` of bash in menu completion, which inserts one candidate after another: they must have no titles.
const MENU: &str = "37";

/// The completion of a shell.
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
        let index = index.unwrap_or_else(|| args.len().saturating_sub(1));
        let word = args.get(index).map(|word| word.to_string_lossy());
        let wants_options = word.is_some_and(|word| word.starts_with('-'));
        let separator = text("_CLAP_IFS").unwrap_or("\n");
        let mut offered = if self.is("bash") {
            let shows_titles = text("_CLAP_COMPLETE_COMP_TYPE") != Some(MENU);
            list_for_bash(cmd, args, index, current_dir, shows_titles)?
        } else {
            let mut printed = Vec::new();
            self.0
                .write_complete(cmd, args, current_dir, &mut printed)?;
            let printed = String::from_utf8_lossy(&printed);
            printed.split(separator).map(str::to_owned).collect()
        };
        offered.retain(|line| wants_options || !line.starts_with('-'));
        buf.write_all(offered.join(separator).as_bytes())
    }
}

/// Returns the candidates. Several conversations have their titles, of which bash inserts nothing: they differ in the
/// id before it.
fn list_for_bash(
    cmd: &mut clap::Command,
    args: Vec<OsString>,
    index: usize,
    current_dir: Option<&Path>,
    shows_titles: bool,
) -> io::Result<Vec<String>> {
    let candidates = engine::complete(cmd, args, index, current_dir)?;
    let shows_titles = shows_titles && candidates.len() > 1;
    let lines = candidates.iter().map(|candidate| {
        let value = candidate.get_value().to_string_lossy().into_owned();
        let tag = candidate.get_tag().map(ToString::to_string);
        let is_conversation = tag.as_deref() == Some(CONVERSATION);
        match candidate
            .get_help()
            .filter(|_| shows_titles && is_conversation)
        {
            Some(title) => format!("{value}  {title}"),
            None => value,
        }
    });
    Ok(lines.collect())
}
