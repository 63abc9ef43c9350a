//! An entry of a picker.

use crate::ui::Style;

/// An entry of a picker.
#[derive(Debug, Clone)]
pub struct PickerItem {
    /// Identifies the entry to the caller.
    pub id: String,
    /// The cells of its line; columns are aligned.
    pub columns: Vec<(Style, String)>,
    /// The text that the filter searches.
    pub search: String,
}

impl PickerItem {
    /// An entry whose filter searches all that is shown.
    pub fn new(id: impl Into<String>, columns: Vec<(Style, String)>) -> Self {
        let texts: Vec<_> = columns.iter().map(|(_, text)| text.as_str()).collect();
        Self {
            id: id.into(),
            search: texts.join(" "),
            columns,
        }
    }
}
