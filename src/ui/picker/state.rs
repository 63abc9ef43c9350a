//! The entries of a picker, its filter and its selection. Knows nothing of the terminal.

use super::listing::PickerListing;
use super::options::{
    ContentMatch, ContentQuery, KeyEffect, Picked, PickerItem, PickerKey, PickerScope, PreviewQuery,
};
use super::title_filter::TitleFilter;
use crate::ui::Style;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use nucleo_matcher::Matcher;
use std::collections::HashSet;

/// The number of entries that are examined at once. Takes a few milliseconds, even with many words.
const ENTRIES_PER_STEP: usize = 1000;

/// The effect of a key on the picker as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PickerAction {
    Stay,
    Copy(String),
    Choose(Picked),
    Cancel,
}

#[derive(Default)]
pub(super) struct PickerState {
    listing: PickerListing,
    /// The position that is selected in the list with the initial filter, until the user moves.
    default_position: usize,
    initial_query: String,
    /// The index of the scope that Tab changes.
    scope: usize,
    query: String,
    filter: TitleFilter,
    /// The entries whose contents match the filter, the best first.
    content_matches: Vec<(usize, ContentMatch)>,
    /// True while another thread reads more entries or searches the contents of entries.
    is_awaiting_entries: bool,
    /// The indices of the matching items. First come those with all words of the filter, in the order of the list,
    /// so that they do not move while the user types; then those whose contents match; then those with the letters.
    matching: Vec<usize>,
    /// The number of matching items of each scope.
    scope_counts: Vec<usize>,
    /// The position of the selected entry in `matching`.
    selected: usize,
    /// True if the user has moved the selection since the last change of the filter.
    has_moved: bool,
    /// The first visible item, an index in `matching`.
    first_visible: usize,
    visible_rows: usize,
    /// The preview that arrived last, with its request.
    preview: Option<(PreviewQuery, Vec<(Style, String)>)>,
    notice: Option<String>,
    /// The question of [`KeyEffect::Ask`] that awaits an answer, with the choice that it is about.
    asked: Option<(&'static str, Picked)>,
    matcher: Matcher,
}

impl PickerState {
    pub(super) fn new(
        items: Vec<PickerItem>,
        default_position: usize,
        scopes: Vec<PickerScope>,
        initial_scope: usize,
    ) -> Self {
        let listing = PickerListing::new(items, scopes);
        let mut state = Self {
            default_position,
            scope: initial_scope.min(listing.scopes.len() - 1),
            listing,
            visible_rows: 1,
            ..Self::default()
        };

        state.update_matching();
        state.select_default();
        state
    }

    /// Replaces the entries by a list that has more of them. The query, the scope and the selected entry stay.
    pub(super) fn replace_entries(&mut self, listing: PickerListing) {
        let selected_id = self.selected().map(|item| item.id.clone());
        let scope_name = self.scope_name();
        let same_scope = listing.scopes.iter().position(|s| s.name == scope_name);
        self.scope = same_scope.unwrap_or(0);
        self.listing = listing;
        // The matches have indices of the former list. `content_query` changes with the number of entries, so the
        // contents are searched again.
        self.content_matches.clear();
        self.filter = TitleFilter::new(&self.query);
        self.examine_next_entries();
        if let Some(item) = selected_id.and_then(|id| self.listing.find_index(&id)) {
            self.select(Some(item));
        }
    }

    /// Returns the number of all entries, of all scopes.
    pub(super) fn entry_count(&self) -> usize {
        self.listing.items.len()
    }

    /// Returns the name of the scope; empty if there is only one.
    pub(super) fn scope_name(&self) -> &'static str {
        self.listing.scopes[self.scope].name
    }

    /// Returns the name of the scope with the number of its matching entries, and the same for the scope that Tab
    /// shows. With only one scope, returns the numbers of matching and of all entries, and an empty text.
    pub(super) fn format_counts(&self) -> (String, String) {
        let scopes = &self.listing.scopes;
        let label = |scope: usize| format!("{} {}", scopes[scope].name, self.scope_counts[scope]);
        if scopes.len() == 1 {
            let count = format!("{}/{}", self.matching.len(), self.entry_count());
            return (count, String::new());
        }
        let next = (self.scope + 1) % scopes.len();
        (label(self.scope), format!(" · tab: {}", label(next)))
    }

    pub(super) fn has_scopes(&self) -> bool {
        self.listing.scopes.len() > 1
    }

    pub(super) fn query(&self) -> &str {
        &self.query
    }

    pub(super) fn content_query(&self) -> ContentQuery {
        ContentQuery {
            text: self.query.clone(),
            scope: self.scope_name(),
            total: self.entry_count(),
        }
    }

    /// Returns the greatest width of each column, in terminal columns.
    pub(super) fn column_widths(&self) -> &[usize] {
        &self.listing.widths
    }

    pub(super) fn selected(&self) -> Option<&PickerItem> {
        let item = self.matching.get(self.selected)?;
        Some(&self.listing.items[*item])
    }

    pub(super) fn preview_query(&self) -> Option<PreviewQuery> {
        Some(PreviewQuery {
            id: self.selected()?.id.clone(),
            found: self.content_match().cloned(),
        })
    }

    /// Sets the paragraphs that answer a request. The entry of the request need not be selected.
    pub(super) fn set_preview(&mut self, query: PreviewQuery, paragraphs: Vec<(Style, String)>) {
        self.preview = Some((query, paragraphs));
    }

    /// Returns the paragraphs that describe the selected entry; none until they are loaded.
    pub(super) fn preview(&self) -> &[(Style, String)] {
        let wanted = self.preview_query();
        match &self.preview {
            Some((query, paragraphs)) if wanted.as_ref() == Some(query) => paragraphs,
            _ => &[],
        }
    }

    /// Returns the match in the content of the selected entry.
    pub(super) fn content_match(&self) -> Option<&ContentMatch> {
        let selected_item = self.matching.get(self.selected)?;
        let mut matches = self.content_matches.iter();
        let (_, content_match) = matches.find(|(item, _)| item == selected_item)?;
        Some(content_match)
    }

    /// Sets the entries whose content matches the filter, the best first.
    pub(super) fn set_content_matches(&mut self, matches: Vec<ContentMatch>) {
        // Comes first, because it removes the matches of an earlier query.
        self.apply_query();
        let hits = matches.into_iter();
        let listed_hits = hits.filter_map(|hit| Some((self.listing.find_index(&hit.id)?, hit)));
        self.content_matches = listed_hits.collect();
        self.update_list();
    }

    /// Tells the state if another thread still reads more entries or searches the contents of entries.
    pub(super) fn set_awaiting_entries(&mut self, is_awaiting_entries: bool) {
        if self.is_awaiting_entries != is_awaiting_entries {
            self.is_awaiting_entries = is_awaiting_entries;
            // `update_matching` reads `is_awaiting_entries` only if no entry of the scope matches.
            if self.matching.is_empty() || self.scope_counts[self.scope] == 0 {
                self.update_list();
            } else if !self.has_moved {
                // The default position may have been beyond the end while entries were missing.
                self.select_default();
            }
        }
    }

    /// Returns true if entries may be missing in the list: more may arrive, or not all were examined.
    pub(super) fn may_lack_entries(&self) -> bool {
        self.is_awaiting_entries || self.is_filtering()
    }

    /// Returns true if entries have not been examined yet.
    pub(super) fn is_filtering(&self) -> bool {
        !self.filter.has_query(&self.query) || !self.filter.is_finished(&self.listing)
    }

    /// Returns the message for the last line, if there is one.
    pub(super) fn notice(&self) -> Option<&str> {
        let question = self.asked.as_ref().map(|(question, _)| *question);
        question.or(self.notice.as_deref())
    }

    pub(super) fn set_notice(&mut self, notice: Option<String>) {
        self.notice = notice;
    }

    /// Sets the number of visible entries and scrolls to the selected one.
    pub(super) fn set_visible_rows(&mut self, rows: usize) {
        self.visible_rows = rows.max(1);
        let max_first_visible = self.matching.len().saturating_sub(self.visible_rows);
        let min_first_visible = (self.selected + 1).saturating_sub(self.visible_rows);
        self.first_visible = self
            .first_visible
            .clamp(min_first_visible, self.selected)
            .min(max_first_visible);
    }

    /// Returns the visible entries, each with true if it is the selected one.
    pub(super) fn visible_items(&self) -> impl Iterator<Item = (&PickerItem, bool)> {
        let entries = self.matching.iter().enumerate();
        let shown = entries.skip(self.first_visible).take(self.visible_rows);
        shown.map(|(i, item)| (&self.listing.items[*item], i == self.selected))
    }

    /// Changes the filter or the selection by a key. `command_keys` has the keys of the command.
    pub(super) fn handle_key(&mut self, key: KeyEvent, command_keys: &[PickerKey]) -> PickerAction {
        self.notice = None;
        if let Some((_, picked)) = self.asked.take() {
            let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
            let is_yes = matches!(key.code, KeyCode::Char('y' | 'Y')) && !is_control;
            return if is_yes {
                PickerAction::Choose(picked)
            } else {
                PickerAction::Stay
            };
        }

        if let Some(query) = self.edit_query(key) {
            // The next frame shows the new filter at once. `filter_more` examines the entries later.
            self.query = query;
            return PickerAction::Stay;
        }

        // All other keys act on the entries that match the filter, so the filter is applied first.
        self.apply_query();

        if key.modifiers.contains(KeyModifiers::CONTROL) {
            let command_key = command_keys
                .iter()
                .find(|command_key| key.code == KeyCode::Char(command_key.letter));
            if let Some(command_key) = command_key {
                return self.handle_command_key(command_key);
            }

            match key.code {
                KeyCode::Char('c' | 'g' | 'd') => return PickerAction::Cancel,
                KeyCode::Char('n' | 'j') => self.move_to(self.selected + 1),
                KeyCode::Char('p' | 'k') => self.move_to(self.selected.saturating_sub(1)),
                _ => {}
            }
            return PickerAction::Stay;
        }

        match key.code {
            KeyCode::Esc => return PickerAction::Cancel,
            KeyCode::Enter if self.selected().is_some() => {
                let letter = None;
                return PickerAction::Choose(self.build_picked(letter));
            }
            KeyCode::Tab => self.show_scope(self.scope + 1),
            KeyCode::BackTab => self.show_scope(self.scope + self.scope_counts.len() - 1),
            KeyCode::Up => self.move_to(self.selected.saturating_sub(1)),
            KeyCode::Down => self.move_to(self.selected + 1),
            KeyCode::PageUp => self.move_to(self.selected.saturating_sub(self.visible_rows)),
            KeyCode::PageDown => self.move_to(self.selected + self.visible_rows),
            KeyCode::Home => self.move_to(0),
            KeyCode::End => self.move_to(usize::MAX),
            _ => {}
        }
        PickerAction::Stay
    }

    /// Adds pasted text to the filter, with blanks for line ends and other control characters.
    pub(super) fn paste(&mut self, text: &str) {
        (self.notice, self.asked) = (None, None);
        let chars = text.trim_end().chars();
        self.query
            .extend(chars.map(|c| if c.is_control() { ' ' } else { c }));
    }

    /// Returns the filter after a key that edits it; `None` for other keys.
    fn edit_query(&self, key: KeyEvent) -> Option<String> {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('u') if is_control => Some(String::new()),
            KeyCode::Char('w') if is_control => {
                let without_word = self.query.trim_end().rsplit_once(' ');
                Some(without_word.map_or(String::new(), |(before, _)| format!("{before} ")))
            }
            KeyCode::Backspace => {
                let mut query = self.query.clone();
                query.pop();
                Some(query)
            }
            KeyCode::Char(c) if !is_control && !c.is_control() => {
                Some(format!("{}{c}", self.query))
            }
            _ => None,
        }
    }

    fn handle_command_key(&mut self, key: &PickerKey) -> PickerAction {
        let picked = self.build_picked(Some(key.letter));
        match key.effect {
            KeyEffect::Leave => PickerAction::Choose(picked),
            _ if picked.id.is_empty() => PickerAction::Stay,
            KeyEffect::Choose => PickerAction::Choose(picked),
            KeyEffect::Ask(question) => {
                self.asked = Some((question, picked));
                PickerAction::Stay
            }
            KeyEffect::CopyId => {
                self.notice = Some(format!("copied {}", picked.id));
                PickerAction::Copy(picked.id)
            }
        }
    }

    /// Returns the choice of the selected entry by `key`, or a choice without an entry if none is selected.
    fn build_picked(&self, key: Option<char>) -> Picked {
        Picked {
            id: self
                .selected()
                .map(|item| item.id.clone())
                .unwrap_or_default(),
            turn: self.content_match().and_then(|hit| hit.turn),
            key,
            query: self.query.clone(),
            scope: self.scope_name(),
            position: self.selected,
        }
    }

    fn move_to(&mut self, position: usize) {
        self.selected = position.min(self.matching.len().saturating_sub(1));
        self.has_moved = true;
    }

    /// Shows the scope with this index. After the last index, the scopes are counted again from the first one.
    fn show_scope(&mut self, scope: usize) {
        self.scope = scope % self.scope_counts.len();
        let selected_item = self.matching.get(self.selected).copied();
        self.update_matching();
        self.select(selected_item);
    }

    /// Sets the filter at the start.
    pub(super) fn set_initial_query(&mut self, query: String) {
        self.initial_query.clone_from(&query);
        self.set_query(query);
    }

    /// Changes the filter and the list.
    pub(super) fn set_query(&mut self, query: String) {
        self.query = query;
        self.apply_query();
    }

    /// Begins to examine the entries if the user has changed the query since the last time.
    fn apply_query(&mut self) {
        if !self.filter.has_query(&self.query) {
            self.content_matches.clear();
            self.filter = TitleFilter::new(&self.query);
            self.has_moved = false;
            self.examine_next_entries();
            self.select_default();
        }
    }

    /// Selects an item if it is in the list, else the first of the list.
    fn select(&mut self, item: Option<usize>) {
        let mut matching = self.matching.iter();
        let position = matching.position(|index| Some(*index) == item);
        self.selected = position.unwrap_or(0);
    }

    /// Selects the default. While entries may be missing, the selected position may be beyond the end of the list.
    /// Otherwise a key could act on another entry.
    fn select_default(&mut self) {
        self.first_visible = 0;
        let is_initial = self.query == self.initial_query;
        self.selected = if is_initial { self.default_position } else { 0 };
        if !self.may_lack_entries() {
            self.selected = self.selected.min(self.matching.len().saturating_sub(1));
        }
    }

    /// Examines a part of the entries that the filter has not examined yet.
    pub(super) fn filter_more(&mut self) {
        if self.filter.has_query(&self.query) {
            self.examine_next_entries();
        } else {
            // Examines the first entries.
            self.apply_query();
        }
    }

    fn examine_next_entries(&mut self) {
        self.filter
            .examine(&self.listing, &mut self.matcher, ENTRIES_PER_STEP);
        self.update_list();
    }

    /// Lists the entries after a change of matches. The selected entry stays if the user selected it.
    fn update_list(&mut self) {
        let selected_item = self.matching.get(self.selected).copied();
        self.update_matching();
        if self.has_moved {
            self.select(selected_item);
        } else {
            self.select_default();
        }
    }

    /// Lists the entries of the scope that match the filter; without a filter, all of them in their order. If no entry
    /// of the scope matches and none can arrive, lists the matching entries of the next scope that has some.
    fn update_matching(&mut self) {
        let scopes = &self.listing.scopes;
        if self.query.trim().is_empty() {
            self.scope_counts = scopes.iter().map(|scope| scope.items.len()).collect();
            self.matching.clone_from(&scopes[self.scope].items);
            return;
        }

        // Matches of all words come first, then matches in contents, then entries that only have the letters in order.
        let with_words = &self.filter.with_words;
        let with_content = self.content_matches.iter().map(|(item, _)| *item);
        let content_items: HashSet<_> = with_content.clone().collect();
        // The entries with all words are in the order of the list, so they are sorted.
        let only_content = with_content.filter(|item| with_words.binary_search(item).is_err());
        let with_letters = self.filter.with_letters();
        let only_letters = with_letters.filter(|item| !content_items.contains(item));
        let words = with_words.iter().copied();
        let items: Vec<_> = words.chain(only_content).chain(only_letters).collect();

        let is_in_scope = |scope: usize, item: usize| self.listing.scope_contains(scope, item);
        let count_items = |scope| items.iter().filter(|i| is_in_scope(scope, **i)).count();
        self.scope_counts = (0..scopes.len()).map(count_items).collect();

        let mut shown_scope = self.scope;
        if self.scope_counts[shown_scope] == 0 && !self.may_lack_entries() {
            let mut next_scopes = (1..scopes.len()).map(|n| (self.scope + n) % scopes.len());
            let next_scope = next_scopes.find(|scope| self.scope_counts[*scope] > 0);
            shown_scope = next_scope.unwrap_or(self.scope);
        }
        let shown_items = items.into_iter().filter(|i| is_in_scope(shown_scope, *i));
        self.matching = shown_items.collect();
    }
}

#[cfg(test)]
mod tests;
