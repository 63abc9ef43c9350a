//! `find`: searches the contents of conversations.

mod archives;
mod found;

use crate::choices::index_access::{IndexAccess, warn_skipped};
use crate::choices::listed::list_threads;
use crate::choices::selection_args::FilterArgs;
use crate::codex::rollout_lines::Role;
use crate::codex::threads::ThreadFilter;
use crate::commands::find::archives::{ExtractedHome, search_archives};
use crate::commands::find::found::Found;
use crate::context::Context;
use crate::conversations::index::{self, IndexError, IndexSource, IndexStore, Thoroughness};
use crate::conversations::search::conversation_filter::ConversationFilter;
use crate::conversations::search::evaluate::{self, Hit, HitOrder, SearchOptions, SearchResult};
use crate::conversations::search::forgiving::search_forgiving;
use crate::conversations::search::query::{self, Query};
use crate::conversations::search::relaxation::Relaxation;
use crate::conversations::search::scan::{self, ScanReport};
use crate::conversations::search::snippet::Snippet;
use crate::error::{CommandError, Outcome, Result};
use crate::io::progress::{Progress as _, Silent};
use crate::io::shell;
use crate::steps::home_checks::require_codex_home;
use crate::ui::object;
use crate::ui::{Style, time};
use crate::views::account::{format_local_ms, printable, short_id};
use chrono::DateTime;
use clap::Args;
use regex::RegexBuilder;
use serde::Serialize;
use std::path::Path;

/// The number of hits without `--limit`.
const DEFAULT_LIMIT: usize = 20;

/// The largest size of a compiled regular expression, in bytes.
const MAX_REGEX_BYTES: usize = 16 << 20;

/// Search the contents of conversations
///
/// Finds conversations that have all words: in messages, summaries of reasoning, commands, names of changed
/// files, the beginnings of tool outputs, titles, project folders and branches. Letter case and accents do not
/// matter, and English words are found in all their forms: `retry` finds `retries` and `chargeWithRetry`. `"word"` is
/// that word alone, `"a phrase"` are words in a row, `-word` excludes, `word*` is a beginning. Code such as `foo_bar.rs`
/// is found as it is written; put `--` before a word that begins with two hyphens. If no conversation has all words, those
/// with the most of them are shown.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager find parser error
  codex-manager find '\"borrow checker\" -tokio' --here
  codex-manager find E0499 --role assistant --since 30d
  codex-manager find --regex 'fn \\w+_test' --project ~/code
  codex-manager find migration --archives
  codex-manager find migration --json | jq -r '.hits[].session_id'")]
pub(crate) struct FindArgs {
    /// The words to search for
    #[arg(value_name = "WORDS", required = true)]
    words: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Only messages of the user, of the assistant, or of tools
    #[arg(long, value_name = "ROLE")]
    role: Option<Role>,
    /// The order of the results
    #[arg(long, value_name = "ORDER", default_value = "best")]
    sort: HitOrder,
    /// The largest number of conversations [default: 20]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Search for a regular expression; reads all conversations
    #[arg(long, conflicts_with = "exact")]
    regex: bool,
    /// Search for this exact text, with its letter case; reads all conversations
    #[arg(long)]
    exact: bool,
    /// Also search conversations that are only in archives of this home
    #[arg(long)]
    archives: bool,
    /// Search without bringing the index up to date
    #[arg(long, conflicts_with_all = ["regex", "exact"])]
    no_refresh: bool,
}

impl FindArgs {
    /// # Errors
    /// The query or a filter is invalid, the index cannot be used, or the user interrupts.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        require_codex_home(context)?;
        let threads = self.filter.resolve(context)?;
        let read = |filter: &ThreadFilter| list_threads(filter, context);
        let filter = ConversationFilter::new(threads.clone(), read)?;
        let mut found = if self.regex || self.exact {
            self.scan(&filter, context)?
        } else {
            self.search(&filter, context)?
        };
        if self.archives {
            self.add_archives(&mut found, &threads, context)?;
        }
        let archive = |hit: &Hit| found.archives.get(&hit.conversation.session);
        let hits = found
            .hits
            .iter()
            .map(|hit| hit_json(hit, archive(hit), context));
        let document = object()
            .with("hits", hits.collect::<Vec<_>>())
            .with("refreshed", found.refreshed)
            .with("conversations", found.conversations)
            .with(
                "relaxation",
                found.relaxation.as_ref().map(Relaxation::name),
            )
            .with("spellings", &found.spellings);
        context.ui.document("find", &document);
        for (word, spelling) in &found.spellings {
            let word = printable(word);
            context.note(format_args!("nothing has {word}; did you mean {spelling}?"));
        }
        if let Some(relaxation) = &found.relaxation {
            context.note(relaxation);
        }
        for hit in &found.hits {
            print(hit, archive(hit), context);
        }
        if found.hits.is_empty() {
            if found.is_partial {
                context.note("no conversation matches in the part that could be searched");
                return Ok(Outcome::Partial);
            }
            context.note("no conversation matches");
            return Ok(Outcome::CheckFailed);
        }
        Ok(Outcome::partial_if(found.is_partial))
    }

    fn max_hits(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_LIMIT)
    }

    fn search(&self, filter: &ConversationFilter, context: &Context) -> Result<Found> {
        let query = self.parse_query()?;
        let access = IndexAccess::new(context);
        if self.no_refresh {
            let store = access.open_existing()?.ok_or_else(|| {
                CommandError::failed("there is no search index yet")
                    .hint("create it: leave out --no-refresh")
            })?;
            let result = self.evaluate(&store, &query, filter)?;
            return Ok(Found {
                conversations: store.count_conversations()?,
                ..Found::from(result)
            });
        }
        let (mut store, mut report) = access.open_updated(Thoroughness::Changes)?;
        let mut result = match self.evaluate(&store, &query, filter) {
            Ok(result) => result,
            Err(e) if e.is_cured_by_rebuild() => {
                (store, report) = access.rebuild()?;
                self.evaluate(&store, &query, filter)?
            }
            Err(e) => return Err(e.into()),
        };
        let is_miss = result.hits.is_empty() || result.relaxation.is_some();
        if is_miss && !report.is_complete && access.problem.borrow().is_none() {
            // The text may be in a conversation that Codex's database does not list.
            let read = report.read;
            drop(store);
            (store, report) = access.open_updated(Thoroughness::All)?;
            report.read += read;
            result = self.evaluate(&store, &query, filter)?;
        }
        let problem = access.problem.borrow_mut().take();
        let is_stale = problem.is_some();
        if let Some(problem) = problem {
            let problem = CommandError::from(problem).to_one_line();
            context.warn(format_args!(
                "the search index is not up to date: {problem}"
            ));
        }
        warn_skipped(&report.skipped, context);
        Ok(Found {
            refreshed: report.read,
            conversations: store.count_conversations()?,
            is_partial: !report.skipped.is_empty() || is_stale && result.hits.is_empty(),
            ..Found::from(result)
        })
    }

    fn evaluate(
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
        if self.archives {
            // An archive may have a conversation with all words.
            return evaluate::search(store, query, &options);
        }
        search_forgiving(store, query, &options)
    }

    /// Searches the rollouts without the index.
    fn scan(&self, filter: &ConversationFilter, context: &Context) -> Result<Found> {
        let home = context.codex_home();
        let database = context.state_database();
        let (report, conversations) = self.scan_home(home, database.as_deref(), filter, context)?;
        let mut hits = report.hits;
        self.sort(&mut hits);
        warn_skipped(&report.skipped, context);
        Ok(Found {
            hits,
            conversations: i64::try_from(conversations).unwrap_or(i64::MAX),
            is_partial: !report.skipped.is_empty(),
            ..Found::default()
        })
    }

    /// Searches the rollouts of a home. Returns the number of searched conversations too.
    fn scan_home(
        &self,
        home: &Path,
        database: Option<&Path>,
        filter: &ConversationFilter,
        context: &Context,
    ) -> Result<(ScanReport, usize)> {
        let text = self.words.join(" ");
        let pattern = if self.regex {
            text
        } else {
            regex::escape(&text)
        };
        let pattern = RegexBuilder::new(&pattern)
            .size_limit(MAX_REGEX_BYTES)
            // `^` and `$` are meant for the lines of a message.
            .multi_line(true)
            .build()
            .map_err(|e| CommandError::usage("not a regular expression").because(e))?;
        let (mut all, skipped) = scan::list_conversations(home, database)?;
        all.retain(|conversation| filter.accepts(conversation));
        let bytes = |path: &Path| path.metadata().map_or(0, |meta| meta.len());
        let total = all.iter().map(|found| bytes(&found.path)).sum();
        let bar = context.ui.bar("searching", total);
        bar.expect_bytes(total);
        let conversations = all.len();
        let mut report = scan::scan(home, all, &pattern, self.role, &bar)
            .map_err(|_| CommandError::interrupted())?;
        report.skipped.extend(skipped);
        Ok((report, conversations))
    }

    /// Puts hits of several homes into order, and leaves out those beyond the limit.
    fn sort(&self, hits: &mut Vec<Hit>) {
        hits.sort_by(|a, b| {
            let newest = b.conversation.updated_ms.cmp(&a.conversation.updated_ms);
            match self.sort {
                HitOrder::Best => b.score.total_cmp(&a.score).then(newest),
                HitOrder::Newest => newest,
            }
        });
        hits.truncate(self.max_hits());
    }

    /// Adds the conversations that are only in archives.
    fn add_archives(
        &self,
        found: &mut Found,
        filter: &ThreadFilter,
        context: &Context,
    ) -> Result<()> {
        let search = |home: &ExtractedHome<'_>| {
            if self.regex || self.exact {
                let (report, _) =
                    self.scan_home(home.folder, home.database, home.filter, context)?;
                return Ok(report.hits);
            }
            let query = self.parse_query()?;
            let source = IndexSource {
                home: home.folder,
                database: home.database,
                now: context.now(),
            };
            let mut store = IndexStore::open(&home.folder.join("index.sqlite"))?;
            index::refresh(&mut store, source, Thoroughness::All, &Silent)?;
            Ok(self.evaluate(&store, &query, home.filter)?.hits)
        };
        search_archives(found, filter, context, search)?;
        if !found.archives.is_empty() {
            self.sort(&mut found.hits);
        }
        Ok(())
    }

    fn parse_query(&self) -> Result<Query> {
        query::parse(&self.words).map_err(|e| {
            CommandError::usage(e.to_string())
                .hint("search for text as it is written: codex-manager find --exact TEXT")
        })
    }
}

/// Returns a hit in JSON. The keys are an interface. `archive` is the archive that has the conversation if it is not
/// on disk.
fn hit_json<'h>(
    hit: &'h Hit,
    archive: Option<&'h String>,
    context: &Context,
) -> impl Serialize + use<'h> {
    object()
        .with("session_id", &hit.conversation.session)
        .with("title", &hit.conversation.title)
        .with("turn", hit.turn)
        .with("role", hit.role)
        .with("at", format_local_ms(hit.at_ms, context))
        .with("snippet", &hit.snippet.text)
        .with("score", hit.score)
        .with("archive", archive)
}

fn print(hit: &Hit, archive: Option<&String>, context: &Context) {
    let ui = &context.ui;
    let conversation = &hit.conversation;
    let mut about = Vec::new();
    if let Some(at) = conversation
        .updated_ms
        .and_then(DateTime::from_timestamp_millis)
    {
        about.push(time::format_relative(&at, &context.now()));
    }
    let folder = Path::new(&conversation.cwd).file_name();
    about.extend(folder.map(|folder| printable(&folder.to_string_lossy())));
    if conversation.archived {
        about.push("archived".to_owned());
    }
    if archive.is_some() {
        about.push("only in an archive".to_owned());
    }
    let title = match &*conversation.title {
        "" => "(no title)".to_owned(),
        title => printable(title),
    };
    ui.prose(format_args!(
        "{}  {}  {}",
        ui.paint(Style::Good, short_id(&conversation.session)),
        ui.paint(Style::Strong, title),
        ui.paint(Style::Dim, about.join(", "))
    ));
    let author = hit.role.name();
    let place = match hit.turn {
        Some(turn) => format!("turn {turn}, {author}:"),
        None => format!("{author}:"),
    };
    let text = highlight_matches(&hit.snippet, context);
    ui.hanging(
        4,
        format_args!("    {} {text}", ui.paint(Style::Dim, place)),
    );
    if let Some(archive) = archive {
        // A line of its own, however long, so that it can be copied.
        ui.line(format_args!(
            "    codex-manager restore {} --session {}",
            shell::quote_if_needed(&printable(archive)),
            printable(&conversation.session)
        ));
    }
}

/// Returns the snippet with its matches in colour.
fn highlight_matches(snippet: &Snippet, context: &Context) -> String {
    let mut text = String::new();
    let mut at = 0;
    for found in &snippet.matches {
        text.push_str(&printable(&snippet.text[at..found.start]));
        let part = printable(&snippet.text[found.clone()]);
        text.push_str(&context.ui.paint(Style::Warn, part));
        at = found.end;
    }
    text.push_str(&printable(&snippet.text[at..]));
    text
}
