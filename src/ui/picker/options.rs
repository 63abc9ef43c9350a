//! The options of a picker besides its list.

use super::worker::Task;
use crate::ui::Style;

/// The options of a picker. The default is a list with a filter.
#[derive(Default)]
pub struct PickerOptions {
    /// The effect of Enter, for the line of keys; "choose" if it is empty.
    pub enter: &'static str,
    /// Keys besides those for moving and filtering.
    pub keys: Vec<PickerKey>,
    /// Parts of the list, through which Tab goes; the whole list if there are none.
    pub scopes: Vec<PickerScope>,
    /// The index of the scope that is shown first.
    pub scope: usize,
    /// Facts on the right of the first line, as many as fit.
    pub facts: Vec<(Style, String)>,
    /// Returns the paragraphs that describe the entry with this id.
    pub preview: Option<Task<String, Vec<(Style, String)>>>,
    /// Finds entries by their contents.
    pub contents: Option<Task<ContentQuery, Vec<ContentMatch>>>,
}

/// A key of a picker: Ctrl with a letter.
#[derive(Debug, Clone, Copy)]
pub struct PickerKey {
    /// The letter in lower case. The picker itself uses c, d, g, h, i, j, k, m, n, p, u and w.
    pub letter: char,
    /// Its effect in one or two words, for the line of keys.
    pub label: &'static str,
    pub effect: KeyEffect,
}

/// The effect of a key on the selected entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyEffect {
    /// Chooses it; [`Picked::key`] has the letter.
    Choose,
    /// Copies its id to the clipboard, by the terminal (OSC 52).
    CopyId,
}

/// The choice of the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picked {
    pub id: String,
    /// The letter of the [`PickerKey`] that chose it; `None` for Enter.
    pub key: Option<char>,
}

/// A part of a list.
#[derive(Debug, Clone)]
pub struct PickerScope {
    /// Its name in one word.
    pub name: &'static str,
    /// The indices of its entries, ascending.
    pub items: Vec<usize>,
}

/// A search in the contents of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentQuery {
    pub text: String,
    /// The index of the scope that is shown.
    pub scope: usize,
}

/// An entry whose content matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentMatch {
    pub id: String,
    /// The place of the match, for the preview.
    pub note: String,
}
