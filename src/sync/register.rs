//! What arrived is made known to the Codex of this machine.
//!
//! Codex finds a conversation that lies in its folders by itself when it lists them, but `resume --last`
//! and a resume by name go by rows; and it does not find out that one was moved, nor that one is no longer
//! the text that it has an index of. Rows of conversations that did not arrive are left as they are.

use super::config::PathRule;
use super::rollouts;
use crate::codex::database::DatabaseError;
use crate::codex::thread_index::{self, Moved};
use crate::codex::{home, rollout};
use crate::history::id::ConversationId;
use crate::history::repair::{self, RepairAction};
use crate::history::session_index::ThreadNameIndex;
use crate::history::{HistoryError, check, files};
use crate::io::environment::Environment;
use crate::io::quantity::pluralize;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;

/// Codex's index could not be changed; the files are in place all the same, and `codex resume` by id
/// finds them.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// Its database refused.
    #[error("the files are in place, but Codex's index could not be changed")]
    Database(#[from] DatabaseError),
    /// The conversations could not be read for it.
    #[error("the files are in place, but Codex's index could not be changed")]
    History(#[from] HistoryError),
}

/// What became of the text of a conversation here; what comes later says more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It is as it was.
    Same,
    /// It has grown: what Codex knows of it still holds.
    Extended,
    /// It is new here.
    New,
    /// It is another one: offsets into it hold no longer.
    Replaced,
}

/// A conversation that a sync has changed here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// Its id.
    pub id: String,
    /// Its file, relative to the Codex home.
    pub path: String,
    /// What became of its text.
    pub change: Change,
    /// Whether it lay elsewhere before: it was archived, or is no longer.
    pub moved: bool,
}

impl Arrival {
    /// A conversation that was written to this path, relative to the Codex home; `None` where that is none.
    pub fn of(path: &str, change: Change) -> Option<Self> {
        Some(Self {
            id: rollouts::id(&rollouts::key(path)?)?,
            path: path.to_owned(),
            change,
            moved: false,
        })
    }
}

/// Makes arrivals known to Codex.
pub trait Registry {
    /// Called while nobody uses the home, with what is in place or was to be: what is not is passed over.
    /// `named` are the conversations whose names in the index of names came from elsewhere. Returns what
    /// people should know.
    ///
    /// # Errors
    /// A database that cannot be written; the files are in place all the same.
    fn register(
        &self,
        home: &Path,
        arrivals: &[Arrival],
        named: &BTreeSet<String>,
    ) -> Result<Vec<String>, RegisterError>;
}

/// Codex's own databases.
#[derive(Debug)]
pub struct CodexIndex<'a> {
    /// Says where databases are.
    pub env: &'a Environment,
    /// Project folders of other machines and what they are here.
    pub rules: &'a [PathRule],
}

impl CodexIndex<'_> {
    /// Gives rows the names that the index of names has for these; returns how many changed.
    fn name(&self, home: &Path, ids: &BTreeSet<String>) -> Result<usize, RegisterError> {
        let index = ThreadNameIndex::read(home).map_err(HistoryError::from)?;
        let mut names = Vec::new();
        for id in ids {
            let line = index.get(&ConversationId::of(id));
            if let Some(line) = line.map_err(HistoryError::from)? {
                names.push((id.clone(), line.thread_name));
            }
        }
        let is_given = |id: &str, name: &str, said: [&str; 2]| {
            check::is_given(name, &ConversationId::of(id), said)
        };
        let mut changed = 0;
        for database in thread_index::databases(home, self.env, home::STATE_DATABASE_PREFIX) {
            changed += thread_index::name(&database, &names, is_given)?;
        }
        Ok(changed)
    }
}

impl Registry for CodexIndex<'_> {
    fn register(
        &self,
        home: &Path,
        arrivals: &[Arrival],
        named: &BTreeSet<String>,
    ) -> Result<Vec<String>, RegisterError> {
        let mut notes = Vec::new();
        // A run that was killed has noted more than it did.
        let is_there = |arrival: &&Arrival| home.join(&arrival.path).is_file();
        let moved: Vec<_> = arrivals
            .iter()
            .filter(|arrival| arrival.moved)
            .filter(is_there)
            .map(|arrival| {
                let plain = arrival.path.strip_suffix(rollout::ZST);
                Moved {
                    id: &arrival.id,
                    path: home.join(plain.unwrap_or(&arrival.path)),
                    archived: rollouts::is_archived(&arrival.path),
                }
            })
            .collect();
        let replaced: Vec<_> = arrivals
            .iter()
            .filter(|arrival| arrival.change == Change::Replaced)
            .map(|arrival| arrival.id.as_str())
            .collect();
        let files = arrivals
            .iter()
            .filter_map(|arrival| files::at(Path::new(&arrival.path)));
        let files: Vec<_> = files.filter(|file| file.path(home).is_file()).collect();
        if !files.is_empty() {
            let changes = repair::register(home, self.env, files)?;
            let rows = changes
                .iter()
                .filter(|c| c.action == RepairAction::Row)
                .count();
            if rows > 0 {
                notes.push(format!("new in Codex's index: {rows}"));
            }
        }
        if !named.is_empty() {
            let changed = self.name(home, named)?;
            if changed > 0 {
                notes.push(format!("named in Codex's lists: {changed}"));
            }
        }
        if !(moved.is_empty() && self.rules.is_empty()) {
            let databases = thread_index::databases(home, self.env, home::STATE_DATABASE_PREFIX);
            if databases.is_empty() && !(self.rules.is_empty() || arrivals.is_empty()) {
                let why = "paths.map waits for Codex's first start here, which makes the index, and the \
                           sync after that";
                notes.push(why.into());
            }
            for database in databases {
                let changed = thread_index::follow_moves(&database, &moved)?;
                if changed > 0 {
                    let rows = pluralize(changed, "row");
                    notes.push(format!(
                        "changed in Codex's index: {rows} of files that moved"
                    ));
                }
                for rule in self.rules {
                    let changed = thread_index::map_folders(&database, &rule.from, &rule.to)?;
                    if changed > 0 {
                        let conversations = pluralize(changed, "conversation");
                        notes.push(format!(
                            "moved in Codex's index: {conversations} from {} to {}",
                            rule.from, rule.to
                        ));
                    }
                }
            }
        }
        if !replaced.is_empty() {
            for database in thread_index::databases(home, self.env, home::HISTORY_DATABASE_PREFIX) {
                thread_index::forget(&database, &replaced)?;
            }
        }
        Ok(notes)
    }
}
