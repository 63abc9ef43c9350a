//! `demo`: the whole workflow, for real, on a sample home in a temp folder.

mod sample;

use crate::cli;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::io::{IoContext, IoError, tree};
use crate::ui::Style;
use clap::Args;
use serde::Serialize;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

/// See the whole workflow on a sample home
///
/// Builds a Codex home and dumps of old logins in a temp folder, then runs normalize, cooldown,
/// recommend and backup, damages the home, restores it and verifies the archive. Needs no Codex and
/// no account, and touches nothing of yours.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager demo
  codex-manager demo --keep      # leaves the folder to look at")]
pub struct DemoArgs {
    /// Leave the folder there
    #[arg(long)]
    keep: bool,
}

#[derive(Serialize)]
struct DemoJson {
    steps: Vec<StepJson>,
    home_is_as_before: bool,
}

#[derive(Serialize)]
struct StepJson {
    command: String,
    exit_code: u8,
}

impl DemoArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A step failed.
    pub fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        let temp = context.env.temp_dir();
        let world = tempfile::Builder::new()
            .prefix("codex-manager-demo-")
            .tempdir_in(&temp)
            .at("create a folder in", &temp)?;
        let result = Demo::new(context, world.path()).play();
        if self.keep {
            let kept = world.keep();
            context
                .ui
                .note(format_args!("the sample is in {}", kept.display()));
        }
        result
    }
}

struct Demo<'a> {
    context: &'a Context,
    inner: Context,
    dumps: std::path::PathBuf,
    steps: Vec<StepJson>,
}

impl<'a> Demo<'a> {
    /// The same world, with the sample's homes in the place of the user's.
    fn new(context: &'a Context, world: &Path) -> Self {
        let mut settings = context.settings.clone();
        settings.codex_home = world.join("codex-home");
        settings.manager_home = world.join("manager-home");
        settings.codex_bin = None;
        settings.assume_yes = true;
        let inner = Context {
            settings,
            clock: context.clock,
            env: context.env.without("CODEX_SQLITE_HOME"),
            ui: context.ui.without_json(),
        };
        Self {
            context,
            inner,
            dumps: world.join("old-dumps"),
            steps: Vec::new(),
        }
    }

    fn play(mut self) -> Result<Outcome, CommandError> {
        let home = self.inner.settings.codex_home.clone();
        let now = self.context.now();
        self.say("A sample Codex home with three conversations, and dumps of three old logins.");
        sample::codex_home(&home, now)?;
        sample::legacy_dumps(&self.dumps, now)?;

        let dumps = self.dumps.clone();
        self.say("Old dumps become records: when does each account have quota again?");
        self.step(&["normalize".into(), dumps.into_os_string()])?;
        self.step(&["cooldown".into()])?;
        self.say("Which account now?");
        self.step(&["recommend".into(), "--explain".into()])?;
        self.say("Everything into one archive.");
        self.step(&["backup".into(), "--no-status".into()])?;

        let before = conversations(&home)?;
        self.say("Disaster: conversations, settings and the database are gone.");
        for name in ["sessions", "config.toml", "state_5.sqlite"] {
            tree::remove(&home.join(name))?;
            self.context.ui.line(format_args!("  removed {name}"));
        }
        self.say("And back.");
        self.step(&["restore".into(), "latest".into()])?;
        self.step(&["verify".into(), "--all".into()])?;
        let same = conversations(&home)? == before && home.join("config.toml").exists();
        self.context.ui.line("");
        self.context.ui.line(if same {
            self.context
                .ui
                .paint(Style::Good, "Every conversation is back, byte for byte.")
        } else {
            self.context
                .ui
                .paint(Style::Bad, "The conversations are not what they were.")
        });
        let steps = std::mem::take(&mut self.steps);
        self.context.ui.document(
            "demo",
            &DemoJson {
                steps,
                home_is_as_before: same,
            },
        );
        Ok(if same {
            Outcome::Done
        } else {
            Outcome::FoundWanting
        })
    }

    fn say(&self, text: &str) {
        let ui = &self.context.ui;
        ui.line(format_args!("\n{}", ui.paint(Style::Strong, text)));
    }

    fn step(&mut self, args: &[OsString]) -> Result<(), CommandError> {
        let words: Vec<_> = args.iter().map(|a| a.to_string_lossy()).collect();
        let command = format!("codex-manager {}", words.join(" "));
        let ui = &self.context.ui;
        ui.line(ui.paint(Style::Dim, format_args!("$ {command}")));
        let outcome = cli::run_line(args, &self.inner)?;
        self.steps.push(StepJson {
            command,
            exit_code: outcome as u8,
        });
        Ok(())
    }
}

/// Every conversation with its bytes.
fn conversations(home: &Path) -> Result<Vec<(OsString, Vec<u8>)>, IoError> {
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(home.join("sessions")).sort_by_file_name() {
        let entry = entry.map_err(std::io::Error::from).at("walk", home)?;
        if entry.file_type().is_file() {
            let bytes = fs::read(entry.path()).at("read", entry.path())?;
            found.push((entry.file_name().to_owned(), bytes));
        }
    }
    Ok(found)
}
