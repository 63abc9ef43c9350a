//! The snapshot that the user names.

use crate::choices::vault_connection::host;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::views::account;
use codex_manager_core::codex::Identity;
use codex_manager_core::inventory::archive_names::LATEST;
use codex_manager_core::inventory::resolve::{find_account_position, merge_entries};
use codex_manager_core::vault::restic::Restic;
use codex_manager_core::vault::snapshot::{self, Snapshot, SnapshotPlace};
use codex_manager_core::vault::{VaultError, state};

/// The least length of the prefix of an id, in characters.
const MIN_ID_CHARS: usize = 4;

/// Finds the snapshot that `name` denotes: `latest`, an id or a prefix of one, or an account. `latest` and an account
/// denote the best of several snapshots; see [`snapshot::find_preferred`].
///
/// # Errors
/// restic fails, no snapshot matches, or the prefix or the account is ambiguous.
pub(crate) fn find_snapshot(context: &Context, restic: &Restic, name: &str) -> Result<Snapshot> {
    let snapshots = snapshot::list_snapshots(restic)?;

    let may_be_id = name.len() >= MIN_ID_CHARS && name.chars().all(|c| c.is_ascii_hexdigit());
    // A name can look like an id, such as `dead`, so an unknown id may still be an account.
    if may_be_id {
        match snapshot::find_by_id(&snapshots, name) {
            Err(VaultError::NoSnapshot(_)) => {}
            found => return Ok(found?.clone()),
        }
    }

    let account = match name {
        LATEST => None,
        _ => Some(find_identity(context, &snapshots, name)?),
    };

    // Without the recorded id of this machine, its host name decides.
    let state = state::read(context.manager_home()).unwrap_or_default();
    let own_place = SnapshotPlace {
        machine: state.machine.as_deref(),
        host: &host(context),
        home: &context.settings.codex_home.to_string_lossy(),
    };
    let preferred = snapshot::find_preferred(&snapshots, own_place, |m| match &account {
        None => true,
        Some(account) => m.identity().is_some_and(|owner| owner.is_same(account)),
    });
    let preferred = preferred.ok_or_else(|| VaultError::NoSnapshot(name.to_owned()))?;
    Ok(preferred.clone())
}

/// Finds an account among the known ones and those of the snapshots.
fn find_identity(context: &Context, snapshots: &[Snapshot], name: &str) -> Result<Identity> {
    let known_accounts = account::read_known_accounts(context)?;
    let snapshot_accounts = snapshots
        .iter()
        .filter_map(|s| s.tags.as_ref()?.metadata.identity());
    let mut entries = merge_entries(&known_accounts, snapshot_accounts);
    let position = find_account_position(&entries, name).map_err(|error| {
        CommandError::from(error).hint("list the snapshots: codex-manager vault snapshots")
    })?;
    Ok(entries.swap_remove(position).identity)
}
