//! `profile save`: saves the live login, or one from a file, as a profile.

use crate::choices::archive_choice::find_archive;
use crate::commands::profile::login_age::{format_age_line, recorded_renewal};
use crate::commands::profile::records::{record_profiles, rename_in_settings};
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::steps::home_checks::{
    check_credential_store, check_logins_allowed, warn_if_live_elsewhere,
};
use crate::ui::{Style, object};
use crate::views::account::{printable, time_json};
use crate::views::dry_run::wording;
use clap::Args;
use codex_manager_core::accounts::profile::LoginCopy;
use codex_manager_core::accounts::profile_ops::{SavePlan, derive_default_name, plan_save};
use codex_manager_core::accounts::{SaveOutcome, source};
use codex_manager_core::codex::{AUTH_JSON, AuthFile, AuthSnapshot, Identity, Login, login_lock};
use std::path::PathBuf;

/// Save the live login, or one from a file, as a profile
///
/// An account has one profile. If it already exists, it is updated and gets this name. An older login
/// never replaces a newer one; it is added to the history.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager profile save work
  codex-manager profile save           # me@example.com becomes me
  codex-manager profile save work --from 2026-11-17-155500-me@x.com-codex.tar.gz
  codex-manager profile save old --from ~/dumps/21apr_me@x.com_auth.json")]
pub(super) struct SaveArgs {
    /// The name of the profile [default: the account's profile, else its email without the domain, or if that is taken
    /// or invalid, another one from its email]
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Save the login of this auth.json, legacy *_auth.json or archive instead of the live login
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Show what would be done; write nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
}

/// The hint for a live home without a usable login.
const SIGN_IN_HINT: &str = "name a file with --from FILE, or sign in: codex-manager profile login NAME; nothing was changed";

/// The hint for a file without a usable login.
const OTHER_FILE_HINT: &str = "name another auth.json or an archive; list archives with: codex-manager list-backups; nothing was changed";

impl SaveArgs {
    pub(super) fn run(self, context: &Context) -> Result<Outcome> {
        check_logins_allowed(context, &[context.manager_home()])?;
        let profiles = context.profiles();
        let (snapshot, login) = self.read_source_login(context)?;
        profiles.check_newest_not_in_trash(&login)?;
        let is_of_profile =
            |from: &PathBuf| profiles.is_saved_auth(&context.env.absolute(from), &login.identity);
        let copy = match &self.from {
            Some(from) if is_of_profile(from)? => LoginCopy::Owner,
            _ => LoginCopy::Ordinary,
        };

        // The first plan is made without locks, because a refused save must not leave lock files.
        let existing = profiles.list()?;
        let name = match &self.name {
            Some(name) => name.clone(),
            None => derive_default_name(&existing, &login.identity)?,
        };
        let plan = plan_save(&existing, &name, (&snapshot, &login), copy)?;
        let (plan, login, mut outcome) = if self.dry_run {
            (plan, login, Outcome::Done)
        } else {
            self.save_and_record(&name, &login.identity, copy, context)?
        };

        self.print_result(&plan, &login, copy, context);
        let mut changed_settings = Vec::new();
        if let Some(old_name) = &plan.renamed_from {
            let (names, settings_outcome) =
                rename_in_settings(old_name, &name, self.dry_run, context);
            changed_settings = names;
            outcome = outcome.or(settings_outcome);
        }

        let at = recorded_renewal(&login.freshness);
        let json = object()
            .with("profile", &plan.profile)
            .with("renamed_from", &plan.renamed_from)
            .with("settings", changed_settings)
            .with("outcome", plan.outcome)
            .with("email", login.identity.email.as_str())
            .with("account_id", &login.identity.account_id)
            .with("last_refresh", time_json(at, context))
            .with("dry_run", self.dry_run);
        context.ui.document("profile save", &json);
        Ok(outcome)
    }

    /// Locks the account `expected`, saves its login, and records the profile. Returns the plan and the login that were
    /// saved, and a partial outcome if `cooldown.json` could not be updated.
    fn save_and_record(
        &self,
        name: &str,
        expected: &Identity,
        copy: LoginCopy,
        context: &Context,
    ) -> Result<(SavePlan, Login, Outcome)> {
        let (profiles, now) = (context.profiles(), context.local_now());
        let _locks = profiles.lock_accounts(&[expected], now, login_lock::REFRESH_TIMEOUT)?;

        // Codex or another codex-manager may have changed the login before the locks were held.
        let (snapshot, login) = self.read_source_login(context)?;
        let found = &login.identity;
        if !found.is_same(expected) {
            let place = match &self.from {
                Some(from) => format!("account in {}", from.display()),
                None => "live account".to_owned(),
            };
            let message = format!("the {place} changed from {expected} to {found}");
            return Err(CommandError::failed(message)
                .hint("run the same command again; nothing was changed"));
        }

        let home = context.codex_home();
        let (plan, _report) = profiles.save_as(name, (&snapshot, &login), home, copy, now)?;
        let cooldown_outcome = record_profiles(context);
        Ok((plan, login, cooldown_outcome))
    }

    /// Reads the live login, or the one in the file or archive of `--from`.
    ///
    /// # Errors
    /// There is no login, it cannot be read, or Codex does not store the live one in auth.json.
    fn read_source_login(&self, context: &Context) -> Result<(AuthSnapshot, Login)> {
        let path = match &self.from {
            None => {
                // With the keyring, Codex deletes auth.json, so an existing file has an outdated login.
                check_credential_store(context)?;
                context.codex_home().join(AUTH_JSON)
            }
            Some(from) if from.to_string_lossy().ends_with(".tar.gz") => {
                find_archive(context, from, |record| record.archive.is_some())?
            }
            Some(from) => context.env.absolute(from),
        };

        let hint = match &self.from {
            Some(_) => OTHER_FILE_HINT,
            None => SIGN_IN_HINT,
        };
        let file = path.display();
        let mut error = match source::read_auth_or_archive(&path) {
            Ok(AuthFile::Present(snapshot)) => match snapshot.login.clone() {
                Some(login) => return Ok((snapshot, login)),
                None => CommandError::refused(format!("contains no login: {file}")),
            },
            Ok(AuthFile::Missing) => CommandError::failed(format!("no auth.json found: {file}")),
            Ok(AuthFile::Unreadable { reason, .. }) => {
                CommandError::refused(format!("not a valid auth.json ({reason}): {file}"))
            }
            // An error about the live file keeps its own hints.
            Err(e) if self.from.is_none() => return Err(e.into()),
            Err(e) => e.into(),
        };
        error.hints = vec![hint.into()];
        Err(error)
    }

    fn print_result(&self, plan: &SavePlan, login: &Login, copy: LoginCopy, context: &Context) {
        let ui = &context.ui;
        let name = ui.paint(Style::Strong, &plan.profile);
        let email = printable(login.identity.email.as_str());
        let word = |planned, done| wording(self.dry_run, planned, done);
        let (save_verb, update_verb) =
            (word("would save", "saved"), word("would update", "updated"));
        let rename_verb = word("would rename", "renamed");

        if let Some(old_name) = &plan.renamed_from {
            ui.prose(format_args!(
                "{rename_verb} {} to {name}",
                printable(old_name)
            ));
        }

        ui.prose(match plan.outcome {
            SaveOutcome::Created => {
                format!("{save_verb} the login of {email} to the profile {name}")
            }
            SaveOutcome::Updated => format!("{update_verb} {name} with the login of {email}"),
            SaveOutcome::Unchanged => format!("{name} already has this login of {email}"),
            SaveOutcome::KeptNewer => format!(
                "{name} has a newer login of {email}; this one {} to its history",
                word("would be added", "was added")
            ),
        });

        // A login that Codex does not renew has no age, and its copies do not invalidate each other.
        if !login.identity.kind.is_renewable() {
            return;
        }
        ui.prose(format_age_line(login.freshness.renewed_at(), context));
        if plan.takes_back {
            ui.prose(format_args!(
                "{name} {} its login back; do not import the export on another machine",
                word("would take", "takes")
            ));
        }

        match &self.from {
            None => {
                warn_if_live_elsewhere(&plan.profile, context);
            }
            // No warning: only codex-manager uses the file of the profile itself.
            Some(_) if copy == LoginCopy::Owner => {}
            // No warning: the older login only goes to the history.
            Some(_) if plan.outcome == SaveOutcome::KeptNewer => {}
            Some(from) => ui.note(format_args!(
                "from now on use this login only through codex-manager: a program that also uses {} \
                logs the account out",
                from.display()
            )),
        }
    }
}
