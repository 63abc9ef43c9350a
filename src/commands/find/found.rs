//! The conversations that a search found on this machine, in archives and on other machines.

use codex_manager_core::conversations::search::evaluate::SearchResult;
use codex_manager_core::io::Timestamp;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

#[derive(Clone)]
pub(super) struct FoundArchive {
    /// The shortest name that commands accept for the archive.
    pub name: String,
    pub created_at: Timestamp,
}

pub(super) struct FoundMachine {
    pub name: String,
    /// A folder like a Codex home, with the conversations fetched from the machine.
    pub home: PathBuf,
    /// True if this machine has a version of the conversation too.
    pub has_local_version: bool,
}

#[derive(Default)]
pub(super) struct Found {
    pub result: SearchResult,
    /// The number of conversations that were read into the index.
    pub refreshed: usize,
    /// The number of conversations that were searched.
    pub searched_count: i64,
    /// True if not all conversations could be searched.
    pub is_partial: bool,
    /// The archive of each hit that is only in an archive, by the id of the conversation.
    pub archives: HashMap<String, FoundArchive>,
    /// The machine of each hit that was found on another machine, by the id of the conversation.
    pub machines: HashMap<String, FoundMachine>,
}

impl Found {
    /// Adds the result of a search in an archive, for which `searched_count` conversations were searched.
    pub(super) fn add_archive(
        &mut self,
        searched_count: usize,
        result: SearchResult,
        archive: &FoundArchive,
    ) {
        let ids = result.hits.iter().map(|hit| &hit.conversation.session);
        self.archives
            .extend(ids.map(|id| (id.clone(), archive.clone())));
        self.add_result(i64::try_from(searched_count).unwrap_or(i64::MAX), result);
    }

    /// Adds the result of a search in `searched_count` conversations that were not searched before.
    pub(super) fn add_result(&mut self, searched_count: i64, result: SearchResult) {
        self.searched_count += searched_count;
        // If one total is unknown, so is the sum.
        let totals = self.result.total.zip(result.total);
        self.result.total = totals.map(|(sum, more)| sum + more);
        self.result.hits.extend(result.hits);
    }

    /// Adds the result of a search on another machine, without conversations that already have a hit. `machine` returns
    /// the machine for the id of a conversation.
    pub(super) fn add_machine(
        &mut self,
        mut remote_found: Self,
        machine: impl Fn(&str) -> FoundMachine,
    ) {
        let (local, remote) = (&mut self.result, &mut remote_found.result);
        let lists_all = |result: &SearchResult| result.total == Some(result.hits.len());
        let are_all_listed = lists_all(local) && lists_all(remote);
        let hits = local.hits.iter();
        let ids_with_hits: HashSet<_> = hits.map(|hit| hit.conversation.session.clone()).collect();
        remote
            .hits
            .retain(|hit| !ids_with_hits.contains(&hit.conversation.session));

        self.refreshed += remote_found.refreshed;
        self.searched_count += remote_found.searched_count;
        self.is_partial |= remote_found.is_partial;

        let ids = remote.hits.iter().map(|hit| &hit.conversation.session);
        self.machines
            .extend(ids.map(|id| (id.clone(), machine(id))));
        local.hits.append(&mut remote.hits);
        // Totals are not added: a conversation that both machines have, and that a limit cut off, would count twice.
        local.total = are_all_listed.then_some(local.hits.len());
    }
}
