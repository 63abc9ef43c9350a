//! The other machines that sync with the vault, as places to look for conversations.

use crate::choices::index_access::LateBar;
use crate::choices::sync_config::{default_config_path, read_config_quietly};
use crate::choices::vault_connection::{ConnectionArgs, host};
use crate::context::Context;
use crate::error::{CommandError, Result};
use chrono::{DateTime, Utc};
use codex_manager_core::conversations::index;
use codex_manager_core::io::is_interrupted;
use codex_manager_core::sync::snapshots::replica_id;
use codex_manager_core::sync::state::Replica;
use codex_manager_core::vault::machine_homes::{self, LocalHomes, MachineHome};
use std::path::Path;

/// Another machine, with its conversations that this machine does not have or has in another version.
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) published_at: DateTime<Utc>,
    /// The context for commands on the conversations of the machine.
    pub(crate) context: Context,
}

impl Machine {
    fn new(machine_home: MachineHome, context: &Context) -> Self {
        let mut context = context.clone();
        context.settings.codex_home = machine_home.folder;
        // The variable names the folder of this machine's databases.
        context.env = context.env.without("CODEX_SQLITE_HOME");
        Self {
            name: machine_home.machine,
            published_at: machine_home.published_at,
            context,
        }
    }
}

/// Returns the machines whose conversations were fetched before. Reads no vault.
pub(crate) fn list_fetched_machines(context: &Context) -> Vec<Machine> {
    let homes = machine_homes::list_machine_homes(context.manager_home()).into_iter();
    homes.map(|home| Machine::new(home, context)).collect()
}

/// Fetches the newest conversations of the other machines. If the vault cannot be reached, warns and uses the
/// conversations that were fetched before. Returns the machines, sorted by the time of publication, the newest first.
/// Also returns true if the list of a machine may be older than its newest snapshot.
///
/// # Errors
/// No vault is set up, nothing was fetched before and the vault cannot be reached, or the user interrupts.
pub(crate) fn refresh_machines(context: &Context) -> Result<(Vec<Machine>, bool)> {
    let fetch_result = fetch_newest_conversations(context);
    let machines = list_fetched_machines(context);
    let is_stale = match fetch_result {
        Ok(is_complete) => !is_complete,
        Err(e) if is_interrupted() || machines.is_empty() => return Err(e),
        Err(e) => {
            let problem = e.to_one_line();
            context.warn(format_args!(
                "the other machines are shown as last fetched: {problem}"
            ));
            true
        }
    };

    if machines.is_empty() {
        context.note("no other machine has synced with the vault; set up another one with: codex-manager sync init --vault");
    }

    Ok((machines, is_stale))
}

/// Fetches the newest conversations and removes the indexes of machines that are gone. Returns false, after a warning,
/// if a machine could not be read.
fn fetch_newest_conversations(context: &Context) -> Result<bool> {
    let restic = ConnectionArgs::default().open(context)?;
    let manager_home = context.manager_home();
    // Listed before the refresh, because the refresh removes the homes of machines that are gone.
    let machines_before = list_fetched_machines(context);

    // The folder that stands in for the cloud folder in a sync through the vault.
    let vault = manager_home.join("sync").join("vault");
    let replica = Replica::of(manager_home, context.codex_home(), &vault);
    let own_replica_id = replica_id(&replica.folder);
    let homes = LocalHomes {
        codex_home: context.codex_home(),
        manager_home,
        replica: own_replica_id.as_deref(),
    };

    let bar = LateBar::new("fetching", context);
    let failures = machine_homes::refresh(&restic, homes, &bar)?;

    for machine in machines_before {
        let home = machine.context.codex_home();
        if !home.exists() {
            index::remove_index(&index::index_path(manager_home, home))?;
        }
    }

    let is_complete = failures.is_empty();
    for (machine, e) in failures {
        let error = CommandError::from(e).to_one_line();
        context.warn(format_args!("{machine} is shown as last fetched: {error}"));
    }
    Ok(is_complete)
}

/// Returns the name under which this machine publishes.
pub(crate) fn own_machine_name(context: &Context) -> String {
    let config = read_config_quietly(context, &default_config_path(context));
    config.map_or_else(|_| host(context), |config| config.machine_id)
}

/// Returns the machine from which the file at `path` was fetched; `None` if the file was not fetched from a machine.
pub(crate) fn find_machine_of_path(path: &Path, context: &Context) -> Option<Machine> {
    let mut machines = list_fetched_machines(context).into_iter();
    machines.find(|machine| path.starts_with(machine.context.codex_home()))
}
