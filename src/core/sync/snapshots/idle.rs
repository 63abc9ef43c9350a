//! Recognizes a run that has nothing to do: the last run had nothing to do, and the home, the settings and the state
//! are unchanged since then. The run can then skip the staging of the home, which takes time for each file.

use super::join::Join;
use super::store::Remote;
use crate::io::document::{self, Document, DocumentError};
use crate::io::hash::Sha256Digest;
use crate::io::{IoError, tree};
use crate::sync::plan::{PlanNotices, SyncPlan};
use crate::sync::scan;
use crate::sync::sides::{Side, Stat};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Name of the file with the [`IdleRecord`], in the folder of the state.
const IDLE_FILE: &str = "idle.json";

/// The home and the settings as they were before a run.
#[derive(Debug)]
pub struct HomeBefore {
    digest: Sha256Digest,
    /// The notices about the home. A plan with other notices than these is not idle.
    notices: PlanNotices,
}

/// The record of a run that had nothing to do.
#[derive(Default, Serialize, Deserialize)]
struct IdleRecord {
    /// Digest of the home, the settings and the state.
    digest: String,
    /// Number of unchanged files in the plan of the run.
    unchanged: usize,
}

impl Document for IdleRecord {
    const SCHEMA: u64 = 1;
    const INDENTED: bool = false;
}

impl<R: Remote> Join<'_, R> {
    /// Reads the settings and the names, sizes and mtimes of the home. Called before [`Self::stage`].
    pub fn inspect_home(&self) -> Result<HomeBefore, IoError> {
        let mut config = self.config.clone();
        // Each run has its staged tree at another path.
        config.cloud = PathBuf::new();

        let listing = scan::scan(&config.local, &self.scope, Side::Local)?;
        // Another version of this program may find something to do.
        let inspected = (env!("CARGO_PKG_VERSION"), config, &listing);
        let digest = Sha256Digest::of(format!("{inspected:?}").as_bytes());

        let mut notices = PlanNotices::default();
        notices.extend(listing.notices);
        Ok(HomeBefore { digest, notices })
    }

    /// Returns the plan of a run that has nothing to do, with the notices of `before`. `None` if the run may have
    /// something to do.
    pub fn idle_plan(&self, before: &HomeBefore) -> Result<Option<SyncPlan>, DocumentError> {
        let document = document::read::<IdleRecord>(&self.replica.folder.join(IDLE_FILE))?;
        let record = document.good().unwrap_or_default();
        // Without a snapshot of this machine in the store, the run has to publish one.
        let is_idle = self.waiting_machines.is_empty()
            && self.own_head.is_some()
            && record.digest == self.read_digest_with_state(before)?;
        Ok(is_idle.then(|| SyncPlan {
            is_complete: true,
            unchanged: record.unchanged,
            notices: before.notices.clone(),
            ..SyncPlan::default()
        }))
    }

    /// Records that a run had nothing to do, for [`Self::idle_plan`] of the next run; does nothing if `plan` has
    /// something to do.
    pub fn record_idle(&self, before: &HomeBefore, plan: &SyncPlan) -> Result<(), IoError> {
        let is_idle = plan.steps.is_empty()
            && plan.conflicts.is_empty()
            && plan.leftover_temps.is_empty()
            && plan.notices == before.notices;
        if !is_idle {
            return Ok(());
        }

        let record = IdleRecord {
            digest: self.read_digest_with_state(before)?,
            unchanged: plan.unchanged,
        };
        document::write(&self.replica.folder.join(IDLE_FILE), &record)
    }

    /// Returns a digest of the home, and of the names, sizes and mtimes of the files in the folder of the state, but
    /// not of the idle record and the lock file. A run that changes anything, and a command that records a decision,
    /// changes one of these files.
    fn read_digest_with_state(&self, before: &HomeBefore) -> Result<String, IoError> {
        let folder = &self.replica.folder;
        let paths = tree::list_if_exists(folder)?.into_iter();
        let paths = paths.map(|(name, _)| folder.join(name));
        let mut files: Vec<_> = paths
            .filter(|path| !path.ends_with(IDLE_FILE) && *path != self.replica.lock_file())
            .map(|path| Ok((Stat::read(&path)?, path)))
            .collect::<Result<_, IoError>>()?;
        files.sort_by(|(_, a), (_, b)| a.cmp(b));
        let digested_text = format!("{} {files:?}", before.digest);
        Ok(Sha256Digest::of(digested_text.as_bytes()).to_string())
    }
}
