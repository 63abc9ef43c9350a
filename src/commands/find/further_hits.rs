//! Hits outside the conversations on disk: in archives, in the index alone, and on other machines.

use crate::choices::index_access::IndexAccess;
use crate::choices::listed::list_threads;
use crate::choices::machines::{list_fetched_machines, refresh_machines};
use crate::commands::find::FindArgs;
use crate::commands::find::archives::{SearchedHome, search_archives};
use crate::commands::find::found::{Found, FoundMachine};
use crate::commands::find::matcher::Matcher;
use crate::context::Context;
use crate::copies::archived::list_ids_on_disk;
use crate::copies::losses::places::may_have_copies;
use crate::doctor::way_back::find_way_back;
use crate::error::Result;
use codex_manager_core::codex::ThreadFilter;
use codex_manager_core::conversations::index::{self, IndexSource, IndexStore, Thoroughness};
use codex_manager_core::conversations::search::conversation_filter::ConversationFilter;
use codex_manager_core::conversations::search::query::Query;
use codex_manager_core::io::{Silent, shell};
use std::collections::HashSet;

/// The largest number of archives, and the size of the largest home in them, that are searched within 0.3 s.
const MAX_FAST_ARCHIVES: usize = 50;
const MAX_FAST_BYTES: u64 = 16 << 20;

impl FindArgs {
    /// Adds the conversations that are only in archives, and their ids to `searched_ids`, which are those on disk.
    pub(super) fn add_hits_in_archives(
        &self,
        found: &mut Found,
        searched_ids: &mut HashSet<String>,
        matcher: &Matcher,
        thread_filter: &ThreadFilter,
        context: &Context,
    ) -> Result<()> {
        let count_on_disk = found.result.hits.len();
        let search = |home: &SearchedHome<'_>| match matcher {
            Matcher::Pattern(pattern) => {
                let (found_in_archive, skipped) = self.scan_home(home, pattern, context)?;
                Ok((found_in_archive.result, skipped))
            }
            Matcher::Query(query) => {
                // `search_archive` deletes this index together with the extracted files.
                let source = IndexSource {
                    home: home.folder,
                    database: home.database,
                    now: context.now(),
                };
                let mut store = IndexStore::open(&home.folder.join("index.sqlite"))?;
                let report = index::refresh(&mut store, source, Thoroughness::All, &Silent)?;
                let result = self.search_store(&store, query, home.filter)?;
                Ok((result, report.skipped))
            }
        };

        search_archives(found, searched_ids, thread_filter, context, search)?;
        if found.result.hits.len() > count_on_disk {
            self.sort_and_truncate(&mut found.result.hits);
        }
        Ok(())
    }

    /// Adds the conversations that only the index still has. `filter` has the ids on disk and in archives.
    pub(super) fn add_deleted_hits(
        &self,
        found: &mut Found,
        query: &Query,
        filter: &mut ConversationFilter,
        context: &Context,
    ) -> Result<()> {
        let ids_on_machines = found.machines.keys().cloned();
        filter
            .existing_ids
            .get_or_insert_default()
            .extend(ids_on_machines);
        filter.only_deleted = true;
        let deleted = self.search_existing_index(&IndexAccess::new(context), query, filter)?;
        found.add_result(deleted.searched_count, deleted.result);
        self.sort_and_truncate(&mut found.result.hits);
        Ok(())
    }

    /// For a search without `--archives`: prints the number of conversations in archives that match, if they can be
    /// searched at once; else that the archives were not searched. Prints nothing if there is no archive of the home.
    pub(super) fn note_unsearched_archives(
        self,
        matcher: &Matcher,
        thread_filter: &ThreadFilter,
        context: &Context,
    ) -> Result<()> {
        let mut records = context.archives()?;
        let home = context.codex_home();
        records.retain(|record| record.is_usable() && may_have_copies(&record.metadata, home));
        if records.is_empty() {
            return Ok(());
        }

        if let Some(way_back) = find_way_back(context) {
            context.note(way_back.to_hint());
        }
        let options = self.filter.used_options(&self.kinds);
        let has_options = !options.is_empty() || self.regex || self.exact || self.role.is_some();
        let words: Vec<_> = self
            .words
            .iter()
            .map(|word| shell::quote_if_needed(word))
            .collect();
        let command = if has_options {
            "; add --archives".into()
        } else {
            format!(": codex-manager find --archives {}", words.join(" "))
        };

        let bytes = records.iter().map(|record| record.metadata.bytes).max();
        let is_fast = records.len() <= MAX_FAST_ARCHIVES && bytes <= Some(MAX_FAST_BYTES);
        let in_archives = if is_fast {
            // Without `archives`, the search would settle for a part of the words.
            let strict = Self {
                archives: true,
                ..self
            };
            let mut found = Found::default();
            let mut searched_ids = list_ids_on_disk(home)?;
            strict.add_hits_in_archives(
                &mut found,
                &mut searched_ids,
                matcher,
                thread_filter,
                context,
            )?;
            match found.result.hits.len() {
                0 => return Ok(()),
                count => format!("{count} in archives"),
            }
        } else {
            "archives were not searched".into()
        };
        context.note(format_args!("{in_archives}{command}"));
        Ok(())
    }

    /// Adds the conversations that only other machines have, or have in another version.
    pub(super) fn add_hits_on_machines(
        &self,
        found: &mut Found,
        matcher: &Matcher,
        thread_filter: &ThreadFilter,
        context: &Context,
    ) -> Result<()> {
        let machines = if self.no_refresh {
            list_fetched_machines(context)
        } else {
            let (machines, is_stale) = refresh_machines(context)?;
            found.is_partial |= is_stale;
            machines
        };

        let ids_of_this_machine = list_ids_on_disk(context.codex_home())?;
        for machine in machines {
            let machine_context = &machine.context;
            let list_filtered = |filter: &ThreadFilter| list_threads(filter, machine_context);
            let filter = ConversationFilter::new(thread_filter.clone(), list_filtered)?;
            let remote_found = match matcher {
                Matcher::Pattern(pattern) => self.scan(pattern, &filter, machine_context)?,
                Matcher::Query(query) => self.search_index(query, &filter, machine_context)?,
            };
            found.add_machine(remote_found, |id| FoundMachine {
                name: machine.name.clone(),
                home: machine_context.codex_home().to_path_buf(),
                has_local_version: ids_of_this_machine.contains(id),
            });
        }
        self.sort_and_truncate(&mut found.result.hits);
        Ok(())
    }
}
