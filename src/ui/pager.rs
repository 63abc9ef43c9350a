//! Long text in a pager on a terminal, and on stdout anywhere else.

use super::Ui;
use super::output::sanitize;
use codex_manager_core::codex::redaction::hide_logins;
use codex_manager_core::io::environment::Environment;
use std::io::Write;
use std::process::{Child, Stdio};

/// The default pager. It ends at once if the text fits the screen, and shows colours. Without `-X`, versions of less
/// before 530 would show such a text on the alternate screen and clear it.
const DEFAULT_PAGER: &str = "less -FRX";

/// Shows a text that is written in parts.
pub(crate) struct Pager<'a> {
    ui: &'a Ui,
    child: Option<Child>,
}

impl Ui {
    /// Starts the pager of `PAGER`, else `less`. Without a terminal or a pager, the text goes to stdout.
    pub(crate) fn start_pager(&self, env: &Environment) -> Pager<'_> {
        let pager_command = env.text("PAGER").unwrap_or(DEFAULT_PAGER);
        // Without a terminal the text is data for another program.
        let is_for_people = self.terminal_out && !self.json;
        let child = match env.parse_command(pager_command) {
            Some(mut command) if is_for_people => command.stdin(Stdio::piped()).spawn().ok(),
            _ => None,
        };
        Pager { ui: self, child }
    }
}

impl Pager<'_> {
    /// Writes a part. Returns false if the user has closed the pager.
    pub(crate) fn write(&mut self, text: &str) -> bool {
        let text = &*self.ui.hide_secrets(text);
        let Some(stdin) = self.child.as_mut().and_then(|child| child.stdin.as_mut()) else {
            self.ui.print_part(text);
            return true;
        };
        stdin
            .write_all(sanitize(&hide_logins(text)).as_bytes())
            .is_ok()
    }
}

impl Drop for Pager<'_> {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // The end of the pipe ends the input of the pager. The wait keeps the shell from drawing its prompt.
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}
