//! Exchange steps for a home whose files are exchanged one by one: for a restore of a few files, if
//! an unchanged file cannot be linked, and on an overlay, as in a container, where a folder of a
//! lower layer cannot be renamed.

use crate::codex::home;
use crate::io::{IoContext, IoError, atomic, tree};
use crate::journal::Step;
use crate::restore::{HardLinker, RestoreError, RestorePlan, Stage, StageRoot};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_dir())
}

/// Returns a step for each file, for each new folder, and for each removed file. The login is last.
pub(crate) fn plan_steps(plan: &RestorePlan, stage: &Stage) -> Result<Vec<Step>, RestoreError> {
    let mut steps = SingleFileSteps {
        linker: HardLinker::new(plan, stage),
        steps: Vec::new(),
    };
    for root in stage.roots.iter().rev() {
        steps.add(&root.prefix, &root.live, &root.staged)?;
    }
    // A second step for an exchanged path, or for one below it, would move the new state away.
    let exchanged = steps.steps.iter().map(|step| step.live.clone());
    let exchanged: HashSet<PathBuf> = exchanged.collect();
    for name in plan.removed.iter() {
        let root = stage.root_of(name.as_path());
        let live = root.live_path(name.as_path());
        if !live.ancestors().any(|above| exchanged.contains(above)) {
            steps.remove(root, live)?;
        }
    }
    let mut steps = steps.steps;
    let login = stage.home().live.join(home::AUTH_JSON);
    // The sort is stable, so that logs are still removed before their databases.
    steps.sort_by_key(|step| step.live == login);
    Ok(steps)
}

/// Collects the exchange steps of files.
struct SingleFileSteps<'a> {
    linker: HardLinker<'a>,
    steps: Vec<Step>,
}

impl SingleFileSteps<'_> {
    /// Adds the steps for the staged path `staged` and what is below it; `relative` is its path in the home.
    ///
    /// # Errors
    /// A step would discard a live file that the plan neither replaces nor removes.
    fn add(&mut self, relative: &Path, live: &Path, staged: &Path) -> Result<(), IoError> {
        let Ok(new) = staged.symlink_metadata() else {
            return Ok(());
        };
        if new.is_dir() && is_folder(live) {
            for (name, _) in tree::list(staged).at("list", staged)? {
                self.add(
                    &relative.join(&name),
                    &live.join(&name),
                    &staged.join(&name),
                )?;
            }
            return Ok(());
        }
        if live.symlink_metadata().is_ok() {
            // An unchanged file that was linked before linking the whole folder failed. It is in
            // place already.
            if !new.is_dir() && !is_folder(live) && !self.linker.is_replaced_or_dropped(relative) {
                return Ok(());
            }
            self.linker.check_no_loss(live, relative)?;
        }
        let step = Step::new(live.to_path_buf(), staged.to_path_buf())?;
        if !step.is_same_file() {
            self.steps.push(step);
        }
        Ok(())
    }

    /// Adds the step that moves the live path `live` into the folder `old` of the staging folder of `root`.
    fn remove(&mut self, root: &StageRoot, live: PathBuf) -> Result<(), IoError> {
        if live.symlink_metadata().is_ok() {
            let old = atomic::parent_of(&root.staged).join("old");
            atomic::create_unsynced_folder(&old)?;
            // By number: removed files of different folders may have one name.
            let number = self.steps.len().to_string();
            self.steps.push(Step::new(live, old.join(number))?);
        }
        Ok(())
    }
}
