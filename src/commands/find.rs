//! `find`: searches the contents of conversations.

use super::account::{local, printable, short_id};
use super::sessions::filter::FilterArgs;
use super::sessions::index_access::IndexAccess;
use super::sessions::skipped::warn_skipped;
use crate::codex::thread_query::{self, ThreadFilter};
use crate::codex::threads;
use crate::context::Context;
use crate::conversations::event::Role;
use crate::conversations::index::{IndexStore, Thoroughness};
use crate::conversations::search::evaluate::{
    self, FoundConversation, Hit, HitOrder, SearchOptions,
};
use crate::conversations::search::query::{self, Query};
use crate::conversations::search::scan;
use crate::conversations::search::snippet::Snippet;
use crate::error::{CommandError, Outcome};
use crate::io::progress::Progress as _;
use crate::ui::Style;
use crate::ui::time;
use chrono::DateTime;
use clap::{Args, ValueEnum};
use regex::{Regex, RegexBuilder};
use serde::Serialize;
use std::collections::HashSet;
use std::path::Path;

/// The number of hits without `--limit`.
const DEFAULT_LIMIT: usize = 20;

/// The largest size of a compiled regular expression, in bytes.
const MAX_REGEX_BYTES: usize = 16 << 20;

/// Search the contents of conversations
///
/// Finds conversations that have all words: in messages, summaries of reasoning, commands, names of changed
/// files, the beginnings of tool outputs, and titles. Letter case and accents do not matter. `"a phrase"` are
/// words in a row, `-word` excludes, `word*` is a beginning. Code such as `foo_bar.rs` is found as it is
/// written; put `--` before a word that begins with two hyphens.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager find parser error
  codex-manager find '\"borrow checker\" -tokio' --here
  codex-manager find E0499 --role assistant --since 30d
  codex-manager find --regex 'fn \\w+_test' --project ~/work
  codex-manager find migration --json | jq -r '.hits[].session_id'")]
pub(crate) struct FindArgs {
    /// The words to search for
    #[arg(value_name = "WORDS", required = true)]
    words: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Only messages of the user, of the assistant, or of tools
    #[arg(long, value_name = "ROLE")]
    role: Option<RoleChoice>,
    /// The order of the results
    #[arg(long, value_name = "ORDER", default_value = "best")]
    sort: SortChoice,
    /// The largest number of conversations [default: 20]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Search for a regular expression; reads all conversations
    #[arg(long, conflicts_with = "exact")]
    regex: bool,
    /// Search for this exact text, with its letter case; reads all conversations
    #[arg(long)]
    exact: bool,
    /// Search without bringing the index up to date
    #[arg(long, conflicts_with_all = ["regex", "exact"])]
    no_refresh: bool,
}

/// The author of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RoleChoice {
    /// Messages of the user
    User,
    /// Messages and reasoning of the assistant
    Assistant,
    /// Commands, changed files and outputs
    Tool,
}

/// The order of the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SortChoice {
    /// The most relevant first
    Best,
    /// The most recently changed conversation first
    Newest,
}

#[derive(Debug, Serialize)]
struct FindView {
    hits: Vec<HitView>,
    refreshed: usize,
    conversations: i64,
}

/// A conversation in JSON. Its keys are an interface.
#[derive(Debug, Serialize)]
struct HitView {
    session_id: String,
    title: String,
    turn: Option<u32>,
    role: Role,
    at: Option<String>,
    snippet: String,
    score: f64,
}

/// The result of a search.
struct Found {
    hits: Vec<Hit>,
    /// The number of conversations that were read into the index.
    refreshed: usize,
    /// The number of conversations that were searched.
    conversations: i64,
    is_partial: bool,
}

impl FindArgs {
    /// # Errors
    /// The query or a filter is invalid, the index cannot be used, or the user interrupts.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        let home = &context.settings.codex_home;
        if !home.is_dir() {
            return Err(
                CommandError::failed(format!("no Codex home: {}", home.display()))
                    .hint("start codex once, or name the folder with --codex-home DIR"),
            );
        }
        let filter = ConversationFilter::new(self.filter.resolve(context)?, context)?;
        let found = if self.regex || self.exact {
            self.scan(&filter, context)?
        } else {
            self.search(&filter, context)?
        };
        let hits = found.hits.iter().map(|hit| view(hit, context)).collect();
        context.ui.document(
            "find",
            &FindView {
                hits,
                refreshed: found.refreshed,
                conversations: found.conversations,
            },
        );
        for hit in &found.hits {
            print(hit, context);
        }
        if found.hits.is_empty() {
            context.ui.note("no conversation matches");
            return Ok(Outcome::CheckFailed);
        }
        Ok(Outcome::partial_if(found.is_partial))
    }

    fn role(&self) -> Option<Role> {
        self.role.map(|role| match role {
            RoleChoice::User => Role::User,
            RoleChoice::Assistant => Role::Assistant,
            RoleChoice::Tool => Role::Tool,
        })
    }

    fn order(&self) -> HitOrder {
        match self.sort {
            SortChoice::Best => HitOrder::Best,
            SortChoice::Newest => HitOrder::Newest,
        }
    }

    fn limit(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_LIMIT)
    }

    fn search(
        &self,
        filter: &ConversationFilter,
        context: &Context,
    ) -> Result<Found, CommandError> {
        let query = query::parse(&self.words).map_err(|e| {
            CommandError::usage(e.to_string())
                .hint("search for text as it is written: codex-manager find --exact TEXT")
        })?;
        let access = IndexAccess::new(context);
        if self.no_refresh {
            let store = access.existing()?.ok_or_else(|| {
                CommandError::failed("there is no search index yet")
                    .hint("create it: leave out --no-refresh")
            })?;
            let hits = self.evaluate(&store, &query, filter)?;
            let conversations = store.conversations()?;
            return Ok(Found {
                hits,
                refreshed: 0,
                conversations,
                is_partial: false,
            });
        }
        let (mut store, mut report) = access.updated(Thoroughness::Changes)?;
        let mut hits = match evaluate_once(self, &store, &query, filter) {
            Ok(hits) => hits,
            Err(e) if e.is_cured_by_rebuild() => {
                (store, report) = access.rebuilt()?;
                self.evaluate(&store, &query, filter)?
            }
            Err(e) => return Err(e.into()),
        };
        if hits.is_empty() && !report.is_complete && access.problem.borrow().is_none() {
            // The text may be in a conversation that Codex's database does not list.
            let read = report.read;
            drop(store);
            (store, report) = access.updated(Thoroughness::All)?;
            report.read += read;
            hits = self.evaluate(&store, &query, filter)?;
        }
        if let Some(problem) = access.problem.borrow_mut().take() {
            let problem = CommandError::from(problem).in_one_line();
            context.ui.warn(format_args!(
                "the search index is not up to date: {problem}"
            ));
        }
        warn_skipped(&report.skipped, context);
        Ok(Found {
            hits,
            refreshed: report.read,
            conversations: store.conversations()?,
            is_partial: !report.skipped.is_empty(),
        })
    }

    fn evaluate(
        &self,
        store: &IndexStore,
        query: &Query,
        filter: &ConversationFilter,
    ) -> Result<Vec<Hit>, CommandError> {
        Ok(evaluate_once(self, store, query, filter)?)
    }

    /// Searches the rollouts without the index.
    fn scan(&self, filter: &ConversationFilter, context: &Context) -> Result<Found, CommandError> {
        let text = self.words.join(" ");
        let pattern = if self.regex {
            text
        } else {
            regex::escape(&text)
        };
        let pattern = RegexBuilder::new(&pattern)
            .size_limit(MAX_REGEX_BYTES)
            .multi_line(true)
            .build()
            .map_err(|e| CommandError::usage("not a regular expression").because(e))?;
        self.scan_for(&pattern, filter, context)
    }

    fn scan_for(
        &self,
        pattern: &Regex,
        filter: &ConversationFilter,
        context: &Context,
    ) -> Result<Found, CommandError> {
        let settings = &context.settings;
        let database = threads::find_state_database(&settings.codex_home, &context.env);
        let mut all = scan::conversations(&settings.codex_home, database.as_deref())?;
        all.retain(|conversation| filter.accepts(conversation));
        let bytes = |path: &Path| path.metadata().map_or(0, |meta| meta.len());
        let total = all.iter().map(|found| bytes(&found.path)).sum();
        let bar = context.ui.bar("searching", total);
        bar.expect_bytes(total);
        let conversations = i64::try_from(all.len()).unwrap_or(i64::MAX);
        let report =
            scan::scan(all, pattern, self.role(), &bar).map_err(|_| CommandError::interrupted())?;
        drop(bar);
        let mut hits = report.hits;
        hits.sort_by(|a, b| {
            let newest = b.conversation.updated_ms.cmp(&a.conversation.updated_ms);
            match self.order() {
                HitOrder::Best => b.score.total_cmp(&a.score).then(newest),
                HitOrder::Newest => newest,
            }
        });
        hits.truncate(self.limit());
        warn_skipped(&report.skipped, context);
        Ok(Found {
            hits,
            refreshed: 0,
            conversations,
            is_partial: !report.skipped.is_empty(),
        })
    }
}

fn evaluate_once(
    args: &FindArgs,
    store: &IndexStore,
    query: &Query,
    filter: &ConversationFilter,
) -> Result<Vec<Hit>, crate::conversations::index::IndexError> {
    let options = SearchOptions {
        role: args.role(),
        order: args.order(),
        limit: args.limit(),
        accepts: &|conversation| filter.accepts(conversation),
    };
    evaluate::search(store, query, &options)
}

/// The filter of the command line, for conversations with and without a row in Codex's list.
struct ConversationFilter {
    filter: ThreadFilter,
    /// The ids of the listed conversations that it selects; `None` if it selects all.
    listed: Option<HashSet<String>>,
}

impl ConversationFilter {
    fn new(filter: ThreadFilter, context: &Context) -> Result<Self, CommandError> {
        let mut listed = None;
        if filter.is_restricted() {
            let home = &context.settings.codex_home;
            let database = threads::find_state_database(home, &context.env);
            let rows = database.map(|database| thread_query::list(&database, &filter));
            let rows = rows.transpose().map_err(|e| {
                CommandError::failed("cannot read Codex's list of conversations").because(e)
            })?;
            let ids = rows.into_iter().flatten().map(|row| row.id.to_lowercase());
            listed = Some(ids.collect());
        }
        Ok(Self { filter, listed })
    }

    fn accepts(&self, conversation: &FoundConversation) -> bool {
        let Some(listed) = &self.listed else {
            return true;
        };
        if conversation.listed {
            return listed.contains(&conversation.session);
        }
        let filter = &self.filter;
        let updated = conversation.updated_ms.unwrap_or(0);
        filter.account.is_none()
            && filter.since_ms.is_none_or(|since| updated >= since)
            && filter.until_ms.is_none_or(|until| updated < until)
            && filter
                .folder
                .as_ref()
                .is_none_or(|folder| Path::new(&conversation.cwd).starts_with(folder))
    }
}

fn view(hit: &Hit, context: &Context) -> HitView {
    let at = hit.at_ms.and_then(DateTime::from_timestamp_millis);
    HitView {
        session_id: hit.conversation.session.clone(),
        title: hit.conversation.title.clone(),
        turn: hit.turn,
        role: hit.role,
        at: at.map(|at| local(&at.fixed_offset(), context)),
        snippet: hit.snippet.text.clone(),
        score: hit.score,
    }
}

fn print(hit: &Hit, context: &Context) {
    let ui = &context.ui;
    let conversation = &hit.conversation;
    let mut about = Vec::new();
    if let Some(at) = conversation
        .updated_ms
        .and_then(DateTime::from_timestamp_millis)
    {
        about.push(time::relative(&at, &context.now()));
    }
    let folder = Path::new(&conversation.cwd).file_name();
    about.extend(folder.map(|folder| printable(&folder.to_string_lossy())));
    if conversation.archived {
        about.push("archived".to_owned());
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
    let author = match hit.role {
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
        Role::Title => "title",
    };
    let place = match hit.turn {
        Some(turn) => format!("turn {turn}, {author}:"),
        None => format!("{author}:"),
    };
    let text = marked(&hit.snippet, context);
    ui.hanging(
        4,
        format_args!("    {} {text}", ui.paint(Style::Dim, place)),
    );
}

/// Returns the snippet with its matches in colour.
fn marked(snippet: &Snippet, context: &Context) -> String {
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
