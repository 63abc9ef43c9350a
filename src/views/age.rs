//! The age of a conversation in a list.

use crate::context::Context;
use chrono::{DateTime, Datelike as _, Utc};

const DAY_MINUTES: i64 = 24 * 60;

const FORTNIGHT_MINUTES: i64 = 14 * DAY_MINUTES;

/// Formats the time since the last change: "now", "5 min", "3 h", "13 d", else the date. `None` if the time is unknown.
pub(crate) fn format_age(updated_ms: Option<i64>, context: &Context) -> Option<String> {
    let at = DateTime::<Utc>::from_timestamp_millis(updated_ms?)?;
    let now = context.now();
    let minutes = (now - at).num_minutes();

    Some(match minutes {
        ..1 => "now".to_owned(),
        1..60 => format!("{minutes} min"),
        60..DAY_MINUTES => format!("{} h", minutes / 60),
        DAY_MINUTES..FORTNIGHT_MINUTES => format!("{} d", minutes / DAY_MINUTES),
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
