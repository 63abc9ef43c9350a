//! The times of a job's runs, in text.

use crate::schedule::Trigger;
use crate::ui::time;

pub(super) fn shown_when(when: Trigger) -> String {
    match when {
        Trigger::Every(secs) => {
            let span = chrono::Duration::seconds(i64::from(secs));
            format!("every {}", time::duration(span))
        }
        Trigger::Daily(hour, minute) => format!("daily at {hour:02}:{minute:02}"),
    }
}
