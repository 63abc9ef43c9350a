//! One account with its windows, as `status` and `current` show it.

use crate::context::Context;
use crate::ui::{Style, windows};
use crate::views::account::{full_time, printable};
use codex_manager_core::codex::Identity;
use codex_manager_core::io::Timestamp;
use codex_manager_core::quota::Observation;

/// The sentence in place of the figures of an API key.
pub(crate) const API_KEY_HAS_NO_QUOTA: &str =
    "an API key is billed by use and has no quota windows";

#[derive(Debug, Default)]
pub(crate) struct AccountReport<'a> {
    pub identity: Option<&'a Identity>,
    pub profile: Option<&'a str>,
    pub plan: Option<&'a str>,
    pub observation: Option<&'a Observation>,
    /// The end of the account's cooldown.
    pub next_available_at: Option<Timestamp>,
}

impl AccountReport<'_> {
    pub(crate) fn show(&self, context: &Context) {
        let (ui, zone, now) = (&context.ui, context.zone(), context.now());
        ui.prose(self.format_title(context));

        let is_billed_by_use = |identity: &Identity| identity.kind.is_billed_by_use();
        let Some(observation) = self.observation else {
            ui.line(if self.identity.is_some_and(is_billed_by_use) {
                API_KEY_HAS_NO_QUOTA
            } else {
                "quota unknown"
            });
            return;
        };

        for line in windows::format_window_lines(ui, observation, zone, &now) {
            ui.prose(line);
        }
        if observation.windows.is_empty() && observation.spend_cap.is_none() {
            ui.line("the server reports no quota windows");
        }
        if let Some(at) = self.next_available_at {
            ui.prose(format_args!("available again {}", full_time(&at, context)));
        }
        ui.prose(ui.paint(Style::Dim, windows::format_origin(observation, zone, &now)));
    }

    /// Returns "work (me@x.com, plus, acct-1)": the profile, else the email, and the other facts.
    fn format_title(&self, context: &Context) -> String {
        let Some(identity) = self.identity else {
            return "the live account is unknown".into();
        };

        let (email, account_id) = (identity.email.as_str(), identity.account_id.as_deref());
        let facts = [self.profile, Some(email), self.plan, account_id];
        let mut texts = facts.into_iter().flatten().map(printable);
        let name = texts.next().unwrap_or_default();
        let name = context.ui.paint(Style::Strong, name);

        let other_facts: Vec<_> = texts.collect();
        if other_facts.is_empty() {
            name
        } else {
            format!("{name} ({})", other_facts.join(", "))
        }
    }
}
