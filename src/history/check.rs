//! The difference between what is on disk and what Codex lists. Pure but for [`look`].

use super::files::{self, Folders, RolloutFile};
use super::names::SessionIndex;
use super::rollout::{Meta, canonical_id, first_line};
use super::{Head, HistoryError, Skipped, heads};
use crate::codex::database::DatabaseError;
use crate::codex::threads::{self, ThreadRow, ThreadTable};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// A conversation on disk: its rollouts, the one that counts first.
#[derive(Debug, Clone)]
pub struct OnDisk {
    /// Its rollouts. More than one is one too many.
    pub files: Vec<RolloutFile>,
    /// What it is.
    pub meta: Meta,
}

impl OnDisk {
    /// The rollout that counts.
    pub fn file(&self) -> &RolloutFile {
        &self.files[0]
    }
}

/// Everything that is compared.
#[derive(Debug, Default)]
pub struct Findings {
    /// The home, without links, as Codex writes it into its database.
    pub home: PathBuf,
    /// The conversations by their canonical id.
    pub conversations: BTreeMap<String, OnDisk>,
    /// Rollouts that are no conversation any more.
    pub damaged: Vec<Skipped>,
    /// The state database, where there is one.
    pub database: Option<PathBuf>,
    /// Its table.
    pub table: Option<ThreadTable>,
    /// Why the table could not be read.
    pub problem: Option<String>,
    /// The index of names.
    pub index: SessionIndex,
}

/// Looks at a home: the names of its rollouts, the first line of each, the table and the index.
///
/// # Errors
/// A folder, the index or the database cannot be read, or the user stopped it. A damaged database
/// is a finding.
pub fn look(home: &Path, database: Option<&Path>) -> Result<Findings, HistoryError> {
    look_at(home, database, files::find(home, Folders::All)?)
}

/// The same for these rollouts alone.
///
/// # Errors
/// See [`look`].
pub fn look_at(
    home: &Path,
    database: Option<&Path>,
    files: Vec<RolloutFile>,
) -> Result<Findings, HistoryError> {
    let mut damaged = Vec::new();
    let paths: Vec<&Path> = files.iter().map(|f| f.path.as_path()).collect();
    let found = heads(&paths, &mut damaged)?;
    let mut conversations: BTreeMap<String, OnDisk> = BTreeMap::new();
    for (file, head) in files.into_iter().zip(found) {
        match head {
            Head::Conversation(meta) => {
                let new = |meta| OnDisk {
                    files: Vec::new(),
                    meta,
                };
                let known = conversations.entry(meta.id.clone());
                known.or_insert_with(|| new(meta)).files.push(file);
            }
            Head::Nothing => damaged.push(Skipped {
                reason: why_damaged(&file.path),
                path: file.path,
            }),
            Head::Unread => {}
        }
    }
    damaged.sort_by(|a, b| a.path.cmp(&b.path));
    let (table, problem) = match database.map(threads::read) {
        None => (None, None),
        Some(Ok(Some(table))) => (Some(table), None),
        Some(Ok(None)) => (None, Some("it has no table of conversations".into())),
        Some(Err(e @ DatabaseError::Damaged { .. })) => (None, Some(e.to_string())),
        // It may be sound: somebody holds it, or it may not be read.
        Some(Err(e)) => return Err(e.into()),
    };
    if let Some(table) = &table {
        put_rows_choice_first(&mut conversations, table);
    }
    Ok(Findings {
        home: home.canonicalize().unwrap_or_else(|_| home.to_path_buf()),
        conversations,
        damaged,
        database: database.map(Path::to_path_buf),
        table,
        problem,
        index: SessionIndex::read(home)?,
    })
}

/// An error with what is behind it, in one line.
pub fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn why_damaged(path: &Path) -> String {
    match path.metadata() {
        Ok(meta) if meta.len() == 0 => "it is empty".into(),
        _ => "it does not begin with what the conversation is".into(),
    }
}

/// Of several rollouts of a conversation the one that its row names counts; else one that is not
/// archived, the last by name.
fn put_rows_choice_first(conversations: &mut BTreeMap<String, OnDisk>, table: &ThreadTable) {
    let recorded: HashMap<String, &str> = table
        .rows
        .iter()
        .map(|row| (canonical_id(&row.id), row.rollout_path.as_str()))
        .collect();
    for (id, conversation) in conversations {
        if conversation.files.len() < 2 {
            continue;
        }
        let recorded = recorded.get(id).map(Path::new);
        conversation.files.sort_by_key(|file| {
            let is_recorded = recorded == Some(&file.plain_path());
            (
                !is_recorded,
                file.is_archived,
                std::cmp::Reverse(file.relative.clone()),
            )
        });
    }
}

/// A conversation that has no row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// The conversation.
    pub id: String,
    /// Its rollout.
    pub path: PathBuf,
    /// Whether it is archived.
    pub archived: bool,
}

/// A row that does not point at the conversation's rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StalePath {
    /// The conversation.
    pub id: String,
    /// Where the row points.
    pub recorded: String,
    /// Where the rollout is.
    pub path: PathBuf,
    /// Whether the row points outside this home: going on there would write into that one.
    pub foreign: bool,
    /// Whether the rollout lies among the archived ones.
    pub archived: bool,
}

/// A row whose rollout is nowhere in this home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OrphanRow {
    /// The conversation.
    pub id: String,
    /// Where the row points.
    pub recorded: String,
    /// What it is called.
    pub title: String,
}

/// A conversation with more than one rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Duplicate {
    /// The conversation.
    pub id: String,
    /// Its rollouts, the one that counts first.
    pub paths: Vec<PathBuf>,
}

/// A name that only the index still knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NameMissing {
    /// The conversation.
    pub id: String,
    /// What it was called.
    pub name: String,
}

/// A conversation of another account: Codex's picker does not show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hidden {
    /// The conversation.
    pub id: String,
    /// The workspace account that made it.
    pub account_id: String,
}

/// The difference. Its keys are a contract.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// How many conversations are on disk, archived ones included.
    pub on_disk: usize,
    /// How many of them Codex lists from its database.
    pub listed: usize,
    /// Those without a row.
    pub missing: Vec<Missing>,
    /// Rows that point elsewhere.
    pub stale_path: Vec<StalePath>,
    /// Rows without a rollout.
    pub orphan_rows: Vec<OrphanRow>,
    /// Conversations that are there twice.
    pub duplicates: Vec<Duplicate>,
    /// Names that the lists do not show.
    pub names_missing: Vec<NameMissing>,
    /// Conversations of other accounts: no difference.
    pub hidden: Vec<Hidden>,
    /// Rollouts that are no conversation any more.
    pub damaged: Vec<Skipped>,
    /// The state database.
    pub database: Option<PathBuf>,
    /// Why it cannot be used.
    pub problem: Option<String>,
}

impl CheckReport {
    /// Whether disk, database and index agree. What belongs to another account is as it should be.
    pub fn is_equal(&self) -> bool {
        self.is_mended() && self.left() == 0
    }

    /// Whether nothing is left that a repair mends.
    pub fn is_mended(&self) -> bool {
        self.missing.is_empty() && self.stale_path.is_empty() && self.names_missing.is_empty()
    }

    /// How many differences a repair leaves alone.
    pub fn left(&self) -> usize {
        self.orphan_rows.len() + self.duplicates.len() + self.damaged.len()
    }
}

/// Compares. `live_account` is the workspace account that is signed in.
pub fn compare(findings: &Findings, live_account: Option<&str>) -> CheckReport {
    let rows = findings.table.as_ref().map_or(&[][..], |t| &t.rows);
    let rows: BTreeMap<String, &ThreadRow> = rows
        .iter()
        .map(|row| (canonical_id(&row.id), row))
        .collect();
    let mut report = CheckReport {
        on_disk: findings.conversations.len(),
        damaged: findings.damaged.clone(),
        database: findings.database.clone(),
        problem: findings.problem.clone(),
        ..CheckReport::default()
    };
    for (id, conversation) in &findings.conversations {
        compare_one(findings, id, conversation, rows.get(id), &mut report);
        let account = conversation.meta.account();
        if let (Some(account), Some(live)) = (account, live_account)
            && account != live
        {
            report.hidden.push(Hidden {
                id: id.clone(),
                account_id: account.to_owned(),
            });
        }
    }
    for (id, row) in &rows {
        if !findings.conversations.contains_key(id) {
            report.orphan_rows.push(OrphanRow {
                id: id.clone(),
                recorded: row.rollout_path.clone(),
                title: first_line(row.given_name().unwrap_or(&row.title)).unwrap_or_default(),
            });
        }
    }
    report
}

fn compare_one(
    findings: &Findings,
    id: &str,
    conversation: &OnDisk,
    row: Option<&&ThreadRow>,
    report: &mut CheckReport,
) {
    let file = conversation.file();
    match row {
        None => report.missing.push(Missing {
            id: id.to_owned(),
            path: file.path.clone(),
            archived: file.is_archived,
        }),
        Some(row) => {
            let recorded = Path::new(&row.rollout_path);
            let is_here = recorded == file.plain_path()
                || recorded == files::without_zst(&findings.home.join(&file.relative));
            if is_here && row.archived == file.is_archived {
                report.listed += 1;
            } else {
                report.stale_path.push(StalePath {
                    id: id.to_owned(),
                    recorded: row.rollout_path.clone(),
                    path: file.path.clone(),
                    foreign: !is_here && !recorded.starts_with(&findings.home),
                    archived: file.is_archived,
                });
            }
            if let Some(name) = lost_name(row, &findings.index, id) {
                report.names_missing.push(NameMissing {
                    id: id.to_owned(),
                    name,
                });
            }
        }
    }
    let twins = conversation.files.iter().filter_map(|f| f.twin.clone());
    let mut paths: Vec<_> = conversation.files.iter().map(|f| f.path.clone()).collect();
    paths.extend(twins);
    if paths.len() > 1 {
        report.duplicates.push(Duplicate {
            id: id.to_owned(),
            paths,
        });
    }
}

/// The name that the index knows of a conversation whose row has none. Old conversations are
/// listed under the name in the index, so they have lost nothing (0.169).
fn lost_name(row: &ThreadRow, index: &SessionIndex, id: &str) -> Option<String> {
    if !row.is_paginated || !row.name.trim().is_empty() {
        return None;
    }
    let name = &index.get(id)?.thread_name;
    let said = [&row.title, &row.first_user_message];
    is_given(name, id, said.into_iter().map(String::as_str)).then(|| name.clone())
}

/// Whether a name of the index is one that somebody gave: a rebuild writes the conversation's
/// first line or its id there too.
pub fn is_given<'a>(name: &str, id: &str, said: impl IntoIterator<Item = &'a str>) -> bool {
    let is_derived = |text: &str| text == name || first_line(text).as_deref() == Some(name);
    name != id && !said.into_iter().any(is_derived)
}
