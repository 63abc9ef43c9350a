//! Writes a task of the Windows Task Scheduler: XML in UTF-16, as the Task Scheduler itself writes it.

use super::job::{JobContext, JobDefinition, JobKind, Trigger};
use super::scheduler::SchedulerCommand;
use super::xml::escape_xml;
use std::path::PathBuf;

fn task_name(job: JobKind) -> String {
    format!("codex-manager-{}", job.name())
}

pub(super) fn task_file_path(job: JobKind, context: &JobContext<'_>) -> PathBuf {
    let name = format!("{}.xml", task_name(job));
    context.manager_home.join("schedule").join(name)
}

pub(super) fn render_task(definition: &JobDefinition) -> String {
    let (program, arguments) = definition.program_and_arguments();
    let arguments: Vec<_> = arguments.iter().map(|word| quote_argument(word)).collect();
    let trigger = render_trigger(definition.options.when);

    // With `StartWhenAvailable`, Windows makes up for a run that was missed while the machine was off.
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-16\"?>\n\
         <!-- {marker} -->\n\
         <Task version=\"1.2\" xmlns=\"http://schemas.microsoft.com/windows/2004/02/mit/task\">\n\
         \x20 <RegistrationInfo>\n\
         \x20   <Author>codex-manager</Author>\n\
         \x20   <Description>codex-manager {name}</Description>\n\
         \x20 </RegistrationInfo>\n\
         \x20 <Triggers>\n\
         {trigger}\n\
         \x20 </Triggers>\n\
         \x20 <Principals>\n\
         \x20   <Principal id=\"Author\">\n\
         \x20     <LogonType>InteractiveToken</LogonType>\n\
         \x20     <RunLevel>LeastPrivilege</RunLevel>\n\
         \x20   </Principal>\n\
         \x20 </Principals>\n\
         \x20 <Settings>\n\
         \x20   <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>\n\
         \x20   <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>\n\
         \x20   <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>\n\
         \x20   <StartWhenAvailable>true</StartWhenAvailable>\n\
         \x20   <Enabled>true</Enabled>\n\
         \x20 </Settings>\n\
         \x20 <Actions Context=\"Author\">\n\
         \x20   <Exec>\n\
         \x20     <Command>{program}</Command>\n\
         \x20     <Arguments>{arguments}</Arguments>\n\
         \x20   </Exec>\n\
         \x20 </Actions>\n\
         </Task>\n",
        marker = definition.format_marker_line(),
        name = definition.options.job.name(),
        program = escape_xml(program),
        arguments = escape_xml(&arguments.join(" ")),
    )
}

fn render_trigger(when: Trigger) -> String {
    // The Task Scheduler counts intervals from the start, which may be any time in the past.
    match when {
        Trigger::Every(secs) => format!(
            "    <TimeTrigger>\n\
             \x20     <Repetition>\n\
             \x20       <Interval>PT{secs}S</Interval>\n\
             \x20     </Repetition>\n\
             \x20     <StartBoundary>2026-01-01T00:00:00</StartBoundary>\n\
             \x20     <Enabled>true</Enabled>\n\
             \x20   </TimeTrigger>"
        ),
        Trigger::Daily(hour, minute) => format!(
            "    <CalendarTrigger>\n\
             \x20     <StartBoundary>2026-01-01T{hour:02}:{minute:02}:00</StartBoundary>\n\
             \x20     <Enabled>true</Enabled>\n\
             \x20     <ScheduleByDay>\n\
             \x20       <DaysInterval>1</DaysInterval>\n\
             \x20     </ScheduleByDay>\n\
             \x20   </CalendarTrigger>"
        ),
    }
}

/// Quotes an argument by the rules with which Windows programs split their command line.
fn quote_argument(word: &str) -> String {
    if !word.is_empty() && !word.contains([' ', '\t', '"']) {
        return word.to_owned();
    }

    let mut quoted = String::from("\"");
    for c in word.chars() {
        if c == '"' {
            double_backslashes_at_end(&mut quoted);
            quoted.push('\\');
        }
        quoted.push(c);
    }
    double_backslashes_at_end(&mut quoted);
    quoted.push('"');
    quoted
}

/// Doubles the backslashes before a quote, because Windows halves them.
fn double_backslashes_at_end(text: &mut String) {
    let count = text.len() - text.trim_end_matches('\\').len();
    text.push_str(&"\\".repeat(count));
}

/// Encodes `text` in UTF-16 (little endian) with a byte order mark and CRLF.
pub(super) fn encode_utf16(text: &str) -> Vec<u8> {
    std::iter::once(0xfeff)
        .chain(text.replace('\n', "\r\n").encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect()
}

/// Decodes UTF-16 (little endian) with a byte order mark, and keeps CRLF. Returns `None` for any other encoding.
pub(super) fn decode_utf16(bytes: &[u8]) -> Option<String> {
    let bytes = bytes.strip_prefix(&[0xff, 0xfe])?;
    let units: Vec<u16> = bytes
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    String::from_utf16(&units).ok()
}

pub(super) fn enable_commands(job: JobKind, context: &JobContext<'_>) -> Vec<SchedulerCommand> {
    let task = task_name(job);
    let path = task_file_path(job, context);
    let path = path.to_string_lossy();
    // `/F` replaces an existing task; without it schtasks asks on the terminal.
    let words = ["schtasks", "/Create", "/TN", &task, "/XML", &path, "/F"];
    vec![SchedulerCommand::new(&words)]
}

pub(super) fn disable_commands(job: JobKind) -> Vec<SchedulerCommand> {
    let words = ["schtasks", "/Delete", "/TN", &task_name(job), "/F"];
    vec![SchedulerCommand::ignoring_errors(&words)]
}
