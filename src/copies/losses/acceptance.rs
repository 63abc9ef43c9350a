//! The losses that the user accepted in the Codex home. The acceptance of a lost message or conversation ends when it is
//! live again.

use crate::context::Context;
use crate::copies::losses::live::LiveThreads;
use crate::error::Result;
use codex_manager_core::conversations::messages;
use codex_manager_core::inventory::losses::{self, AcceptedLosses};
use std::collections::BTreeSet;

pub(crate) struct LossAcceptance {
    /// The accepted losses of messages that are not live.
    pub accepted: AcceptedLosses,
    /// The messages that are live again.
    returned: AcceptedLosses,
    /// The conversations that were recorded or accepted as gone, and are live again.
    returned_ids: BTreeSet<String>,
}

impl LossAcceptance {
    /// Reads the record, and the live rollouts of the conversations in it.
    ///
    /// # Errors
    /// The record cannot be read, or is of a newer version.
    pub(crate) fn read(live: &LiveThreads, context: &Context) -> Result<Self> {
        let home = losses::home_key(context.codex_home());
        let record = losses::read(context.manager_home())?;
        let mut accepted = record.accepted_in(&home);
        let mut returned = AcceptedLosses::default();

        for id in accepted.ids() {
            // A rollout that cannot be read counts as one without messages.
            let rollouts = live.rollouts_of(id).iter();
            let messages = rollouts
                .flat_map(|rollout| messages::read_messages(&rollout.path).unwrap_or_default());
            let digests = messages.map(|message| message.dated_digest());
            let live_digests: BTreeSet<_> = digests
                .filter(|digest| accepted.contains(id, *digest))
                .collect();
            if !live_digests.is_empty() {
                returned.add(id, live_digests);
            }
        }

        accepted.remove_all(&returned);
        let mut returned_ids = record.accepted_gone_in(&home);
        returned_ids.extend(record.gone_from(&home).into_keys());
        returned_ids.retain(|id| live.0.contains_key(id));
        Ok(Self {
            accepted,
            returned,
            returned_ids,
        })
    }

    /// Removes messages and conversations that are live again from the record. Prints a warning if the record cannot be
    /// written.
    pub(crate) fn withdraw_returned(&self, context: &Context) {
        if self.returned.is_empty() && self.returned_ids.is_empty() {
            return;
        }
        let home = losses::home_key(context.codex_home());
        let change = |record: &mut losses::LossRecord| {
            record.withdraw_acceptance(&home, &self.returned);
            record.remove_returned(&home, &self.returned_ids);
        };
        if let Err(e) = losses::update(context.manager_home(), change) {
            let message = format_args!("cannot record that lost messages are live again: {e}");
            context.ui.warn(message);
        }
    }
}
