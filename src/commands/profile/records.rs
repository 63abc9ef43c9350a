//! The update of `cooldown.json` after a change of the profiles.

use crate::codex::auth::Login;
use crate::context::Context;
use crate::error::CommandError;
use crate::inventory::store;
use crate::quota::account::LoginState;
use crate::views::account::warn_all;

/// Updates the profiles in `cooldown.json`; `renewed` is a login that was just saved.
pub(super) fn update_cooldown(
    context: &Context,
    renewed: Option<&Login>,
) -> Result<(), CommandError> {
    let settings = &context.settings;
    let updated = store::note_profiles_and(
        &settings.manager_home,
        &context.now(),
        settings.zone,
        |file| {
            if let Some(login) = renewed {
                let entry = file.entry(&login.identity);
                if entry.login != LoginState::Moved {
                    entry.login = LoginState::Ok;
                }
            }
        },
    )?;
    warn_all(&context.ui, &updated.warnings);
    Ok(())
}
