//! The entries of a picker, its filter and its selection. Knows nothing of the terminal.

use super::item::PickerItem;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use nucleo_matcher::pattern::{CaseMatching, Normalization, Pattern};
use nucleo_matcher::{Config, Matcher, Utf32String};
use ratatui_core::text::Span;
use std::cmp::Reverse;

/// The effect of a key on the picker as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PickerAction {
    Stay,
    Choose(String),
    Cancel,
}

/// The state of a picker.
#[derive(Debug)]
pub(super) struct PickerState {
    items: Vec<PickerItem>,
    searched: Vec<Utf32String>,
    widths: Vec<usize>,
    default: usize,
    query: String,
    /// The indices of the fitting items, best first.
    fitting: Vec<usize>,
    /// The selected one, an index in `fitting`.
    selected: usize,
    /// The first visible one, an index in `fitting`.
    first: usize,
    rows: usize,
    matcher: Matcher,
}

impl PickerState {
    pub(super) fn new(items: Vec<PickerItem>, default: usize) -> Self {
        let columns = items.iter().map(|item| item.columns.len()).max();
        let width_of = |column: usize| {
            let cells = items.iter().filter_map(|item| item.columns.get(column));
            cells.map(|(_, text)| Span::raw(text).width()).max()
        };
        let mut state = Self {
            widths: (0..columns.unwrap_or(0)).filter_map(width_of).collect(),
            searched: items.iter().map(|i| i.search.as_str().into()).collect(),
            default: default.min(items.len().saturating_sub(1)),
            items,
            query: String::new(),
            fitting: Vec::new(),
            selected: 0,
            first: 0,
            rows: 1,
            matcher: Matcher::new(Config::DEFAULT),
        };
        state.filter();
        state
    }

    pub(super) fn total(&self) -> usize {
        self.items.len()
    }

    pub(super) fn fitting(&self) -> usize {
        self.fitting.len()
    }

    pub(super) fn query(&self) -> &str {
        &self.query
    }

    /// Returns the greatest width of each column, in terminal columns.
    pub(super) fn widths(&self) -> &[usize] {
        &self.widths
    }

    /// Sets the number of visible entries and scrolls to the selected one.
    pub(super) fn show_rows(&mut self, rows: usize) {
        self.rows = rows.max(1);
        let last_first = self.fitting.len().saturating_sub(self.rows);
        let least = (self.selected + 1).saturating_sub(self.rows);
        self.first = self.first.clamp(least, self.selected).min(last_first);
    }

    /// Returns the visible entries, each with whether it is the selected one.
    pub(super) fn visible(&self) -> impl Iterator<Item = (&PickerItem, bool)> {
        let shown = self.fitting.iter().enumerate();
        let shown = shown.skip(self.first).take(self.rows);
        shown.map(|(i, item)| (&self.items[*item], i == self.selected))
    }

    /// Changes the filter or the selection by a key.
    pub(super) fn press(&mut self, key: KeyEvent) -> PickerAction {
        let last = self.fitting.len().saturating_sub(1);
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            match key.code {
                KeyCode::Char('c' | 'g' | 'd') => return PickerAction::Cancel,
                KeyCode::Char('n' | 'j') => self.selected = (self.selected + 1).min(last),
                KeyCode::Char('p' | 'k') => self.selected = self.selected.saturating_sub(1),
                KeyCode::Char('u') => self.search(String::new()),
                KeyCode::Char('w') => {
                    let kept = self.query.trim_end().rsplit_once(' ');
                    let kept = kept.map_or(String::new(), |(before, _)| format!("{before} "));
                    self.search(kept);
                }
                _ => {}
            }
            return PickerAction::Stay;
        }
        match key.code {
            KeyCode::Esc => return PickerAction::Cancel,
            KeyCode::Enter => {
                if let Some(item) = self.fitting.get(self.selected) {
                    return PickerAction::Choose(self.items[*item].id.clone());
                }
            }
            KeyCode::Up => self.selected = self.selected.saturating_sub(1),
            KeyCode::Down => self.selected = (self.selected + 1).min(last),
            KeyCode::PageUp => self.selected = self.selected.saturating_sub(self.rows),
            KeyCode::PageDown => self.selected = (self.selected + self.rows).min(last),
            KeyCode::Home => self.selected = 0,
            KeyCode::End => self.selected = last,
            KeyCode::Backspace => {
                let mut query = self.query.clone();
                query.pop();
                self.search(query);
            }
            KeyCode::Char(c) if !c.is_control() => {
                let query = format!("{}{c}", self.query);
                self.search(query);
            }
            _ => {}
        }
        PickerAction::Stay
    }

    fn search(&mut self, query: String) {
        if query != self.query {
            self.query = query;
            self.filter();
        }
    }

    /// Lists the entries that fit the filter, the best first; all in their order without a filter.
    fn filter(&mut self) {
        let pattern = Pattern::parse(&self.query, CaseMatching::Smart, Normalization::Smart);
        let rate = |text: &Utf32String| pattern.score(text.slice(..), &mut self.matcher);
        let ratings = self.searched.iter().map(rate).zip(0..);
        let rated = ratings.filter_map(|(rating, item)| Some((Reverse(rating?), item)));
        let mut rated: Vec<_> = rated.collect();
        rated.sort_unstable();
        self.fitting = rated.into_iter().map(|(_, item)| item).collect();
        self.selected = if self.query.is_empty() {
            self.default
        } else {
            0
        };
        self.first = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::Style;

    fn state(names: &[&str]) -> PickerState {
        let item = |name: &&str| PickerItem::new(*name, vec![(Style::Plain, (*name).to_owned())]);
        let mut state = PickerState::new(names.iter().map(item).collect(), 1);
        state.show_rows(2);
        state
    }

    fn press(state: &mut PickerState, code: KeyCode) -> PickerAction {
        let action = state.press(KeyEvent::new(code, KeyModifiers::NONE));
        state.show_rows(2);
        action
    }

    fn shown(state: &PickerState) -> Vec<(&str, bool)> {
        let visible = state.visible();
        visible.map(|(item, is)| (item.id.as_str(), is)).collect()
    }

    #[test]
    fn the_filter_is_fuzzy_and_ranks_and_the_default_returns_without_it() {
        let mut state = state(&["a_l_i_c_e", "bob", "alice"]);
        assert_eq!(shown(&state), [("a_l_i_c_e", false), ("bob", true)]);
        for c in "alic".chars() {
            assert_eq!(press(&mut state, KeyCode::Char(c)), PickerAction::Stay);
        }
        assert_eq!(shown(&state), [("alice", true), ("a_l_i_c_e", false)]);
        press(&mut state, KeyCode::Char('x'));
        assert_eq!(shown(&state), []);
        assert_eq!(press(&mut state, KeyCode::Enter), PickerAction::Stay);
        for _ in 0..5 {
            press(&mut state, KeyCode::Backspace);
        }
        let chosen = PickerAction::Choose("bob".into());
        assert_eq!(press(&mut state, KeyCode::Enter), chosen);
    }

    #[test]
    fn the_selection_stays_in_the_list_and_in_sight() {
        let mut state = state(&["a", "b", "c", "d", "e"]);
        for (code, expected) in [
            (KeyCode::Down, "c"),
            (KeyCode::PageDown, "e"),
            (KeyCode::Down, "e"),
            (KeyCode::PageUp, "c"),
            (KeyCode::Home, "a"),
            (KeyCode::Up, "a"),
            (KeyCode::End, "e"),
        ] {
            press(&mut state, code);
            assert!(shown(&state).contains(&(expected, true)), "{code:?}");
            assert_eq!(shown(&state).len(), 2);
        }
    }

    #[test]
    fn escape_and_control_c_cancel() {
        let mut state = state(&["a", "b"]);
        assert_eq!(press(&mut state, KeyCode::Esc), PickerAction::Cancel);
        let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(state.press(key), PickerAction::Cancel);
        assert_eq!(state.query(), "");
    }
}
