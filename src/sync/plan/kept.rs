//! Plans for kept forks: each is on both sides until somebody decides, and goes when what it holds has
//! come to be in its conversation.

use super::{Action, After, Op, PlanError, Planner, Step};
use crate::codex::rollout::{self, Relation};
use crate::io::IoContext;
use crate::sync::forks;
use crate::sync::register::Change;
use crate::sync::rollouts;
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
            let resolved =
                self.state.resolved.contains(mark) || self.manifests()?.resolved.contains(mark);
            let mut ops = Vec::new();
            let mut reason = "kept on both sides until somebody decides";
            if !resolved && let Some(step) = self.incoming(fork)? {
                // What comes here holds it: it goes when that has come.
                let drops = dropping(fork);
                self.plan.steps[step].ops.extend(drops);
                continue;
            }
            if resolved || self.is_contained(fork)? {
                reason = "decided about";
                if resolved {
                    self.plan.settled.push(mark.clone());
                }
                ops = dropping(fork);
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

    /// The step that brings a version here which holds all that the fork holds.
    fn incoming(&self, fork: &forks::Fork) -> Result<Option<usize>, PlanError> {
        if fork.here.is_none() {
            return Ok(None);
        }
        let name = format!("{}.jsonl", fork.conversation());
        let path = self.fork_file(Side::Here, &fork.name);
        for (index, step) in self.plan.steps.iter().enumerate() {
            if !rollouts::is_key(&step.key) || rollouts::file_name(&step.key) != name {
                continue;
            }
            for op in &step.ops {
                if let Op::Copy { from, to, .. } = op
                    && to.0 == Side::Here
                {
                    let holds = rollout::compare(&self.full(from), &path).at("compare", &path)?;
                    if matches!(holds, Relation::Equal | Relation::FirstExtends) {
                        return Ok(Some(index));
                    }
                }
            }
        }
        Ok(None)
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
            .find(|(key, _)| rollouts::file_name(key) == name)
            .map(|(_, last)| last)
        else {
            return Ok(false);
        };
        let main = self.request.config.local.join(&last.here.path);
        // What is about to be replaced stands for nothing.
        let replaced = self.plan.steps.iter().any(|step| {
            rollouts::is_key(&step.key)
                && rollouts::file_name(&step.key) == name
                && step.change == Change::Replaced
        });
        if replaced || !main.is_file() {
            return Ok(false);
        }
        let relation = rollout::compare(&main, &path).at("compare", &path)?;
        Ok(matches!(relation, Relation::Equal | Relation::FirstExtends))
    }
}

/// The ops by which a fork goes from where it is.
fn dropping(fork: &forks::Fork) -> Vec<Op> {
    let has = [(Side::Here, fork.here), (Side::There, fork.there)];
    let on = has.into_iter().filter(|(_, stat)| stat.is_some());
    on.map(|(side, _)| Op::DropFork {
        side,
        name: fork.name.clone(),
    })
    .collect()
}
