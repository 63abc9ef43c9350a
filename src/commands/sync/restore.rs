//! `sync restore`: puts back what a sync has overwritten.

use super::closing::{self, nobody_home};
use super::log;
use super::shared::{lock, read_config, registry, replica};
use crate::commands::closing::ClosingArgs;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::sync::config::SyncConfig;
use crate::sync::register::{Arrival, Change, Registry};
use crate::sync::restore::{self, RestorePlan};
use crate::sync::rollouts;
use crate::sync::scan::Side;
use crate::ui::time::bytes;
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::path::Path;

/// Put back what a sync has overwritten
///
/// What that replaces is kept first as well. The next sync takes what it finds: a conversation that
/// was only added to since grows again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager sync restore --dry-run
  codex-manager sync restore --from desk-20261120T120000Z --apply
  codex-manager sync restore --target cloud --apply")]
pub(super) struct RestoreArgs {
    /// The name of a snapshot in the folder of backups [default: the latest]
    #[arg(long, value_name = "NAME")]
    from: Option<String>,
    /// Where to
    #[arg(long, value_enum, default_value = "local")]
    target: TargetArg,
    /// Show what would be done; write nothing
    #[arg(long, conflicts_with = "apply")]
    dry_run: bool,
    /// Do it
    #[arg(long)]
    apply: bool,
    #[command(flatten)]
    closing: ClosingArgs,
}

/// A side, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TargetArg {
    /// The Codex home
    Local,
    /// The cloud folder
    Cloud,
}

#[derive(Serialize)]
struct RestoreJson<'a> {
    snapshot: &'a str,
    target: &'static str,
    files: Vec<&'a str>,
    bytes: u64,
    safety_snapshot: Option<String>,
    dry_run: bool,
}

impl RestoreArgs {
    pub(super) fn run(self, context: &Context, path: &Path) -> Result<Outcome, CommandError> {
        let config = read_config(context, path)?;
        let side = match self.target {
            TargetArg::Local => Side::Here,
            TargetArg::Cloud => Side::There,
        };
        let plan = restore::plan(&config, self.from.as_deref(), side)?;
        if self.dry_run || (!self.apply && config.dry_run_default) {
            self.show(context, &plan, None, true);
            if side == Side::Here {
                let ending = closing::plan_closing(context, &config, &self.closing);
                closing::say_closing(context, ending.as_ref());
            }
            return Ok(Outcome::Done);
        }
        log::logged(context, &config, || {
            self.apply(context, &config, &plan, side)
        })
    }

    fn apply(
        &self,
        context: &Context,
        config: &SyncConfig,
        plan: &RestorePlan,
        side: Side,
    ) -> Result<Outcome, CommandError> {
        let _lock = lock(&replica(context, config))?;
        if side == Side::Here {
            nobody_home(context, config, &self.closing)?;
        }
        let safety = restore::apply(plan, config, context.now())?;
        if side == Side::Here {
            let arrivals: Vec<_> = plan
                .files
                .iter()
                .filter_map(|kept| arrival(&kept.path))
                .collect();
            for note in registry(context, config).register(&config.local, &arrivals)? {
                context.ui.note(note);
            }
        }
        self.show(context, plan, safety, false);
        Ok(Outcome::Done)
    }

    fn show(&self, context: &Context, plan: &RestorePlan, safety: Option<String>, dry_run: bool) {
        let total: u64 = plan.files.iter().map(|kept| kept.size).sum();
        let target = match self.target {
            TargetArg::Local => "local",
            TargetArg::Cloud => "cloud",
        };
        let verb = if dry_run {
            "would put back"
        } else {
            "put back"
        };
        let ui = &context.ui;
        for kept in plan.files.iter().take(40) {
            ui.line(&kept.path);
        }
        ui.line(format_args!(
            "{verb} {} files ({}) of {} ({target})",
            plan.files.len(),
            bytes(total),
            plan.snapshot.name
        ));
        if let Some(safety) = &safety {
            ui.note(format_args!("what was there is in {safety}"));
        }
        let json = RestoreJson {
            snapshot: &plan.snapshot.name,
            target,
            files: plan.files.iter().map(|kept| &*kept.path).collect(),
            bytes: total,
            safety_snapshot: safety,
            dry_run,
        };
        ui.document("sync restore", &json);
    }
}

fn arrival(path: &str) -> Option<Arrival> {
    let key = rollouts::key(path)?;
    Some(Arrival {
        id: rollouts::id(&key)?,
        path: path.to_owned(),
        change: Change::Replaced,
        moved: true,
    })
}
