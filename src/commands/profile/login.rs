//! `profile login`: lets Codex sign in in an empty home and saves the login as a profile.

use crate::commands::profile::login_age::recorded_renewal;
use crate::commands::profile::records::record_profiles;
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::steps::home_checks::{
    check_credential_store, check_logins_allowed, warn_if_live_elsewhere,
};
use crate::ui::{Style, object};
use crate::views::account::{printable, time_json};
use clap::Args;
use codex_manager_core::accounts::LiveHomeUpdate;
use codex_manager_core::accounts::new_login::{self, AdoptedLogin, LoginHome, LoginHomeContent};
use codex_manager_core::accounts::profile_ops::check_profile_name;
use codex_manager_core::codex::{Program, login_lock, sign_in};
use codex_manager_core::io::foreground::ForegroundExit;
use codex_manager_core::io::shell;
use std::ffi::OsString;

/// Sign in to another account and save it as a profile; the same as `login`
///
/// Runs `codex login` in an empty temporary home, so that no other account is signed out. If the
/// account has a profile, the login goes there. If it is the live account, the Codex home gets the new
/// login too, because the sign-in may invalidate the old one.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager profile login work
  codex-manager profile login work -- --device-auth
  printenv OPENAI_API_KEY | codex-manager profile login billed -- --with-api-key")]
pub(super) struct LoginArgs {
    /// The name of the profile
    #[arg(value_name = "NAME")]
    name: String,
    /// Arguments to pass to `codex login`
    #[arg(last = true, value_name = "ARGS")]
    arguments: Vec<OsString>,
    /// Show what would be done; do not sign in, write nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
}

impl LoginArgs {
    pub(super) fn run(self, context: &Context) -> Result<Outcome> {
        check_profile_name(&self.name)?;
        check_logins_allowed(context, &[context.manager_home()])?;

        let program = context.find_codex().map_err(|e| {
            CommandError::failed("cannot sign in without Codex")
                .because(e)
                .hint("install Codex, or name it with --codex-bin FILE; nothing was changed")
        })?;

        let profiles = context.profiles().list()?;
        let existing_profile = profiles
            .iter()
            .find(|p| p.name.to_lowercase() == self.name.to_lowercase());

        if self.dry_run {
            self.print_plan(context);
            return Ok(Outcome::Done);
        }

        if let Some(account) = existing_profile.and_then(|p| p.identity()) {
            context.note(format_args!(
                "{} is the profile of {}; sign in to that account",
                self.name,
                printable(account.email.as_str())
            ));
        }

        let (new_login, exit) = self.sign_in(&program, context)?;
        match new_login {
            Some(LoginHomeContent::Login(adopted)) => Ok(self.report(&adopted, exit, context)),
            Some(LoginHomeContent::Quarantined(copy)) => Err(CommandError::failed(
                "cannot read the login that codex login wrote",
            )
            .hint(format!("a copy is kept: {}", copy.display()))
            .hint("sign in again; update this program first if Codex is newer")),
            None => Err(no_login_error(exit)),
        }
    }

    /// Runs `codex login` in a home of its own, and saves the login that it wrote. In the Codex home, `codex login`
    /// would replace the live login. Signing out first is no alternative: `codex logout` of Codex 0.169 revokes the
    /// login on the server.
    fn sign_in(
        &self,
        program: &Program,
        context: &Context,
    ) -> Result<(Option<LoginHomeContent>, ForegroundExit)> {
        let (home, now) = (context.manager_home(), context.local_now());
        let login_home = LoginHome::create(home, &self.name, context.codex_home(), now)?;
        let home_path = login_home.codex_home();
        let exit = sign_in::run_codex_login(program, &home_path, &context.env, &self.arguments);

        // If `codex login` wrote a login and then failed, the login is still valid, so it is saved.
        let (now, patience) = (context.local_now(), login_lock::REFRESH_TIMEOUT);
        let new_login = login_home.adopt_and_remove(home, now, patience)?;
        let exit = exit.map_err(|e| {
            CommandError::failed(format!("cannot run: {}", program.path().display())).because(e)
        })?;
        Ok((new_login, exit))
    }

    fn print_plan(&self, context: &Context) {
        let arguments = self.arguments.iter();
        let arguments =
            arguments.map(|argument| format!(" {}", printable(&argument.to_string_lossy())));
        let arguments: String = arguments.collect();

        let not_signed_in = None;
        self.print_json(not_signed_in, context);
        context.ui.prose(format_args!(
            "would run codex login{arguments} in an empty home and save the login as {}",
            self.name
        ));
    }

    /// Prints the JSON document, in a dry run without a login. Its keys are an interface.
    fn print_json(&self, adopted: Option<&AdoptedLogin>, context: &Context) {
        let login = adopted.map(|adopted| &adopted.login);
        let at = login.and_then(|login| recorded_renewal(&login.freshness));

        let json = object()
            .with("profile", adopted.map_or(&self.name, |a| &a.saved.profile))
            .with("wanted", &self.name)
            .with("outcome", adopted.map(|adopted| adopted.saved.outcome))
            .with("email", login.map(|l| l.identity.email.to_string()))
            .with(
                "account_id",
                login.and_then(|l| l.identity.account_id.as_ref()),
            )
            .with("last_refresh", time_json(at, context))
            .with("live", adopted.map(|adopted| adopted.live))
            .with("dry_run", adopted.is_none());
        context.ui.document("profile login", &json);
    }

    /// Records the login in `cooldown.json`, prints it, and returns the outcome of the command.
    fn report(&self, adopted: &AdoptedLogin, exit: ForegroundExit, context: &Context) -> Outcome {
        let is_recorded = record_profiles(context) == Outcome::Done;
        self.print_json(Some(adopted), context);
        print_saved(adopted, context);
        if exit.code != Some(0) {
            context.warn(format_args!("codex login {}", describe_exit(exit)));
        }
        warn_if_renamed(adopted, context);

        let is_wanted_name = adopted.saved.profile.to_lowercase() == self.name.to_lowercase();
        Outcome::partial_if(!is_recorded || !is_wanted_name || adopted.live == LiveHomeUpdate::Busy)
    }
}

/// Prints the account and profile of a new login, and how to make it the live one.
fn print_saved(adopted: &AdoptedLogin, context: &Context) {
    let ui = &context.ui;
    let name = ui.paint(Style::Strong, printable(&adopted.saved.profile));
    ui.prose(format_args!(
        "signed in as {}; saved as the profile {name}",
        printable(adopted.login.identity.email.as_str())
    ));

    match (adopted.live, check_credential_store(context)) {
        // `use` is not suggested, because it refuses while Codex does not read auth.json.
        (LiveHomeUpdate::No, Err(e)) => {
            ui.warn(&e);
            for hint in &e.hints {
                ui.warn(hint);
            }
        }
        (LiveHomeUpdate::No, Ok(())) => {
            // `use` refuses an account that is live in another home.
            if !warn_if_live_elsewhere(&adopted.saved.profile, context) {
                ui.note(format_args!(
                    "switch to it: codex-manager use {}",
                    shell::quote_if_needed(&adopted.saved.profile)
                ));
            }
        }
        (LiveHomeUpdate::Renewed, _) => {
            ui.line("  the Codex home uses it too: the account is the live one");
        }
        (LiveHomeUpdate::Busy, _) => ui.warn(
            "Codex kept the live login locked, so the Codex home still has the older one; end \
            Codex, then run the same command again",
        ),
    }
}

/// Warns if the login was saved under a different name than the requested one.
fn warn_if_renamed(adopted: &AdoptedLogin, context: &Context) {
    let (saved_name, requested_name) = (
        printable(&adopted.saved.profile),
        printable(&adopted.requested_name),
    );

    if let Some(name_problem) = &adopted.name_problem {
        context.warn(format_args!(
            "{requested_name} {}, so the new login was saved as {saved_name}",
            printable(name_problem)
        ));
    } else if saved_name.to_lowercase() != requested_name.to_lowercase() {
        context.warn(format_args!(
            "the account already has the profile {saved_name}; to rename it: codex-manager profile rename {} {}",
            shell::quote_if_needed(&saved_name),
            shell::quote_if_needed(&requested_name)
        ));
    }
}

fn describe_exit(exit: ForegroundExit) -> String {
    match exit.code {
        Some(code) => format!("ended with exit code {code}"),
        None => "was ended by a signal".into(),
    }
}

/// Returns the error of a sign-in that wrote no auth.json.
fn no_login_error(exit: ForegroundExit) -> CommandError {
    if exit.interrupted {
        return CommandError::interrupted().hint("nothing was changed");
    }
    let message = match exit.code {
        Some(0) => "codex login succeeded, but wrote no auth.json".into(),
        _ => format!("codex login {}", describe_exit(exit)),
    };
    CommandError::failed(message)
        .hint("nothing was changed; see its arguments with: codex login --help")
}

/// Saves the login of each finished sign-in that a killed command did not save, and prints the outcome.
pub(super) fn recover_sign_ins(context: &Context) -> Result<()> {
    let recovered = new_login::recover_login_homes(
        context.manager_home(),
        context.local_now(),
        login_lock::REFRESH_TIMEOUT,
    )?;

    for recovered_login in recovered {
        match recovered_login {
            LoginHomeContent::Login(adopted) => {
                // A failure is printed as a warning, and does not stop the command.
                let _ = record_profiles(context);
                context.warn(format_args!(
                    "finished an interrupted sign-in: saved {} as the profile {}",
                    printable(adopted.login.identity.email.as_str()),
                    printable(&adopted.saved.profile)
                ));
                warn_if_renamed(&adopted, context);
            }
            LoginHomeContent::Quarantined(copy) => context.warn(format_args!(
                "cannot read the login that an interrupted sign-in left: {}",
                copy.display()
            )),
        }
    }
    Ok(())
}
