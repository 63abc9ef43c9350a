//! Checks of the launch registry: damaged lines, and running Codex programs whose account is no longer
//! the live one.

use super::check::Check;
use super::input::DoctorInput;
use crate::codex::config::read_login;
use crate::io::quantity::pluralize;
use crate::launch::record::LaunchRecord;
use crate::launch::registry::LaunchRegistry;

const ID: &str = "manager.launches";

/// Checks the registry. Returns `None` if no launch is recorded.
pub(crate) fn run_checks(input: &DoctorInput<'_>) -> Option<Check> {
    let launches = match LaunchRegistry::of(input.manager_home).read() {
        Ok(launches) => launches,
        Err(e) => {
            return Some(
                Check::fail(ID, e.to_string())
                    .because("new launches are not recorded, and resume cannot find the account"),
            );
        }
    };
    if launches.damaged_lines() > 0 {
        let lines = pluralize(launches.damaged_lines(), "line");
        return Some(
            Check::warn(ID, format!("{lines} of launches.jsonl cannot be read"))
                .because("those launches are not listed")
                .advised("no action is needed: the other lines are used"),
        );
    }
    if launches.is_empty() {
        return None;
    }
    let live = read_login(input.codex_home).ok();
    let live = live.as_ref().and_then(|live| live.login());
    let has_other_account = |record: &LaunchRecord| {
        let is_live = live.is_some_and(|live| live.identity.is_same(&record.identity));
        record.run.isolated_home.is_none() && !is_live && record.is_running()
    };
    let others: Vec<_> = launches
        .unsettled()
        .filter(has_other_account)
        .map(|record| record.identity.email.to_string())
        .collect();
    Some(if others.is_empty() {
        Check::ok(
            ID,
            format!("{} recorded", pluralize(launches.len(), "launch")),
        )
    } else {
        Check::warn(
            ID,
            format!(
                "a running Codex uses an account that is not the live one: {}",
                others.join(", ")
            ),
        )
        .because("it cannot renew its login")
        .fixed_by("codex-manager launches")
    })
}
