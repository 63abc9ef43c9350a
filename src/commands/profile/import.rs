//! `profile import`: merges an export of another machine into the manager home.

use crate::commands::profile::export::read_passphrase;
use crate::commands::profile::import_switcher::import_logins;
use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::steps::home_checks::check_logins_allowed;
use crate::ui::{Style, Ui};
use crate::views::account::{printable, warn_all};
use crate::views::left_out::warn_not_transferred;
use clap::Args;
use codex_manager_core::accounts::switchers::Switcher;
use codex_manager_core::inventory::remedies;
use codex_manager_core::io::{Staging, pluralize, shell, staging};
use codex_manager_core::transfer::merge::{self, ArchiveOutcome, ConfigOutcome, ImportPlan};
use codex_manager_core::transfer::profiles::{ImportOptions, LoginOutcome};
use codex_manager_core::transfer::seal::{DecryptionKey, ExportInput, Passphrase};
use codex_manager_core::transfer::{TransferError, reader};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Import a file that `profile export` wrote on another machine, or the logins of another account switcher
///
/// The whole file is checked before anything is changed. Profiles are matched by account; the newer
/// login and the newer quota figures win. No archive is overwritten. Importing the same file again
/// changes nothing. Import logins on one machine only: a login that is used on two machines stops
/// working on both.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager profile import laptop.export
  codex-manager profile import laptop.age            # asks for the passphrase
  codex-manager profile import laptop.age --identity key.txt --dry-run
  codex-manager profile import --from codex-auth")]
pub(super) struct ProfileImportArgs {
    /// The export to import; with --from the folder of that program [default: where it keeps its logins]
    #[arg(value_name = "FILE", required_unless_present = "from")]
    file: Option<PathBuf>,
    /// Import all logins of another account switcher; its files stay as they are
    #[arg(long, value_name = "SWITCHER", conflicts_with_all = ["identity", "passphrase_file"])]
    from: Option<Switcher>,
    /// The file with the private key, as written by age-keygen
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    identity: Option<PathBuf>,
    /// A file whose first line is the passphrase; - reads standard input
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Check the file and show what would be done; write nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
}

/// The JSON output. Its keys are a stable interface.
#[derive(Debug, Serialize)]
struct ImportView<'a> {
    file: String,
    #[serde(flatten)]
    plan: &'a ImportPlan,
    live: &'a [String],
    dry_run: bool,
}

impl ProfileImportArgs {
    pub(super) fn run(self, context: &Context) -> Result<Outcome> {
        check_logins_allowed(context, &[context.manager_home()])?;

        if let Some(switcher) = self.from {
            let folder = self.file.as_deref();
            return import_logins(switcher, folder, self.dry_run, context);
        }

        // The parser requires FILE without --from.
        let path = context.env.absolute(&self.file.clone().unwrap_or_default());
        let input = ExportInput::open(&path)?;
        let key = self.read_decryption_key(&input, &path, context)?;
        let decrypted = input.unlock(&path, key.as_ref())?;

        let home = context.manager_home();
        let tmp_folder = home.join("tmp");
        let staging = if self.dry_run {
            None
        } else {
            // Errors are ignored: leftovers only waste disk space, and the next backup reports them.
            let _ = staging::remove_stale(&tmp_folder);
            Some(Staging::create_in(&tmp_folder)?)
        };

        // The whole file is read before the first change, because its end may be missing.
        let package = {
            let bar = context.ui.growing_bar("checking");
            reader::read(decrypted, &path, staging.as_ref(), &bar)?
        };

        let options = ImportOptions {
            manager_home: home,
            codex_home: context.codex_home(),
            now: context.local_now(),
            zone: context.zone(),
        };

        if self.dry_run {
            let plan = merge::plan(&package, &options)?;
            let none_renewed = &[];
            self.print_changes(&plan, none_renewed, &path, context);
            return Ok(Outcome::partial_if(!plan.left.is_empty()));
        }

        let report = merge::apply(&package, &options)?;
        self.print_changes(&report.plan, &report.renewed, &path, context);
        warn_all(&context.ui, &report.warnings);
        for profile in &report.busy {
            context.warn(format_args!(
                "Codex kept the live login locked: {} has the newer login, but the Codex home still has the older one; run the same command again after Codex has ended",
                printable(profile)
            ));
        }
        Ok(Outcome::partial_if(
            !report.busy.is_empty() || !report.plan.left.is_empty(),
        ))
    }

    /// Returns the key that the flags name. Without flags, asks for a passphrase, or returns `None` if the file needs
    /// no passphrase.
    ///
    /// # Errors
    /// A key or passphrase cannot be read, or a passphrase is needed and the user cannot be asked.
    fn read_decryption_key(
        &self,
        input: &ExportInput,
        path: &Path,
        context: &Context,
    ) -> Result<Option<DecryptionKey>> {
        if let Some(file) = &self.identity {
            let key = DecryptionKey::read_identities(&context.env.absolute(file))?;
            return Ok(Some(key));
        }

        if let Some(file) = &self.passphrase_file {
            let passphrase = read_passphrase(file, context)?;
            return Ok(Some(DecryptionKey::Passphrase(passphrase)));
        }

        if !input.needs_passphrase() {
            return Ok(None);
        }
        let missing = || TransferError::NeedsPassphrase(path.to_path_buf());
        let typed = context.ui.ask_secret("passphrase:")?.ok_or_else(missing)?;
        let passphrase = Passphrase::from_bytes(&typed)?;
        Ok(Some(DecryptionKey::Passphrase(passphrase)))
    }

    /// Prints the changes, made or planned. `renewed` has the profiles whose imported login also replaced the login in
    /// the Codex home.
    fn print_changes(&self, plan: &ImportPlan, renewed: &[String], path: &Path, context: &Context) {
        let ui = &context.ui;
        let json = ImportView {
            file: path.display().to_string(),
            plan,
            live: renewed,
            dry_run: self.dry_run,
        };
        ui.document("profile import", &json);
        print_profiles(plan, renewed, ui);

        let archives = plan.archives.iter();
        let added_archives = archives.filter(|a| a.outcome == ArchiveOutcome::Added);
        let counts = [
            (plan.accounts.len(), "account", " with newer figures"),
            (added_archives.count(), "archive", ""),
            (plan.records, "record", " of legacy files"),
            (plan.observations, "recorded quota figure", ""),
            (plan.launches, "launch", ""),
        ];
        for (count, noun, detail) in counts.into_iter().filter(|(count, ..)| *count > 0) {
            ui.prose(format_args!("  {}{detail}", pluralize(count, noun)));
        }

        match plan.config {
            ConfigOutcome::Added => ui.line("  settings (config.toml)"),
            ConfigOutcome::Kept => {
                ui.note("config.toml differs; the local settings were kept");
            }
            ConfigOutcome::None | ConfigOutcome::Same => {}
        }

        warn_not_transferred(ui, "imported", &plan.left);

        // `Older` and `Unclear` are not in this list: they add a login to the history, which is a change.
        let are_profiles_known = plan
            .profiles
            .iter()
            .all(|p| !p.created && matches!(p.login, LoginOutcome::Same | LoginOutcome::None));
        let has_new_items = counts.iter().any(|(count, ..)| *count > 0);
        let has_new_config = plan.config == ConfigOutcome::Added;
        if are_profiles_known && !has_new_items && !has_new_config && plan.left.is_empty() {
            ui.line("nothing to import: everything is already present");
        }
    }
}

fn print_profiles(plan: &ImportPlan, renewed: &[String], ui: &Ui) {
    for profile in &plan.profiles {
        let name = ui.paint(Style::Strong, printable(&profile.profile));
        let email = printable(&profile.email);
        ui.prose(match profile.login {
            LoginOutcome::New => format!("{name}  {email}: with its login"),
            LoginOutcome::Newer => format!("{name}  {email}: with a newer login"),
            LoginOutcome::Same => format!("{name}  {email}: already has this login"),
            LoginOutcome::Returned => format!(
                "{name}  {email}: takes its login back; do not import this file on another machine"
            ),
            LoginOutcome::Older => format!(
                "{name}  {email}: the local login is newer; the exported one goes to the history"
            ),
            LoginOutcome::Unclear => format!(
                "{name}  {email}: kept the local login, because it is unclear whether the exported one is newer or still works"
            ),
            LoginOutcome::None if profile.created => {
                format!("{name}  {email}: created without a login, which is on another machine")
            }
            LoginOutcome::None => format!("{name}  {email}: already known"),
            LoginOutcome::InTrash => format!("{name}  {email}: stays in the trash, with the newest login"),
        });

        if profile.created && profile.name != profile.profile {
            ui.note(format_args!(
                "another account already has the profile {}, so this one is named {}",
                printable(&profile.name),
                printable(&profile.profile)
            ));
        }
        if profile.login == LoginOutcome::InTrash {
            ui.note(remedies::suggest_undo(&profile.profile));
        }
        if profile.login == LoginOutcome::Unclear {
            ui.note(format_args!(
                "sign in again to be sure: codex-manager profile login {}",
                shell::quote_if_needed(&profile.profile)
            ));
        }
        if renewed.contains(&profile.profile) {
            ui.line("  also replaced the older login of this account in the Codex home");
        }
    }
}
