//! Plans a launch and prepares it, up to the start of Codex.

use super::isolated_home::{self, IsolationError};
use super::record::{
    CodexRun, ConversationBinding, LAUNCH_VARIABLE, LaunchRecord, ProcessId, SCHEMA,
};
use super::{binding, program};
use crate::accounts::{
    AccountLocks, DaemonPolicy, IsolatedLogin, LeaseError, ProfileError, Profiles, SwitchError,
    SwitchPlan, SwitchReport, SwitchRequest, switch,
};
use crate::codex::arguments::NO_DAEMON;
use crate::codex::program::{API_KEY_VARIABLE, OVERRIDING_VARIABLES};
use crate::codex::{
    AUTH_JSON, Arguments, AuthFile, AuthSnapshot, CodexConfig, Identity, InvocationMode, Program,
    ProgramError, check_login_of, check_login_storage, daemon, login_lock, redaction,
};
use crate::io::{Environment, IoError, Timestamp, events, random_id};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Debug, Clone, Copy)]
pub struct LaunchRequest<'a> {
    /// The real Codex home.
    pub codex_home: &'a Path,
    /// The folder with the profiles and the launch records.
    pub manager_home: &'a Path,
    /// The configured Codex program; `None` to search `PATH`.
    pub codex_bin: Option<&'a Path>,
    pub env: &'a Environment,
    pub account: &'a Identity,
    pub args: &'a [OsString],
    /// The id of the conversation to resume, if the caller knows it.
    pub session_id: Option<&'a str>,
    /// `--isolated`: runs Codex in the isolated home of the account.
    pub isolated: bool,
    pub stop_daemon: bool,
    pub now: Timestamp,
}

/// The planned steps of a launch. Planning writes nothing.
#[derive(Debug, Clone)]
pub struct LaunchPlan {
    /// The name of the account's profile; the email if it has none.
    pub profile: String,
    pub email: String,
    /// The workspace account id.
    pub account_id: Option<String>,
    /// The isolated home; `None` if Codex runs in the real home.
    pub isolated_home: Option<PathBuf>,
    /// True if `--isolated` was given for the live account. It runs in the real home, because a login
    /// must not have two owners.
    pub ignores_isolated: bool,
    /// The switch of the real home; `None` if none is needed.
    pub switch: Option<SwitchPlan>,
    /// The process id of a running background daemon, which keeps its account.
    pub daemon: Option<u32>,
    /// The program and its arguments.
    pub command: Vec<String>,
}

/// The reason why Codex was not started. The login may have been switched, the daemon stopped, and folders and links of
/// the isolated home created.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// No Codex program was found.
    #[error("cannot start Codex")]
    Program(#[from] ProgramError),
    #[error(transparent)]
    Switch(#[from] SwitchError),
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The login cannot be moved to the isolated home.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error(transparent)]
    Isolation(#[from] IsolationError),
    #[error(transparent)]
    Io(#[from] IoError),
    /// The subcommand in the arguments runs no conversation.
    #[error("codex {0} does not start a conversation")]
    NoConversation(String),
    /// The daemon would run the conversation under the account that it was started with.
    #[error(
        "Codex's background daemon (PID {0}) keeps the account that it was started with, and this Codex cannot run without it"
    )]
    Daemon(u32),
}

/// A prepared launch, before the start of Codex.
#[derive(Debug)]
pub struct Launch<'a> {
    pub(super) request: LaunchRequest<'a>,
    pub(super) command: Command,
    pub(super) record: LaunchRecord,
    /// The login in the isolated home.
    pub(super) isolated: Option<IsolatedLogin>,
    /// Held until Codex has started; see [`Profiles::isolate_login`].
    pub(super) account_locks: Option<AccountLocks>,
    /// The switch of the real home; `None` for an isolated launch.
    pub switch: Option<SwitchReport>,
    /// The variables that name another login and are removed from the environment.
    pub dropped_variables: Vec<&'static str>,
}

impl Launch<'_> {
    /// Returns true if Codex itself chooses the conversation to resume. The picker and `--last` of Codex 0.169 hide
    /// conversations of other accounts.
    pub fn codex_chooses(&self) -> bool {
        self.record.binding.codex_chose
    }

    /// Returns true if Codex connects to a server, which uses its own login.
    pub fn uses_server(&self) -> bool {
        Arguments::parse(self.request.args).has_option("--remote")
    }
}

/// Plans a launch. Writes nothing and starts nothing.
///
/// # Errors
/// The launch is not possible; see [`LaunchError`].
pub fn plan_launch(request: &LaunchRequest<'_>) -> Result<LaunchPlan, LaunchError> {
    let program = Program::find(request.codex_bin, request.env)?;
    let has_no_daemon_flag = program::read_cached_no_daemon_flag(&program, request.manager_home);
    // Planning runs no Codex. If the answer is not cached, the plan assumes a current Codex, which has the flag.
    plan_with_program(request, &program, has_no_daemon_flag.unwrap_or(true))
}

fn plan_with_program(
    request: &LaunchRequest<'_>,
    program: &Program,
    has_no_daemon_flag: bool,
) -> Result<LaunchPlan, LaunchError> {
    let arguments = Arguments::parse(request.args);
    if arguments.mode == InvocationMode::Administrative {
        let subcommand = arguments.subcommand().unwrap_or("--help").to_owned();
        return Err(LaunchError::NoConversation(subcommand));
    }

    let args = build_codex_args(&arguments, request.args, has_no_daemon_flag);
    let live = AuthFile::read(&request.codex_home.join(AUTH_JSON))?;
    let live_login = live.login();
    let is_live = live_login.is_some_and(|login| login.identity.is_same(request.account));
    // The live account stays in the real home, because a login must not have two owners.
    let is_isolated = request.isolated && !is_live;

    let words = std::iter::once(program.path().as_os_str()).chain(args.iter().map(|arg| &**arg));
    let words = words.map(|word| word.to_string_lossy().into_owned());
    let email = request.account.email.to_string();
    let mut plan = LaunchPlan {
        // Until a profile of the account is found below.
        profile: email.clone(),
        email,
        account_id: request.account.account_id.clone(),
        isolated_home: None,
        ignores_isolated: request.isolated && is_live,
        switch: None,
        daemon: None,
        command: words.collect(),
    };

    if is_isolated {
        isolated_home::refuse_unshared_database_folder(request.codex_home)?;
        let profiles = Profiles::of(request.manager_home);
        plan.profile = profiles.find_profile_to_isolate(request.account, request.codex_home)?;
        plan.isolated_home = Some(profiles.isolated_home_path(request.account)?);
        return Ok(plan);
    }

    plan_in_real_home(request, &live, &mut plan)?;
    let uses_daemon = may_use_daemon(&arguments) && !has_no_daemon_flag;
    match plan.daemon {
        Some(pid) if uses_daemon && !request.stop_daemon => Err(LaunchError::Daemon(pid)),
        _ => Ok(plan),
    }
}

/// Adds the switch of the real home and its running daemon to `plan`. Fails if Codex cannot use the login there.
fn plan_in_real_home(
    request: &LaunchRequest<'_>,
    live: &AuthFile,
    plan: &mut LaunchPlan,
) -> Result<(), LaunchError> {
    let switch = switch::plan_from_disk(&switch_request(request, DaemonPolicy::Leave))?;
    if !switch.profile.is_empty() {
        plan.profile.clone_from(&switch.profile);
    }

    // A renewal of a copied login would sign out the home that owns the login.
    let (profiles, now) = (Profiles::of(request.manager_home), request.now.to_utc());
    let owner_of_copy = profiles.find_owner_of_copy(live, request.codex_home, &now);
    let is_current = switch.is_current;
    if is_current && let Some(home) = owner_of_copy {
        let profile = plan.profile.clone();
        return Err(SwitchError::LiveElsewhere { profile, home }.into());
    }

    plan.switch = (!is_current).then_some(switch);
    check_storage(request, plan.switch.is_some())?;
    plan.daemon = daemon::find(request.codex_home).map(|daemon| daemon.pid);
    Ok(())
}

/// Checks that Codex can store the login of the real home if it renews it. API keys are not renewed.
fn check_storage(request: &LaunchRequest<'_>, is_switch: bool) -> Result<(), LeaseError> {
    if !request.account.kind.is_renewable() {
        return Ok(());
    }
    // A switch replaces a link, and a file with a second hard link.
    if is_switch {
        check_login_storage(request.codex_home)?;
    } else {
        check_login_of(request.codex_home)?;
    }
    Ok(())
}

/// Returns true if a Codex with these arguments connects to a running background daemon.
fn may_use_daemon(arguments: &Arguments<'_>) -> bool {
    arguments.mode == InvocationMode::Interactive
        && !arguments.has_option(NO_DAEMON)
        && !arguments.has_option("--remote")
}

/// Returns the arguments, with `--no-daemon` if Codex has it and would use the daemon without it.
fn build_codex_args(
    arguments: &Arguments<'_>,
    args: &[OsString],
    has_no_daemon_flag: bool,
) -> Vec<OsString> {
    if has_no_daemon_flag && may_use_daemon(arguments) {
        arguments.with_flag(NO_DAEMON)
    } else {
        args.to_vec()
    }
}

fn switch_request<'a>(request: &LaunchRequest<'a>, daemon: DaemonPolicy<'a>) -> SwitchRequest<'a> {
    SwitchRequest {
        codex_home: request.codex_home,
        manager_home: request.manager_home,
        to: request.account,
        force_stale: false,
        daemon,
        now: request.now,
        lock_timeout: login_lock::REFRESH_TIMEOUT,
    }
}

/// Switches the login or moves it to the isolated home, and prepares the command.
///
/// # Errors
/// See [`LaunchError`].
pub fn prepare_launch(request: LaunchRequest<'_>) -> Result<Launch<'_>, LaunchError> {
    let program = Program::find(request.codex_bin, request.env)?;
    let arguments = Arguments::parse(request.args);
    // Only an interactive Codex uses the daemon. For any other mode, `codex --help` does not have to run.
    let has_no_daemon_flag = arguments.mode == InvocationMode::Interactive
        && program::probe_no_daemon_flag(&program, request.env, request.manager_home);
    let plan = plan_with_program(&request, &program, has_no_daemon_flag)?;
    let args = build_codex_args(&arguments, request.args, has_no_daemon_flag);

    let (isolated, account_locks, switch) = if plan.isolated_home.is_some() {
        let (login, locks) = isolate_login(&request)?;
        (Some(login), Some(locks), None)
    } else {
        // Applied even if the account was live already, because the plan was made without locks.
        (None, None, Some(switch_login(&request)?))
    };
    let fingerprint = match &isolated {
        Some(login) => login.fingerprint.clone(),
        None => read_live_fingerprint(request.codex_home)?,
    };

    let launch_id = new_launch_id(request.now);
    let isolated_home = isolated.as_ref().map(|login| login.home.as_path());
    let mut command = build_codex_command(&request, &program, isolated_home, &args)?;
    command.env(LAUNCH_VARIABLE, &launch_id);
    let is_set = |name: &&'static str| request.env.get(name).is_some();
    let dropped_variables = login_variables().filter(is_set).collect();
    let record = new_record(&request, &plan, launch_id, fingerprint);

    Ok(Launch {
        request,
        command,
        record,
        isolated,
        account_locks,
        switch,
        dropped_variables,
    })
}

fn read_live_fingerprint(codex_home: &Path) -> Result<String, IoError> {
    let live = AuthFile::read(&codex_home.join(AUTH_JSON))?;
    let fingerprint = live.snapshot().map(AuthSnapshot::fingerprint);
    Ok(fingerprint.unwrap_or_default())
}

/// Prepares the isolated home of the account and moves the login into it. Returns the login, and the locks on the
/// account, which have to be held until Codex has started.
fn isolate_login(
    request: &LaunchRequest<'_>,
) -> Result<(IsolatedLogin, AccountLocks), LaunchError> {
    let (account, now) = (request.account, request.now);
    let profiles = Profiles::of(request.manager_home);
    let locks = profiles.lock_accounts(&[account], now, login_lock::REFRESH_TIMEOUT)?;
    let home = profiles.isolated_home_path(account)?;
    isolated_home::prepare(&home, request.codex_home)?;

    let login = profiles.isolate_login(account, &locks, request.codex_home, now)?;
    events::info!("moved the login to the isolated home");
    Ok((login, locks))
}

fn switch_login(request: &LaunchRequest<'_>) -> Result<SwitchReport, SwitchError> {
    let policy = if request.stop_daemon {
        DaemonPolicy::Stop {
            codex_bin: request.codex_bin,
            env: request.env,
            force: false,
        }
    } else {
        DaemonPolicy::Leave
    };
    switch::apply(&switch_request(request, policy))
}

/// Returns the command that starts Codex, on the isolated home if there is one. The command gets the variables of
/// `request` except those that name another login.
///
/// # Errors
/// Codex could not store a renewed login.
fn build_codex_command(
    request: &LaunchRequest<'_>,
    program: &Program,
    isolated_home: Option<&Path>,
    args: &[OsString],
) -> Result<Command, LeaseError> {
    let home = isolated_home.unwrap_or(request.codex_home);
    let mut command = program.start_command(home, request.env, args)?;
    for name in login_variables() {
        command.env_remove(name);
    }

    // The isolated home has no databases of its own, so Codex uses those of the real home.
    if isolated_home.is_some() {
        let database_folder =
            CodexConfig::read(request.codex_home).database_folder(request.codex_home, request.env);
        let database_folder = database_folder.unwrap_or_else(|| request.codex_home.to_path_buf());
        command.env("CODEX_SQLITE_HOME", database_folder);
    }
    Ok(command)
}

/// Returns the environment variables that Codex would use instead of the login in the home; a launch removes them.
/// `OPENAI_API_KEY` is passed on, because Codex 0.169 does not sign in with it, and projects need it.
fn login_variables() -> impl Iterator<Item = &'static str> {
    OVERRIDING_VARIABLES.into_iter().chain([API_KEY_VARIABLE])
}

fn new_record(
    request: &LaunchRequest<'_>,
    plan: &LaunchPlan,
    launch_id: String,
    auth_fingerprint: String,
) -> LaunchRecord {
    let arguments = Arguments::parse(request.args);
    let to_text = |path: &Path| path.to_string_lossy().into_owned();
    let cwd = &request.env.current_dir;
    let given_root = arguments.working_root();
    let working_root = given_root.map_or_else(|| cwd.clone(), |root| cwd.join(root));

    let given_id = request.session_id;
    let resumed_id = given_id.or_else(|| arguments.resumed_conversation());
    let resumed =
        resumed_id.and_then(|id| binding::find_resumed_conversation(request.codex_home, id));
    let given_args = request.args.iter();
    let printable_args = given_args.map(|arg| redaction::printable(&arg.to_string_lossy()));

    LaunchRecord {
        launch_id,
        settled: false,
        schema: SCHEMA,
        profile: plan.profile.clone(),
        identity: request.account.clone(),
        run: CodexRun {
            started_at: request.now,
            ended_at: None,
            exit_code: None,
            cwd: to_text(cwd),
            // With `--worktree` Codex creates the folder that it works in, so its path is unknown.
            working_root: (!arguments.has_option("--worktree")).then(|| to_text(&working_root)),
            args: printable_args.collect(),
            codex_home: to_text(request.codex_home),
            isolated_home: plan.isolated_home.as_deref().map(to_text),
            wrapper: ProcessId::read(std::process::id()),
            child: None,
        },
        auth_fingerprint,
        binding: ConversationBinding {
            codex_chose: arguments.is_resume() && resumed.is_none(),
            resumed,
            ..ConversationBinding::default()
        },
    }
}

/// Returns a unique id that sorts by time.
fn new_launch_id(now: Timestamp) -> String {
    let time = now.to_utc().format("%Y%m%dT%H%M%S%3fZ");
    // Eight random characters tell launches of the same millisecond apart.
    format!("{time}-{}", &random_id()[..8])
}
