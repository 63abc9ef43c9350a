//! Warnings about the state of the last sync: it is damaged, or the home was restored since.

use super::error::PlanError;
use super::inputs::Planner;
use crate::sync::config::DeletePolicy;
use crate::sync::manifest;
use crate::sync::scan::Side;
use crate::sync::state::StateDamage;

impl Planner<'_> {
    /// Warns of a damaged state. If it is lost completely, missing files cannot reveal an unmounted cloud folder any
    /// more, so the folder must contain at least one manifest.
    pub(super) fn check_state_damage(&mut self) -> Result<(), PlanError> {
        let Some(damage) = self.state.file.damage else {
            return Ok(());
        };
        let cloud = &self.request.config.cloud;
        let has_manifest = || manifest::all_paths(cloud).next().is_some();
        if damage == StateDamage::All && !self.request.refill && !has_manifest() {
            return Err(PlanError::NoManifest(cloud.clone()));
        }
        let file = self.request.replica.state_file();
        let what = match damage {
            StateDamage::All => "cannot be read".to_owned(),
            StateDamage::Lines(1) => "has a line that cannot be read".to_owned(),
            StateDamage::Lines(n) => format!("has {n} lines that cannot be read"),
        };
        let why = format!(
            "{what}: files that it does not know are compared by content as in a first sync, never by time; \
             the next run keeps the damaged file as .damaged"
        );
        self.plan
            .notices
            .warnings
            .push((file.to_string_lossy().into_owned(), why));
        Ok(())
    }

    /// Notes that the home was restored from an archive, if that keeps deletions from being copied.
    pub(super) fn note_restored_home(&mut self) {
        if self.state.restore_marker.is_some() && self.rules.delete == DeletePolicy::Propagate {
            let home = self.root(Side::Local).to_string_lossy().into_owned();
            let why =
                "was restored from an archive: files that it lacks are copied back and not deleted";
            self.plan.notices.notes.push((home, why.to_owned()));
        }
    }
}
