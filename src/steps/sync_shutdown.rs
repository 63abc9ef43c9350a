//! Detects programs that use the Codex home and ends them before a sync, as `[process_detection]` and the
//! flags allow.

use crate::choices::sync_config::format_sync_command;
use crate::context::Context;
use crate::doctor::Check;
use crate::error::{CommandError, Result};
use crate::steps::shutdown::{can_ask, print_home_usage};
use crate::steps::sync_context::SyncContext;
use codex_manager_core::codex::process;
use codex_manager_core::shutdown::{self, ShutdownError, ShutdownPlan, ShutdownRequest};
use codex_manager_core::sync::config::SyncConfig;
use codex_manager_core::sync::plan::SyncPlan;
use std::path::Path;

const PROCESSES_UNKNOWN: &str = "this system does not show which programs use the Codex home";
const PROCESSES_UNKNOWN_REMEDY: &str = "end Codex and set safety.fail_on_unknown = false";

impl SyncContext<'_> {
    /// Calls `work` with the request to end Codex. Returns `None` if the configuration lets Codex run during a sync.
    fn with_shutdown_request<T>(&self, work: impl FnOnce(&ShutdownRequest<'_>) -> T) -> Option<T> {
        let (context, config) = (self.context, self.config);
        if !config.safety.require_codex_stopped {
            return None;
        }
        let outside_folders = process::find_outside_folders(&config.local, &context.env);
        Some(work(&ShutdownRequest {
            home: &config.local,
            outside: &outside_folders,
            codex_bin: context.settings.codex_bin.as_deref(),
            env: &context.env,
            settings: &config.safety.shutdown,
        }))
    }

    /// Ends Codex with the user's consent, so that files can be copied and replaced. Fails if Codex keeps running.
    pub(crate) fn shut_down_codex(&self) -> Result<()> {
        let safety = &self.config.safety;
        if safety.require_codex_stopped && !process::can_list_processes() {
            if safety.fail_on_unknown {
                return Err(CommandError::refused(PROCESSES_UNKNOWN)
                    .hint(format!("{PROCESSES_UNKNOWN_REMEDY}; nothing was changed")));
            }
            let consequence = "the sync does not check whether Codex runs";
            self.context
                .ui
                .warn(format_args!("{PROCESSES_UNKNOWN}; {consequence}"));
        }
        self.with_shutdown_request(|request| self.shutdown_args.shut_down(self.context, request))
            .transpose()?;
        Ok(())
    }

    /// Checks that no other program uses the Codex home, as `sync run --apply` would. The finding is a failure if the
    /// run would be refused regardless of the user's answer.
    pub(crate) fn check_codex_ended(&self, config_path: &Path) -> Check {
        const ID: &str = "sync.codex";
        const WHY: &str = "a sync changes no files while Codex uses them";

        let safety = &self.config.safety;
        if !safety.require_codex_stopped {
            let message = "Codex may run during a sync: safety.require_codex_stopped = false";
            return Check::ok(ID, message);
        }

        if !process::can_list_processes() {
            return if safety.fail_on_unknown {
                Check::fail(ID, PROCESSES_UNKNOWN)
                    .because(WHY)
                    .advised(PROCESSES_UNKNOWN_REMEDY)
            } else {
                Check::warn(ID, PROCESSES_UNKNOWN)
            };
        }

        let command = format_sync_command(self.context, config_path, "run --apply");
        match self.plan_shutdown() {
            None | Some(ShutdownPlan::Nothing) => Check::ok(ID, "the Codex home is not in use"),
            Some(ShutdownPlan::Refuse(refusal)) => {
                let remedy = refusal.reason.remedy();
                let message = ShutdownError::Refused(refusal).to_string();
                Check::fail(ID, message).because(WHY).advised(remedy)
            }

            // Without a terminal, the run cannot ask its question and is refused.
            Some(ShutdownPlan::Ask(targets)) if !can_ask(self.context, &safety.shutdown) => {
                let message = format!(
                    "Codex is running, and the user cannot be asked whether to end it: {}",
                    shutdown::join_processes(&targets.processes)
                );
                Check::fail(ID, message).because(WHY).advised(format!(
                    "end Codex, or let the sync end it: {command} --auto-terminate-without-confirmation"
                ))
            }

            // The run can ask the user, or may end Codex as configured, so this is only a warning.
            Some(ShutdownPlan::Ask(targets) | ShutdownPlan::Terminate(targets)) => {
                let processes = shutdown::join_processes(&targets.processes);
                let message = format!("the Codex home is in use: {processes}");
                Check::warn(ID, message).because(WHY).advised(format!(
                    "end Codex, or run this command, which ends it with your consent or as configured: {command}"
                ))
            }
        }
    }

    /// Returns the plan for ending the programs that use the home; `None` if the configuration lets Codex run during a
    /// sync.
    pub(crate) fn plan_shutdown(&self) -> Option<ShutdownPlan> {
        self.with_shutdown_request(|request| self.shutdown_args.plan(self.context, request))
    }

    /// Returns true if a program that has to end before a sync uses the home. With `--verbose`, prints these programs.
    pub(crate) fn is_home_in_use(&self) -> bool {
        self.with_shutdown_request(|request| {
            let usage = request.find_home_usage();
            print_home_usage(self.context, &usage);
            !usage.is_unused()
        })
        .unwrap_or(false)
    }

    /// Returns a text for each program that uses the home and has to end before a sync. Empty if the configuration lets
    /// Codex run during a sync.
    pub(crate) fn describe_home_holders(&self) -> Vec<String> {
        self.with_shutdown_request(|request| {
            let usage = request.find_home_usage();
            usage.holders().iter().map(ToString::to_string).collect()
        })
        .unwrap_or_default()
    }

    /// Warns of programs that started to use the home while files were replaced, because they may have read a mixture
    /// of old and new files.
    pub(crate) fn warn_of_new_holders(&self) {
        let new_holders = self.describe_home_holders();
        if !new_holders.is_empty() {
            self.context.ui.warn(format_args!(
                "these programs started to use the Codex home during the sync; restart them: {}",
                new_holders.join(", ")
            ));
        }
    }
}

/// Prints the programs that a run would end, or the programs because of which a run would be refused.
pub(crate) fn print_shutdown_plan(context: &Context, plan: Option<&ShutdownPlan>) {
    let (targets, consent) = match plan {
        None | Some(ShutdownPlan::Nothing) => return,
        Some(ShutdownPlan::Ask(targets)) => (targets, " with your consent"),
        Some(ShutdownPlan::Terminate(targets)) => (targets, ""),
        Some(ShutdownPlan::Refuse(refusal)) => {
            context.ui.warn(format_args!(
                "the Codex home is in use; a run would be refused: {}",
                refusal.holders.join(", ")
            ));
            return;
        }
    };
    context.ui.note(format_args!(
        "Codex is running; a run would end these processes{consent}: {}",
        shutdown::join_processes(&targets.processes)
    ));
}

/// Returns true if Codex has to end before the plan is applied: the plan has steps, and no conflict stops the run. This
/// includes plans that only copy files to the cloud folder, because a copy could have half of a turn.
pub(crate) fn needs_shutdown(plan: &SyncPlan, config: &SyncConfig) -> bool {
    !plan.steps.is_empty() && !plan.is_stopped_by_conflict(config.policy.rules.conflict)
}
