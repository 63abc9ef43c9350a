//! Plans the steps that exchange files one by one: for a restore of a few files, if an unchanged file cannot be linked,
//! and if an overlay file system, as in a container, cannot rename the home.

use crate::codex::home;
use crate::io::{IoContext, IoError, atomic, tree};
use crate::journal::Step;
use crate::restore::error::RestoreError;
use crate::restore::plan::restore_plan::RestorePlan;
use crate::restore::settle::unchanged::{check_no_loss, stays_unlinked};
use crate::restore::stage::staged_home::{Stage, StageRoot};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_dir())
}

/// Returns a step for each file, for each new folder, and for each removed file. The login is last.
pub(crate) fn plan_steps(plan: &RestorePlan, stage: &Stage) -> Result<Vec<Step>, RestoreError> {
    let mut planner = StepPlanner {
        plan,
        steps: Vec::new(),
    };

    // The home is the first root, and is exchanged after the folders that it links to.
    for root in stage.roots.iter().rev() {
        planner.add_steps(&root.prefix, &root.live, &root.staged)?;
    }

    // A removal at or below a path that is exchanged would remove a part of the new state.
    let exchanged: HashSet<_> = planner.steps.iter().map(|s| s.live.clone()).collect();
    for name in plan.removed.iter() {
        let root = stage.root_of(name.as_path());
        let live = root.live_path(name.as_path());
        if !live.ancestors().any(|above| exchanged.contains(above)) {
            planner.add_removal(root, live)?;
        }
    }

    let mut steps = planner.steps;
    let live_login = stage.home().live.join(home::AUTH_JSON);
    // The sort is stable, so that logs are still removed before their databases.
    steps.sort_by_key(|step| step.live == live_login);
    Ok(steps)
}

struct StepPlanner<'a> {
    plan: &'a RestorePlan,
    steps: Vec<Step>,
}

impl StepPlanner<'_> {
    /// Adds the steps that exchange `staged`, and everything below it, with `live`. `relative` is the path of `live` in
    /// the home.
    ///
    /// # Errors
    /// A step would discard a live file that the plan neither replaces nor removes.
    fn add_steps(&mut self, relative: &Path, live: &Path, staged: &Path) -> Result<(), IoError> {
        let Ok(staged_meta) = staged.symlink_metadata() else {
            return Ok(());
        };

        if staged_meta.is_dir() && is_folder(live) {
            for (name, _) in tree::list(staged).at("list", staged)? {
                let (live, staged) = (live.join(&name), staged.join(&name));
                self.add_steps(&relative.join(&name), &live, &staged)?;
            }
            return Ok(());
        }

        if live.symlink_metadata().is_ok() {
            let are_files = !staged_meta.is_dir() && !is_folder(live);
            // This unchanged file was linked into the stage before linking the whole home failed. The live file stays.
            if are_files && !stays_unlinked(self.plan, relative) {
                return Ok(());
            }
            check_no_loss(self.plan, live, relative)?;
        }

        let step = Step::record(live.to_path_buf(), staged.to_path_buf())?;
        if !step.is_same_file() {
            self.steps.push(step);
        }

        Ok(())
    }

    /// Adds the step that moves `live` into the folder `old` beside the staged root.
    fn add_removal(&mut self, root: &StageRoot, live: PathBuf) -> Result<(), IoError> {
        if live.symlink_metadata().is_ok() {
            let old_folder = atomic::parent_of(&root.staged).join("old");
            atomic::create_unsynced_folder(&old_folder)?;
            // Named by number, because removed files of different folders may have the same name.
            let name = self.steps.len().to_string();
            self.steps.push(Step::record(live, old_folder.join(name))?);
        }
        Ok(())
    }
}
