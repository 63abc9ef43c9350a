//! A yes/no question in a desktop window, shown by an installed dialog program.
//!
//! The window reaches the user of a scheduled job, which has no terminal.

use codex_manager_core::codex::program::Program;
use codex_manager_core::io::child::{ChildGroup, ChildOutput};
use codex_manager_core::io::environment::Environment;
use codex_manager_core::io::progress::block_on_input;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const TITLE: &str = "codex-manager";
const YES_LABEL: &str = "End Codex";
const NO_LABEL: &str = "Leave it";

/// The time limit for an answer, so that an absent user does not block a job.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// The variable that passes the question to PowerShell, which thus never parses it as code.
const QUESTION_VARIABLE: &str = "CODEX_MANAGER_QUESTION";

const SHOW_SCRIPT: &str = "Add-Type -AssemblyName PresentationFramework; \
    exit [int][System.Windows.MessageBox]::Show($env:CODEX_MANAGER_QUESTION, 'codex-manager', \
    'YesNo', 'Warning', 'No')";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DialogProgram {
    Zenity,
    KDialog,
    OsaScript,
    PowerShell,
}

impl DialogProgram {
    fn program_name(self) -> &'static str {
        match self {
            Self::Zenity => "zenity",
            Self::KDialog => "kdialog",
            Self::OsaScript => "osascript",
            Self::PowerShell => "powershell",
        }
    }

    fn add_arguments(self, command: &mut Command, question: &str) {
        match self {
            Self::Zenity => command
                // `--no-markup`: paths may have `<` and `&`. `--default-cancel`: Enter must not end Codex.
                .args(["--question", "--no-markup", "--default-cancel"])
                .args(["--title", TITLE, "--ok-label", YES_LABEL, "--cancel-label", NO_LABEL])
                .args(["--text", question]),
            // kdialog shows a text that contains a tag as HTML.
            Self::KDialog => command
                .args(["--title", TITLE, "--yes-label", YES_LABEL, "--no-label", NO_LABEL])
                .args(["--warningyesno", &question.replace('<', "‹")]),
            Self::OsaScript => command
                // The question is an argument, because a text in the script would have to be quoted for AppleScript.
                .args(["-e", "on run argv", "-e"])
                .arg(format!(
                    "display dialog (item 1 of argv) with title \"{TITLE}\" buttons {{\"{NO_LABEL}\", \
                     \"{YES_LABEL}\"}} default button 1 cancel button 1 with icon caution"
                ))
                .args(["-e", "end run", question]),
            Self::PowerShell => command.env(QUESTION_VARIABLE, question).args([
                "-NoProfile",
                "-NonInteractive",
                "-Command",
                SHOW_SCRIPT,
            ]),
        };
    }

    /// Returns the answer that an exit code and the output of the program mean; `None` if the user did not
    /// answer.
    fn interpret_answer(self, code: i32, output: &str) -> Option<bool> {
        match (self, code) {
            // Without a display, these programs end with the exit code for "no".
            (Self::Zenity | Self::KDialog, 1) if output.to_lowercase().contains("display") => None,
            // The values of MessageBoxResult: Yes and No.
            (Self::PowerShell, 6) => Some(true),
            (Self::PowerShell, 7) => Some(false),
            (Self::PowerShell, _) => None,
            (_, 0) => Some(true),
            (_, 1) => Some(false),
            _ => None,
        }
    }
}

/// Returns the programs to try, in order.
fn list_dialog_programs(env: &Environment) -> &'static [DialogProgram] {
    if cfg!(windows) {
        return &[DialogProgram::PowerShell];
    }
    if cfg!(target_os = "macos") {
        return &[DialogProgram::OsaScript];
    }
    if env.get("DISPLAY").is_none() && env.get("WAYLAND_DISPLAY").is_none() {
        return &[];
    }
    &[DialogProgram::Zenity, DialogProgram::KDialog]
}

/// Finds the first program that can show a question.
fn find_dialog_program(env: &Environment) -> Option<(DialogProgram, Program)> {
    list_dialog_programs(env).iter().find_map(|kind| {
        let program = Program::find(Some(Path::new(kind.program_name())), env).ok()?;
        Some((*kind, program))
    })
}

/// Returns true if a program for [`ask_in_window`] is installed.
pub(crate) fn is_available(env: &Environment) -> bool {
    find_dialog_program(env).is_some()
}

/// Asks in a window; `None` if no window can be shown or the user does not answer within two
/// minutes.
pub(crate) fn ask_in_window(question: &str, env: &Environment) -> Option<bool> {
    let (kind, program) = find_dialog_program(env)?;
    let mut command = env.command(program.path());
    kind.add_arguments(&mut command, question);

    let deadline = Instant::now() + ANSWER_TIMEOUT;
    block_on_input(|| {
        let mut child = ChildGroup::spawn(&mut command).ok()?;
        child.close_input();
        // GTK and Qt print warnings; a full pipe would stop the dialog.
        while matches!(child.read_line(deadline), ChildOutput::Line(_)) {}
        let status = child.finish(deadline)?;
        kind.interpret_answer(status.code()?, &child.stderr())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_one_argument_or_a_variable_and_never_code() {
        let question = "end \"it\"; `rm` $(x) 'y' <b>?";
        for kind in [DialogProgram::Zenity, DialogProgram::OsaScript] {
            let mut command = Command::new("x");
            kind.add_arguments(&mut command, question);
            assert!(command.get_args().any(|arg| arg == question), "{kind:?}");
        }
        let mut command = Command::new("x");
        DialogProgram::PowerShell.add_arguments(&mut command, question);
        assert!(
            command
                .get_args()
                .all(|arg| !arg.to_string_lossy().contains("rm"))
        );
        assert!(command.get_envs().any(|(name, value)| {
            name == QUESTION_VARIABLE && value.is_some_and(|value| value == question)
        }));
    }

    #[test]
    fn only_yes_and_no_exit_codes_are_answers() {
        assert_eq!(DialogProgram::Zenity.interpret_answer(0, ""), Some(true));
        assert_eq!(DialogProgram::KDialog.interpret_answer(1, ""), Some(false));
        assert_eq!(DialogProgram::Zenity.interpret_answer(5, ""), None);
        assert_eq!(
            DialogProgram::PowerShell.interpret_answer(6, ""),
            Some(true)
        );
        assert_eq!(
            DialogProgram::PowerShell.interpret_answer(7, ""),
            Some(false)
        );
        assert_eq!(DialogProgram::PowerShell.interpret_answer(0, ""), None);
        let gtk = "Gtk-WARNING **: cannot open display: :9";
        assert_eq!(DialogProgram::Zenity.interpret_answer(1, gtk), None);
        let qt = "qt.qpa.xcb: could not connect to display :9";
        assert_eq!(DialogProgram::KDialog.interpret_answer(1, qt), None);
    }
}
