//! `demo`: runs the real commands on a sample home in a temp folder.

mod sample;

use crate::config::file::ConfigFile;
use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::ui::{Style, object};
use clap::Args;
use codex_manager_core::io::{IoContext, IoError, atomic, file_open, tree};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::Path;

/// Try backup, restore, switching, sync and search on a sample home
///
/// Creates a Codex home and old login files in a temp folder. Then runs normalize, cooldown, recommend
/// and backup, damages the home, restores it, verifies the archive, switches between two accounts,
/// syncs the conversations to a second home, and searches them there. Needs neither Codex nor an
/// account, and does not touch your homes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager demo
  codex-manager demo --keep      # keeps the folder")]
pub(crate) struct DemoArgs {
    /// Keep the temp folder
    #[arg(long)]
    keep: bool,
}

/// The commands to try next, in the user's own home.
const NEXT_COMMANDS: [&str; 3] = [
    "codex-manager backup",
    "codex-manager profile save personal",
    "codex-manager sync init --cloud ~/Dropbox/codex",
];

impl DemoArgs {
    /// Runs all steps and compares the conversations before and after. The outcome is a failed check if they differ, or
    /// if `config.toml` is not restored.
    ///
    /// # Errors
    /// A command of the demo failed, or the temp folder cannot be written.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        let parent = context.env.temp_dir();
        let temp_folder = tempfile::Builder::new()
            .prefix("codex-manager-demo-")
            .tempdir_in(&parent)
            .at("create a folder in", &parent)?;

        let result = Demo::new(context, temp_folder.path())?.run_steps();
        if self.keep {
            let kept_folder = temp_folder.keep();
            context.note(format_args!(
                "kept the folder of the demo: {}",
                kept_folder.display()
            ));
        }
        result
    }
}

struct Demo<'a> {
    /// The context of the user, which prints the headings and the JSON document.
    context: &'a Context,
    /// The context of the steps, with the sample homes.
    step_context: Context,
    folder: &'a Path,
    /// The commands in JSON. Their keys are an interface.
    steps: Vec<Value>,
}

impl<'a> Demo<'a> {
    fn new(context: &'a Context, temp_folder: &'a Path) -> Result<Self> {
        let mut settings = context.settings.clone();
        settings.codex_home = temp_folder.join("codex-home");
        settings.manager_home = temp_folder.join("manager-home");
        // The result must not depend on the settings of the user, and no step may wait for an answer.
        settings.codex_bin = None;
        settings.assume_yes = true;
        settings.preferences = ConfigFile::default().validate()?.preferences;

        let mut ui = if context.ui.wants_json() {
            context.ui.silenced()
        } else {
            context.ui.clone()
        };
        // Commands in hints must not repeat the homes that the user named, because the steps have others.
        ui.home_options = Vec::new();

        let step_context = Context {
            settings,
            clock: context.clock,
            // The sample must not write into the databases of the user. A pager would wait for a key.
            env: context
                .env
                .without("CODEX_SQLITE_HOME")
                .with("PAGER", "cat"),
            ui,
            runner: context.runner,
            asks_before_switch: false,
        };

        Ok(Self {
            context,
            step_context,
            folder: temp_folder,
            steps: Vec::new(),
        })
    }

    fn run_steps(mut self) -> Result<Outcome> {
        let home = self.step_context.settings.codex_home.clone();
        let dumps_folder = self.folder.join("old-dumps");
        let now = self.context.now();

        self.print_heading(
            "A sample Codex home with three conversations, and files of three old logins.",
        );
        sample::write_codex_home(&home, now)?;
        sample::write_legacy_dumps(&dumps_folder, now)?;

        self.print_heading("Import the old logins: when does each account have quota again?");
        self.run_step("normalize", &[dumps_folder.into_os_string()])?;
        self.run_step("cooldown", &[])?;
        self.print_heading("Which account should be used now?");
        self.run_step("recommend", &["--explain".into()])?;
        self.print_heading("Back up the whole home into one archive.");
        self.run_step("backup", &["--no-status".into()])?;

        let original = read_rollouts(&home)?;
        self.print_heading("Disaster: conversations, settings and the database are deleted.");
        for name in ["sessions", "config.toml", "state_5.sqlite"] {
            tree::remove(&home.join(name))?;
            self.context.ui.line(format_args!("  removed {name}"));
        }
        self.print_heading("Restore the newest archive.");
        self.run_step("restore", &["latest".into()])?;
        self.run_step("verify", &["--all".into()])?;
        let is_restored = read_rollouts(&home)? == original && home.join("config.toml").exists();
        self.print_verdict(
            is_restored,
            "All conversations are restored, byte for byte.",
        );

        self.save_and_switch(&home)?;
        self.sync_to_second_home()?;

        // `sync_to_second_home` has made the second home the current one.
        let second_home = &self.step_context.settings.codex_home;
        let is_synced = read_rollouts(second_home)? == original;
        self.print_verdict(is_synced, "The second machine has all conversations.");

        self.print_heading("Search in all conversations:");
        self.run_step("find", &["flaky".into(), "test".into()])?;

        self.print_heading("Next, with your own home:");
        for command in NEXT_COMMANDS {
            let ui = &self.context.ui;
            ui.line(ui.complete_command(2, command));
        }

        let json = object()
            .with("steps", &self.steps)
            .with("home_is_as_before", is_restored)
            .with("second_home_is_equal", is_synced);
        self.context.ui.document("demo", &json);
        Ok(Outcome::passed_if(is_restored && is_synced))
    }

    /// Saves two logins as profiles and switches to the first one.
    fn save_and_switch(&mut self, home: &Path) -> Result<()> {
        self.print_heading("Two accounts: name each login, then switch.");
        let save_arguments = |name: &str| ["save".into(), name.into()];
        self.run_step("profile", &save_arguments("personal"))?;
        sample::sign_in(home, "work", self.context.now())?;
        self.print_heading("Codex signs in as work@example.com.");
        self.run_step("profile", &save_arguments("work"))?;
        self.run_step("use", &["personal".into()])
    }

    /// Syncs the home to a second home through a shared folder. Later steps run in the second home.
    fn sync_to_second_home(&mut self) -> Result<()> {
        let shared = self.folder.join("shared-folder");
        let init = ["init".into(), "--cloud".into(), shared.into_os_string()];
        let run = ["run".into(), "--apply".into()];

        self.print_heading("Another machine: sync through a shared folder.");
        self.run_step("sync", &init)?;
        self.run_step("sync", &run)?;

        self.print_heading("On the second machine:");
        let settings = &mut self.step_context.settings;
        settings.codex_home = self.folder.join("second-codex-home");
        settings.manager_home = self.folder.join("second-manager-home");
        atomic::create_private_folder(&settings.codex_home)?;
        self.run_step("sync", &init)?;
        self.run_step("sync", &run)
    }

    /// Prints `success`, or that the comparison failed.
    fn print_verdict(&self, is_equal: bool, success: &str) {
        let ui = &self.context.ui;
        let verdict = if is_equal {
            ui.paint(Style::Good, success)
        } else {
            ui.paint(Style::Bad, "The home differs from the original.")
        };
        ui.print_hanging(0, format_args!("\n{verdict}"));
    }

    fn print_heading(&self, text: &str) {
        let ui = &self.context.ui;
        ui.print_hanging(0, format_args!("\n{}", ui.paint(Style::Strong, text)));
    }

    fn run_step(&mut self, name: &str, args: &[OsString]) -> Result<()> {
        let words: Vec<OsString> = std::iter::once(name.into()).chain(args.to_vec()).collect();
        let shown_words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        let command = format!("codex-manager {}", shown_words.join(" "));
        let ui = &self.context.ui;
        ui.line(ui.paint(Style::Dim, format_args!("$ {command}")));
        let outcome = self.step_context.run(&words)?;
        let step = json!({ "command": command, "exit_code": outcome.code() });
        self.steps.push(step);
        Ok(())
    }
}

/// Returns the file names and contents of all rollouts in `sessions/`, in a fixed order.
fn read_rollouts(home: &Path) -> Result<Vec<(OsString, Vec<u8>)>, IoError> {
    let mut rollouts = Vec::new();
    for entry in walkdir::WalkDir::new(home.join("sessions")).sort_by_file_name() {
        let entry = entry.map_err(std::io::Error::from).at("walk", home)?;
        if entry.file_type().is_file() {
            let bytes = file_open::read(entry.path()).at("read", entry.path())?;
            rollouts.push((entry.file_name().to_owned(), bytes));
        }
    }
    Ok(rollouts)
}
