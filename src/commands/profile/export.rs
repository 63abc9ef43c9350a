//! `profile export`: writes the manager home to one file for another machine.

use crate::commands::profile::records::record_profiles_if;
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::steps::home_checks::check_credential_store;
use crate::ui::{Style, object, time};
use crate::views::account::printable;
use crate::views::dry_run::wording;
use crate::views::left_out::warn_not_transferred;
use clap::Args;
use codex_manager_core::accounts::Profile;
use codex_manager_core::codex::{AUTH_JSON, login_lock};
use codex_manager_core::io::progress::block_on_input;
use codex_manager_core::io::{IoContext, SecretBytes, atomic, pluralize, shell};
use codex_manager_core::transfer::TransferError;
use codex_manager_core::transfer::export::{self, ExportOptions, ExportPlan};
use codex_manager_core::transfer::handover::{self, MoveOutcome};
use codex_manager_core::transfer::seal::{
    Encryption, MAX_KEY_FILE_BYTES, Passphrase, parse_recipient,
};
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

/// Write profiles, quota figures, records of old logins and launches, and settings to one file for another machine
///
/// Logins are included only with --with-logins, and then they are moved: a login that is used on
/// two machines stops working on both, so the local profiles lose theirs and `use` refuses them.
/// The login of an account that a Codex home is signed in to stays; switch to another account
/// first. Logins and archives are always encrypted.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager profile export laptop.export
  codex-manager profile export laptop.age --with-logins # asks for a passphrase
  codex-manager profile export all.age --with-archives --recipient age1…")]
pub(super) struct ProfileExportArgs {
    /// The file to create; it must not exist
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Move the logins of the profiles into the file
    #[arg(long)]
    with_logins: bool,
    /// Include the archives below backups/
    #[arg(long)]
    with_archives: bool,
    /// Encrypt for the owner of this age key (age1…); repeatable
    #[arg(long, value_name = "KEY", conflicts_with = "passphrase_file")]
    recipient: Vec<String>,
    /// Encrypt with the passphrase in the first line of this file; - reads standard input
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Show what would be done; write nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
}

impl ProfileExportArgs {
    pub(super) fn run(self, context: &Context) -> Result<Outcome> {
        if self.with_logins {
            // With a keyring, the live login cannot be determined.
            check_credential_store(context)?;
        }

        let file = self.resolve_destination(context)?;
        let encryption = self.choose_encryption(context)?;

        let options = ExportOptions {
            manager_home: context.manager_home(),
            codex_home: context.codex_home(),
            with_logins: self.with_logins,
            with_archives: self.with_archives,
            now: context.local_now(),
            zone: context.zone(),
        };

        let profiles = context.profiles();
        // Only a move of logins needs locks.
        let all_profiles = if self.with_logins && !self.dry_run {
            profiles.list()?
        } else {
            Vec::new()
        };

        // The plan leaves out profiles that a newer version wrote, so these need no lock.
        let readable = all_profiles.iter().filter(|p| p.unusable.is_none());
        let accounts: Vec<_> = readable.filter_map(Profile::identity).collect();
        // The locks are held to the end, so that no process changes a login between the plan and its move.
        let _account_locks =
            profiles.lock_accounts(&accounts, options.now, login_lock::REFRESH_TIMEOUT)?;

        let plan = export::plan(&options, &context.ui.growing_bar("reading"))?;

        let encryption_name = encryption.name();
        let file_bytes = if self.dry_run {
            plan.total_bytes()
        } else {
            let bar = context.ui.bar("writing", plan.total_bytes());
            export::write(&plan, &options, encryption, &file, &bar)?
        };

        let has_moved_logins = !self.dry_run && !plan.logins.is_empty();
        let cooldown_outcome = record_profiles_if(has_moved_logins, context);
        let json = object()
            .with("file", file.display().to_string())
            .with("bytes", file_bytes)
            .with("encrypted", encryption_name)
            .with("files", plan.manifest.files.len())
            .with("archives", plan.archives)
            .with("logins", &plan.logins)
            .with("left", &plan.left)
            .with("dry_run", self.dry_run);
        context.ui.document("profile export", &json);
        self.print_summary(&plan, &file, encryption_name, file_bytes, context);
        Ok(cooldown_outcome.or(Outcome::partial_if(!plan.left.is_empty())))
    }

    /// Returns the absolute path of the file to create. Fails if the file exists or its folder does not.
    fn resolve_destination(&self, context: &Context) -> Result<PathBuf> {
        let file = context.env.absolute(&self.file);
        if file.symlink_metadata().is_ok() {
            return Err(TransferError::Exists(file).into());
        }
        let folder = atomic::parent_of(&file);
        if !folder.is_dir() {
            let error = CommandError::failed(format!("no such folder: {}", folder.display()));
            return Err(error.hint("create the folder or choose another one; nothing was changed"));
        }
        Ok(file)
    }

    /// Returns the encryption that the flags name. Without a flag, asks the user for a passphrase if the file is to
    /// have logins or archives, and otherwise does not encrypt. A dry run does not ask, and returns no encryption.
    ///
    /// # Errors
    /// A key or passphrase is invalid, or a passphrase is needed and the user cannot be asked.
    fn choose_encryption(&self, context: &Context) -> Result<Encryption> {
        if !self.recipient.is_empty() {
            let keys = self.recipient.iter().map(|key| parse_recipient(key));
            return Ok(Encryption::Recipients(keys.collect::<Result<_, _>>()?));
        }

        if let Some(file) = &self.passphrase_file {
            return Ok(Encryption::Passphrase(read_passphrase(file, context)?));
        }
        if !self.has_secrets() || self.dry_run {
            return Ok(Encryption::Plain);
        }

        let questions = ["passphrase:", "again:"];
        let typed = context.ui.ask_new_secret("passphrase", questions)?;
        let typed = typed.ok_or_else(|| {
            CommandError::usage("an export of logins or archives needs a passphrase or a recipient")
                .hint("give --passphrase-file FILE or --recipient KEY; nothing was changed")
        })?;
        Ok(Encryption::Passphrase(Passphrase::from_bytes(&typed)?))
    }

    fn has_secrets(&self) -> bool {
        self.with_logins || self.with_archives
    }

    fn print_summary(
        &self,
        plan: &ExportPlan,
        file: &Path,
        encryption_name: Option<&str>,
        file_bytes: u64,
        context: &Context,
    ) {
        let ui = &context.ui;
        let wrote_verb = wording(self.dry_run, "would write", "wrote");
        let moved_verb = wording(self.dry_run, "would move", "moved");

        let encryption_text = match encryption_name {
            Some(key) => format!("encrypted with a {key}"),
            // A dry run asks for no passphrase, but the real run does, and encrypts the file.
            None if self.dry_run && self.has_secrets() => "encrypted".into(),
            None => "not encrypted".into(),
        };
        ui.prose(format_args!(
            "{wrote_verb} {}: {}, {encryption_text}",
            ui.paint(Style::Strong, file.display()),
            time::bytes(file_bytes)
        ));

        ui.prose(format_args!(
            "  {}, of which {}; {}",
            pluralize(plan.manifest.files.len(), "file"),
            pluralize(plan.archives, "archive"),
            match plan.logins.len() {
                0 => "no login".into(),
                n => pluralize(n, "login"),
            }
        ));

        for login in &plan.logins {
            ui.prose(format_args!(
                "  {moved_verb} the login of {} ({})",
                printable(&login.profile),
                printable(&login.email)
            ));
        }

        warn_not_transferred(ui, "exported", &plan.left);

        if !self.dry_run && !plan.logins.is_empty() {
            ui.note(format_args!(
                "only the file has the logins now; import it on one other machine: codex-manager profile import {}",
                shell::quote_if_needed(&file.to_string_lossy())
            ));
        }
    }
}

/// Reads the passphrase of an export from the first line of a file, or of standard input for `-`.
pub(super) fn read_passphrase(file: &Path, context: &Context) -> Result<Passphrase> {
    if file != Path::new("-") {
        return Ok(Passphrase::read(&context.env.absolute(file))?);
    }

    let mut line = String::new();
    block_on_input(|| {
        std::io::stdin()
            .lock()
            .take(MAX_KEY_FILE_BYTES)
            .read_line(&mut line)
    })
    .at("read", file)?;

    let line = SecretBytes::new(line.into_bytes());
    Ok(Passphrase::from_bytes(&line)?)
}

/// Finishes or undoes each export that was killed while it moved logins, and prints the outcome.
pub(super) fn recover_exports(context: &Context) -> Result<()> {
    let profiles = context.profiles();
    let moves = handover::finish_interrupted(&profiles)?;
    for (name, outcome) in &moves {
        let profile_name = printable(name);
        context.warn(match outcome {
            MoveOutcome::Moved(file) => format!(
                "an interrupted export was complete: the login of {profile_name} is in {}",
                file.display()
            ),
            MoveOutcome::Returned => {
                format!("an interrupted export was undone: {profile_name} has its login again")
            }
            MoveOutcome::Unknown(file) => format!(
                "an export of {profile_name} was interrupted, and {} does not exist: connect its disk; if the file is \
                 nowhere else either, restore the login: codex-manager profile save {profile_name} --from {}",
                file.display(),
                shell::quote_if_needed(&profiles.folder_of(name).join(AUTH_JSON).to_string_lossy())
            ),
        });
    }

    // A move with an unknown outcome stays pending in its profile.
    let is_unknown = |outcome: &MoveOutcome| matches!(outcome, MoveOutcome::Unknown(_));
    let has_changed_profile = moves.iter().any(|(_, outcome)| !is_unknown(outcome));
    // A failure is printed as a warning, and does not stop the command.
    let _ = record_profiles_if(has_changed_profile, context);
    Ok(())
}
