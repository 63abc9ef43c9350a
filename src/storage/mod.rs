//! Measures the disk usage of a Codex home and its growth.
//!
//! One walk reads names and sizes. Project and account of a conversation come from the database;
//! only rollouts without a row are opened, for their first line.

mod growth;
mod kinds;

pub use growth::Growth;
pub use kinds::{KindUsage, Usage};

use crate::codex::home::{HomeEntryKind, kind_of};
use crate::codex::rollout::ConversationFile;
use crate::codex::threads;
use crate::history::id::ConversationId;
use crate::history::rollout;
use crate::io::parallel;
use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use walkdir::WalkDir;

/// The number of largest conversations in a report.
pub const MAX_LARGEST: usize = 10;

/// Rollouts that are read at a time.
const MAX_OPEN_ROLLOUTS: usize = 64;

/// The disk usage of the conversations of a project, a month or an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UsageShare {
    /// The folder, the month (`2026-11`) or the account id; `unknown` if not recorded.
    pub name: String,
    /// The size of its rollouts.
    pub bytes: u64,
    /// The number of its rollouts.
    pub conversations: usize,
}

/// One of the largest conversations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LargeConversation {
    /// The id in the name of its rollout, if any.
    pub id: Option<ConversationId>,
    /// The absolute path of its rollout.
    pub path: PathBuf,
    /// The size of its rollout.
    pub bytes: u64,
    /// The folder that it works in.
    pub project: String,
    /// The name or the first line of the title; empty if unknown.
    pub title: String,
    /// True if it is below `archived_sessions/`.
    pub archived: bool,
}

/// The disk usage of a home. Its JSON keys are a stable interface.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StorageReport {
    /// The size of all files below the home.
    pub total_bytes: u64,
    /// The number of files.
    pub files: usize,
    /// The usage by kind of file, largest first.
    pub kinds: Vec<KindUsage>,
    /// The usage by working folder of the conversations, largest first.
    pub projects: Vec<UsageShare>,
    /// The usage by month in which conversations began, oldest first.
    pub months: Vec<UsageShare>,
    /// The usage by account that created the conversations, largest first.
    pub accounts: Vec<UsageShare>,
    /// The largest conversations, at most [`MAX_LARGEST`].
    pub largest: Vec<LargeConversation>,
    /// The growth of conversations; null if it cannot be estimated.
    pub growth: Option<Growth>,
    /// The number of files and folders that could not be read.
    pub unreadable: usize,
}

/// A rollout with the facts from its name and metadata.
struct RolloutUsage {
    path: Box<Path>,
    id: Option<ConversationId>,
    began: Option<NaiveDate>,
    changed: Option<DateTime<Utc>>,
    bytes: u64,
    archived: bool,
}

/// Measures `home`. `state` is its state database; if it cannot be read, the rollouts are read
/// instead. Databases in the folder `databases` outside of the home are counted too.
pub fn measure(
    home: &Path,
    databases: Option<&Path>,
    state: Option<&Path>,
    now: DateTime<Utc>,
) -> StorageReport {
    let mut usage = Usage::default();
    let mut rollouts = Vec::new();
    let (mut total_bytes, mut files, mut unreadable) = (0, 0, 0);
    let outside = databases.filter(|folder| !folder.starts_with(home));
    let tops = [Some(home), outside];
    for top in tops.into_iter().flatten() {
        for entry in WalkDir::new(top).follow_root_links(true) {
            let Ok(entry) = entry else {
                unreadable += 1;
                continue;
            };
            if entry.file_type().is_dir() {
                continue;
            }
            let Ok(meta) = entry.metadata() else {
                unreadable += 1;
                continue;
            };
            let relative = entry.path().strip_prefix(top).unwrap_or(entry.path());
            let kind = kind_of(relative);
            if top != home
                && !matches!(
                    kind,
                    HomeEntryKind::Database | HomeEntryKind::DatabaseSidecar
                )
            {
                continue;
            }
            files += 1;
            total_bytes += meta.len();
            usage.add(kind, relative, entry.path(), meta.len());
            if kind.is_rollout_folder()
                && let Some(conversation) = ConversationFile::of(entry.path())
            {
                rollouts.push(RolloutUsage {
                    id: conversation.id().map(ConversationId::of),
                    began: day_of(&conversation.name),
                    changed: meta.modified().ok().map(Into::into),
                    bytes: meta.len(),
                    archived: kind == HomeEntryKind::ArchivedSessions,
                    path: entry.into_path().into(),
                });
            }
        }
    }
    let mut report = StorageReport {
        total_bytes,
        files,
        kinds: usage.finish(home),
        projects: Vec::new(),
        months: Vec::new(),
        accounts: Vec::new(),
        largest: Vec::new(),
        growth: growth::of(&rollouts, now),
        unreadable,
    };
    add_shares(rollouts, state, &mut report);
    report
}

/// Parses the day in `rollout-2026-11-20T10-48-02-….jsonl`.
fn day_of(name: &str) -> Option<NaiveDate> {
    let day = name.strip_prefix("rollout-")?.get(..10)?;
    NaiveDate::parse_from_str(day, "%Y-%m-%d").ok()
}

/// Interned names, because many conversations share a project and an account.
#[derive(Default)]
struct InternedNames {
    known: HashMap<Arc<str>, u32>,
    names: Vec<Arc<str>>,
}

impl InternedNames {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.known.get(name) {
            return *number;
        }
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        let name: Arc<str> = name.into();
        self.names.push(Arc::clone(&name));
        self.known.insert(name, number);
        number
    }

    fn name(&self, number: u32) -> String {
        let name = self.names.get(number as usize);
        or_unknown(name.map(ToString::to_string).unwrap_or_default())
    }
}

/// Facts about conversations from the database.
#[derive(Default)]
struct ConversationFacts {
    projects: InternedNames,
    accounts: InternedNames,
    /// The numbers of project and account by conversation.
    rows: HashMap<ConversationId, (u32, u32)>,
    /// The titles of the largest conversations.
    titles: HashMap<ConversationId, String>,
}

fn add_shares(mut rollouts: Vec<RolloutUsage>, state: Option<&Path>, report: &mut StorageReport) {
    rollouts.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
    let largest = rollouts
        .iter()
        .take(MAX_LARGEST)
        .filter_map(|found| found.id.as_ref());
    let largest: HashSet<_> = largest.cloned().collect();
    let folded = state.map(|path| {
        threads::fold_rows(path, ConversationFacts::default, |known, row| {
            let id = ConversationId::of(&row.id);
            if largest.contains(&id) {
                let title = row.given_name().unwrap_or(&row.title);
                let title = rollout::first_line(title).unwrap_or_default();
                known.titles.insert(id.clone(), title);
            }
            let facts = (
                known.projects.number(&row.cwd),
                known.accounts.number(&row.account_id),
            );
            known.rows.insert(id, facts);
        })
    });
    // Without a readable database, the facts come from the rollouts.
    let mut known = folded
        .and_then(|table| table.ok().flatten())
        .unwrap_or_default();
    let facts = facts(&rollouts, &mut known);
    let (mut projects, mut months, mut accounts) =
        (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (i, (found, (project, account))) in rollouts.into_iter().zip(facts).enumerate() {
        let project = known.projects.name(project);
        add(&mut projects, project.clone(), found.bytes);
        add(&mut accounts, known.accounts.name(account), found.bytes);
        let changed = found.changed.map(|at| at.date_naive());
        let month = found
            .began
            .or(changed)
            .map(|day| day.format("%Y-%m").to_string());
        add(
            &mut months,
            or_unknown(month.unwrap_or_default()),
            found.bytes,
        );
        if i < MAX_LARGEST {
            let title = found.id.as_ref().and_then(|id| known.titles.remove(id));
            report.largest.push(LargeConversation {
                id: found.id,
                path: found.path.into(),
                bytes: found.bytes,
                project,
                title: title.unwrap_or_default(),
                archived: found.archived,
            });
        }
    }
    report.projects = largest_first(projects);
    report.accounts = largest_first(accounts);
    report.months = months.into_values().collect();
}

fn or_unknown(name: String) -> String {
    if name.is_empty() {
        "unknown".into()
    } else {
        name
    }
}

fn add(to: &mut BTreeMap<String, UsageShare>, name: String, bytes: u64) {
    let add_shares = to.entry(name.clone()).or_insert_with(|| UsageShare {
        name,
        ..UsageShare::default()
    });
    add_shares.bytes += bytes;
    add_shares.conversations += 1;
}

fn largest_first(shares: BTreeMap<String, UsageShare>) -> Vec<UsageShare> {
    let mut shares: Vec<_> = shares.into_values().collect();
    shares.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    shares
}

/// Returns the numbers of project and account of each rollout, from its row, else from its first
/// line. An unreadable rollout counts as unknown.
fn facts(rollouts: &[RolloutUsage], known: &mut ConversationFacts) -> Vec<(u32, u32)> {
    let nothing = (known.projects.number(""), known.accounts.number(""));
    let mut facts = vec![nothing; rollouts.len()];
    let mut unknown = Vec::new();
    for (i, found) in rollouts.iter().enumerate() {
        match found.id.as_ref().and_then(|id| known.rows.get(id)) {
            Some(row) => facts[i] = *row,
            None => unknown.push(i),
        }
    }
    let read = |i: usize| {
        let meta = rollout::head(&rollouts[i].path).ok().flatten()?;
        let text = |key| meta.text(key).unwrap_or_default().to_owned();
        Some((i, text("cwd"), text("creator_account_id")))
    };
    let done: Result<(), Infallible> = parallel::ordered(
        MAX_OPEN_ROLLOUTS,
        read,
        |result| {
            if let Some((i, project, account)) = result {
                facts[i] = (
                    known.projects.number(&project),
                    known.accounts.number(&account),
                );
            }
            Ok(())
        },
        |submitter| {
            for i in unknown {
                if submitter.submit(i).is_err() {
                    break;
                }
            }
            Ok(())
        },
    );
    let Ok(()) = done;
    facts
}
