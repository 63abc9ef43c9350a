//! `profile`: accounts by name.

use super::account::{AccountView, absolute, judged, printable, relative, style_of, warn_all};
use super::list::{self, Row, problem};
use super::profile_export::{self, ExportArgs};
use super::profile_import::ImportArgs;
use super::profile_login::{self, LoginArgs};
use super::verify::find_archive;
use crate::accounts::edit::{DoomedLogin, SavePlan, plan_save};
use crate::accounts::loan::Held;
use crate::accounts::profile::{Owner, Profiles};
use crate::accounts::save::SaveOutcome;
use crate::accounts::source;
use crate::codex::auth::{AuthFile, AuthSnapshot, Freshness, Login};
use crate::codex::config::CodexConfig;
use crate::codex::home::AUTH_JSON;
use crate::codex::identity::LoginKind;
use crate::codex::login_lock;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::inventory::cooldown::LoginState;
use crate::inventory::store;
use crate::ui::Style;
use crate::ui::time::rfc3339;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Keep the logins of several accounts, each by a name
///
/// A profile holds the newest login of one account, byte for byte, and the last five before it. A
/// refresh token can be spent once: the copy that is signed in, or that of the profile, is the one
/// that counts, never both.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager profile save work
  codex-manager profile login client
  codex-manager profile save client --from ~/dumps/21apr_me@x.com_auth.json
  codex-manager profile list")]
pub struct ProfileArgs {
    #[command(subcommand)]
    command: ProfileCommand,
}

#[derive(Debug, Subcommand)]
enum ProfileCommand {
    Save(SaveArgs),
    List(ListArgs),
    Show(ShowArgs),
    Rename(RenameArgs),
    Remove(RemoveArgs),
    Login(LoginArgs),
    RestoreLogin(RestoreLoginArgs),
    Export(ExportArgs),
    Import(ImportArgs),
}

/// Save the live login, or one from a file, under a name
///
/// An account has one profile: where it has one already, that is updated and takes this name. An
/// older login never replaces a newer one; it goes to the history.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager profile save work
  codex-manager profile save work --from 2026-11-17-155500-me@x.com-codex.tar.gz
  codex-manager profile save old --from ~/dumps/21apr_me@x.com_auth.json")]
struct SaveArgs {
    /// The name
    #[arg(value_name = "NAME")]
    name: String,
    /// An auth.json, a legacy *_auth.json, or an archive, instead of the live login
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Show what would be done; write nothing
    #[arg(long)]
    dry_run: bool,
}

/// Show the profiles and what is left of their quota; the same as `list`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager profile list")]
struct ListArgs {}

/// Show one profile: whose it is, how old its login is, what came before
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager profile show work")]
struct ShowArgs {
    /// The profile
    #[arg(value_name = "NAME")]
    name: String,
}

/// Give a profile another name
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager profile rename me@example.com work")]
struct RenameArgs {
    /// The profile
    #[arg(value_name = "OLD")]
    old: String,
    /// Its new name
    #[arg(value_name = "NEW")]
    new: String,
    /// Show what would be done; write nothing
    #[arg(long)]
    dry_run: bool,
}

/// Remove a profile: into the trash below profiles/, or with --purge for good
///
/// Nobody is logged out: the login itself, and the live home, stay as they are.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager profile remove work
  codex-manager profile remove work --purge   # also what is in the trash of it")]
struct RemoveArgs {
    /// The profile
    #[arg(value_name = "NAME")]
    name: String,
    /// Delete it and what the trash has of that name
    #[arg(long)]
    purge: bool,
    /// Show what would be done; write nothing
    #[arg(long)]
    dry_run: bool,
}

/// Put an older login of the history back into a profile
///
/// An older login is probably spent: its refresh token works once. The one that the profile has now
/// goes to the history, so that doing it again takes it back. `use` refuses an older one without
/// --force-stale.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager profile show work                # what the history has
  codex-manager profile restore-login work
  codex-manager profile restore-login work 20261117T155500")]
struct RestoreLoginArgs {
    /// The profile
    #[arg(value_name = "NAME")]
    name: String,
    /// Its name in the history, or the beginning of one [default: the newest there]
    #[arg(value_name = "LOGIN")]
    login: Option<String>,
    /// Show what would be done; write nothing
    #[arg(long)]
    dry_run: bool,
}

impl ProfileArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// What the subcommand says; unless it says otherwise nothing was changed.
    pub fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        if !self.command.is_dry_run() {
            profile_login::recover(context)?;
            profile_export::settle(context)?;
        }
        match self.command {
            ProfileCommand::Save(args) => args.run(context),
            ProfileCommand::List(ListArgs {}) => list::show("profile list", context),
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

/// That Codex reads auth.json of the home: else nothing that is done to that file has any effect.
///
/// # Errors
/// It does not, or may not.
pub(super) fn check_store(context: &Context) -> Result<(), CommandError> {
    let home = &context.settings.codex_home;
    let config = CodexConfig::read(home);
    if let Some(problem) = config.problem {
        return Err(CommandError::usage(format!(
            "config.toml of the Codex home is not understood: {problem}"
        ))
        .hint("mend it first: Codex itself does not start with it; nothing was changed"));
    }
    if config.store.reads_auth_json() {
        return Ok(());
    }
    Err(CommandError::refused(format!(
        "Codex keeps its login by cli_auth_credentials_store = \"{}\", not in auth.json",
        config.store.name()
    ))
    .hint(format!(
        "write cli_auth_credentials_store = \"file\" into {} and sign in again; nothing was changed",
        home.join("config.toml").display()
    )))
}

/// The JSON document of `save`. Its keys are a contract.
#[derive(Debug, Serialize)]
struct SaveView<'a> {
    #[serde(flatten)]
    plan: &'a SavePlan,
    email: &'a str,
    account_id: Option<&'a str>,
    last_refresh: Option<String>,
    dry_run: bool,
}

impl SaveArgs {
    fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        let settings = &context.settings;
        let (snapshot, login) = self.login(context)?;
        let profiles = Profiles::of(&settings.manager_home);
        let plan = if self.dry_run {
            plan_save(&profiles.list()?, &self.name, &snapshot, &login)?
        } else {
            let login = (&snapshot, &login);
            let home = &settings.codex_home;
            let (plan, _) = profiles.save_as(&self.name, login, home, context.local_now())?;
            note(context, Some(login.1))?;
            plan
        };
        context.ui.document(
            "profile save",
            &SaveView {
                plan: &plan,
                email: login.identity.email.as_str(),
                account_id: login.identity.account_id.as_deref(),
                last_refresh: signed_in_at(&login.freshness).map(|at| rfc3339(&at, settings.zone)),
                dry_run: self.dry_run,
            },
        );
        self.say(&plan, &login, context);
        Ok(Outcome::Done)
    }

    fn login(&self, context: &Context) -> Result<(AuthSnapshot, Login), CommandError> {
        let path = match &self.from {
            None => {
                check_store(context)?;
                context.settings.codex_home.join(AUTH_JSON)
            }
            Some(from) if from.to_string_lossy().ends_with(".tar.gz") => {
                find_archive(context, from)?
            }
            Some(from) => context.env.absolute(from),
        };
        let snapshot = source::read(&path)?;
        let Some(login) = snapshot.login.clone() else {
            return Err(CommandError::refused(format!(
                "there is no login in it: {}",
                path.display()
            ))
            .hint("sign in with codex login; nothing was changed"));
        };
        Ok((snapshot, login))
    }

    fn say(&self, plan: &SavePlan, login: &Login, context: &Context) {
        let ui = &context.ui;
        let name = ui.paint(Style::Strong, &plan.profile);
        let who = printable(login.identity.email.as_str());
        let would = if self.dry_run { "would be " } else { "" };
        if let Some(old) = &plan.renamed_from {
            ui.line(format_args!("{would}renamed {} to {name}", printable(old)));
        }
        ui.line(match plan.outcome {
            SaveOutcome::Created => format!("{would}saved the login of {who} as {name}"),
            SaveOutcome::Updated => format!("{would}updated {name} with the login of {who}"),
            SaveOutcome::Unchanged => format!("{name} has this login of {who} already"),
            SaveOutcome::KeptNewer => format!(
                "{name} has a newer login of {who}; this one {}to its history",
                if self.dry_run { "would go " } else { "went " }
            ),
        });
        if self.dry_run {
            ui.note("nothing was written");
        }
        if login.identity.kind == LoginKind::ApiKey {
            return;
        }
        let zone = context.settings.zone;
        match signed_in_at(&login.freshness) {
            Some(at) => ui.line(format_args!(
                "  signed in or renewed {}",
                relative(&zone.at(&at), context)
            )),
            None => ui.line("  how old it is is not known"),
        }
        if self.from.is_some() && plan.outcome != SaveOutcome::KeptNewer {
            ui.note(format_args!(
                "whether it still works is not known before it is used; leave the copy in {} alone: \
                 a login that is used in two places stops working in both",
                self.from.as_deref().unwrap_or(Path::new("")).display()
            ));
        }
    }
}

/// When a login was made or renewed, as far as it says.
pub(super) fn signed_in_at(freshness: &Freshness) -> Option<chrono::DateTime<chrono::Utc>> {
    freshness.last_refresh.or(freshness.issued_at)
}

/// Brings `cooldown.json` up to the profiles that there are; `renewed` is a login that was saved
/// just now.
pub(super) fn note(context: &Context, renewed: Option<&Login>) -> Result<(), CommandError> {
    let settings = &context.settings;
    let noted = store::note_profiles_and(
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
    warn_all(&context.ui, &noted.warnings);
    Ok(())
}

#[derive(Debug, Serialize)]
struct KeptView {
    name: String,
    last_refresh: Option<String>,
    problem: Option<String>,
}

/// The JSON document of `show`. Its keys are a contract.
#[derive(Debug, Serialize)]
struct ShowView {
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
    history: Vec<KeptView>,
    problem: Option<String>,
}

impl ShowArgs {
    fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        let settings = &context.settings;
        let profiles = Profiles::of(&settings.manager_home);
        let name = profiles.named(&self.name)?.name;
        let Some(row) = list::rows(context)?
            .into_iter()
            .find(|row| row.profile.name == name)
        else {
            return Err(CommandError::failed(format!(
                "no profile is called {name:?}"
            )));
        };
        let Row {
            profile, account, ..
        } = row;
        let (account, verdict) = judged(account, context);
        let time =
            |at: Option<chrono::DateTime<chrono::Utc>>| at.map(|at| rfc3339(&at, settings.zone));
        let live_in = profile.live_in(&settings.codex_home);
        let view = ShowView {
            name,
            account: AccountView::of(&account, &verdict, context),
            user_id: account.entry.identity.user_id.clone(),
            plan: account.entry.plan.clone(),
            current: account.current,
            owner: match (profile.file.owner, &live_in) {
                (_, Some(_)) => "live",
                (Owner::Moved, None) if profile.file.moving.is_some() => "moving",
                (Owner::Moved, None) => "moved",
                (Owner::Probe, None) => "probe",
                (Owner::Live | Owner::Profile, None) => "profile",
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
                .map(|kept| KeptView {
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
        ui.line(format_args!("{title}  {}", verdict.state.name()));
        let line = |name: &str, text: &str| ui.line(format_args!("  {name:<10} {text}"));
        line("account", &printable(&view.account.email));
        if let Some(id) = &view.account.account_id {
            line("workspace", &printable(id));
        }
        if let Some(plan) = &view.plan {
            line("plan", &printable(plan));
        }
        line("login", view.account.login.name());
        let at = |at: chrono::DateTime<chrono::Utc>| {
            let at = settings.zone.at(&at);
            format!("{}, {}", absolute(&at, context), relative(&at, context))
        };
        if let Some(login) = profile.login().and_then(|l| signed_in_at(&l.freshness)) {
            line("renewed", &at(login));
        }
        line(
            "owner",
            &match &live_in {
                Some(home) => format!("the live home {}", home.display()),
                None if view.owner == "moved" => "another machine".into(),
                None if view.owner == "moving" => "an export that was interrupted".into(),
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
        let old = profiles.named(&self.old)?.name;
        profiles.rename(&old, &self.new, self.dry_run)?;
        if !self.dry_run {
            note(context, None)?;
        }
        context.ui.document(
            "profile rename",
            &RenameView {
                profile: self.new.clone(),
                renamed_from: old.clone(),
                dry_run: self.dry_run,
            },
        );
        let would = if self.dry_run { "would be " } else { "" };
        context.ui.line(format_args!(
            "{would}renamed {} to {}",
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
    is_stale: bool,
    dry_run: bool,
}

/// Keeps others of ours from the login of a profile that is about to change, after bringing back
/// what a killed probe has left of it.
fn claim(
    name: &str,
    dry_run: bool,
    profiles: &Profiles,
    context: &Context,
) -> Result<Option<Held>, CommandError> {
    if dry_run {
        return Ok(None);
    }
    Ok(profiles.claim_named(name, context.local_now(), login_lock::PATIENCE)?)
}

impl RestoreLoginArgs {
    fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        let settings = &context.settings;
        let profiles = Profiles::of(&settings.manager_home);
        let _claimed = claim(&self.name, self.dry_run, &profiles, context)?;
        let (login, is_stale) = profiles.restore_login(
            &self.name,
            self.login.as_deref(),
            &settings.codex_home,
            context.local_now(),
            self.dry_run,
        )?;
        let ui = &context.ui;
        let would = if self.dry_run { "would put" } else { "put" };
        ui.line(format_args!(
            "{would} {} back into the profile {}",
            printable(&login),
            printable(&self.name)
        ));
        if is_stale {
            ui.warn(
                "a newer login of this account was seen, so this one is probably spent; \
                 codex-manager use takes it only with --force-stale",
            );
        }
        ui.document(
            "profile restore-login",
            &RestoreLoginView {
                profile: self.name,
                login,
                is_stale,
                dry_run: self.dry_run,
            },
        );
        Ok(Outcome::Done)
    }
}

#[derive(Debug, Serialize)]
struct RemoveView {
    profile: String,
    trash: Option<PathBuf>,
    purged: usize,
    dry_run: bool,
}

impl RemoveArgs {
    fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        let settings = &context.settings;
        let profiles = Profiles::of(&settings.manager_home);
        let mut view = RemoveView {
            profile: self.name.clone(),
            trash: None,
            purged: 0,
            dry_run: self.dry_run,
        };
        let _claimed = claim(&self.name, self.dry_run, &profiles, context)?;
        let ui = &context.ui;
        let name = printable(&self.name);
        if self.purge {
            let places = profiles.places_of(&self.name)?;
            let logins = profiles.doomed_logins(&self.name)?;
            if self.dry_run {
                view.purged = places.len();
                ui.line(format_args!(
                    "would delete {name} for good: {}, {}",
                    folders(places.len()),
                    whose(&logins)
                ));
            } else {
                self.consent(context, &profiles, &logins)?;
                view.purged = profiles.purge(&self.name)?;
                ui.line(format_args!(
                    "deleted {name} for good: {}",
                    folders(view.purged)
                ));
            }
        } else if self.dry_run {
            profiles.named(&self.name)?;
            ui.line(format_args!("would move {name} to the trash"));
        } else {
            let place = profiles.remove(&self.name, context.local_now())?;
            ui.line(format_args!("moved {name} to the trash"));
            ui.note(format_args!(
                "bring it back: codex-manager profile save {name} --from {}",
                place.join(AUTH_JSON).display()
            ));
            view.trash = Some(place);
        }
        if !self.dry_run {
            note(context, None)?;
        }
        ui.document("profile remove", &view);
        Ok(Outcome::Done)
    }

    /// Deleting the only copy of a login needs a yes. It is not the only one where all of them are
    /// of the account that is signed in, with a login that is as new.
    fn consent(
        &self,
        context: &Context,
        profiles: &Profiles,
        logins: &[DoomedLogin],
    ) -> Result<(), CommandError> {
        let settings = &context.settings;
        let home = profiles
            .named(&self.name)
            .ok()
            .and_then(|p| p.live_in(&settings.codex_home));
        let live = home.and_then(|home| AuthFile::read(&home.join(AUTH_JSON)).ok());
        let is_live = live.as_ref().and_then(AuthFile::login).is_some_and(|live| {
            logins.iter().all(|login| {
                let is_own = login
                    .of
                    .as_ref()
                    .is_some_and(|of| of.is_same(&live.identity));
                is_own && !login.freshness.is_newer_than(&live.freshness)
            })
        });
        let name = printable(&self.name);
        let whose = whose(logins);
        let question = format!("delete {name} for good: {whose}? This may be the only copy");
        if is_live || settings.assume_yes || context.ui.confirm(question) == Some(true) {
            return Ok(());
        }
        Err(CommandError::refused(format!(
            "{name}, with what the trash has of that name, may be the only copy: {whose}"
        ))
        .hint("--yes deletes it all the same; without --purge it goes to the trash; nothing was changed"))
    }
}

/// "the logins of a@x.com, b@x.com".
fn whose(logins: &[DoomedLogin]) -> String {
    let label = |login: &DoomedLogin| match &login.of {
        Some(of) => printable(of.email.as_str()),
        None => "an account that cannot be read".into(),
    };
    let accounts: BTreeSet<_> = logins.iter().map(label).collect();
    if accounts.is_empty() {
        return "no login".into();
    }
    let accounts: Vec<_> = accounts.into_iter().collect();
    format!("the logins of {}", accounts.join(", "))
}

fn folders(count: usize) -> String {
    match count {
        1 => "1 folder".into(),
        n => format!("{n} folders"),
    }
}
