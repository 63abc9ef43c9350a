//! The entries and the other options of a picker.

use super::worker::Task;
use crate::ui::Style;

#[derive(Debug, Clone)]
pub(crate) struct PickerItem {
    /// Identifies the entry to the caller.
    pub id: String,
    /// The cells of its line; columns are aligned.
    pub columns: Vec<(Style, String)>,
    /// The text that the filter searches.
    pub search: String,
}

impl PickerItem {
    /// Creates an entry that is filtered by the text of all its columns.
    pub(crate) fn new(id: impl Into<String>, columns: Vec<(Style, String)>) -> Self {
        let texts: Vec<_> = columns.iter().map(|(_, text)| text.as_str()).collect();
        Self {
            id: id.into(),
            search: texts.join(" "),
            columns,
        }
    }
}

/// The options of a picker. The default is a list with a filter.
#[derive(Default)]
pub(crate) struct PickerOptions {
    /// The effect of Enter as the line of keys shows it. An empty text is shown as "choose".
    pub enter: &'static str,
    /// The keys of the command, besides those for moving and filtering.
    pub keys: Vec<PickerKey>,
    /// The parts of the list that Tab cycles through. Without scopes, the list is shown as a whole.
    pub scopes: Vec<PickerScope>,
    /// The index of the scope that is shown first.
    pub scope: usize,
    /// Texts at the right end of the first line. Those that do not fit are left out.
    pub facts: Vec<(Style, String)>,
    /// The filter at the start.
    pub query: String,
    /// A message that the last line shows until a key is pressed.
    pub notice: Option<String>,
    /// Returns all entries and scopes, if the picker opens with only some of them so that it opens at once. An error is
    /// shown as a notice.
    pub all_entries: Option<Task<(), Result<PickerEntries, String>>>,
    /// Returns the paragraphs that describe an entry.
    pub preview: Option<Task<PreviewQuery, Vec<(Style, String)>>>,
    /// Finds entries by their contents, the best first.
    pub contents: Option<Task<ContentQuery, ContentAnswer>>,
}

/// The entries of a picker with its scopes.
pub(crate) type PickerEntries = (Vec<PickerItem>, Vec<PickerScope>);

/// A key of a picker: Ctrl with a letter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PickerKey {
    /// The letter in lower case. c, d, g, j, k, n and p lose their effect in the picker. h, i, m, u and w are not
    /// possible, because they edit the filter or are Tab and Enter.
    pub letter: char,
    /// The label of the key, one word.
    pub label: &'static str,
    pub effect: KeyEffect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyEffect {
    /// Chooses the selected entry; [`Picked::key`] has the letter.
    Choose,
    /// Ends the picker like [`Self::Choose`], even if no entry is selected or the list is empty.
    Leave,
    /// Asks this question in the last line, and chooses the entry if the user answers with `y`.
    Ask(&'static str),
    /// Copies the id of the entry to the clipboard, by the terminal (OSC 52).
    CopyId,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Picked {
    /// The id of the chosen entry. Empty if no entry was selected.
    pub id: String,
    /// The turn with the match, if the entry was found by its content.
    pub turn: Option<u32>,
    /// The letter of the [`PickerKey`] that the user pressed; `None` for Enter.
    pub key: Option<char>,
    /// The filter when the user chose.
    pub query: String,
    /// The name of the scope that was selected.
    pub scope: &'static str,
    /// The position of the selected entry in the list.
    pub position: usize,
}

/// A part of a list.
#[derive(Debug, Clone)]
pub(crate) struct PickerScope {
    /// The name of the scope, one word.
    pub name: &'static str,
    /// The indices of its entries, ascending.
    pub items: Vec<usize>,
}

/// A search in the contents of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContentQuery {
    pub text: String,
    pub scope: &'static str,
    /// The number of entries of the list. More entries make another query, so that they are searched too.
    pub total: usize,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ContentAnswer {
    /// The best first.
    pub matches: Vec<ContentMatch>,
    /// A message for the user, such as words that the search left out.
    pub notice: Option<String>,
}

/// An entry whose content matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContentMatch {
    pub id: String,
    /// The place of the match and its text in one line.
    pub note: String,
    /// The number of the turn that has the match; `None` for the title.
    pub turn: Option<u32>,
    /// The matching words as the content has them, in their order.
    pub marks: Vec<String>,
}

/// A request for the preview of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PreviewQuery {
    pub id: String,
    /// The match in the content of the entry.
    pub found: Option<ContentMatch>,
}
