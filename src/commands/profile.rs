//! `profile`: the subcommands for profiles, and helpers that other account commands share.

use super::account::{
    AccountView, absolute, printable, relative, style_of, warn_all, with_verdict,
};
use super::list::{self, AccountRow, problem};
use super::profile_export::{self, ExportArgs};
use super::profile_import::ImportArgs;
use super::profile_login::{self, LoginArgs};
use super::profile_remove::ProfileRemoveArgs;
use super::profile_save::SaveArgs;
use crate::accounts::isolated::is_isolated;
use crate::accounts::lease::AccountLocks;
use crate::accounts::profile::{LoginOwner, ProfileError, Profiles};
use crate::accounts::profile_ops::RestoredLogin;
use crate::codex::auth::{Freshness, Login};
use crate::codex::config::CodexConfig;
use crate::codex::login_lock;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::inventory::store;
use crate::quota::account::LoginState;
use crate::ui::Style;
use crate::ui::time::rfc3339;
use clap::{Args, Subcommand};
use serde::Serialize;

/// Manage profiles: the saved logins of your accounts
///
/// A profile contains the newest login of one account and the five logins before it, as exact copies. A
/// refresh token works once, so only one copy of a login is valid: the one in the Codex home or the one
/// in the profile.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager profile save work
  codex-manager profile login client
  codex-manager profile save client --from ~/dumps/21apr_me@x.com_auth.json
  codex-manager profile list")]
pub(crate) struct ProfileArgs {
    #[command(subcommand)]
    command: ProfileCommand,
}

#[derive(Debug, Subcommand)]
enum ProfileCommand {
    Save(SaveArgs),
    List(ProfileListArgs),
    Show(ProfileShowArgs),
    Rename(RenameArgs),
    Remove(ProfileRemoveArgs),
    Login(LoginArgs),
    RestoreLogin(RestoreLoginArgs),
    Export(ExportArgs),
    Import(ImportArgs),
}

/// List the profiles and their remaining quota; the same as `list`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager profile list")]
struct ProfileListArgs {}

/// Show a profile: its account, the age of its login, its history
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager profile show work")]
struct ProfileShowArgs {
    /// The name of the profile
    #[arg(value_name = "NAME")]
    name: String,
}

/// Change the name of a profile
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager profile rename me@example.com work")]
struct RenameArgs {
    /// The name of the profile
    #[arg(value_name = "OLD")]
    old: String,
    /// The new name of the profile
    #[arg(value_name = "NEW")]
    new: String,
    /// Show what would be done; write nothing
    #[arg(long)]
    dry_run: bool,
}

/// Restore an older login from the history of a profile
///
/// An older login has probably been invalidated, because its refresh token works once. The current login
/// moves to the history; running the command again restores it. `use` refuses an older login without
/// --force-stale.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager profile show work                # lists the history
  codex-manager profile restore-login work
  codex-manager profile restore-login work 20261117T155500")]
struct RestoreLoginArgs {
    /// The name of the profile
    #[arg(value_name = "NAME")]
    name: String,
    /// The name of the login in the history, or a prefix of it [default: the one renewed last]
    #[arg(value_name = "LOGIN")]
    login: Option<String>,
    /// Show what would be done; write nothing
    #[arg(long)]
    dry_run: bool,
}

impl ProfileArgs {
    /// # Errors
    /// The errors of the subcommand. Nothing was changed then, unless the error says otherwise.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        if !self.command.is_dry_run() {
            profile_login::recover(context)?;
            profile_export::settle(context)?;
        }
        match self.command {
            ProfileCommand::Save(args) => args.run(context),
            ProfileCommand::List(ProfileListArgs {}) => list::show("profile list", context),
            ProfileCommand::Show(args) => args.run(context),
            ProfileCommand::Rename(args) => args.run(context),
            ProfileCommand::Remove(args) => args.run(context),
            ProfileCommand::Login(args) => args.run(context),
            ProfileCommand::RestoreLogin(args) => args.run(context),
            ProfileCommand::Export(args) => args.run(context),
            ProfileCommand::Import(args) => args.run(context),
        }
    }
}

impl ProfileCommand {
    fn is_dry_run(&self) -> bool {
        match self {
            Self::Save(args) => args.dry_run,
            Self::List(_) | Self::Show(_) => false,
            Self::Rename(args) => args.dry_run,
            Self::Remove(args) => args.dry_run,
            Self::Login(args) => args.dry_run,
            Self::RestoreLogin(args) => args.dry_run,
            Self::Export(args) => args.dry_run,
            Self::Import(args) => args.dry_run,
        }
    }
}

/// Checks that Codex reads `auth.json` of the home. Otherwise changing that file has no effect.
///
/// # Errors
/// Codex uses another credential store, or its `config.toml` cannot be parsed.
pub(super) fn check_store(context: &Context) -> Result<(), CommandError> {
    let home = &context.settings.codex_home;
    let config = CodexConfig::read(home);
    if let Some(problem) = config.problem {
        return Err(CommandError::usage(format!(
            "cannot parse config.toml of the Codex home: {problem}"
        ))
        .hint("fix the file, with which Codex does not start either; nothing was changed"));
    }
    if config.store.reads_auth_json() {
        return Ok(());
    }
    Err(CommandError::refused(format!(
        "Codex does not store its login in auth.json (cli_auth_credentials_store = \"{}\")",
        config.store.name()
    ))
    .hint(format!(
        "set cli_auth_credentials_store = \"file\" in {} and sign in again; nothing was changed",
        home.join("config.toml").display()
    )))
}

/// Refuses an isolated home as the Codex home, because an isolated home has a fixed account. `CODEX_HOME`
/// points there in shells that an isolated Codex started.
pub(super) fn check_not_isolated(context: &Context) -> Result<(), CommandError> {
    let settings = &context.settings;
    if !is_isolated(&settings.codex_home, &settings.manager_home) {
        return Ok(());
    }
    Err(CommandError::refused(format!(
        "the Codex home is an isolated home: {}",
        settings.codex_home.display()
    ))
    .hint("name the real Codex home with --codex-home DIR; nothing was changed"))
}

/// Returns the time of the sign-in or the last renewal, as recorded in the login.
pub(super) fn signed_in_at(freshness: &Freshness) -> Option<chrono::DateTime<chrono::Utc>> {
    freshness.last_refresh.or(freshness.issued_at)
}

/// Returns the same time for display, but from the tokens if the clock was ahead.
pub(super) fn renewed_at(freshness: &Freshness) -> Option<chrono::DateTime<chrono::Utc>> {
    freshness.renewed_at().or(freshness.issued_at)
}

/// Returns `last_refresh` if the clock was ahead when Codex wrote it.
pub(super) fn future_last_refresh(freshness: &Freshness) -> Option<chrono::DateTime<chrono::Utc>> {
    let is_ahead = freshness.has_clock_skew();
    freshness.last_refresh.filter(|_| is_ahead)
}

/// Warns if the account of a profile is signed in in another Codex home, which then owns the login.
pub(super) fn warn_if_live_elsewhere(profile: &str, context: &Context) {
    let settings = &context.settings;
    let Ok(profile) = Profiles::of(&settings.manager_home).named(profile) else {
        return;
    };
    let Some(home) = profile.live_apart_from(Some(&settings.codex_home)) else {
        return;
    };
    let (name, shown) = (printable(&profile.name), home.display());
    if profile.unreadable_home().is_some() {
        context.ui.warn(format_args!(
            "{name} is the live account of another Codex home, which cannot be read: \
             {shown}; if that home is gone for good: codex-manager use {name} --force-stale"
        ));
    } else {
        context.ui.warn(format_args!(
            "{name} is the live account of another Codex home: {shown}; a login that is \
             used in two homes stops working in both, so sign in here with codex login"
        ));
    }
}

/// Updates the profiles in `cooldown.json`; `renewed` is a login that was just saved.
pub(super) fn update_cooldown(
    context: &Context,
    renewed: Option<&Login>,
) -> Result<(), CommandError> {
    let settings = &context.settings;
    let updated = store::note_profiles_and(
        &settings.manager_home,
        &context.now(),
        settings.zone,
        |file| {
            if let Some(login) = renewed {
                let entry = file.entry(&login.identity);
                if entry.login != LoginState::Moved {
                    entry.login = LoginState::Ok;
                }
            }
        },
    )?;
    warn_all(&context.ui, &updated.warnings);
    Ok(())
}

#[derive(Debug, Serialize)]
struct OldLoginView {
    name: String,
    last_refresh: Option<String>,
    problem: Option<String>,
}

/// The JSON document of `show`. Its keys are an interface.
#[derive(Debug, Serialize)]
struct ProfileDetailView {
    name: String,
    #[serde(flatten)]
    account: AccountView,
    user_id: Option<String>,
    plan: Option<String>,
    current: bool,
    owner: &'static str,
    saved_at: Option<String>,
    last_refresh: Option<String>,
    newest_seen: Option<String>,
    history: Vec<OldLoginView>,
    problem: Option<String>,
}

impl ProfileShowArgs {
    fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        let settings = &context.settings;
        let profiles = Profiles::of(&settings.manager_home);
        let name = profiles.named(&self.name)?.name;
        let Some(row) = list::rows(context)?
            .into_iter()
            .find(|row| row.profile.name == name)
        else {
            return Err(ProfileError::Unknown(name).into());
        };
        let AccountRow {
            profile, account, ..
        } = row;
        let (account, verdict) = with_verdict(account, context);
        let time =
            |at: Option<chrono::DateTime<chrono::Utc>>| at.map(|at| rfc3339(&at, settings.zone));
        let live_in = profile.live_in(&settings.codex_home);
        let view = ProfileDetailView {
            name,
            account: AccountView::of(&account, &verdict, context),
            user_id: account.entry.identity.user_id.clone(),
            plan: account.entry.plan.clone(),
            current: account.current,
            owner: match (profile.file.owner, &live_in) {
                (_, Some(_)) => "live",
                (LoginOwner::Moved, None) if profile.file.moving.is_some() => "moving",
                (LoginOwner::Moved, None) => "moved",
                (LoginOwner::Probe, None) => "probe",
                (LoginOwner::Live | LoginOwner::Profile, None) => "profile",
            },
            saved_at: profile
                .file
                .saved_at
                .map(|at| super::account::local(&at, context)),
            last_refresh: time(profile.login().and_then(|l| signed_in_at(&l.freshness))),
            newest_seen: time(signed_in_at(&profile.newest())),
            history: profiles
                .history(&profile.name)?
                .into_iter()
                .map(|kept| OldLoginView {
                    last_refresh: time(kept.auth.login().and_then(|l| signed_in_at(&l.freshness))),
                    problem: kept.auth.login().is_none().then(|| "no login".into()),
                    name: kept.name,
                })
                .collect(),
            problem: problem(&profile),
        };
        context.ui.document("profile show", &view);
        let ui = &context.ui;
        let title = ui.paint(style_of(verdict.state), printable(&view.name));
        ui.prose(format_args!("{title}  {}", verdict.state.name()));
        let line = |name: &str, text: &str| ui.prose(format_args!("  {name:<10} {text}"));
        line("account", &printable(&view.account.email));
        if let Some(id) = &view.account.account_id {
            line("account id", &printable(id));
        }
        if let Some(plan) = &view.plan {
            line("plan", &printable(plan));
        }
        line("login", view.account.login.name());
        let at = |at: chrono::DateTime<chrono::Utc>| {
            let at = settings.zone.at(&at);
            format!("{}, {}", absolute(&at, context), relative(&at, context))
        };
        if let Some(login) = profile.login().and_then(|l| renewed_at(&l.freshness)) {
            line("renewed", &at(login));
        }
        line(
            "location",
            &match &live_in {
                Some(home) => format!("the live home {}", home.display()),
                None if view.owner == "moved" => "another machine".into(),
                None if view.owner == "moving" => "an interrupted export".into(),
                None => "this profile".into(),
            },
        );
        for kept in &view.history {
            line("history", &printable(&kept.name));
        }
        if let Some(problem) = &view.problem {
            ui.warn(problem);
        }
        Ok(Outcome::Done)
    }
}

#[derive(Debug, Serialize)]
struct RenameView {
    profile: String,
    renamed_from: String,
    dry_run: bool,
}

impl RenameArgs {
    fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        let profiles = Profiles::of(&context.settings.manager_home);
        let _account_locks = lock_account(&self.old, self.dry_run, &profiles, context)?;
        let old = profiles.named(&self.old)?.name;
        profiles.rename(&old, &self.new, self.dry_run)?;
        if !self.dry_run {
            update_cooldown(context, None)?;
        }
        context.ui.document(
            "profile rename",
            &RenameView {
                profile: self.new.clone(),
                renamed_from: old.clone(),
                dry_run: self.dry_run,
            },
        );
        let verb = if self.dry_run {
            "would rename"
        } else {
            "renamed"
        };
        context.ui.prose(format_args!(
            "{verb} {} to {}",
            printable(&old),
            context.ui.paint(Style::Strong, &self.new)
        ));
        Ok(Outcome::Done)
    }
}

#[derive(Debug, Serialize)]
struct RestoreLoginView {
    profile: String,
    login: String,
    last_refresh: Option<String>,
    is_stale: bool,
    dry_run: bool,
}

/// Locks the account of a profile against other codex-manager processes before its login changes. First
/// recovers a login that a killed probe left in its scratch home. Takes no lock in a dry run.
pub(super) fn lock_account(
    name: &str,
    dry_run: bool,
    profiles: &Profiles,
    context: &Context,
) -> Result<Option<AccountLocks>, CommandError> {
    if dry_run {
        return Ok(None);
    }
    Ok(profiles.lock_account_named(name, context.local_now(), login_lock::REFRESH_TIMEOUT)?)
}

impl RestoreLoginArgs {
    fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        let settings = &context.settings;
        let profiles = Profiles::of(&settings.manager_home);
        let _account_locks = lock_account(&self.name, self.dry_run, &profiles, context)?;
        let RestoredLogin {
            login,
            freshness,
            is_stale,
        } = profiles.restore_login(
            &self.name,
            self.login.as_deref(),
            &settings.codex_home,
            context.local_now(),
            self.dry_run,
        )?;
        let ui = &context.ui;
        let verb = if self.dry_run {
            "would restore"
        } else {
            "restored"
        };
        ui.prose(format_args!(
            "{verb} the login {} of the profile {}",
            printable(&login),
            printable(&self.name)
        ));
        let made_at = signed_in_at(&freshness);
        ui.prose(match made_at {
            Some(at) => format!(
                "  signed in or renewed {}",
                relative(&settings.zone.at(&at), context)
            ),
            None => "  its age is unknown".into(),
        });
        if is_stale {
            ui.warn(
                "a newer login of this account exists, so this one is probably invalid; codex-manager use needs --force-stale to use it",
            );
        }
        ui.document(
            "profile restore-login",
            &RestoreLoginView {
                profile: self.name,
                login,
                last_refresh: made_at.map(|at| rfc3339(&at, settings.zone)),
                is_stale,
                dry_run: self.dry_run,
            },
        );
        Ok(Outcome::Done)
    }
}
