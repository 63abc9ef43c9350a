//! The entries of a picker, its filter and its selection. Knows nothing of the terminal.

use super::item::PickerItem;
use super::options::{ContentMatch, ContentQuery, KeyEffect, Picked, PickerKey, PickerScope};
use crate::ui::Style;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use nucleo_matcher::pattern::{AtomKind, CaseMatching, Normalization, Pattern};
use nucleo_matcher::{Config, Matcher, Utf32String};
use ratatui_core::text::Span;
use std::cmp::Reverse;
use std::collections::HashMap;

/// The effect of a key on the picker as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PickerAction {
    Stay,
    Copy(String),
    Choose(Picked),
    Cancel,
}

/// The way in which an entry fits the filter, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum RowFit {
    /// It has all words, or its id begins so.
    Words,
    /// It has the letters in their order; the closer they are together, the better.
    Letters,
    /// Only its content matches the filter.
    Content,
}

#[derive(Debug)]
pub(super) struct PickerState {
    items: Vec<PickerItem>,
    searched: Vec<Utf32String>,
    widths: Vec<usize>,
    default: usize,
    scopes: Vec<PickerScope>,
    scope: usize,
    query: String,
    /// The places of matches in contents, by the id of the entry.
    content_matches: HashMap<String, String>,
    /// The indices of the fitting items: by fit, else in the order of the list, so that an entry with the words
    /// does not move while the user types or matches in contents arrive.
    fitting: Vec<usize>,
    /// The selected one, an index in `fitting`.
    selected: usize,
    /// The first visible one, an index in `fitting`.
    first: usize,
    rows: usize,
    /// The id of the entry that was described last, and its paragraphs.
    preview: Option<(String, Vec<(Style, String)>)>,
    notice: Option<String>,
    matcher: Matcher,
}

impl PickerState {
    pub(super) fn new(
        items: Vec<PickerItem>,
        default: usize,
        mut scopes: Vec<PickerScope>,
        scope: usize,
    ) -> Self {
        if scopes.is_empty() {
            let items = (0..items.len()).collect();
            scopes.push(PickerScope { name: "", items });
        }
        let columns = items.iter().map(|item| item.columns.len()).max();
        let width_of = |column: usize| {
            let cells = items.iter().filter_map(|item| item.columns.get(column));
            cells.map(|(_, text)| Span::raw(text).width()).max()
        };
        let mut state = Self {
            widths: (0..columns.unwrap_or(0)).filter_map(width_of).collect(),
            searched: items.iter().map(|i| i.search.as_str().into()).collect(),
            default,
            items,
            scope: scope.min(scopes.len() - 1),
            scopes,
            query: String::new(),
            content_matches: HashMap::new(),
            fitting: Vec::new(),
            selected: 0,
            first: 0,
            rows: 1,
            preview: None,
            notice: None,
            matcher: Matcher::new(Config::DEFAULT),
        };
        state.filter();
        state.select_default();
        state
    }

    /// Returns the number of all entries, of all scopes.
    pub(super) fn total(&self) -> usize {
        self.items.len()
    }

    /// Returns the number of entries of the scope.
    pub(super) fn scope_len(&self) -> usize {
        self.scopes[self.scope].items.len()
    }

    /// Returns the name of the scope; empty if there is only one.
    pub(super) fn scope_name(&self) -> &'static str {
        match self.scopes.as_slice() {
            [_] => "",
            scopes => scopes[self.scope].name,
        }
    }

    pub(super) fn fitting(&self) -> usize {
        self.fitting.len()
    }

    pub(super) fn query(&self) -> &str {
        &self.query
    }

    pub(super) fn content_query(&self) -> ContentQuery {
        ContentQuery {
            text: self.query.clone(),
            scope: self.scope,
        }
    }

    /// Returns the greatest width of each column, in terminal columns.
    pub(super) fn widths(&self) -> &[usize] {
        &self.widths
    }

    pub(super) fn selected(&self) -> Option<&PickerItem> {
        let item = self.fitting.get(self.selected)?;
        Some(&self.items[*item])
    }

    /// Sets the paragraphs that describe the selected entry.
    pub(super) fn set_preview(&mut self, paragraphs: Vec<(Style, String)>) {
        self.preview = self.selected().map(|item| (item.id.clone(), paragraphs));
    }

    /// Returns the paragraphs that describe the selected entry; none until they are loaded.
    pub(super) fn preview(&self) -> &[(Style, String)] {
        let id = self.selected().map(|item| &item.id);
        let preview = self.preview.as_ref();
        let preview = preview.filter(|(described, _)| Some(described) == id);
        preview.map_or(&[], |(_, paragraphs)| paragraphs)
    }

    /// Returns the place of the match in the content of the selected entry.
    pub(super) fn content_note(&self) -> Option<&str> {
        let note = self.content_matches.get(&self.selected()?.id)?;
        Some(note.as_str())
    }

    /// Sets the entries whose content matches the filter.
    pub(super) fn set_content_matches(&mut self, matches: Vec<ContentMatch>) {
        let matches = matches.into_iter().map(|found| (found.id, found.note));
        self.content_matches = matches.collect();
        let selected = self.fitting.get(self.selected).copied();
        self.filter();
        self.select(selected);
    }

    /// Returns what the last key did, if it needs words.
    pub(super) fn notice(&self) -> Option<&str> {
        self.notice.as_deref()
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

    /// Changes the filter or the selection by a key; `keys` are those of the command.
    pub(super) fn press(&mut self, key: KeyEvent, keys: &[PickerKey]) -> PickerAction {
        self.notice = None;
        let last = self.fitting.len().saturating_sub(1);
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            let own = keys
                .iter()
                .find(|own| key.code == KeyCode::Char(own.letter));
            if let Some(own) = own {
                return self.press_command_key(own);
            }
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
                if let Some(item) = self.selected() {
                    let id = item.id.clone();
                    return PickerAction::Choose(Picked { id, key: None });
                }
            }
            KeyCode::Tab => self.show_scope(self.scope + 1),
            KeyCode::BackTab => self.show_scope(self.scope + self.scopes.len() - 1),
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

    fn press_command_key(&mut self, key: &PickerKey) -> PickerAction {
        let Some(item) = self.selected() else {
            return PickerAction::Stay;
        };
        let id = item.id.clone();
        match key.effect {
            KeyEffect::Choose => PickerAction::Choose(Picked {
                id,
                key: Some(key.letter),
            }),
            KeyEffect::CopyId => {
                self.notice = Some(format!("copied {id}"));
                PickerAction::Copy(id)
            }
        }
    }

    fn show_scope(&mut self, scope: usize) {
        let selected = self.fitting.get(self.selected).copied();
        self.scope = scope % self.scopes.len();
        self.filter();
        self.select(selected);
    }

    fn search(&mut self, query: String) {
        if query != self.query {
            self.query = query;
            self.content_matches.clear();
            self.filter();
            self.select_default();
        }
    }

    /// Selects an item if it is in the list, else the first of the list.
    fn select(&mut self, item: Option<usize>) {
        let position = self
            .fitting
            .iter()
            .position(|fitting| Some(*fitting) == item);
        self.selected = position.unwrap_or(0);
    }

    fn select_default(&mut self) {
        self.first = 0;
        let default = self.query.is_empty().then_some(self.default);
        self.select(default);
    }

    /// Lists the entries of the scope that fit the filter; all in their order without one.
    fn filter(&mut self) {
        let items = &self.scopes[self.scope].items;
        if self.query.trim().is_empty() {
            self.fitting.clone_from(items);
            return;
        }
        let (case, normalization) = (CaseMatching::Smart, Normalization::Smart);
        let words = Pattern::new(&self.query, case, normalization, AtomKind::Substring);
        let letters = Pattern::parse(&self.query, case, normalization);
        let id = self.query.trim().to_lowercase();
        let matcher = &mut self.matcher;
        let mut rank = |item: usize| {
            let text = self.searched[item].slice(..);
            if words.score(text, matcher).is_some() || self.items[item].id.starts_with(&id) {
                Some((RowFit::Words, Reverse(0)))
            } else if let Some(score) = letters.score(text, matcher) {
                Some((RowFit::Letters, Reverse(score)))
            } else {
                let found = self.content_matches.contains_key(&self.items[item].id);
                found.then_some((RowFit::Content, Reverse(0)))
            }
        };
        let fitting = items.iter().filter_map(|item| Some((rank(*item)?, *item)));
        let mut fitting: Vec<_> = fitting.collect();
        fitting.sort_unstable();
        self.fitting = fitting.into_iter().map(|(_, item)| item).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &[PickerKey] = &[
        PickerKey {
            letter: 'e',
            label: "export",
            effect: KeyEffect::Choose,
        },
        PickerKey {
            letter: 'y',
            label: "copy id",
            effect: KeyEffect::CopyId,
        },
    ];

    fn state(names: &[&str]) -> PickerState {
        let item = |name: &&str| PickerItem::new(*name, vec![(Style::Plain, (*name).to_owned())]);
        let mut state = PickerState::new(names.iter().map(item).collect(), 1, Vec::new(), 0);
        state.show_rows(2);
        state
    }

    fn press(state: &mut PickerState, code: KeyCode) -> PickerAction {
        let action = state.press(KeyEvent::new(code, KeyModifiers::NONE), KEYS);
        state.show_rows(2);
        action
    }

    fn shown(state: &PickerState) -> Vec<(&str, bool)> {
        let visible = state.visible();
        visible.map(|(item, is)| (item.id.as_str(), is)).collect()
    }

    #[test]
    fn fuzzy_filter_ranks_matches_and_clearing_it_restores_the_default() {
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
        let chosen = PickerAction::Choose(Picked {
            id: "bob".into(),
            key: None,
        });
        assert_eq!(press(&mut state, KeyCode::Enter), chosen);
    }

    #[test]
    fn letters_that_are_close_together_come_first() {
        let mut state = state(&["cooldown alias nora@example.test", "b", "contractor-client"]);
        for c in "clnt".chars() {
            press(&mut state, KeyCode::Char(c));
        }
        let ids: Vec<_> = shown(&state).into_iter().map(|(id, _)| id).collect();
        assert_eq!(
            ids,
            ["contractor-client", "cooldown alias nora@example.test"]
        );
    }

    #[test]
    fn the_selection_stays_in_the_list_and_visible() {
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
        assert_eq!(state.press(key, KEYS), PickerAction::Cancel);
        assert_eq!(state.query(), "");
    }

    #[test]
    fn content_matches_come_last_and_keep_the_selection() {
        let mut state = state(&["parser", "other", "p-a-r-s", "more", "no parser"]);
        for c in "pars".chars() {
            press(&mut state, KeyCode::Char(c));
        }
        state.show_rows(5);
        let before = [("parser", false), ("no parser", true), ("p-a-r-s", false)];
        press(&mut state, KeyCode::Down);
        state.show_rows(5);
        assert_eq!(shown(&state), before);
        let found = ["more", "parser"].map(|id| ContentMatch {
            id: id.into(),
            note: "turn 1".into(),
        });
        state.set_content_matches(found.into());
        let mut after = before.to_vec();
        after.push(("more", false));
        assert_eq!(shown(&state), after);
        // A changed filter forgets them until the next answer.
        press(&mut state, KeyCode::Backspace);
        state.show_rows(5);
        assert_eq!(state.fitting(), 3);
    }

    #[test]
    fn scopes_keep_the_filter_and_the_selection() {
        let names = ["a1", "b1", "a2"];
        let item = |name: &&str| PickerItem::new(*name, vec![(Style::Plain, (*name).to_owned())]);
        let scope = |name, items: &[usize]| PickerScope {
            name,
            items: items.to_vec(),
        };
        let scopes = vec![scope("here", &[1, 2]), scope("all", &[0, 1, 2])];
        let mut state = PickerState::new(names.iter().map(item).collect(), 0, scopes, 0);
        state.show_rows(5);
        assert_eq!(state.scope_name(), "here");
        assert_eq!(shown(&state), [("b1", true), ("a2", false)]);
        press(&mut state, KeyCode::Down);
        press(&mut state, KeyCode::Tab);
        state.show_rows(5);
        assert_eq!(shown(&state), [("a1", false), ("b1", false), ("a2", true)]);
        press(&mut state, KeyCode::Char('b'));
        press(&mut state, KeyCode::BackTab);
        assert_eq!((state.scope_name(), state.query()), ("here", "b"));
        assert_eq!(shown(&state), [("b1", true)]);
    }

    #[test]
    fn keys_of_the_command_act_on_the_selected_entry() {
        let mut state = state(&["a", "b"]);
        let key = |letter| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL);
        assert_eq!(state.press(key('y'), KEYS), PickerAction::Copy("b".into()));
        assert_eq!(state.notice(), Some("copied b"));
        let picked = Picked {
            id: "b".into(),
            key: Some('e'),
        };
        assert_eq!(state.press(key('e'), KEYS), PickerAction::Choose(picked));
        assert_eq!(state.notice(), None);
        state.search("nothing".into());
        assert_eq!(state.press(key('e'), KEYS), PickerAction::Stay);
    }
}
