//! Counts the tokens of a conversation from the events of its rollout, each request once.
//!
//! After each request, Codex writes the sum of all tokens of the conversation. It writes the same sum again when only
//! the quota has changed. The sum of a fork begins with the sum of its original. Codex resets the sum when it estimates
//! the context anew, for example after a compaction. So the tokens of a request are the difference between two sums. If
//! there is no previous sum, or the sum was reset, the figures of the last request count, which Codex writes beside the
//! sum.

use crate::codex::rollout_lines::{RequestRecord, TokenEvent, TokenUsage};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// The last sum that Codex wrote.
    total: Option<TokenUsage>,
    /// True if the next new sum belongs to a request that was already counted by its record.
    is_already_counted: bool,
}

/// The flags in the first byte of an encoded tally.
const HAS_TOTAL: u8 = 1;
const IS_ALREADY_COUNTED: u8 = 2;

impl Tally {
    /// The length of [`Tally::to_bytes`].
    pub(crate) const STORED_BYTES: usize = 1 + 4 * size_of::<u64>();

    /// Returns the tokens that were used since the previous event. Returns zero for a repeated sum, and for the sum
    /// after a request that [`Self::count_request`] has already counted.
    pub(crate) fn count_event(&mut self, event: &TokenEvent) -> TokenUsage {
        let Some(total) = event.total else {
            return event.last.unwrap_or_default();
        };

        let previous = self.total.replace(total);
        if self.is_already_counted && previous != Some(total) {
            self.is_already_counted = false;
            return TokenUsage::default();
        }

        let last = event.last.unwrap_or(total);
        match previous {
            // Codex up to 0.150 begins at zero again when a conversation is resumed. So a sum that equals the tokens of
            // the last request is a new beginning, unless it repeats the previous sum. Without the figures of the last
            // request, only a lower sum is one.
            Some(previous) if previous != total && event.last == Some(total) => last,
            Some(previous) => total.checked_sub(previous).unwrap_or(last),
            None => last,
        }
    }

    /// Returns the tokens of a request of the conversation `thread_id`. Returns zero for a request that was copied from
    /// another conversation.
    pub(crate) fn count_request(&mut self, record: &RequestRecord, thread_id: &str) -> TokenUsage {
        // The sum in the record is not used: in a conversation that an older Codex began, Codex 0.169 starts this sum
        // at zero.
        self.is_already_counted = true;
        if record.thread_id.eq_ignore_ascii_case(thread_id) {
            record.usage
        } else {
            TokenUsage::default()
        }
    }

    /// Stores the sum of an event without counting any tokens, because the event was copied from another conversation.
    pub(crate) fn skip_copied(&mut self, event: &TokenEvent) {
        self.total = event.total.or(self.total);
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let total = self.total.unwrap_or_default();
        let mut flags = u8::from(self.is_already_counted) * IS_ALREADY_COUNTED;
        flags |= u8::from(self.total.is_some()) * HAS_TOTAL;
        let mut bytes = vec![flags];
        bytes.extend(total.parts().into_iter().flat_map(u64::to_le_bytes));
        bytes
    }

    /// Decodes the bytes of [`Tally::to_bytes`]. Returns an empty tally if the length is not [`Tally::STORED_BYTES`].
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let mut tally = Self::default();
        if bytes.len() != Self::STORED_BYTES {
            return tally;
        }

        tally.is_already_counted = bytes[0] & IS_ALREADY_COUNTED != 0;
        if bytes[0] & HAS_TOTAL != 0 {
            let (chunks, _) = bytes[1..].as_chunks::<8>();
            let mut numbers = chunks.iter().map(|bytes| u64::from_le_bytes(*bytes));
            let parts = std::array::from_fn(|_| numbers.next().unwrap_or_default());
            tally.total = Some(TokenUsage::from_parts(parts));
        }
        tally
    }
}

impl TokenUsage {
    /// Returns the tokens of input, cached input, output and reasoning, in this order.
    pub(crate) fn parts(self) -> [u64; 4] {
        [
            self.input_tokens,
            self.cached_input_tokens,
            self.output_tokens,
            self.reasoning_output_tokens,
        ]
    }

    /// Creates a usage from the parts in the order of [`Self::parts`], and computes the sum: cached input is a part of
    /// the input, and reasoning of the output. A sum that Codex writes is not used, because it may be an estimate of
    /// the context, which has no parts.
    pub(crate) fn from_parts([input, cached, output, reasoning]: [u64; 4]) -> Self {
        Self {
            input_tokens: input,
            cached_input_tokens: cached,
            output_tokens: output,
            reasoning_output_tokens: reasoning,
            total_tokens: input.saturating_add(output),
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        let (parts, added) = (self.parts(), other.parts());
        Self::from_parts(std::array::from_fn(|i| parts[i].saturating_add(added[i])))
    }

    /// Returns the difference between two sums, or `None` if any part decreased.
    fn checked_sub(self, previous: Self) -> Option<Self> {
        let mut differences = self.parts();
        for (part, previous_part) in differences.iter_mut().zip(previous.parts()) {
            *part = part.checked_sub(previous_part)?;
        }
        Some(Self::from_parts(differences))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    fn usage(input: u64, cached: u64, output: u64) -> TokenUsage {
        TokenUsage::from_parts([input, cached, output, 0])
    }

    fn event(total: Option<TokenUsage>, last: Option<TokenUsage>) -> TokenEvent {
        let at = DateTime::UNIX_EPOCH.fixed_offset();
        let windows = Vec::new();
        TokenEvent {
            at,
            windows,
            total,
            last,
        }
    }

    fn counted(events: &[(Option<TokenUsage>, Option<TokenUsage>)]) -> Vec<u64> {
        let mut tally = Tally::default();
        let counted = events.iter().map(|(total, last)| {
            tally = Tally::from_bytes(&tally.to_bytes());
            tally.count_event(&event(*total, *last)).total_tokens
        });
        counted.collect()
    }

    #[test]
    fn requests_are_differences_of_sums_and_repeated_sums_add_nothing() {
        let (a, b) = (usage(100, 20, 10), usage(300, 120, 25));
        let events = [
            (Some(a), Some(a)),
            (Some(a), Some(a)),
            (Some(b), Some(usage(200, 100, 15))),
            (Some(b), None),
        ];
        assert_eq!(counted(&events), [110, 0, 215, 0]);
    }

    #[test]
    fn a_sum_without_the_last_request_is_compared_with_the_previous_sum() {
        let sums = [1000, 3000, 3000, 700, 900].map(|input| (Some(usage(input, 0, 0)), None));
        assert_eq!(counted(&sums), [1000, 2000, 0, 700, 200]);
    }

    #[test]
    fn a_token_sum_that_restarts_is_counted_in_full_even_if_it_is_not_lower() {
        let (first, second) = (usage(100, 0, 10), usage(300, 0, 30));
        let events = [(Some(first), Some(first)), (Some(second), Some(second))];
        assert_eq!(counted(&events), [110, 330]);
    }

    #[test]
    fn only_the_last_request_of_the_first_sum_of_a_fork_is_counted() {
        let events = [
            (Some(usage(900, 0, 90)), Some(usage(100, 0, 10))),
            (Some(usage(1000, 0, 100)), Some(usage(100, 0, 10))),
        ];
        assert_eq!(counted(&events), [110, 110]);
    }

    #[test]
    fn only_the_last_request_of_a_sum_that_decreased_is_counted() {
        let estimate = TokenUsage {
            total_tokens: 258_400,
            ..TokenUsage::default()
        };
        let events = [
            (Some(usage(900, 0, 90)), Some(usage(900, 0, 90))),
            (Some(estimate), Some(estimate)),
            (Some(usage(50, 0, 5)), Some(usage(50, 0, 5))),
            (Some(usage(20, 0, 2)), Some(usage(20, 0, 2))),
            (Some(usage(10, 0, 1)), None),
        ];
        let parts: Vec<u64> = {
            let mut tally = Tally::default();
            let parts = events.iter().map(|(total, last)| {
                let used = tally.count_event(&event(*total, *last));
                used.input_tokens + used.output_tokens
            });
            parts.collect()
        };
        assert_eq!(parts, [990, 0, 55, 22, 11]);
    }

    #[test]
    fn request_records_are_counted_once_and_only_in_their_own_conversation() {
        let mut tally = Tally::default();
        let record = |thread: &str, used: TokenUsage| RequestRecord {
            thread_id: thread.to_owned(),
            usage: used,
        };
        let (a, b) = (usage(100, 0, 10), usage(200, 0, 20));
        let of_parent = record("parent", a);
        assert_eq!(
            tally.count_request(&of_parent, "Own"),
            TokenUsage::default()
        );
        assert_eq!(tally.count_request(&record("own", a), "Own"), a);
        // Codex writes the same request as a sum after the record.
        assert_eq!(tally.count_event(&event(Some(b), Some(a))).total_tokens, 0);
    }

    #[test]
    fn damaged_bytes_are_an_empty_tally() {
        assert_eq!(Tally::from_bytes(b"x"), Tally::default());
    }

    #[test]
    fn request_records_are_counted_once_in_a_conversation_of_an_older_codex() {
        let request = RequestRecord {
            thread_id: "own".into(),
            usage: usage(100, 0, 10),
        };
        let old = event(Some(usage(9000, 0, 90)), Some(usage(9000, 0, 90)));
        let mut tally = Tally::default();
        assert_eq!(tally.count_event(&old).total_tokens, 9090);
        for n in 1..=3 {
            assert_eq!(tally.count_request(&request, "own"), request.usage);
            // The quota is written again with the old sum, then the new sum of the whole conversation.
            let before = event(Some(usage(8900 + 100 * n, 0, 80 + 10 * n)), None);
            let sum = event(
                Some(usage(9000 + 100 * n, 0, 90 + 10 * n)),
                Some(request.usage),
            );
            for count in [&before, &sum, &sum] {
                tally = Tally::from_bytes(&tally.to_bytes());
                assert_eq!(tally.count_event(count), TokenUsage::default());
            }
        }
    }
}
