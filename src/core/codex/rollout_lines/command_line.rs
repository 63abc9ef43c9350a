//! Commands of tools, in all forms in which Codex records them.

use serde::Deserialize;
use serde::de::IgnoredAny;

/// A command as a list of words or as one string.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum CommandLine {
    Words(Vec<String>),
    Line(String),
    Other(IgnoredAny),
}

impl CommandLine {
    /// Returns the command line, without a shell that only runs a script.
    pub(super) fn into_text(self) -> String {
        match self {
            Self::Words(mut words) => {
                // `bash -lc SCRIPT`: the user knows the script and not the shell.
                let runs_script = words.len() == 3 && matches!(&*words[1], "-lc" | "-c");
                if runs_script {
                    words.pop().unwrap_or_default()
                } else {
                    words.join(" ")
                }
            }
            Self::Line(line) => line,
            Self::Other(_) => String::new(),
        }
    }
}

/// Returns the command in the JSON arguments of a tool, else the arguments themselves.
pub(super) fn extract_command(arguments: &str) -> String {
    #[derive(Deserialize)]
    struct Arguments {
        cmd: Option<CommandLine>,
        command: Option<CommandLine>,
    }
    let parsed: Option<Arguments> = serde_json::from_str(arguments).ok();
    let command = parsed.and_then(|parsed| parsed.cmd.or(parsed.command));
    command.map_or_else(|| arguments.to_owned(), CommandLine::into_text)
}
