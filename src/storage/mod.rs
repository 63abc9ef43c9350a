//! What fills a Codex home, and how fast.
//!
//! One walk reads names and sizes. Which project and account a conversation belongs to is taken
//! from the database; only rollouts that it does not know are opened, for their first line.

mod growth;
mod kinds;

pub use growth::Growth;
pub use kinds::{KindUsage, Usage};

use crate::codex::home::{Kind, kind_of};
use crate::codex::rollout::ConversationFile;
use crate::codex::threads::ThreadTable;
use crate::history::rollout::{self, canonical_id};
use crate::io::parallel;
use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// How many of the largest conversations are named.
pub const LARGEST: usize = 10;

/// How many rollouts are opened at a time.
const IN_FLIGHT: usize = 64;

/// Bytes and conversations of a project, a month or an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Whose.
    pub name: String,
    /// How many bytes its rollouts take.
    pub bytes: u64,
    /// How many conversations it has.
    pub conversations: usize,
}

/// One of the largest conversations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Large {
    /// Its id, where its file tells.
    pub id: Option<String>,
    /// Its rollout.
    pub path: PathBuf,
    /// How large it is.
    pub bytes: u64,
    /// The project it belongs to.
    pub project: String,
    /// What it is called.
    pub title: String,
    /// Whether it is archived.
    pub archived: bool,
}

/// What fills a home. Its keys are a contract.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StorageReport {
    /// Everything below the home.
    pub total_bytes: u64,
    /// How many files.
    pub files: usize,
    /// By kind, the largest first.
    pub kinds: Vec<KindUsage>,
    /// By the folder that conversations work in, the largest first.
    pub projects: Vec<Share>,
    /// By the month in which conversations began, in order.
    pub months: Vec<Share>,
    /// By the account that made them, the largest first.
    pub accounts: Vec<Share>,
    /// The largest conversations.
    pub largest: Vec<Large>,
    /// How fast conversations grow.
    pub growth: Option<Growth>,
    /// What could not be looked at.
    pub unreadable: usize,
}

/// A rollout as the walk found it.
struct Found {
    path: PathBuf,
    id: Option<String>,
    began: Option<NaiveDate>,
    changed: Option<DateTime<Utc>>,
    bytes: u64,
    archived: bool,
}

/// Looks through `home`. `table` is what the state database says, where it can be read; databases
/// that lie in `databases` outside the home are counted too.
pub fn look(
    home: &Path,
    databases: Option<&Path>,
    table: Option<&ThreadTable>,
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
            if top != home && !matches!(kind, Kind::Database | Kind::DatabaseSidecar) {
                continue;
            }
            files += 1;
            total_bytes += meta.len();
            usage.add(kind, relative, entry.path(), meta.len());
            if kind.is_rollout_folder()
                && let Some(conversation) = ConversationFile::of(entry.path())
            {
                rollouts.push(Found {
                    id: conversation.id().map(canonical_id),
                    began: day_of(&conversation.name),
                    changed: meta.modified().ok().map(Into::into),
                    bytes: meta.len(),
                    archived: kind == Kind::ArchivedSessions,
                    path: entry.into_path(),
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
    share(rollouts, table, &mut report);
    report
}

/// The day in `rollout-2026-11-20T10-48-02-….jsonl`.
fn day_of(name: &str) -> Option<NaiveDate> {
    let day = name.strip_prefix("rollout-")?.get(..10)?;
    NaiveDate::parse_from_str(day, "%Y-%m-%d").ok()
}

/// What is known of a conversation: project, account, title.
type Facts = (String, String, String);

fn share(mut rollouts: Vec<Found>, table: Option<&ThreadTable>, report: &mut StorageReport) {
    let rows: HashMap<String, Facts> = table
        .iter()
        .flat_map(|table| &table.rows)
        .map(|row| {
            let title = row.given_name().unwrap_or(&row.title).to_owned();
            let facts = (row.cwd.clone(), row.account_id.clone(), title);
            (canonical_id(&row.id), facts)
        })
        .collect();
    rollouts.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
    let unknown: Vec<&Path> = rollouts
        .iter()
        .filter(|found| found.id.as_ref().is_none_or(|id| !rows.contains_key(id)))
        .map(|found| found.path.as_path())
        .collect();
    let heads = heads(&unknown);
    let (mut projects, mut months, mut accounts) =
        (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (i, found) in rollouts.iter().enumerate() {
        let of_row = found.id.as_ref().and_then(|id| rows.get(id));
        let facts = of_row.or_else(|| heads.get(found.path.as_path()));
        let (project, account, title) = facts.cloned().unwrap_or_default();
        let project = or_unknown(project);
        add(&mut projects, project.clone(), found.bytes);
        add(&mut accounts, or_unknown(account), found.bytes);
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
        if i < LARGEST {
            report.largest.push(Large {
                id: found.id.clone(),
                path: found.path.clone(),
                bytes: found.bytes,
                project,
                title: rollout::first_line(&title).unwrap_or_default(),
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

fn add(to: &mut BTreeMap<String, Share>, name: String, bytes: u64) {
    let share = to.entry(name.clone()).or_insert_with(|| Share {
        name,
        ..Share::default()
    });
    share.bytes += bytes;
    share.conversations += 1;
}

fn largest_first(shares: BTreeMap<String, Share>) -> Vec<Share> {
    let mut shares: Vec<_> = shares.into_values().collect();
    shares.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    shares
}

/// What the first lines of rollouts say. One that cannot be read says nothing.
fn heads<'a>(paths: &[&'a Path]) -> HashMap<&'a Path, Facts> {
    let mut found = HashMap::new();
    let read = |path: &'a Path| {
        let meta = rollout::head(path).ok().flatten()?;
        let text = |key| meta.text(key).unwrap_or_default().to_owned();
        Some((
            path,
            (text("cwd"), text("creator_account_id"), String::new()),
        ))
    };
    let done: Result<(), std::convert::Infallible> = parallel::ordered(
        IN_FLIGHT,
        read,
        |result| {
            found.extend(result);
            Ok(())
        },
        |submitter| {
            for path in paths {
                if submitter.submit(*path).is_err() {
                    break;
                }
            }
            Ok(())
        },
    );
    let Ok(()) = done;
    found
}
