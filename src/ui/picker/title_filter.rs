//! Finds the entries that have the words of the filter, or else its letters in order.

use super::listing::PickerListing;
use nucleo_matcher::Matcher;
use nucleo_matcher::pattern::{AtomKind, CaseMatching, Normalization, Pattern};
use std::cmp::Reverse;

/// A filter that examines the entries in steps, so that a key never waits for 50,000 entries.
#[derive(Debug, Default)]
pub(super) struct TitleFilter {
    query: String,
    words: Pattern,
    letters: Pattern,
    /// The number of entries that were examined, from the first one.
    examined_count: usize,
    /// Entries with all words of the query, or with an id that begins with it, in list order.
    pub with_words: Vec<usize>,
    /// Entries that lack a word of the query but contain its letters in order, the best first. The score is higher if
    /// the letters are closer together.
    with_letters: Vec<(Reverse<u32>, usize)>,
}

impl TitleFilter {
    pub(super) fn new(query: &str) -> Self {
        let (case, normalization) = (CaseMatching::Smart, Normalization::Smart);
        Self {
            words: Pattern::new(query, case, normalization, AtomKind::Substring),
            letters: Pattern::parse(query, case, normalization),
            query: query.to_owned(),
            ..Self::default()
        }
    }

    /// Examines the next entries, at most `count`.
    pub(super) fn examine(&mut self, listing: &PickerListing, matcher: &mut Matcher, count: usize) {
        let id_prefix = self.query.trim().to_lowercase();
        let end = listing.items.len().min(self.examined_count + count);

        for item in self.examined_count..end {
            let searched_text = listing.search_texts[item].slice(..);
            let has_words = self.words.score(searched_text, matcher).is_some();
            if has_words || listing.items[item].id.starts_with(&id_prefix) {
                self.with_words.push(item);
            } else if let Some(score) = self.letters.score(searched_text, matcher) {
                self.with_letters.push((Reverse(score), item));
            }
        }

        // The sort merges the new matches quickly, because the earlier ones are in order.
        self.with_letters.sort();
        self.examined_count = end;
    }

    pub(super) fn has_query(&self, query: &str) -> bool {
        self.query == query
    }

    /// Returns true if all entries were examined. An empty filter examines none.
    pub(super) fn is_finished(&self, listing: &PickerListing) -> bool {
        self.query.trim().is_empty() || self.examined_count >= listing.items.len()
    }

    /// Returns the entries that have the letters but not the words of the query, the best first.
    pub(super) fn with_letters(&self) -> impl Iterator<Item = usize> {
        self.with_letters.iter().map(|(_, item)| *item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::Style;
    use crate::ui::picker::PickerItem;
    use nucleo_matcher::Config;

    #[test]
    fn matches_of_single_letters_are_sorted_best_first_across_steps() {
        let names = ["p---a---r", "p-a-r", "other", "pa-r"];
        let item = |name: &&str| PickerItem::new(*name, vec![(Style::Plain, (*name).to_owned())]);
        let listing = PickerListing::new(names.iter().map(item).collect(), Vec::new());
        let mut matcher = Matcher::new(Config::DEFAULT);
        let mut filter = TitleFilter::new("par");
        for _ in names {
            filter.examine(&listing, &mut matcher, 1);
        }
        assert_eq!(filter.with_letters().collect::<Vec<_>>(), [3, 1, 0]);
    }
}
