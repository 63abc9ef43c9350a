//! Plans for kept forks: each is on both sides until somebody decides, and goes when what it holds has
//! come to be in its conversation.

use super::{Action, After, Op, PlanError, Planner, Step};
use crate::codex::rollout::{self, Relation};
use crate::io::IoContext;
use crate::sync::forks;
use crate::sync::register::Change;
use crate::sync::scan::Side;
use std::path::PathBuf;

impl Planner<'_> {
    /// To be called when all conversations are planned.
    pub(super) fn kept_forks(&mut self) -> Result<(), PlanError> {
        if self.forks.all.is_empty() {
            return Ok(());
        }
        let forks = std::mem::take(&mut self.forks);
        for (mark, fork) in &forks.all {
            let resolved = self.state.resolved.contains(mark)
                || self.manifests()?.resolved.contains(mark);
            let mut ops = Vec::new();
            let mut reason = "kept on both sides until somebody decides";
            let has = [(Side::Here, fork.here), (Side::There, fork.there)];
            if resolved || self.is_contained(fork)? {
                reason = "decided about";
                self.plan.settled.push(mark.clone());
                for (side, _) in has.iter().filter(|(_, stat)| stat.is_some()) {
                    ops.push(Op::DropFork {
                        side: *side,
                        name: fork.name.clone(),
                    });
                }
            } else {
                let size = fork.here.or(fork.there).map_or(0, |stat| stat.size);
                match (fork.here, fork.there) {
                    (Some(_), None) => ops.push(Op::CopyFork {
                        from: Side::Here,
                        name: fork.name.clone(),
                    }),
                    (None, Some(_)) if !self.fork_is_whole(fork)? => {
                        let why = "it is not yet what its name says";
                        self.plan.waiting.push((fork.name.clone(), why.into()));
                        continue;
                    }
                    (None, Some(_)) => ops.push(Op::CopyFork {
                        from: Side::There,
                        name: fork.name.clone(),
                    }),
                    _ => {}
                }
                self.plan.forks.push((fork.name.clone(), size));
            }
            if !ops.is_empty() {
                self.plan.steps.push(Step {
                    key: format!("fork:{mark}"),
                    path: fork.name.clone(),
                    action: Action::SettleFork,
                    reason: reason.into(),
                    bytes: 0,
                    ops,
                    after: After::Nothing,
                    change: Change::Same,
                });
            }
        }
        self.forks = forks;
        Ok(())
    }

    fn fork_file(&self, side: Side, name: &str) -> PathBuf {
        let folder = &self.request.replica.folder;
        forks::folder(side, folder, &self.request.config.cloud).join(name)
    }

    fn fork_is_whole(&self, fork: &forks::Fork) -> Result<bool, PlanError> {
        let path = self.fork_file(Side::There, &fork.name);
        let read = crate::sync::contents::read(&path, None).at("read", &path)?;
        Ok(forks::mark(&read.digest) == fork.mark())
    }

    /// Whether the conversation here has all that the fork has: somebody went on from it after all.
    fn is_contained(&self, fork: &forks::Fork) -> Result<bool, PlanError> {
        if fork.here.is_none() {
            return Ok(false);
        }
        let path = self.fork_file(Side::Here, &fork.name);
        let name = format!("{}.jsonl", fork.conversation());
        // Only a conversation that both sides agree on can stand for its fork.
        let Some(last) = self
            .state
            .files
            .iter()
            .find(|(key, _)| crate::sync::rollouts::file_name(key) == name)
            .map(|(_, last)| last)
        else {
            return Ok(false);
        };
        let main = self.request.config.local.join(&last.here.path);
        if !main.is_file() {
            return Ok(false);
        }
        let relation = rollout::compare(&main, &path).at("compare", &path)?;
        Ok(matches!(relation, Relation::Equal | Relation::FirstExtends))
    }
}
