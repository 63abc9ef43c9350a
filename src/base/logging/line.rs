//! Formats a line of a log. Each event is one line, even if its values contain line breaks.

use crate::codex::redaction;
use crate::io::clock::Timestamp;
use serde_json::Value;
use std::fmt::Write;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// Readable text, followed by `key=value` pairs.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
    /// `key=value` pairs only (logfmt).
    Logfmt,
}

/// Returns the text of a field on one line and of limited length, without possible tokens.
pub(super) fn redact_field_text(name: &str, text: &str) -> String {
    // The name may mark the value as secret, as in `token=…`.
    let prefix = format!("{name}=");
    let redacted = redaction::printable(&format!("{prefix}{text}"));
    match redacted.strip_prefix(&prefix) {
        Some(value) => value.to_owned(),
        None => redaction::printable(text),
    }
}

#[derive(Debug)]
pub(super) struct LogRecord<'a> {
    pub(super) at: Timestamp,
    pub(super) severity: &'static str,
    pub(super) machine: &'a str,
    pub(super) pid: u32,
    pub(super) message: &'a str,
    pub(super) fields: &'a [(&'static str, Value)],
}

/// Formats a line, with its newline.
pub(super) fn format_line(record: &LogRecord<'_>, format: LogFormat) -> String {
    let mut line = match format {
        LogFormat::Text => format_text(record),
        LogFormat::Json => format_json(record),
        LogFormat::Logfmt => format_logfmt(record),
    };
    line.push('\n');
    line
}

fn format_time(record: &LogRecord<'_>) -> String {
    let uses_z = false;
    let at = record.at;
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, uses_z)
}

fn format_text(record: &LogRecord<'_>) -> String {
    let mut line = format!(
        "{} {:<7} [{} {}] {}",
        format_time(record),
        record.severity,
        record.machine,
        record.pid,
        record.message
    );
    for (name, value) in record.fields {
        let _ = write!(line, " {name}={}", quote_value(value));
    }
    line
}

fn format_logfmt(record: &LogRecord<'_>) -> String {
    let fields = list_fields(record, "msg").into_iter();
    let pairs = fields.map(|(name, value)| format!("{name}={}", quote_value(&value)));
    pairs.collect::<Vec<_>>().join(" ")
}

fn format_json(record: &LogRecord<'_>) -> String {
    let fields = list_fields(record, "message").into_iter();
    Value::Object(fields.collect()).to_string()
}

/// Returns the fields that every line has, then those of the event. A field of the event gets a prefix if every line
/// has a field of its name. `message_name` is the name of the message in the format of the line.
fn list_fields(record: &LogRecord<'_>, message_name: &str) -> Vec<(String, Value)> {
    let mut fields: Vec<(String, Value)> = vec![
        ("time".into(), format_time(record).into()),
        ("level".into(), record.severity.into()),
        ("machine".into(), record.machine.into()),
        ("pid".into(), record.pid.into()),
        (message_name.into(), record.message.into()),
    ];
    for (name, value) in record.fields {
        let is_taken = fields.iter().any(|(field_name, _)| field_name == name);
        let prefix = if is_taken { "event_" } else { "" };
        fields.push((format!("{prefix}{name}"), value.clone()));
    }
    fields
}

fn quote_value(value: &Value) -> String {
    let Value::String(text) = value else {
        return value.to_string();
    };
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !"\"=\\".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.clone();
    }
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(fields: &[(&'static str, Value)], format: LogFormat) -> String {
        format_line(
            &LogRecord {
                at: chrono::DateTime::parse_from_rfc3339("2026-11-20T13:00:00.25+01:00").unwrap(),
                severity: "WARNING",
                machine: "desk-1",
                pid: 7,
                message: "copied a \"file\"",
                fields,
            },
            format,
        )
    }

    #[test]
    fn each_format_writes_one_line_with_all_fields() {
        let fields = [
            ("path", redact_field_text("path", "a b=\\é").into()),
            ("bytes", 12.into()),
            ("ok", true.into()),
            ("level", redact_field_text("level", "x\ny").into()),
        ];
        insta::assert_snapshot!(record(&fields, LogFormat::Text), @r##"2026-11-20T13:00:00.250+01:00 WARNING [desk-1 7] copied a "file" path="a b=\\é" bytes=12 ok=true level="x y""##);
        insta::assert_snapshot!(record(&fields, LogFormat::Json), @r##"{"bytes":12,"event_level":"x y","level":"WARNING","machine":"desk-1","message":"copied a \"file\"","ok":true,"path":"a b=\\é","pid":7,"time":"2026-11-20T13:00:00.250+01:00"}"##);
        insta::assert_snapshot!(record(&fields, LogFormat::Logfmt), @r##"time=2026-11-20T13:00:00.250+01:00 level=WARNING machine=desk-1 pid=7 msg="copied a \"file\"" path="a b=\\é" bytes=12 ok=true event_level="x y""##);
    }

    #[test]
    fn every_format_redacts_tokens_and_line_breaks() {
        let secret = "sk-proj-0123456789";
        let fields = [
            ("token", redact_field_text("token", "short").into()),
            (
                "why",
                redact_field_text("why", &format!("401; body={secret}\nERROR forged")).into(),
            ),
        ];
        for format in [LogFormat::Text, LogFormat::Json, LogFormat::Logfmt] {
            let line = record(&fields, format);
            assert!(!line.contains("short") && !line.contains(secret), "{line}");
            assert_eq!(line.matches('\n').count(), 1, "{line}");
        }
    }
}
