//! The part of an archive's metadata that `backup` and `list-backups` both print as JSON.

use crate::context::Context;
use crate::ui::{JsonFields, JsonObject, object};
use crate::views::account::time_json;
use codex_manager_core::archive::Metadata;

/// Returns the mode, the account and the weekly window of an archive. The keys are an interface.
pub(crate) fn archive_json<'a>(
    metadata: &'a Metadata,
    context: &Context,
) -> JsonObject<impl JsonFields + use<'a>> {
    let time = |at| time_json(at, context);
    object()
        .with("mode", metadata.mode)
        .with("conversations", metadata.conversation_count())
        .with("email", &metadata.email)
        .with("account_id", &metadata.account_id)
        .with("session_start_at", time(metadata.session_start_at))
        .with("next_available_at", time(metadata.next_available_at))
        .with("reset_at", time(metadata.reset_at))
}
