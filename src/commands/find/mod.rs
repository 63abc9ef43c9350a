//! `find`: searches the contents of conversations.

mod archives;
mod found;
mod further_hits;
mod hit_row;
mod matcher;
mod nearby_lines;

use crate::choices::conversation_accounts::{ConversationAccount, ConversationAccounts};
use crate::choices::conversation_picker::ConversationPicker;
use crate::choices::index_access::{IndexAccess, warn_of_skipped_files, warn_of_stale_index};
use crate::choices::listed::list_threads;
use crate::choices::selection_args::{FilterArgs, KindArgs};
use crate::commands::find::archives::SearchedHome;
use crate::commands::find::found::Found;
use crate::commands::find::hit_row::{COLUMNS, HitRow};
use crate::commands::find::matcher::Matcher;
use crate::commands::find::nearby_lines::read_nearby_lines;
use crate::context::Context;
use crate::copies::archived::list_ids_on_disk;
use crate::error::{CommandError, Outcome, Result};
use crate::steps::home_checks::require_codex_home;
use crate::ui::{Table, object};
use crate::views::account::printable;
use crate::views::table_format::TableArgs;
use clap::Args;
use clap::builder::RangedU64ValueParser;
use codex_manager_core::codex::ThreadFilter;
use codex_manager_core::codex::rollout_lines::Role;
use codex_manager_core::conversations::index::{self, IndexError, IndexStore, Thoroughness};
use codex_manager_core::conversations::past_answers::FIRST_LINE;
use codex_manager_core::conversations::search::conversation_filter::ConversationFilter;
use codex_manager_core::conversations::search::evaluate::{
    self, Hit, HitOrder, Relaxation, SearchOptions, SearchResult, describe_spellings,
};
use codex_manager_core::conversations::search::forgiving::search_forgiving;
use codex_manager_core::conversations::search::query::Query;
use codex_manager_core::conversations::search::scan;
use codex_manager_core::history::SkippedFile;
use codex_manager_core::io::{is_interrupted, pluralize};
use regex::Regex;
use std::collections::HashMap;
use std::path::Path;

/// The number of hits without `--limit`.
const DEFAULT_LIMIT: usize = 20;

/// The largest number of hits when the query is searched again without the filter options. Each hit of a phrase or of
/// code is checked in its rollout, so a larger limit would take too long.
const MAX_UNFILTERED: usize = 20;

/// Search the contents of conversations
///
/// Finds conversations that have all words: in messages, summaries of reasoning, commands, names of changed files, the
/// beginnings of tool outputs, titles, project folders and branches. Letter case and accents do not matter, and English
/// words are found in all their forms: `retry` finds `retries` and `chargeWithRetry`. Quotes turn this off: `"word"`,
/// and `"a phrase"` for words in a row. `-word` excludes, `word*` is a beginning. Code such as `foo_bar.rs` is found as
/// it is written; put `--` before a word that begins with two hyphens. If no conversation has all words, those with the
/// most of them are shown; quoted and excluded words and code always count.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager find parser error
  codex-manager find                           # search as you type
  codex-manager find '\"borrow checker\" -tokio' --here
  codex-manager find E0499 --role assistant --since 30d
  codex-manager find --regex 'fn \\w+_test' --project ~/code
  codex-manager find migration --branch feature/checkout -C 3
  codex-manager find migration --archives
  codex-manager find migration --machines
  codex-manager find migration --json | jq -r '.hits[].session_id'")]
pub(crate) struct FindArgs {
    /// The words to search for [default: a screen to search on]
    #[arg(value_name = "WORDS")]
    pub(crate) words: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    kinds: KindArgs,
    /// Only messages of the user, of the assistant, or of tools
    #[arg(long, value_name = "ROLE", requires = "words")]
    role: Option<Role>,
    /// The order of the results
    #[arg(long, value_name = "ORDER", default_value = "best")]
    sort: HitOrder,
    /// The largest number of conversations [default: 20]
    #[arg(long, value_name = "N", requires = "words", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    limit: Option<usize>,
    /// Show this many lines before and after each match, including lines of adjacent messages
    #[arg(short = 'C', long = "context", value_name = "LINES")]
    nearby: Option<usize>,
    /// Search for a regular expression; reads all conversations
    #[arg(long, conflicts_with = "exact", requires = "words")]
    regex: bool,
    /// Search for this exact text, with its letter case; reads all conversations
    #[arg(long, requires = "words")]
    exact: bool,
    /// Also search conversations that are only in archives of this home
    #[arg(long, requires = "words")]
    archives: bool,
    /// Also search conversations that other machines published in the vault and this machine does not have
    #[arg(long, requires = "words")]
    machines: bool,
    /// Search without updating the index
    #[arg(long, conflicts_with_all = ["regex", "exact"], requires = "words")]
    no_refresh: bool,
    #[command(flatten)]
    table: TableArgs,
}

impl FindArgs {
    /// # Errors
    /// The query or a filter is invalid, the index cannot be used, or the user interrupts.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        let context = &self.table.apply(context)?;
        let thread_filter = self.filter.to_thread_filter(context)?;
        let thread_filter = self.kinds.restrict(thread_filter, context)?;

        if self.words.is_empty() {
            let screen = ConversationPicker {
                usage: &["search for words: codex-manager find WORDS"],
                filter: thread_filter,
                ..ConversationPicker::default()
            };
            return screen.run_and_resume(context);
        }

        require_codex_home(context)?;
        let matcher = self.parse_matcher()?;
        let list_filtered = |filter: &ThreadFilter| list_threads(filter, context);
        let mut filter = ConversationFilter::new(thread_filter.clone(), list_filtered)?;
        if self.archives {
            // Deleted conversations, which the index may still have, are searched in the archives.
            filter.existing_ids = Some(list_ids_on_disk(context.codex_home())?);
        }

        let mut found = match &matcher {
            Matcher::Pattern(pattern) => self.scan(pattern, &filter, context)?,
            Matcher::Query(query) => {
                self.show_early_hits(query, &matcher, &filter, context)?;
                self.search_index(query, &filter, context)?
            }
        };

        // With `--archives`, these are the ids that were set above.
        if let Some(ids) = &mut filter.existing_ids {
            self.add_hits_in_archives(&mut found, ids, &matcher, &thread_filter, context)?;
        }
        if self.machines {
            self.add_hits_on_machines(&mut found, &matcher, &thread_filter, context)?;
        }
        if let (true, Matcher::Query(query)) = (self.archives, &matcher) {
            self.add_deleted_hits(&mut found, query, &mut filter, context)?;
        }

        self.show_hits(&found, &matcher, context)?;
        let outcome = if found.result.hits.is_empty() {
            self.report_no_match(&found, &matcher, context)
        } else {
            Outcome::partial_if(found.is_partial)
        };
        // Hits with only a part of the words are no answer: an archive may have all of them.
        let has_answer = !found.result.hits.is_empty() && found.result.relaxation.is_none();
        if !self.archives && !has_answer {
            self.note_unsearched_archives(&matcher, &thread_filter, context)?;
        }
        Ok(outcome)
    }

    fn report_no_match(&self, found: &Found, matcher: &Matcher, context: &Context) -> Outcome {
        // `CheckFailed` would say that nothing matches, but the files that were not searched may match.
        if found.is_partial {
            context.note("no conversation matches in the part that could be searched");
            return Outcome::Partial;
        }

        let count_text = self.describe_unfiltered(matcher, context);
        let count_note = count_text.map_or(String::new(), |text| format!("; {text}"));
        context.note(format_args!("no conversation matches{count_note}"));
        Outcome::CheckFailed
    }

    /// Returns the number of conversations that match without the filter options, as text such as `3 without --since`.
    /// `None` for a pattern, which the index cannot search, or if no filter option is used, nothing matches, or the
    /// index cannot be read.
    fn describe_unfiltered(&self, matcher: &Matcher, context: &Context) -> Option<String> {
        let filter_options = self.filter.used_options(&self.kinds);
        let Matcher::Query(query) = matcher else {
            return None;
        };
        if filter_options.is_empty() {
            return None;
        }

        let search_options = SearchOptions {
            role: self.role,
            order: HitOrder::Newest,
            limit: MAX_UNFILTERED,
            accepts: &|_| true,
        };

        let store = IndexAccess::new(context).open_existing().ok().flatten()?;
        let result = evaluate::search(&store, query, &search_options).ok()?;
        let options = filter_options.join(" and ");
        match (result.total, result.hits.len()) {
            (Some(0), _) | (None, 0) => None,
            (Some(total), _) => Some(format!("{total} without {options}")),
            (None, listed) => Some(format!("at least {listed} without {options}")),
        }
    }

    fn parse_matcher(&self) -> Result<Matcher> {
        let pattern = || self.words.join(" ");
        match (self.regex, self.exact) {
            (true, _) => Matcher::parse_regex(&pattern()),
            (_, true) => Matcher::parse_regex(&regex::escape(&pattern())),
            _ => Matcher::parse_query(&self.words),
        }
    }

    /// Prints the hits as JSON, tab-separated values or text. A pager shows the text from its beginning, so the best
    /// hits are on the screen.
    fn show_hits(&self, found: &Found, matcher: &Matcher, context: &Context) -> Result<()> {
        let ui = &context.ui;
        let rows = self.build_rows(found, matcher, context)?;

        for spelling in describe_spellings(&found.result.spellings) {
            ui.note(printable(&spelling));
        }
        let relaxation = found.result.relaxation.as_ref();
        if let Some(relaxation) = relaxation {
            let text = self.describe_unfiltered(matcher, context);
            let count_note = text.map_or(String::new(), |text| format!("; full matches: {text}"));
            ui.note(format_args!("{relaxation}{count_note}"));
        }

        if ui.wants_json() {
            let hits = rows.iter().map(|row| row.to_json(context));
            let document = object()
                .with("note", FIRST_LINE)
                .with("hits", hits.collect::<Vec<_>>())
                .with("total", found.result.total)
                .with("refreshed", found.refreshed)
                .with("conversations", found.searched_count)
                .with("relaxation", relaxation.map(Relaxation::name))
                .with("spellings", &found.result.spellings);
            ui.document("find", &document);
        } else if ui.wants_tsv() {
            Table::with_rows(ui, COLUMNS, rows.iter().map(|row| row.to_cells(context))).print(ui);
        } else if !rows.is_empty() {
            let mut pager = ui.start_pager(&context.env);
            if !ui.writes_to_terminal() {
                // The reader may be an agent.
                pager.write(&format!("{FIRST_LINE}\n"));
            }
            for row in &rows {
                if !pager.write(&row.format_text(context)) {
                    // The user has closed the pager.
                    break;
                }
            }
        }

        self.note_further_hits(&found.result, context);
        Ok(())
    }

    /// Suggests a larger limit if the limit cuts off hits, or may do so because the total is unknown.
    fn note_further_hits(&self, result: &SearchResult, context: &Context) {
        // The number of conversations beyond the limit may be unknown, so four times the limit is a guess.
        let (shown, new_limit) = (result.hits.len(), self.max_hits().saturating_mul(4));
        match result.total {
            Some(total) if total > shown => context.note(format_args!(
                "{shown} of {total} conversations; add --limit {} to see more",
                new_limit.min(total)
            )),
            None if shown > 0 => {
                let shown = pluralize(shown, "conversation");
                context.note(format_args!(
                    "{shown} shown; add --limit {new_limit} to see more"
                ));
            }
            _ => {}
        }
    }

    /// Returns a row for each hit. Accounts are read only for JSON and tab-separated values, because the text has none.
    fn build_rows<'f>(
        &self,
        found: &'f Found,
        matcher: &Matcher,
        context: &Context,
    ) -> Result<Vec<HitRow<'f>>> {
        let ui = &context.ui;
        let mut accounts = if ui.wants_json() || ui.wants_tsv() {
            read_accounts(&found.result.hits, context)?
        } else {
            HashMap::new()
        };

        let to_row = |hit: &'f Hit| {
            let id = &hit.conversation.session;
            let archive = found.archives.get(id);
            let machine = found.machines.get(id);

            let home = machine.map_or(context.codex_home(), |machine| &*machine.home);
            let nearby = match self.nearby {
                // The rollouts that were extracted from an archive are deleted already, so their hits get no lines.
                Some(line_count) if archive.is_none() => {
                    let lines = read_nearby_lines(home, hit, line_count, matcher);
                    if lines.is_err() && is_interrupted() {
                        return Err(CommandError::interrupted());
                    }
                    // A hit whose rollout cannot be read is shown as without `-C`.
                    lines.unwrap_or_default()
                }
                _ => Vec::new(),
            };

            let account = accounts.remove(id).unwrap_or_default();
            Ok(HitRow {
                hit,
                account: account.profile.or(account.email),
                archive,
                machine,
                nearby,
            })
        };

        found.result.hits.iter().map(to_row).collect()
    }

    fn max_hits(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_LIMIT)
    }

    /// While the first index is incomplete, indexes the newest conversations and prints the hits in them. Does so only
    /// on a terminal, because a program expects one result.
    fn show_early_hits(
        &self,
        query: &Query,
        matcher: &Matcher,
        filter: &ConversationFilter,
        context: &Context,
    ) -> Result<()> {
        let ui = &context.ui;
        let access = IndexAccess::new(context);
        let expects_one_result = !ui.writes_to_terminal() || ui.wants_tsv();
        if expects_one_result || self.no_refresh || !access.lacks_complete_update() {
            return Ok(());
        }

        let (store, report) = access.open_updated(Thoroughness::Newest)?;
        // The caller goes on with `search_index`, which warns of the problem.
        if report.is_complete || report.problem.is_some() {
            return Ok(());
        }

        let found = Found {
            result: self.search_store(&store, query, filter)?,
            ..Found::default()
        };
        if found.result.hits.is_empty() {
            return Ok(());
        }

        self.show_hits(&found, matcher, context)?;
        let newest = pluralize(store.count_conversations()?, "conversation");
        ui.note(format_args!(
            "searched the newest {newest}; reading the others"
        ));
        Ok(())
    }

    /// Updates the index and searches it. If no conversation has all words, also indexes the conversations that Codex
    /// does not list, and searches again. A damaged index is created again. With `--no-refresh`, searches the index as
    /// it is.
    fn search_index(
        &self,
        query: &Query,
        filter: &ConversationFilter,
        context: &Context,
    ) -> Result<Found> {
        let access = IndexAccess::new(context);
        if self.no_refresh {
            return self.search_existing_index(&access, query, filter);
        }

        let (mut store, mut report) = access.open_updated(Thoroughness::Changes)?;
        // Read before the search, so that the comparison below notices an update by another process during the search.
        let old_revision = index::read_revision(&store).ok();
        let mut result = match self.search_store(&store, query, filter) {
            Ok(result) => result,
            Err(e) if e.is_cured_by_rebuild() => {
                (store, report) = access.rebuild()?;
                self.search_store(&store, query, filter)?
            }
            Err(e) => return Err(e.into()),
        };

        let lacks_full_match = result.hits.is_empty() || result.relaxation.is_some();
        if lacks_full_match && !report.is_complete && report.problem.is_none() {
            // The text may be in a conversation that Codex's database does not list.
            let read_before = report.conversations_read;
            drop(store);
            (store, report) = access.open_updated(Thoroughness::Files)?;
            if report.conversations_read > 0 || Some(index::read_revision(&store)?) != old_revision
            {
                result = self.search_store(&store, query, filter)?;
            }
            report.conversations_read += read_before;
        }

        let is_stale = report.problem.is_some();
        warn_of_stale_index(report.problem, context);
        warn_of_skipped_files(&report.skipped, context);
        Ok(Found {
            refreshed: report.conversations_read,
            searched_count: filter.count_indexed(&store)?,
            // An outdated index may lack the matching conversation, so without hits the result is partial.
            is_partial: !report.skipped.is_empty() || is_stale && result.hits.is_empty(),
            result,
            ..Found::default()
        })
    }

    fn search_existing_index(
        &self,
        access: &IndexAccess<'_>,
        query: &Query,
        filter: &ConversationFilter,
    ) -> Result<Found> {
        let store = access.open_existing()?.ok_or_else(|| {
            CommandError::failed("there is no search index yet")
                .hint("create it: leave out --no-refresh")
        })?;
        Ok(Found {
            result: self.search_store(&store, query, filter)?,
            searched_count: filter.count_indexed(&store)?,
            ..Found::default()
        })
    }

    fn search_store(
        &self,
        store: &IndexStore,
        query: &Query,
        filter: &ConversationFilter,
    ) -> Result<SearchResult, IndexError> {
        let options = SearchOptions {
            role: self.role,
            order: self.sort,
            limit: self.max_hits(),
            accepts: &|conversation| filter.accepts(conversation),
        };

        if self.archives || self.machines {
            // `search_forgiving` would settle for fewer words, but an archive or another machine may have all of them.
            return evaluate::search(store, query, &options);
        }
        search_forgiving(store, query, &options)
    }

    /// Searches the rollouts without the index.
    fn scan(
        &self,
        pattern: &Regex,
        filter: &ConversationFilter,
        context: &Context,
    ) -> Result<Found> {
        let database = context.state_database();
        let home = SearchedHome {
            folder: context.codex_home(),
            database: database.as_deref(),
            filter,
        };
        let (mut found, skipped) = self.scan_home(&home, pattern, context)?;
        self.sort_and_truncate(&mut found.result.hits);
        warn_of_skipped_files(&skipped, context);
        Ok(found)
    }

    /// Searches the rollouts of a home. Also returns the files that could not be read.
    fn scan_home(
        &self,
        home: &SearchedHome<'_>,
        pattern: &Regex,
        context: &Context,
    ) -> Result<(Found, Vec<SkippedFile>)> {
        let (mut conversations, skipped) = scan::list_conversations(home.folder, home.database)?;
        conversations.retain(|conversation| home.filter.accepts(conversation));

        let file_size = |path: &Path| path.metadata().map_or(0, |meta| meta.len());
        let sizes = conversations.iter().map(|c| file_size(&c.path));
        let bar = context.ui.bar("searching", sizes.sum());

        let searched_count = conversations.len();
        // Only Ctrl-C ends the scan with an error: files that cannot be read are in the report.
        let mut report = scan::scan(home.folder, conversations, pattern, self.role, &bar)
            .map_err(|_| CommandError::interrupted())?;
        report.skipped.extend(skipped);
        let found = Found {
            result: SearchResult {
                total: Some(report.hits.len()),
                hits: report.hits,
                ..SearchResult::default()
            },
            searched_count: i64::try_from(searched_count).unwrap_or(i64::MAX),
            is_partial: !report.skipped.is_empty(),
            ..Found::default()
        };
        Ok((found, report.skipped))
    }

    /// Sorts the hits in the order of `--sort`, and removes those beyond the limit.
    fn sort_and_truncate(&self, hits: &mut Vec<Hit>) {
        hits.sort_by(|a, b| {
            let newest_first = b.conversation.updated_ms.cmp(&a.conversation.updated_ms);
            match self.sort {
                HitOrder::Best => b.score.total_cmp(&a.score).then(newest_first),
                HitOrder::Newest => newest_first,
            }
        });
        hits.truncate(self.max_hits());
    }
}

/// Returns the account of each conversation in `hits`, by the id of the conversation.
fn read_accounts(hits: &[Hit], context: &Context) -> Result<HashMap<String, ConversationAccount>> {
    let ids = hits.iter().map(|hit| hit.conversation.session.clone());
    let filter = ThreadFilter {
        ids: Some(ids.collect()),
        ..ThreadFilter::default()
    };
    ConversationAccounts::read(context)?.find_all(&filter, context)
}
