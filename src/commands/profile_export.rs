//! `profile export`: the manager home as one file, for another machine.

use super::account::printable;
use super::profile::{check_store, update_cooldown};
use crate::accounts::profile::{Profile, Profiles};
use crate::codex::login_lock;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::io::progress::waiting_for_input;
use crate::io::quantity::pluralize;
use crate::io::secret::SecretBytes;
use crate::io::{IoContext, atomic};
use crate::transfer::export::{self, ExportOptions, ExportPlan, Left, MovedLogin};
use crate::transfer::handover::{self, Settled};
use crate::transfer::seal::{Key, Passphrase, SealFor};
use crate::ui::{Style, time};
use clap::Args;
use serde::Serialize;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

/// Write profiles, records, figures and settings to one file, for another machine
///
/// Logins go along with --with-logins alone, and then they are moved: a login that is used in two
/// places stops working in both, so the profiles here give theirs up and `use` refuses them. An
/// account that is signed in in a Codex home stays; switch to another one first. Logins and archives
/// are only written encrypted.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager profile export laptop.export
  codex-manager profile export laptop.age --with-logins # asks for a passphrase
  codex-manager profile export all.age --with-archives --recipient age1…")]
pub(super) struct ExportArgs {
    /// The file, which must not exist
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Move the logins of the profiles into it
    #[arg(long)]
    with_logins: bool,
    /// Take the archives along
    #[arg(long)]
    with_archives: bool,
    /// Encrypt it for the holder of this key of age (age1…); may be given again
    #[arg(long, value_name = "KEY", conflicts_with = "passphrase_file")]
    recipient: Vec<String>,
    /// Encrypt it with the passphrase in the first line of a file; - is standard input
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Show what would be done; write nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// The JSON document. Its keys are a contract.
#[derive(Debug, Serialize)]
struct ExportView<'a> {
    file: String,
    bytes: u64,
    encrypted: Option<&'static str>,
    files: usize,
    archives: usize,
    logins: &'a [MovedLogin],
    left: &'a [Left],
    dry_run: bool,
}

impl ExportArgs {
    pub(super) fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        let settings = &context.settings;
        if self.with_logins {
            // In a keyring nobody can see which login is live.
            check_store(context)?;
        }
        let file = context.env.absolute(&self.file);
        if file.symlink_metadata().is_ok() {
            return Err(crate::transfer::TransferError::Exists(file).into());
        }
        if !atomic::parent_of(&file).is_dir() {
            return Err(CommandError::failed(format!(
                "no such folder: {}",
                atomic::parent_of(&file).display()
            ))
            .hint("make it first, or name another; nothing was changed"));
        }
        let seal_for = self.seal_for(context)?;
        let options = ExportOptions {
            manager_home: &settings.manager_home,
            codex_home: &settings.codex_home,
            with_logins: self.with_logins,
            with_archives: self.with_archives,
            now: context.local_now(),
            zone: settings.zone,
        };
        let profiles = Profiles::of(&settings.manager_home);
        let all = if self.with_logins && !self.dry_run {
            profiles.list()?
        } else {
            Vec::new()
        };
        let newer = profiles.newer(&all);
        let is_newer = |p: &&Profile| newer.iter().any(|(name, _)| *name == p.name);
        let usable = all.iter().filter(|p| !is_newer(p));
        let accounts: Vec<_> = usable.filter_map(Profile::identity).collect();
        let _account_locks =
            profiles.lock_accounts(&accounts, options.now, login_lock::PATIENCE)?;
        let plan = {
            let bar = context.ui.bar("reading", 0);
            export::plan(&options, &bar)?
        };
        let mut view = ExportView {
            file: file.display().to_string(),
            bytes: plan.bytes(),
            encrypted: seal_for.name(),
            files: plan.manifest.files.len(),
            archives: plan.archives,
            logins: &plan.logins,
            left: &plan.left,
            dry_run: self.dry_run,
        };
        if !self.dry_run {
            view.bytes = write(&plan, &options, seal_for, &file, context)?;
        }
        context.ui.document("profile export", &view);
        show(&view, context);
        Ok(Outcome::partial_if(!view.left.is_empty()))
    }

    fn seal_for(&self, context: &Context) -> Result<SealFor, CommandError> {
        if !self.recipient.is_empty() {
            let keys = self.recipient.iter().map(|text| Key::parse(text));
            return Ok(SealFor::Recipients(keys.collect::<Result<_, _>>()?));
        }
        let holds_secrets = self.with_logins || self.with_archives;
        if let Some(file) = &self.passphrase_file {
            return Ok(SealFor::Passphrase(read_passphrase(file, context)?));
        }
        if !holds_secrets || self.dry_run {
            return Ok(SealFor::Everybody);
        }
        let first = context.ui.ask_secret("passphrase:");
        let second = first.as_ref().and_then(|_| context.ui.ask_secret("again:"));
        match (first, second) {
            (Some(first), Some(second)) if first == second => {
                Ok(SealFor::Passphrase(Passphrase::of(&first)?))
            }
            (Some(_), Some(_)) => Err(CommandError::usage("the passphrases differ")
                .hint("run the same command again; nothing was changed")),
            _ => Err(CommandError::usage(
                "logins and archives are only exported encrypted, and there is no passphrase",
            )
            .hint("give --passphrase-file FILE or --recipient KEY; nothing was changed")),
        }
    }
}

/// Writes the file; returns its length.
fn write(
    plan: &ExportPlan,
    options: &ExportOptions<'_>,
    seal_for: SealFor,
    file: &Path,
    context: &Context,
) -> Result<u64, CommandError> {
    let bytes = {
        let bar = context.ui.bar("writing", plan.bytes());
        export::write(plan, options, seal_for, file, &bar)?
    };
    if !plan.logins.is_empty() {
        update_cooldown(context, None)?;
    }
    Ok(bytes)
}

/// The passphrase in the first line of a file, or of standard input.
pub(super) fn read_passphrase(file: &Path, context: &Context) -> Result<Passphrase, CommandError> {
    if file != Path::new("-") {
        return Ok(Passphrase::read(&context.env.absolute(file))?);
    }
    let mut line = String::new();
    waiting_for_input(|| std::io::stdin().lock().take(1024).read_line(&mut line))
        .at("read", file)?;
    Ok(Passphrase::of(&SecretBytes::new(line.into_bytes()))?)
}

fn show(view: &ExportView<'_>, context: &Context) {
    let ui = &context.ui;
    let would = if view.dry_run { "would write" } else { "wrote" };
    let how = match view.encrypted {
        Some(key) => format!("encrypted to a {key}"),
        None if view.dry_run && !view.logins.is_empty() => "encrypted".into(),
        None => "not encrypted".into(),
    };
    ui.prose(format_args!(
        "{would} {}: {}, {how}",
        ui.paint(Style::Strong, &view.file),
        time::bytes(view.bytes)
    ));
    ui.prose(format_args!(
        "  {}, {} among them; {}",
        pluralize(view.files, "file"),
        pluralize(view.archives, "archive"),
        match view.logins.len() {
            0 => "no login".into(),
            n => pluralize(n, "login"),
        }
    ));
    let moved = if view.dry_run { "would move" } else { "moved" };
    for login in view.logins {
        ui.prose(format_args!(
            "  {moved} the login of {} ({})",
            printable(&login.profile),
            printable(&login.email)
        ));
    }
    for left in view.left {
        ui.warn(format_args!(
            "not exported: {}: {}",
            printable(&left.name),
            printable(&left.reason)
        ));
    }
    if view.dry_run {
        ui.note("dry run: nothing was written");
    } else if !view.logins.is_empty() {
        ui.note(format_args!(
            "the logins are in the file alone now; on one other machine: codex-manager profile import {}",
            view.file
        ));
    }
}

/// Settles exports that were killed while they moved logins.
pub(super) fn settle(context: &Context) -> Result<(), CommandError> {
    let profiles = Profiles::of(&context.settings.manager_home);
    let settled = handover::settle(&profiles)?;
    let mut changed = false;
    for (name, end) in &settled {
        let who = printable(name);
        match end {
            Settled::Moved(file) => {
                changed = true;
                context.ui.warn(format_args!(
                    "an interrupted export had finished: the login of {who} is in {}",
                    file.display()
                ));
            }
            Settled::TakenBack => {
                changed = true;
                context.ui.warn(format_args!(
                    "an interrupted export was undone: {who} has its login back"
                ));
            }
            Settled::Unknown(file) => context.ui.warn(format_args!(
                "an export of {who} was interrupted, and {} is not there: if it is nowhere else, take \
                 the login back with codex-manager profile save {who} --from {}",
                file.display(),
                profiles.folder_of(name).join("auth.json").display()
            )),
        }
    }
    if changed {
        update_cooldown(context, None)?;
    }
    Ok(())
}
