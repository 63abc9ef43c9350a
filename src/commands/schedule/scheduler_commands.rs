//! Runs commands of the scheduler and reports their errors.

use crate::commands::schedule::job_change::format_step;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::steps::run_program::{ProgramEnd, run_program};
use codex_manager_core::codex::Program;
use codex_manager_core::io::Environment;
use codex_manager_core::schedule::{Scheduler, SchedulerCommand};
use std::path::Path;
use std::time::{Duration, Instant};

/// The time limit for a scheduler to end a job before the job is loaded again.
const BUSY_TIMEOUT: Duration = Duration::from_secs(20);

const BUSY_POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Runs the steps in order. If a step fails, the hint of the error has `state_after_failure`, such as "the files of
/// the job were written", and the commands from the failed step on.
///
/// # Errors
/// A step without `may_fail` fails. The later steps are not run.
pub(super) fn run_steps(
    steps: &[SchedulerCommand],
    context: &Context,
    state_after_failure: &str,
) -> Result<()> {
    for (i, step) in steps.iter().enumerate() {
        let problem = match run_when_free(step, &context.env, BUSY_TIMEOUT) {
            Ok(end) => end.problem,
            Err(start_problem) => Some(start_problem),
        };
        let Some(problem) = problem else { continue };

        if step.may_fail {
            let command = step.words.join(" ");
            context.ui.detail(format_args!("{command}: {problem}"));
            continue;
        }

        let mut hint = format!("{state_after_failure}; run this in your desktop or login session:");
        for step in &steps[i..] {
            hint.push_str("\n  ");
            hint.push_str(&format_step(step, Scheduler::of_this_build()));
        }
        let message = format!("the scheduler command failed: {problem}");
        return Err(CommandError::failed(message).hint(hint));
    }
    Ok(())
}

/// Runs a command of the scheduler. Repeats the command, for at most `timeout`, while its exit code means that the
/// scheduler is busy.
fn run_when_free(
    step: &SchedulerCommand,
    env: &Environment,
    timeout: Duration,
) -> Result<ProgramEnd, String> {
    let deadline = Instant::now() + timeout;
    loop {
        let end = run_command(&step.words, env)?;
        let is_busy = end.code.is_some_and(|code| step.busy_codes.contains(&code));
        if !is_busy || Instant::now() >= deadline {
            return Ok(end);
        }
        std::thread::sleep(BUSY_POLL_INTERVAL);
    }
}

/// Runs a command of the scheduler. A command that starts but fails is not an error; [`ProgramEnd`] describes its
/// failure.
///
/// # Errors
/// The program cannot be found or started.
pub(super) fn run_command(words: &[String], env: &Environment) -> Result<ProgramEnd, String> {
    let (name, arguments) = words.split_first().ok_or("nothing to run")?;
    let program = Program::find(Some(Path::new(name)), env).map_err(|e| e.to_string())?;
    run_program(name, env.command(program.path()).args(arguments))
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;
    use codex_manager_core::schedule::{JobContext, JobKind, enable_commands};
    use std::os::unix::fs::PermissionsExt;

    /// Creates a launchctl that answers `bootstrap` with these exit codes, one after the other.
    fn launchctl(folder: &Path, codes: &str) -> Environment {
        let path = folder.join("launchctl");
        let script = format!(
            "#!/bin/sh\n\
             echo \"$1\" >>{0}/calls\n\
             [ \"$1\" = bootstrap ] || exit 3\n\
             set -- {codes}\n\
             shift $(($(grep -c bootstrap {0}/calls) - 1))\n\
             [ \"$1\" = 0 ] || echo \"Bootstrap failed: $1\" >&2\n\
             exit \"$1\"\n",
            folder.display()
        );
        std::fs::write(&path, script).expect("write");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("chmod");
        let path = std::env::join_paths([folder, Path::new("/bin"), Path::new("/usr/bin")]);
        let mut env = Environment::default().with("PATH", path.expect("a path"));
        env.home_dir = Some(folder.to_path_buf());
        env
    }

    #[test]
    fn a_launchd_job_is_loaded_again_while_the_old_one_ends_but_not_after_another_error() {
        for (codes, is_loaded, attempts) in [
            ("0", true, 1),
            ("5 37 0", true, 3),
            ("5 125 0", false, 2),
            ("125 0", false, 1),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let env = launchctl(folder.path(), codes);
            let context = JobContext {
                scheduler: Scheduler::Launchd,
                program: folder.path().join("codex-manager"),
                codex_home: folder.path().join("codex"),
                manager_home: folder.path().join("manager"),
                codex_bin: None,
                env: &env,
                user_id: 501,
            };
            let steps = enable_commands(JobKind::Backup, &context).unwrap();
            let mut ends = Vec::new();
            for step in &steps {
                ends.push(run_when_free(step, &env, BUSY_TIMEOUT).unwrap());
            }
            let last = &ends[1];
            assert_eq!(last.problem.is_none(), is_loaded, "{codes}: {last:?}");
            let calls = std::fs::read_to_string(folder.path().join("calls")).unwrap();
            assert_eq!(
                calls,
                format!("bootout\n{}", "bootstrap\n".repeat(attempts))
            );
        }
    }

    #[test]
    fn a_scheduler_that_stays_busy_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let env = launchctl(folder.path(), "5 5");
        let step = SchedulerCommand {
            words: ["launchctl", "bootstrap"].map(str::to_owned).into(),
            may_fail: false,
            busy_codes: &[5],
        };
        let end = run_when_free(&step, &env, Duration::ZERO).unwrap();
        assert_eq!(
            end.problem.as_deref(),
            Some("launchctl: Bootstrap failed: 5")
        );
    }
}
