//! Makes an archive before a new version of Codex starts.

use crate::config::BeforeNewCodex;
use crate::context::Context;
use crate::error::{Outcome, Result};
use codex_manager_core::inventory::codex_change::describe_codex_change;

const SETTING_COMMAND: &str = "codex-manager config set backup.before_new_codex";

/// Archives the Codex home if Codex changed since the last archive. The setting `backup.before_new_codex` decides:
/// `auto` archives without a question, `ask` only if the user agrees on a terminal. Writes nothing to stdout, which
/// Codex uses.
///
/// # Errors
/// The archives cannot be listed, or the archive cannot be made. The caller must not start Codex then.
pub(crate) fn archive_if_codex_changed(context: &Context) -> Result<()> {
    let asks = match context.settings.preferences.before_new_codex {
        BeforeNewCodex::Auto => false,
        BeforeNewCodex::Ask if context.ui.is_interactive() => true,
        BeforeNewCodex::Ask | BeforeNewCodex::Off => return Ok(()),
    };

    // The start itself reports a missing program.
    let Ok(program) = context.find_codex() else {
        return Ok(());
    };

    let records = context.archives()?;
    let (home, machine) = (context.codex_home(), context.machine());
    let Some(change) = describe_codex_change(&records, home, machine.as_deref(), &program) else {
        return Ok(());
    };

    // A new Codex may migrate conversations at its start, and keeps no copy of them (openai/codex#46713).
    let question = format!("{change}. Make an archive before it starts?");
    if asks && context.ui.confirm(question) != Some(true) {
        context.note(format_args!("do not ask again: {SETTING_COMMAND} off"));
        return Ok(());
    }

    let silent_context = Context {
        ui: context.ui.silenced(),
        ..context.clone()
    };
    // A query of the quota would start the new Codex.
    let backup_result = silent_context.run(&["backup".into(), "--no-status".into()]);
    let hint = format!(
        "to start Codex without an archive, turn these archives off and run the same command again: {SETTING_COMMAND} off"
    );

    let message = match backup_result.map_err(|e| e.hint(hint))? {
        Outcome::Done => "archived the Codex home before the new Codex starts",
        _ => "archived the Codex home before the new Codex starts; some files were skipped",
    };
    context.note(message);
    Ok(())
}
