//! Starts Codex for `launch` and `resume`.

use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::steps::home_checks::{
    check_credential_store, check_logins_allowed, check_not_isolated, check_store_in_arguments,
};
use crate::steps::switch_account::{record_switch, warn_after_switch};
use crate::steps::{before_new_codex, wait};
use crate::ui::object;
use crate::views::account::{
    full_time, label, printable, read_accounts_and_profiles, time_json, warn_all,
};
use chrono::TimeDelta;
use clap::Args;
use codex_manager_core::codex::{Arguments, Identity, InvocationMode};
use codex_manager_core::io::{AttachedExit, Timestamp, attached, shell};
use codex_manager_core::launch::record::BoundConversation;
use codex_manager_core::launch::run::LaunchReport;
use codex_manager_core::launch::session::{self, Launch, LaunchPlan, LaunchRequest};
use codex_manager_core::quota::account::find_by_identity;
use std::ffi::OsString;
use std::path::Path;

/// The largest assumed lag of the server's clock. The server may refuse turns for this long after a reset.
const MAX_CLOCK_LAG: TimeDelta = TimeDelta::minutes(1);

/// The shortest pause before `--then` tries again if the server refused a turn after the reset.
const RETRY_PAUSE: TimeDelta = TimeDelta::seconds(15);

/// The flags that `launch` and `resume` share.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct StartArgs {
    /// Run in a separate home, so that another account can run at the same time
    #[arg(long)]
    pub(crate) isolated: bool,
    /// Stop Codex's background daemon, which keeps the account it was started with
    #[arg(long)]
    stop_daemon: bool,
    /// If the quota of the account is used up, wait until it resets
    #[arg(long)]
    wait: bool,
    /// If `codex exec` reaches the usage limit, wait and continue the conversation with this prompt
    #[arg(
        long,
        value_name = "PROMPT",
        requires = "wait",
        allow_hyphen_values = true
    )]
    pub(crate) then: Option<String>,
    /// Show what would be done; write nothing, start nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
}

impl StartArgs {
    /// Starts Codex under an account with these arguments and waits until it ends. With `--then`, continues the
    /// conversation after each reset.
    ///
    /// # Errors
    /// See [`session::LaunchError`]. Codex was not started; with `--then`, an earlier start may have succeeded.
    pub(crate) fn start(
        &self,
        account: &Identity,
        args: &[OsString],
        session_id: Option<&str>,
        context: &Context,
    ) -> Result<Outcome> {
        check_credential_store(context)?;
        check_store_in_arguments(args)?;
        check_not_isolated(context)?;

        if self.then.is_some() && !Arguments::parse(args).is_continuable_exec() {
            return Err(
                CommandError::usage("--then needs a conversation of codex exec")
                    .hint("continue one: codex-manager resume SESSION --wait --then PROMPT")
                    .hint("or start one: codex-manager launch --wait --then PROMPT -- exec PROMPT"),
            );
        }

        let request = LaunchRequest {
            codex_home: context.codex_home(),
            manager_home: context.manager_home(),
            codex_bin: context.settings.codex_bin.as_deref(),
            env: &context.env,
            account,
            args,
            session_id,
            isolated: self.isolated,
            stop_daemon: self.stop_daemon,
            now: context.local_now(),
        };

        // Plans before a long wait, so that a start that cannot work fails at once.
        let plan = session::plan_launch(&request)?;
        if self.dry_run {
            let wait_until = if self.wait {
                wait::find_available_time(account, context)?
            } else {
                None
            };
            let command = session_id.map_or("launch", |_session_id| "resume");
            show_plan(command, &plan, wait_until, context);
            return Ok(Outcome::Done);
        }

        self.check_json(context)?;
        if context.asks_before_switch {
            confirm_switch(&plan, &request, context)?;
        }
        if self.wait {
            wait::wait_for_account(account, context)?;
        }
        self.run_with_continuations(request, context)
    }

    /// Refuses `--json` without `--dry-run`.
    pub(crate) fn check_json(&self, context: &Context) -> Result<()> {
        if context.ui.wants_json() && !self.dry_run {
            let error = CommandError::usage("--json needs --dry-run: Codex itself uses stdout");
            return Err(error.hint("show launches as JSON: codex-manager launches --json"));
        }
        Ok(())
    }

    /// Runs Codex. If a usage limit ends a batch run, waits for the reset and continues the conversation with the
    /// prompt of `--then`. Without `--then`, or if the reset is unknown, prints a note instead.
    fn run_with_continuations(
        &self,
        request: LaunchRequest<'_>,
        context: &Context,
    ) -> Result<Outcome> {
        // Only a batch run ends when a turn reaches the limit. The terminal interface stays open.
        let arguments = Arguments::parse(request.args);
        let is_batch = arguments.mode == InvocationMode::Batch;
        let mut run_args = request.args.to_vec();
        let mut run_session_id = request.session_id.map(str::to_owned);
        loop {
            let report = run_once(
                LaunchRequest {
                    args: &run_args,
                    session_id: run_session_id.as_deref(),
                    now: context.local_now(),
                    ..request
                },
                context,
            )?;
            let code = report.exit.to_exit_code();
            let limited_conversation = match report.record.last_conversation() {
                Some(last) if is_batch && code != 0 && last.hit_limit => last,
                _ => return Ok(Outcome::Codex(code)),
            };

            let reset_at = find_reset_of_limit(limited_conversation, context);
            let id = &limited_conversation.session_id;
            let (Some(prompt), Some(wait_until)) = (&self.then, reset_at) else {
                note_usage_limit(&report.record.profile, id, reset_at, context);
                return Ok(Outcome::UsageLimit(code));
            };

            wait::wait_until(wait_until.max(context.local_now() + RETRY_PAUSE), context);
            run_args = arguments.to_exec_resume(id, prompt);
            run_session_id = Some(id.clone());
        }
    }

    /// Replaces this process with Codex under the live account. The launch is not recorded.
    ///
    /// # Errors
    /// Codex cannot be found or started, or could not store a renewed login.
    pub(crate) fn run_directly(&self, args: &[OsString], context: &Context) -> Result<Outcome> {
        let program = context.find_codex().map_err(|e| {
            CommandError::failed("cannot start Codex")
                .because(e)
                .hint("pass the path of codex: --codex-bin FILE")
        })?;

        let mut command = program.start_command(context.codex_home(), &context.env, args)?;
        if self.dry_run {
            show_untracked_plan(program.path(), args, context);
            return Ok(Outcome::Done);
        }

        // No process stays between the shell and Codex, so job control works as without this program.
        let error = attached::replace_this_process(&mut command);
        let message = format!("cannot start {}", program.path().display());
        Err(CommandError::failed(message).because(error))
    }
}

/// Asks before a start that changes the live account. A start under the live account, or in an isolated home, changes
/// nothing that other programs use.
///
/// # Errors
/// The user declines, or there is no terminal.
fn confirm_switch(plan: &LaunchPlan, request: &LaunchRequest<'_>, context: &Context) -> Result<()> {
    let Some(switch) = plan.switch.as_ref().filter(|switch| !switch.is_current) else {
        return Ok(());
    };
    let live = switch.from.as_ref();
    // A newer login of the live account.
    if live.is_some_and(|live| live.is_same(request.account)) {
        return Ok(());
    }
    let name = printable(&plan.profile);
    let replaced = live.map_or(String::new(), |from| format!(" in place of {}", from.email));
    if context.confirm(format_args!(
        "make {name} the live account{replaced}, and resume?"
    )) {
        return Ok(());
    }

    let id = printable(request.session_id.unwrap_or_default());
    Err(CommandError::cancelled()
        .hint(format!(
            "keep the live account: codex-manager resume {id} --isolated"
        ))
        .hint(format!("only read it: codex-manager show {id}")))
}

/// Starts Codex once and waits until it ends. If a signal ended Codex, ends this process by the same signal.
fn run_once(request: LaunchRequest<'_>, context: &Context) -> Result<LaunchReport> {
    let plan = session::plan_launch(&request)?;
    // A start under the live account writes no login, so the folders need no check.
    if plan.switch.is_some() || plan.isolated_home.is_some() {
        let isolated_home = plan.isolated_home.as_deref();
        let home = isolated_home.unwrap_or(request.codex_home);
        check_logins_allowed(context, &[home, request.manager_home])?;
    }

    before_new_codex::archive_if_codex_changed(context)?;
    let to = request.account;
    let launch = session::prepare_launch(request)?;
    print_launch_notes(&plan, &launch, to, context);

    let switched = launch.switch.as_ref().filter(|s| !s.plan.is_current);
    let replaced_account = switched.and_then(|switch| switch.plan.from.clone());
    let report = launch.run(context.zone(), &|| context.local_now())?;
    warn_all(&context.ui, &report.warnings);
    if let Some(reason) = &report.record.binding.unbound_because {
        context.note(format_args!(
            "no conversation was recorded for this launch: {reason}"
        ));
    }

    if plan.isolated_home.is_some() || replaced_account.is_some() {
        note_live_account(replaced_account.as_ref(), context);
    }

    if let AttachedExit::Signal(signal) = report.exit {
        // The shell has to see the signal, so that Ctrl-C also ends a shell loop around Codex.
        attached::end_by_signal(signal);
    }

    Ok(report)
}

/// Returns the time at which the usage limit of a conversation resets: the last reset of its exhausted windows. `None`
/// if it is unknown, or passed more than [`MAX_CLOCK_LAG`] ago: then the conversation reached another limit.
fn find_reset_of_limit(limited: &BoundConversation, context: &Context) -> Option<Timestamp> {
    let exhausted = limited.windows.iter().filter(|w| w.used_percent >= 100.0);
    let reset_at = exhausted.filter_map(|window| window.resets_at).max();
    reset_at.filter(|at| *at > context.now() - MAX_CLOCK_LAG)
}

/// Prints the command that continues a conversation after a usage limit ended it.
fn note_usage_limit(profile: &str, id: &str, reset: Option<Timestamp>, context: &Context) {
    let name = printable(profile);
    context.note(match reset {
        Some(until) => format!(
            "the quota of {name} is used up until {}; to continue then: codex-manager resume {id} --wait --then PROMPT",
            full_time(&until, context)
        ),
        None => format!("Codex reached a usage limit of {name}, and its reset is unknown"),
    });
}

/// Prints the account and the warnings of a launch, before Codex takes over the screen.
fn print_launch_notes(plan: &LaunchPlan, launch: &Launch<'_>, to: &Identity, context: &Context) {
    let ui = &context.ui;
    let name = printable(&plan.profile);
    let home_note = if plan.isolated_home.is_some() {
        ", in an isolated home"
    } else {
        ""
    };
    ui.note(format_args!(
        "starting Codex with {name} ({}){home_note}",
        printable(&plan.email)
    ));

    if plan.ignores_isolated {
        ui.note(format_args!(
            "{name} is the live account, so --isolated has no effect: Codex runs in the Codex home"
        ));
    }

    for variable in &launch.dropped_variables {
        ui.warn(format_args!(
            "not passed to Codex: {variable}, which would select another login"
        ));
    }

    if launch.uses_server() {
        ui.warn("--remote: the conversation runs on the server, under the server's account");
    }

    if launch.codex_chooses() {
        ui.note(format_args!(
            "Codex's picker shows only conversations of {name}; for all: codex-manager resume"
        ));
    }

    if let Some(switch) = launch.switch.as_ref().filter(|s| !s.plan.is_current) {
        warn_all(&context.ui, &record_switch(switch, to, context).warnings);
        warn_after_switch(switch, context);
        if !switch.still_running.is_empty() {
            ui.note("to keep the old account live next time: codex-manager launch --isolated");
        }
    }
}

/// Prints the account that stays live after Codex has ended, and the command that switches back to the account
/// `replaced`.
fn note_live_account(replaced: Option<&Identity>, context: &Context) {
    // The accounts are read again, because another process may have switched the account.
    let Ok((accounts, _)) = read_accounts_and_profiles(context) else {
        return;
    };
    let Some(live) = accounts.iter().find(|account| account.current) else {
        return;
    };

    let previous = replaced.filter(|replaced| !live.entry.identity.is_same(replaced));
    let previous_account = previous.and_then(|previous| find_by_identity(&accounts, previous));
    let switch_back_hint = previous_account.map_or(String::new(), |account| {
        let name = label(account);
        let command = shell::quote_if_needed(&name);
        format!("; to return to {name}: codex-manager use {command}")
    });

    context.note(format_args!(
        "{} stays the live account{switch_back_hint}",
        label(live)
    ));
}

/// Prints the JSON document of a dry run. Its keys are an interface. `command` is the command of this program. `plan`
/// is `None` for a start without a record of the launch.
fn show_json(
    command: &str,
    plan: Option<&LaunchPlan>,
    wait_until: Option<Timestamp>,
    command_line: &[String],
    context: &Context,
) {
    let from = plan.and_then(|plan| plan.switch.as_ref()?.from.as_ref());
    let isolated_home = plan.and_then(|plan| plan.isolated_home.as_ref());

    let json = object()
        .with("profile", plan.map(|plan| &plan.profile))
        .with("email", plan.map(|plan| &plan.email))
        .with("account_id", plan.and_then(|plan| plan.account_id.as_ref()))
        .with("isolated_home", isolated_home)
        // The live account, if a switch would replace it.
        .with("switch_from", from.map(|from| from.email.to_string()))
        .with("daemon", plan.and_then(|plan| plan.daemon))
        .with("wait_until", time_json(wait_until, context))
        .with("command_line", command_line)
        .with("dry_run", true);
    context.ui.document(command, &json);
}

fn show_plan(command: &str, plan: &LaunchPlan, reset_at: Option<Timestamp>, context: &Context) {
    show_json(command, Some(plan), reset_at, &plan.command, context);
    let ui = &context.ui;

    if let Some(reset_at) = reset_at {
        ui.report(format_args!(
            "would wait for the reset: {}",
            full_time(&reset_at, context)
        ));
    }

    let name = printable(&plan.profile);
    if let Some(home) = &plan.isolated_home {
        ui.report(format_args!(
            "would move the login of {name} to the isolated home {}",
            home.display()
        ));
    } else if let Some(switch) = &plan.switch {
        if let Some(from) = &switch.from {
            ui.report(format_args!("would save the login of {from}"));
        }
        ui.report(format_args!("would switch to {name}"));
    } else {
        ui.report(format_args!("{name} is already the live account"));
    }

    ui.report(format_args!(
        "would run: {}",
        printable(&plan.command.join(" "))
    ));
}

fn show_untracked_plan(program: &Path, args: &[OsString], context: &Context) {
    let args = args.iter().map(|arg| arg.to_string_lossy().into_owned());
    let command: Vec<String> = std::iter::once(program.display().to_string())
        .chain(args)
        .collect();
    let (plan, wait_until) = (None, None);
    show_json("launch", plan, wait_until, &command, context);
    let ui = &context.ui;
    ui.report("would start Codex under the live account, without a record of the launch");
    ui.report(format_args!("would run: {}", printable(&command.join(" "))));
}
