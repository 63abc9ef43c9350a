//! Writes a launchd agent of macOS: a property list, see launchd.plist(5).

use super::error::ScheduleError;
use super::job::{JobContext, JobDefinition, JobKind, Trigger};
use super::scheduler::SchedulerCommand;
use super::xml::escape_xml;
use crate::logging;
use std::fmt::Write;
use std::path::PathBuf;

/// The exit codes with which `launchctl bootstrap` fails while launchd is still ending the previous job: EIO (5), and
/// "operation already in progress" (37). `launchctl bootout` returns at once, although launchd gives the job's program
/// five seconds to end.
const STILL_ENDING: &[i32] = &[5, 37];

fn job_label(job: JobKind) -> String {
    format!("codex-manager.{}", job.name())
}

pub(super) fn plist_path(job: JobKind, context: &JobContext<'_>) -> Result<PathBuf, ScheduleError> {
    let home = context.env.home_dir.as_ref().ok_or(ScheduleError::NoHome)?;
    let name = format!("{}.plist", job_label(job));
    Ok(home.join("Library/LaunchAgents").join(name))
}

pub(super) fn render_plist(definition: &JobDefinition, context: &JobContext<'_>) -> String {
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \
         \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <!-- {} -->\n\
         <!-- Changes are lost when the job is installed again. -->\n\
         <plist version=\"1.0\">\n\
         <dict>\n",
        definition.format_marker_line()
    );

    let job = definition.options.job;
    push_entry(&mut text, "\t", "Label", &job_label(job));
    text.push_str("\t<key>ProgramArguments</key>\n\t<array>\n");
    for word in &definition.command {
        let _ = writeln!(text, "\t\t<string>{}</string>", escape_xml(word));
    }

    text.push_str("\t</array>\n\t<key>EnvironmentVariables</key>\n\t<dict>\n");
    for (variable, value) in &definition.environment {
        push_entry(&mut text, "\t\t", variable, value);
    }
    text.push_str("\t</dict>\n");

    let trigger = match definition.options.when {
        Trigger::Every(secs) => {
            format!("\t<key>StartInterval</key>\n\t<integer>{secs}</integer>\n")
        }
        Trigger::Daily(hour, minute) => format!(
            "\t<key>StartCalendarInterval</key>\n\t<dict>\n\
             \t\t<key>Hour</key>\n\t\t<integer>{hour}</integer>\n\
             \t\t<key>Minute</key>\n\t\t<integer>{minute}</integer>\n\t</dict>\n"
        ),
    };
    text.push_str(&trigger);

    // Without this key launchd discards standard error. `JobDefinition::new` has checked that the path of the manager
    // home is UTF-8.
    let logs = context.manager_home.join(logging::FOLDER);
    let errors = logs.join(format!("schedule-{}.err", job.name()));
    let errors = errors.to_string_lossy();
    push_entry(&mut text, "\t", "StandardErrorPath", &errors);

    // A property list has decimal integers only: 63 is the mask 077.
    text.push_str(
        "\t<key>ProcessType</key>\n\t<string>Background</string>\n\
         \t<key>Umask</key>\n\t<integer>63</integer>\n\
         </dict>\n</plist>\n",
    );
    text
}

fn push_entry(text: &mut String, indent: &str, key: &str, value: &str) {
    let (key, value) = (escape_xml(key), escape_xml(value));
    let _ = writeln!(text, "{indent}<key>{key}</key>");
    let _ = writeln!(text, "{indent}<string>{value}</string>");
}

pub(super) fn enable_commands(
    job: JobKind,
    context: &JobContext<'_>,
) -> Result<Vec<SchedulerCommand>, ScheduleError> {
    let domain = format!("gui/{}", context.user_id);
    let path = plist_path(job, context)?;
    let load = SchedulerCommand {
        busy_codes: STILL_ENDING,
        ..SchedulerCommand::new(&["launchctl", "bootstrap", &domain, &path.to_string_lossy()])
    };

    // launchd keeps the definition that it has loaded, and refuses a second one with the same label.
    let mut commands = disable_commands(job, context);
    commands.push(load);
    Ok(commands)
}

pub(super) fn disable_commands(job: JobKind, context: &JobContext<'_>) -> Vec<SchedulerCommand> {
    let target = format!("gui/{}/{}", context.user_id, job_label(job));
    let words = ["launchctl", "bootout", &target];
    vec![SchedulerCommand::ignoring_errors(&words)]
}
