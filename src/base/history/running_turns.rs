//! The conversations in which Codex's background daemon may be running a turn.

use super::rollout;
use super::thread_rollouts::{find_rollout, parse_creation_time};
use crate::codex::process::find_locked_conversations;
use crate::codex::{RolloutName, daemon};
use crate::io::OrdinaryPath;
use crate::io::processes::ProcessTable;
use std::path::{Path, PathBuf};

/// Returns the ids of the conversations in which the daemon of `home` may be running a turn.
///
/// A held writer lock is not enough, because the daemon of Codex 0.169 also keeps the locks of conversations that wait
/// for the user. A conversation waits if the daemon has its rollout open and the last turn in it has ended. It also
/// waits if it has no rollout yet: Codex 0.171 creates the rollout with the first prompt.
pub fn find_busy_conversations(home: &Path) -> Vec<String> {
    let home = home.canonical_or_self();
    let table = ProcessTable::read();
    let daemon = daemon::find(&home).and_then(|daemon| table.get(daemon.pid));
    let open_files = daemon.map(|daemon| daemon.open_files_beneath(&[&home]));
    let open_files = open_files.unwrap_or_default();

    let mut ids = find_locked_conversations(&home);
    ids.retain(|id| {
        let mut open_files = open_files.iter();
        let is_of_conversation =
            |path: &&PathBuf| RolloutName::parse(path).is_some_and(|name| name.id() == Some(id));
        match open_files.find(is_of_conversation) {
            Some(path) => !rollout::is_turn_over(path),
            // Only versions of Codex with times in their ids create the rollout late.
            None => parse_creation_time(id).is_none() || find_rollout(&home, id).is_some(),
        }
    });
    ids
}
