//! Parses `/status` text that the user pasted from a terminal: the account, and the quota windows with
//! their resets.
//!
//! Accepted forms: the table of Codex 0.169 at any width, the same in the box (`│ … │`) of older
//! versions, `Email: …` with `Quota: 40% left (resets 15:55 on 24 Nov)`, which the Python
//! codex-manager reads, and the limits of the usage page (`5 hour usage limit`, `89% remaining`).
//! Times are local. They never have a year, and within 24 hours no day. A named limit has a heading
//! (`X limit:`) with its windows below, or one line (`X 5h limit: …`). Both get the limit id `X`.
//!
//! There are three steps: [`decode()`] converts bytes to text, `fields` joins lines to labelled values,
//! and the `StatusReader` interprets them. A value has to follow its grammar to the end. Text that is
//! cut off or garbled is refused, because a wrong figure is worse than none.

mod decode;
mod error;
mod fields;
mod figures;

pub use self::decode::decode;
pub use self::error::StatusTextError;

use self::fields::{Label, LimitLabel, StatusField};
use self::figures::{ResetContext, excerpt};
use crate::codex::window::{CODEX_LIMIT, CapKind, SpendCap, WEEKLY_MINUTES, Window};
use crate::io::ansi;
use crate::io::clock::Zone;
use chrono::{DateTime, Utc};

/// The longest text that is parsed, in bytes. A screen of `/status` is below 4 kB.
const MAX_BYTES: usize = 256 * 1024;

#[derive(Debug, Clone, PartialEq, Default)]
pub struct StatusText {
    /// The email of the account, if an account line shows it.
    pub email: Option<String>,
    /// The value of an account line without a readable email. The figures then may belong to any
    /// account, even if `email` is set.
    pub unreadable_account: Option<String>,
    /// The subscription plan, as shown.
    pub plan: Option<String>,
    /// The windows in the order of the text. Codex's own windows have the limit id `codex`.
    pub windows: Vec<Window>,
    /// The monthly credit limit, if it is used up.
    pub spend_cap: Option<SpendCap>,
}

/// Parses pasted `/status` text; `now` and `zone` complete its times.
///
/// A time without a day is the next one after `now`, or the last one before `now` if a window shorter than a day cannot
/// reset so late. A date without a year is the next one on which the window can reset, or the last one before `now` if
/// the text was pasted late. If daylight saving repeats a time, the first one after `now` counts. Of several screens,
/// the last one counts.
///
/// # Errors
/// The text is no `/status` text, is too long, or names two accounts; or one of its values is incomplete or invalid.
pub fn parse(text: &str, now: DateTime<Utc>, zone: Zone) -> Result<StatusText, StatusTextError> {
    if text.len() > MAX_BYTES {
        return Err(StatusTextError::TooLong(text.len()));
    }

    let mut reader = StatusReader {
        status: StatusText::default(),
        windows: Vec::new(),
        heading_limit_id: CODEX_LIMIT.to_owned(),
        context: ResetContext { now, zone },
    };

    for field in fields::split_fields(&ansi::to_plain_text(text)) {
        reader.apply_field(&field)?;
    }

    let mut status = reader.status;
    let windows = reader.windows.into_iter();
    status.windows = windows.map(|read_window| read_window.window).collect();
    if status.email.is_none() && status.windows.is_empty() && status.spend_cap.is_none() {
        return Err(StatusTextError::Nothing);
    }
    Ok(status)
}

struct StatusReader {
    /// The values that were read so far, without the windows.
    status: StatusText,
    windows: Vec<ReadWindow>,
    /// The limit id of the last heading.
    heading_limit_id: String,
    context: ResetContext,
}

struct ReadWindow {
    window: Window,
    /// True if the label marks this as a second window. Codex gives all windows of an unusual length the same label,
    /// except for this mark.
    is_secondary: bool,
    /// True if only an earlier screen of the text shows the window.
    is_of_earlier_screen: bool,
}

impl StatusReader {
    fn apply_field(&mut self, field: &StatusField) -> Result<(), StatusTextError> {
        match &field.label {
            Label::Account => self.apply_account(field),
            Label::Plan => {
                self.status.plan = Some(field.value()).filter(|plan| !plan.is_empty());
                Ok(())
            }
            Label::Quota => {
                let (limit_id, is_secondary) = (CODEX_LIMIT.to_owned(), false);
                self.apply_window(limit_id, Some(WEEKLY_MINUTES), is_secondary, field)
            }
            Label::Limit(limit) => self.apply_limit(limit, field),
        }
    }

    /// Begins a new screen, and stores its account.
    fn apply_account(&mut self, field: &StatusField) -> Result<(), StatusTextError> {
        // The account line is the first of a screen.
        self.heading_limit_id = CODEX_LIMIT.into();
        for earlier in &mut self.windows {
            earlier.is_of_earlier_screen = true;
        }
        self.status.spend_cap = None;

        let Some((email, plan)) = parse_account_value(&field.lines) else {
            self.status.unreadable_account = Some(excerpt(&field.value()));
            return Ok(());
        };

        if let Some(known_email) = &self.status.email
            && known_email.to_lowercase() != email.to_lowercase()
        {
            return Err(StatusTextError::TwoAccounts(known_email.clone(), email));
        }

        self.status.email = Some(email);
        if plan.is_some() {
            self.status.plan = plan;
        }
        Ok(())
    }

    /// Reads a heading, a window, or the monthly credit limit. Ignores sentences that only look like a limit.
    fn apply_limit(
        &mut self,
        limit: &LimitLabel,
        field: &StatusField,
    ) -> Result<(), StatusTextError> {
        if field.lines.is_empty() {
            // A heading; its windows follow.
            if limit.is_window() || limit.name.is_empty() {
                return Err(StatusTextError::CutOff(excerpt(field.label_text)));
            }
            self.heading_limit_id = build_limit_id(&limit.name);
            return Ok(());
        }

        let may_be_figure = if limit.is_window() {
            // False for "data not available yet" and "refreshing…".
            field.has_part_of_figure()
        } else {
            // False for pasted text of the conversation such as "the rate limit: 5 per minute".
            field.value().contains('%')
        };
        if !may_be_figure {
            return Ok(());
        }

        if limit.is_monthly_credit() {
            let minutes = None;
            let figure = self.context.parse_figure(&field.lines, minutes)?;
            self.status.spend_cap = (figure.used_percent >= 100.0).then_some(SpendCap {
                kind: CapKind::SpendLimit,
                resets_at: figure.resets_at,
            });
            return Ok(());
        }

        let limit_id = if limit.name.is_empty() {
            self.heading_limit_id.clone()
        } else {
            build_limit_id(&limit.name)
        };
        self.apply_window(limit_id, limit.minutes, limit.is_secondary, field)
    }

    /// Reads and stores a window. It replaces the same window of an earlier screen; different figures for one window in
    /// one screen are an error.
    fn apply_window(
        &mut self,
        limit_id: String,
        minutes: Option<u32>,
        is_secondary: bool,
        field: &StatusField,
    ) -> Result<(), StatusTextError> {
        let figure = self.context.parse_figure(&field.lines, minutes)?;
        let new_window = ReadWindow {
            window: Window {
                limit_id,
                minutes,
                used_percent: figure.used_percent,
                resets_at: figure.resets_at,
            },
            is_secondary,
            is_of_earlier_screen: false,
        };

        let same_window = self.windows.iter_mut().find(|old| {
            old.window.limit_id == new_window.window.limit_id
                && old.window.minutes == minutes
                && old.is_secondary == is_secondary
        });
        match same_window {
            None => self.windows.push(new_window),
            // A later screen replaces the figures of an earlier one.
            Some(old) if old.is_of_earlier_screen || old.window == new_window.window => {
                *old = new_window;
            }
            Some(_) => return Err(StatusTextError::TwoFigures(new_window.window.label())),
        }

        Ok(())
    }
}

/// Parses the email and the plan in the value of an account line: `alice@example.com (Plus)`.
///
/// Codex breaks a long email at any character. The end of an email on several lines is certain only if the plan
/// follows, so the plan is required. It is not returned, because its blanks are lost.
fn parse_account_value(lines: &[&str]) -> Option<(String, Option<String>)> {
    let [line] = lines else {
        let value: String = lines.concat().split_whitespace().collect();
        let (email, plan) = value.split_once('(')?;
        let is_complete = is_email(email) && plan.ends_with(')');
        return is_complete.then(|| (email.to_owned(), None));
    };

    let mut words = line.split_whitespace();
    let email = words.find(|word| is_email(word))?.to_owned();
    let after_email = words.collect::<Vec<_>>().join(" ");

    let plan = after_email
        .strip_prefix('(')
        .and_then(|plan| plan.strip_suffix(')'))
        .map(str::trim)
        .filter(|plan| !plan.is_empty());
    Some((email, plan.map(ToOwned::to_owned)))
}

fn is_email(word: &str) -> bool {
    const MAX_EMAIL_BYTES: usize = 320;
    word.len() <= MAX_EMAIL_BYTES
        && !word.chars().any(char::is_control)
        && word
            .split_once('@')
            .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@'))
}

/// Returns the limit id for the name of a limit. A status text has no ids, so the name serves as the id. Codex's own
/// limit gets the id that the server gives it.
fn build_limit_id(words: &[&str]) -> String {
    let name = words.join(" ");
    if name.eq_ignore_ascii_case(CODEX_LIMIT) {
        CODEX_LIMIT.into()
    } else {
        name
    }
}

#[cfg(test)]
mod tests;
