//! Matches the texts of entries with the filter.

use super::listing::PickerListing;
use nucleo_matcher::Matcher;
use nucleo_matcher::pattern::{AtomKind, CaseMatching, Normalization, Pattern};
use std::cmp::Reverse;

/// The operators of a pattern. A filter that is extended by one of them may match more entries than before.
const OPERATORS: [char; 5] = ['!', '^', '\'', '$', '\\'];

/// A filter that examines the entries in steps, so that a key never waits for 50,000 entries.
#[derive(Debug, Default)]
pub(super) struct TitleFilter {
    query: String,
    words: Pattern,
    letters: Pattern,
    /// The entries that may match, in their order.
    candidates: Vec<usize>,
    /// The number of examined candidates.
    examined: usize,
    /// Entries with all words of the query, or with an id that begins with it, in list order.
    pub with_words: Vec<usize>,
    /// Entries that lack a word of the query but contain its letters in order, the best first. The score is higher if
    /// the letters are closer together.
    with_letters: Vec<(Reverse<u32>, usize)>,
}

impl TitleFilter {
    /// Returns the filter for `query`. If `query` extends the query of `self`, the new filter examines only the matches
    /// of `self`.
    pub(super) fn narrowed(self, query: &str, listing: &PickerListing) -> Self {
        let (case, normalization) = (CaseMatching::Smart, Normalization::Smart);
        let is_longer = !self.query.is_empty() && query.starts_with(&self.query);
        let candidates = if query.trim().is_empty() {
            Vec::new()
        } else if is_longer && !query.contains(OPERATORS) {
            let letters = self.with_letters.iter().map(|(_, item)| *item);
            let mut matching: Vec<_> = self.with_words.iter().copied().chain(letters).collect();
            matching.sort_unstable();
            matching.extend(&self.candidates[self.examined..]);
            matching
        } else {
            (0..listing.items.len()).collect()
        };
        Self {
            words: Pattern::new(query, case, normalization, AtomKind::Substring),
            letters: Pattern::parse(query, case, normalization),
            query: query.to_owned(),
            candidates,
            ..Self::default()
        }
    }

    /// Examines the next candidates, at most `count`.
    pub(super) fn step(&mut self, listing: &PickerListing, matcher: &mut Matcher, count: usize) {
        let id = self.query.trim().to_lowercase();
        let end = self.candidates.len().min(self.examined + count);
        for item in &self.candidates[self.examined..end] {
            let text = listing.searched[*item].slice(..);
            let has_words = self.words.score(text, matcher).is_some();
            if has_words || listing.items[*item].id.starts_with(&id) {
                self.with_words.push(*item);
            } else if let Some(score) = self.letters.score(text, matcher) {
                self.with_letters.push((Reverse(score), *item));
            }
        }
        // The sort merges the new matches quickly, because the earlier ones are in order.
        self.with_letters.sort();
        self.examined = end;
    }

    pub(super) fn is_for(&self, query: &str) -> bool {
        self.query == query
    }

    pub(super) fn is_finished(&self) -> bool {
        self.examined == self.candidates.len()
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
        let mut filter = TitleFilter::default().narrowed("par", &listing);
        for _ in names {
            filter.step(&listing, &mut matcher, 1);
        }
        assert_eq!(filter.with_letters().collect::<Vec<_>>(), [3, 1, 0]);
    }

    #[test]
    fn a_longer_filter_examines_only_matches_of_the_shorter_one() {
        let item = |n: usize| {
            let name = format!(
                "{} {n}",
                if n.is_multiple_of(100) {
                    "parser"
                } else {
                    "other"
                }
            );
            PickerItem::new(n.to_string(), vec![(Style::Plain, name)])
        };
        let listing = PickerListing::new((0..50_000).map(item).collect(), Vec::new());
        let mut matcher = Matcher::new(Config::DEFAULT);
        let mut filter = TitleFilter::default().narrowed("par", &listing);
        assert_eq!(filter.candidates.len(), 50_000);
        filter.step(&listing, &mut matcher, 20_000);
        assert_eq!(
            (filter.with_words.len(), filter.is_finished()),
            (200, false)
        );
        // The rest has not been examined yet.
        let mut longer = filter.narrowed("pars", &listing);
        assert_eq!(longer.candidates.len(), 30_200);
        longer.step(&listing, &mut matcher, usize::MAX);
        assert_eq!((longer.with_words.len(), longer.is_finished()), (500, true));
        let longest = longer.narrowed("parser", &listing);
        assert_eq!(longest.candidates.len(), 500);
        assert_eq!(longest.narrowed("pars", &listing).candidates.len(), 50_000);
    }
}
