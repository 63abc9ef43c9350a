//! `current`: the account that Codex uses now. Asks nobody.

use super::account::{printable, with_profiles};
use crate::codex::auth::AuthFile;
use crate::codex::config::CodexConfig;
use crate::codex::daemon;
use crate::codex::home::AUTH_JSON;
use crate::codex::process::find_holders;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::ui::Style;
use clap::Args;
use serde::Serialize;

/// Show which account the Codex home is signed in as, and who uses it
///
/// Reads files; asks nobody, and looks at no conversation. Codex's background daemon and programs
/// that run already go on with the account that was signed in when they were started.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager current
  codex-manager current --json")]
pub struct CurrentArgs {}

/// The JSON document. Its keys are a contract.
#[derive(Debug, Serialize)]
struct CurrentView {
    email: Option<String>,
    account_id: Option<String>,
    profile: Option<String>,
    store: &'static str,
    daemon: Option<ProcessView>,
    processes: Vec<ProcessView>,
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
struct ProcessView {
    pid: Option<u32>,
    name: String,
    why: String,
}

impl CurrentArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// auth.json cannot be read for reasons of the file system, or a document is of a newer version.
    pub fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        let home = &context.settings.codex_home;
        let store = CodexConfig::read(home).store;
        let auth = AuthFile::read(&home.join(AUTH_JSON))?;
        let (accounts, _) = with_profiles(context)?;
        let live = accounts.into_iter().find(|a| a.current);
        let mut problem = match &auth {
            AuthFile::Present(snapshot) if snapshot.login.is_some() => None,
            AuthFile::Present(_) => Some("auth.json holds no login".to_owned()),
            AuthFile::Missing => Some("not signed in: there is no auth.json".to_owned()),
            AuthFile::Unreadable { reason, .. } => Some(format!("auth.json is {reason}")),
        };
        // Codex does not read the file, or may not: then it says nothing.
        let counts = store.reads_auth_json();
        if !counts {
            problem = Some(format!(
                "Codex keeps its login by cli_auth_credentials_store = \"{}\"; who is signed in is not known",
                store.name()
            ));
        }
        let live = live.filter(|_| counts);
        let running = daemon::find(home).map(|d| d.pid);
        let view = |holder: crate::codex::process::Holder| ProcessView {
            pid: holder.pid,
            name: holder.name,
            why: holder.why,
        };
        let (daemon, processes): (Vec<_>, Vec<_>) = find_holders(home, &[])
            .into_iter()
            .partition(|holder| holder.pid.is_some() && holder.pid == running);
        let who = live.as_ref().map(|a| &a.entry);
        let view = CurrentView {
            email: who.map(|w| w.identity.email.to_string()),
            account_id: who.and_then(|w| w.identity.account_id.clone()),
            profile: who.and_then(|w| w.profile.clone()),
            store: store.name(),
            daemon: daemon.into_iter().next().map(view),
            processes: processes.into_iter().map(view).collect(),
            problem,
        };
        context.ui.document("current", &view);
        show(&view, context);
        Ok(if view.email.is_some() {
            Outcome::Done
        } else {
            Outcome::FoundWanting
        })
    }
}

fn show(view: &CurrentView, context: &Context) {
    let ui = &context.ui;
    if let Some(email) = &view.email {
        let email = ui.paint(Style::Strong, printable(email));
        let facts: Vec<_> = [&view.profile, &view.account_id]
            .into_iter()
            .flatten()
            .map(|fact| printable(fact))
            .collect();
        if facts.is_empty() {
            ui.line(email);
        } else {
            ui.line(format_args!("{email} ({})", facts.join(", ")));
        }
    }
    if let Some(problem) = &view.problem {
        ui.line(problem);
    }
    for process in view.daemon.iter().chain(&view.processes) {
        let pid = process
            .pid
            .map_or(String::new(), |pid| format!("PID {pid}, "));
        ui.line(format_args!(
            "  {} ({pid}{})",
            printable(&process.name),
            printable(&process.why)
        ));
    }
    if view.daemon.is_some() || !view.processes.is_empty() {
        ui.note("what runs already keeps the account that was signed in when it was started");
    }
}
