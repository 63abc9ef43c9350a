//! The age of a login, as `profile` shows it.

use crate::context::Context;
use crate::views::account::relative_time;
use chrono::{DateTime, Utc};
use codex_manager_core::codex::Freshness;

/// Returns the recorded time of the last renewal, or of the sign-in. Unlike [`Freshness::renewed_at`], does not correct
/// times of a wrong clock.
pub(super) fn recorded_renewal(freshness: &Freshness) -> Option<DateTime<Utc>> {
    freshness.last_refresh.or(freshness.issued_at)
}

pub(super) fn format_age_line(renewed_at: Option<DateTime<Utc>>, context: &Context) -> String {
    match renewed_at {
        Some(renewed_at) => {
            let ago = relative_time(&context.zone().at(&renewed_at), context);
            format!("  signed in or renewed {ago}")
        }
        None => "  its age is unknown".into(),
    }
}
