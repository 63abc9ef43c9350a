//! The age of a conversation in a list.

use crate::context::Context;
use chrono::{DateTime, Datelike as _, Utc};

/// Formats the time since the last change: "now", "5 min", "3 h", "13 d", else the date. `None` if the time is unknown.
pub(crate) fn age_text(updated_ms: Option<i64>, context: &Context) -> Option<String> {
    let at = DateTime::<Utc>::from_timestamp_millis(updated_ms?)?;
    let now = context.now();
    let minutes = (now - at).num_minutes();
    Some(match minutes {
        ..1 => "now".to_owned(),
        1..60 => format!("{minutes} min"),
        60..1440 => format!("{} h", minutes / 60),
        1440..20160 => format!("{} d", minutes / 1440),
        _ => {
            let zone = context.zone();
            let (at, now) = (zone.at(&at), zone.at(&now));
            let format = if at.year() == now.year() {
                "%-d %b"
            } else {
                "%b %Y"
            };
            at.format(format).to_string()
        }
    })
}
