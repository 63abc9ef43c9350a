//! Putting the database right: rows point at their rollouts again, conversations without a row get
//! one, names come back. Rollouts are read and never written.

use super::check::{Findings, OnDisk, is_given};
use super::files::{self, RolloutFile};
use super::rollout::{self, Depth, Scan};
use super::row::{self, RowFacts};
use super::scratch;
use super::snapshot::{self, Before, Snapshot, Snapshots};
use super::{HistoryError, Skipped, for_each_file};
use crate::codex::config::CodexConfig;
use crate::codex::home::database_sidecars;
use crate::codex::process::{self, Holder};
use crate::codex::program::Program;
use crate::codex::threads::{self, RowChange};
use crate::io::environment::Environment;
use crate::io::{IoContext, atomic};
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What a repair does to a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Its row points at its rollout again.
    Path,
    /// It gets a row.
    Row,
    /// It gets its name back.
    Name,
    /// The whole database is made again by Codex.
    Database,
}

/// One change. Its keys are a contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The conversation; empty for the database as a whole.
    pub id: String,
    /// What is done.
    pub action: Action,
    /// What was there.
    pub from: Option<String>,
    /// What will be there.
    pub to: Option<String>,
}

/// What a repair would do.
#[derive(Debug)]
pub struct RepairPlan {
    /// The changes, in order.
    pub changes: Vec<Change>,
    /// The rows that follow from them.
    rows: Vec<RowChange>,
    /// Whether Codex has to make the database first.
    pub makes_database: bool,
    /// Where the database is, or will be.
    pub database: Option<PathBuf>,
    /// Rollouts that could not be read.
    pub skipped: Vec<Skipped>,
}

/// Where things are.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// The Codex home.
    pub home: &'a Path,
    /// The manager home.
    pub manager_home: &'a Path,
    /// The environment, which may name another folder for the databases.
    pub env: &'a Environment,
}

/// Plans a repair. Only the rollouts of conversations that need a row are read.
pub fn plan(findings: &Findings, provider: &str) -> Result<RepairPlan, HistoryError> {
    let report = super::check::compare(findings, None);
    let mut plan = RepairPlan {
        changes: Vec::new(),
        rows: Vec::new(),
        makes_database: findings.table.is_none() && !findings.conversations.is_empty(),
        database: findings.database.clone(),
        skipped: Vec::new(),
    };
    let recorded: HashMap<String, String> = findings
        .table
        .iter()
        .flat_map(|table| &table.rows)
        .map(|row| (rollout::canonical_id(&row.id), row.id.clone()))
        .collect();
    let row_id = |id: &str| recorded.get(id).cloned().unwrap_or_else(|| id.to_owned());
    for stale in report.stale_path {
        let file = findings.conversations[&stale.id].file();
        let path = files::without_zst(&findings.home.join(&file.relative));
        let path = path.to_string_lossy().into_owned();
        plan.rows.push(RowChange::Path {
            id: row_id(&stale.id),
            path: path.clone(),
            archived: stale.archived,
        });
        plan.changes.push(Change {
            id: stale.id,
            action: Action::Path,
            from: Some(stale.recorded),
            to: Some(path),
        });
    }
    for lost in report.names_missing {
        plan.rows.push(RowChange::Name {
            id: row_id(&lost.id),
            name: lost.name.clone(),
        });
        plan.changes.push(Change {
            id: lost.id,
            action: Action::Name,
            from: None,
            to: Some(lost.name),
        });
    }
    let missing: Vec<&OnDisk> = report
        .missing
        .iter()
        .map(|missing| &findings.conversations[&missing.id])
        .collect();
    if plan.makes_database {
        plan.changes.push(Change {
            id: String::new(),
            action: Action::Database,
            from: findings.problem.clone(),
            to: Some(format!("{} conversations", missing.len())),
        });
        plan_names(findings, &missing, &mut plan)?;
    } else {
        plan_rows(findings, &missing, provider, &mut plan)?;
    }
    Ok(plan)
}

fn scans(
    missing: &[&OnDisk],
    skipped: &mut Vec<Skipped>,
) -> Result<Vec<Option<(Scan, i64)>>, HistoryError> {
    let paths: Vec<&Path> = missing.iter().map(|c| c.file().path.as_path()).collect();
    for_each_file(&paths, skipped, |path| {
        let modified = path.metadata()?.modified()?;
        let since = modified.duration_since(SystemTime::UNIX_EPOCH);
        let millis = since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(0));
        Ok((rollout::scan(path, Depth::Turns, |_| ())?, millis))
    })
}

fn given_name<'a>(findings: &'a Findings, id: &str, scan: &Scan) -> Option<&'a str> {
    let name = findings.index.get(id)?.thread_name.as_str();
    let said = [scan.title.as_deref(), scan.turn.first_message.as_deref()];
    is_given(name, id, said.into_iter().flatten()).then_some(name)
}

/// New rows, made as Codex makes them.
fn plan_rows(
    findings: &Findings,
    missing: &[&OnDisk],
    provider: &str,
    plan: &mut RepairPlan,
) -> Result<(), HistoryError> {
    let scans = scans(missing, &mut plan.skipped)?;
    for (conversation, scan) in missing.iter().zip(scans) {
        let Some((scan, modified_ms)) = scan else {
            continue;
        };
        let file = conversation.file();
        let path = files::without_zst(&findings.home.join(&file.relative));
        let facts = RowFacts {
            path: &path,
            is_archived: file.is_archived,
            modified_ms,
            provider,
            name: given_name(findings, &conversation.meta.id, &scan),
        };
        let id = &conversation.meta.id;
        plan.rows.push(RowChange::Insert(row::of(
            &conversation.meta,
            &scan,
            &facts,
        )));
        plan.changes.push(Change {
            id: id.clone(),
            action: Action::Row,
            from: None,
            to: Some(path.to_string_lossy().into_owned()),
        });
        if let Some(name) = facts.name {
            plan.changes.push(name_change(id, name));
        }
    }
    Ok(())
}

/// Names for rows that Codex will make. Only rollouts that have one in the index are read.
fn plan_names(
    findings: &Findings,
    missing: &[&OnDisk],
    plan: &mut RepairPlan,
) -> Result<(), HistoryError> {
    let is_named = |c: &&&OnDisk| {
        let is_paginated = c.meta.text("history_mode") == Some("paginated");
        is_paginated && findings.index.get(&c.meta.id).is_some()
    };
    let named: Vec<&OnDisk> = missing.iter().filter(is_named).copied().collect();
    let scans = scans(&named, &mut plan.skipped)?;
    for (conversation, scan) in named.iter().zip(scans) {
        let id = &conversation.meta.id;
        let name = scan.and_then(|(scan, _)| given_name(findings, id, &scan));
        if let Some(name) = name {
            plan.rows.push(RowChange::Name {
                id: id.clone(),
                name: name.to_owned(),
            });
            plan.changes.push(name_change(id, name));
        }
    }
    Ok(())
}

fn name_change(id: &str, name: &str) -> Change {
    Change {
        id: id.to_owned(),
        action: Action::Name,
        from: None,
        to: Some(name.to_owned()),
    }
}

/// Everybody who uses the home.
pub fn holders(places: &Places<'_>) -> Vec<Holder> {
    let outside = process::outside_folders(places.home, places.env);
    process::find_holders(places.home, &outside)
}

fn require_nobody(places: &Places<'_>) -> Result<(), HistoryError> {
    let holders = holders(places);
    if holders.is_empty() {
        Ok(())
    } else {
        Err(HistoryError::Busy(holders))
    }
}

/// Takes a snapshot, then makes the changes: all or none.
///
/// # Errors
/// Somebody uses the home; Codex is needed and does not do it (`program` says why it cannot be
/// had); the database refuses. The snapshot stays.
pub fn apply(
    places: &Places<'_>,
    findings: &Findings,
    plan: &RepairPlan,
    program: Option<&Program>,
    now: DateTime<Utc>,
) -> Result<Snapshot, HistoryError> {
    require_nobody(places)?;
    if plan.makes_database {
        return make_database(places, findings, plan, program, now);
    }
    let database = plan
        .database
        .as_deref()
        .ok_or_else(|| HistoryError::NotRebuilt("there is none".into()))?;
    let snapshots = Snapshots::lock(places.manager_home)?;
    let snapshot = snapshots.take(places.home, Before::Repair, &trio(database), now)?;
    require_nobody(places)?;
    threads::change(database, &plan.rows)?;
    Ok(snapshot)
}

/// Makes known to Codex what these rollouts are: rows, places and names, all or none. Nobody may use
/// the home. Without a database there is nothing to do: Codex makes one of what lies there. No snapshot
/// is taken, because no row is lost.
///
/// Returns what was changed.
///
/// # Errors
/// A rollout or the database cannot be read, or written.
pub fn register(
    home: &Path,
    env: &Environment,
    rollouts: Vec<RolloutFile>,
) -> Result<Vec<Change>, HistoryError> {
    let Some(database) = threads::find_state_database(home, env) else {
        return Ok(Vec::new());
    };
    let findings = super::check::look_at(home, Some(&database), rollouts)?;
    if findings.table.is_none() {
        return Ok(Vec::new());
    }
    let provider = CodexConfig::read(home).model_provider;
    let plan = plan(&findings, provider.as_deref().unwrap_or("openai"))?;
    if !plan.rows.is_empty() {
        threads::change(&database, &plan.rows)?;
    }
    Ok(plan.changes)
}

/// A database and what SQLite keeps beside it.
fn trio(database: &Path) -> Vec<PathBuf> {
    let [wal, shm, journal] = database_sidecars(database);
    vec![database.to_path_buf(), wal, shm, journal]
}

fn make_database(
    places: &Places<'_>,
    findings: &Findings,
    plan: &RepairPlan,
    program: Option<&Program>,
    now: DateTime<Utc>,
) -> Result<Snapshot, HistoryError> {
    let program = program.ok_or_else(|| HistoryError::NotRebuilt("it was not found".into()))?;
    let rollouts: HashMap<&str, &Path> = findings
        .conversations
        .iter()
        .map(|(id, c)| (id.as_str(), c.file().relative.as_path()))
        .collect();
    let made = scratch::make(
        places.home,
        &findings.home,
        places.manager_home,
        program,
        places.env,
        &rollouts,
    )?;
    threads::change(&made.database, &plan.rows)?;
    let folder = threads::state_folder(places.home, places.env);
    let target = folder.join(made.database.file_name().unwrap_or_default());
    let mut kept = trio(&target);
    if let Some(old) = &plan.database
        && *old != target
    {
        kept.extend(trio(old));
    }
    let snapshots = Snapshots::lock(places.manager_home)?;
    let snapshot = snapshots.take(places.home, Before::Repair, &kept, now)?;
    require_nobody(places)?;
    let mut temp = atomic::TempFile::beside(&target)?;
    let mut source = File::open(&made.database).at("read", &made.database)?;
    io::copy(&mut source, temp.file()).at("write", &target)?;
    // What lies beside the old one belongs to it.
    for sidecar in database_sidecars(&target) {
        crate::io::tree::remove(&sidecar)?;
    }
    temp.replace(&target)?;
    Ok(snapshot)
}

/// Puts the state before a repair back. What is there now is kept first, as a snapshot of its own,
/// which is returned.
pub fn undo(
    places: &Places<'_>,
    snapshot: &mut Snapshot,
    now: DateTime<Utc>,
) -> Result<Snapshot, HistoryError> {
    require_nobody(places)?;
    let snapshots = Snapshots::lock(places.manager_home)?;
    let paths: Vec<_> = snapshot
        .document
        .files
        .iter()
        .map(|f| f.path.clone())
        .collect();
    let present = snapshots.take(places.home, Before::Undo, &paths, now)?;
    require_nobody(places)?;
    snapshot::put_back(snapshot)?;
    snapshots.mark_undone(snapshot, now)?;
    Ok(present)
}
