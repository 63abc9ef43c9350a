//! `vault init`: creates a repository or opens an existing one.

use crate::choices::vault_connection::{ConnectionArgs, to_absolute_url};
use crate::config::file::ConfigFile;
use crate::config::{file_access, find_setting};
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result, STORE_PASSWORD};
use crate::ui::object;
use clap::Args;
use codex_manager_core::codex::redaction::redact_message;
use codex_manager_core::io::{Environment, SecretBytes, links};
use codex_manager_core::vault::fault::Fault;
use codex_manager_core::vault::password::{NamedPassword, Password};
use codex_manager_core::vault::restic::Restic;
use codex_manager_core::vault::{VaultError, snapshot, vault_folder};
use std::path::{Path, PathBuf};
use toml_edit::Value;

/// Create a vault, or open one that exists
///
/// Stores the repository in config.toml. A typed password is stored in a file of the manager home that
/// only you can read, so that scheduled backups work. Keep a copy of the password elsewhere: without it
/// the vault cannot be read.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager vault init /mnt/nas/codex
  codex-manager vault init sftp:me@nas:/codex --password-command 'pass codex'
  codex-manager vault init s3:s3.example.com/codex --password-file ~/.vault")]
pub(super) struct VaultInitArgs {
    /// The repository, a URL or a folder as for restic
    #[arg(value_name = "URL")]
    url: String,
    /// Show what would be done; make no connection, write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

struct OpenedRepository {
    /// False if the repository existed before.
    is_new: bool,
    snapshot_count: usize,
}

impl VaultInitArgs {
    pub(super) fn run(self, context: &Context, connection: &ConnectionArgs) -> Result<Outcome> {
        let url = to_absolute_url(context, &self.url);
        let configured_password = connection.find_password(context);
        let ui = &context.ui;
        let shown_url = redact_message(&url);
        self.check_url(&url)?;
        refuse_inside_homes(context, &url)?;
        warn_of_replaced_vault(context, &url);

        if self.dry_run {
            ui.report(format_args!("would create or open the vault {shown_url}"));
            let (source, not_opened) = (password_source(configured_password.as_ref()), None);
            print_json(context, &shown_url, source, not_opened);
            return Ok(Outcome::Done);
        }

        connection.check_program(context)?;
        let password = match configured_password {
            Some(password) => password,
            None => Password::Typed(ask_new_password(context)?),
        };
        let restic = connection.open_restic(context, url.clone(), password.clone())?;

        // Nothing is stored on this machine before the vault has opened with the password.
        let opened = OpenedRepository {
            is_new: create_unless_exists(&restic)?,
            // Also checks the password: an existing repository may have another one.
            snapshot_count: snapshot::list_snapshots(&restic)?.len(),
        };

        match &password {
            Password::Typed(typed) => store_password(context, typed)?,
            Password::Environment if !has_stored_password(context) => ui.note(format_args!(
                "the password is in a variable of restic and is not stored; for runs without the variable, {STORE_PASSWORD}"
            )),
            Password::Environment | Password::File(_) | Password::Command(_) => {}
        }
        save_settings(context, connection, url)?;

        let verb = if opened.is_new { "created" } else { "opened" };
        ui.report(format_args!("{verb} the vault {shown_url}"));
        ui.note("make a snapshot: codex-manager vault backup");
        let source = password_source(Some(&password));
        print_json(context, &shown_url, source, Some(&opened));
        Ok(Outcome::Done)
    }

    /// Refuses an empty URL, a URL with a password, and one of an unknown scheme. `url` is the absolute form of
    /// `self.url`.
    fn check_url(&self, url: &str) -> Result<()> {
        if matches!(&*self.url, "" | "local:") {
            let error = CommandError::usage("the URL of the vault is empty");
            return Err(error.hint("name a folder or a URL: codex-manager vault init URL"));
        }
        if has_password(url) {
            let shown_url = redact_message(url);
            let message = format!("the URL contains a password: {shown_url}");
            return Err(CommandError::usage(message).hint(
                "leave it out of the URL and set RESTIC_REST_USERNAME and RESTIC_REST_PASSWORD",
            ));
        }

        // `to_absolute_url` takes an unknown scheme for the name of a folder, and makes the URL a path.
        if self.url.contains("://") && url != self.url {
            let message = format!("not a URL of restic: {}", redact_message(&self.url));
            return Err(CommandError::usage(message)
                .hint("name the kind of storage first, as in rest:https://… or s3:https://…"));
        }
        Ok(())
    }
}

/// Returns true if the user part of the URL has a password.
fn has_password(url: &str) -> bool {
    let after_scheme = url.split_once("://").map_or("", |(_, after)| after);
    let authority = after_scheme.split('/').next().unwrap_or_default();
    let user_part = authority.rsplit_once('@').map_or("", |(user, _)| user);
    user_part.contains(':')
}

/// Returns the name of the password's source in JSON. Without a password, the user is asked.
fn password_source(password: Option<&Password>) -> &'static str {
    match password {
        Some(Password::File(_)) => "file",
        Some(Password::Command(_)) => "command",
        Some(Password::Environment) => "environment",
        Some(Password::Typed(_)) | None => "prompt",
    }
}

/// Prints the JSON document, in a dry run without an opened repository. `source` is that of the password.
fn print_json(context: &Context, url: &str, source: &str, opened: Option<&OpenedRepository>) {
    let json = object()
        .with("repository", url)
        .with("created", opened.map(|opened| opened.is_new))
        .with("snapshots", opened.map(|opened| opened.snapshot_count))
        .with("password", source)
        .with("dry_run", opened.is_none());
    context.ui.document("vault init", &json);
}

/// Returns true if a password is stored or configured, so that runs without the variables of restic find it.
fn has_stored_password(context: &Context) -> bool {
    let configured = &context.settings.preferences.vault.password;
    let (no_flags, no_variables) = (NamedPassword::default(), Environment::default());
    let folder = vault_folder(context.manager_home());
    Password::find(&no_flags, configured, &no_variables, &folder).is_some()
}

/// Stores a typed password in a file of the manager home.
fn store_password(context: &Context, typed: &SecretBytes) -> Result<()> {
    let path = Password::store(typed, &vault_folder(context.manager_home()))?;
    context.note(format_args!(
        "the password is stored in {}; keep a copy elsewhere",
        path.display()
    ));
    Ok(())
}

/// Refuses a vault in the Codex home, because every snapshot would contain the vault, and a vault in the manager home,
/// because the manager removes unknown files from some of its folders.
fn refuse_inside_homes(context: &Context, url: &str) -> Result<()> {
    let folder = Path::new(url);
    // A repository on a server has a URL instead of a path.
    if !folder.is_absolute() {
        return Ok(());
    }

    let homes = [
        ("Codex home", context.codex_home()),
        ("manager home", context.manager_home()),
    ];

    for (name, home) in homes {
        if links::lies_in(folder, home) {
            let message = format!("the vault would be in the {name}: {}", folder.display());
            return Err(
                CommandError::usage(message).hint("choose a folder on another disk or machine")
            );
        }
    }
    Ok(())
}

/// Warns if another vault is configured, because all later backups, including scheduled ones, go to the new vault.
fn warn_of_replaced_vault(context: &Context, url: &str) {
    let replaced = &context.settings.preferences.vault.repository;
    if let Some(replaced) = replaced.as_deref().filter(|replaced| *replaced != url) {
        context.ui.warn(format_args!(
            "this vault replaces {} in config.toml; the snapshots there stay as they are",
            redact_message(replaced)
        ));
    }
}

/// Creates the repository. Returns false if the repository exists already.
fn create_unless_exists(restic: &Restic) -> Result<bool, VaultError> {
    // By default, restic 0.14 creates format version 1, which has no compression.
    match restic.run(&["init", "--repository-version", "2"]) {
        Ok(_) => Ok(true),
        Err(VaultError::Restic {
            fault: Fault::Exists,
            ..
        }) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Stores the repository, and the program and password source of the flags, in `config.toml`.
fn save_settings(context: &Context, connection: &ConnectionArgs, url: String) -> Result<()> {
    let (password_file, password_command) = connection.password_options(context);
    let program = connection.named_program(context);
    let to_text = |path: PathBuf| path.to_string_lossy().into_owned();
    let values = [
        ("vault.repository", Some(url)),
        ("vault.password_file", password_file.map(to_text)),
        ("vault.password_command", password_command),
        ("vault.program", program.map(to_text)),
    ];

    file_access::update(context.manager_home(), |file: &mut ConfigFile| {
        for (name, value) in values {
            if let Some(value) = value {
                file.set(&find_setting(name)?, Value::from(value))?;
            }
        }
        Ok(())
    })
}

fn unusable_password_error(reason: &str) -> CommandError {
    CommandError::usage(format!("the password {reason}"))
        .hint("run the same command again with another password; nothing was changed")
}

/// Asks twice for a password.
///
/// # Errors
/// The user cannot be asked, the answers differ, or restic cannot use the password.
fn ask_new_password(context: &Context) -> Result<SecretBytes> {
    let questions = ["vault password:", "repeat the password:"];
    let password = context.ui.ask_new_secret("password", questions)?;
    let password = password.ok_or(VaultError::NoPassword)?;
    match std::str::from_utf8(password.expose()) {
        // restic removes spaces at both ends of a password that it reads from a file.
        Ok(text) if text.trim() == text => Ok(password),
        Ok(_) => Err(unusable_password_error("begins or ends with a space")),
        Err(_) => Err(unusable_password_error("is not UTF-8")),
    }
}
