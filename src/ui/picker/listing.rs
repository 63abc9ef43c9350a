//! The entries of a picker, prepared for its filter.

use super::options::{PickerItem, PickerScope};
use nucleo_matcher::Utf32String;
use ratatui_core::text::Span;
use std::collections::HashMap;

/// The entries, prepared for filtering and drawing. This takes longer than a frame for 50,000 entries, so another
/// thread can create it.
#[derive(Default)]
pub(super) struct PickerListing {
    pub items: Vec<PickerItem>,
    /// The texts that the filter searches, in the order of `items`.
    pub search_texts: Vec<Utf32String>,
    /// The greatest width of each column, in terminal columns.
    pub widths: Vec<usize>,
    /// Never empty. If the caller gave no scopes, one scope without a name has all entries.
    pub scopes: Vec<PickerScope>,
    /// For each entry, one bit per scope that contains the entry.
    memberships: Vec<u32>,
    by_id: HashMap<String, usize>,
}

impl PickerListing {
    pub(super) fn new(items: Vec<PickerItem>, mut scopes: Vec<PickerScope>) -> Self {
        if scopes.is_empty() {
            let items = (0..items.len()).collect();
            scopes.push(PickerScope { name: "", items });
        }

        let mut memberships = vec![0; items.len()];
        for (bit, scope) in scopes.iter().enumerate() {
            for item in &scope.items {
                memberships[*item] |= 1 << bit;
            }
        }

        let column_count = items.iter().map(|item| item.columns.len()).max();
        let columns = 0..column_count.unwrap_or(0);
        let width_of = |column: usize| {
            let cells = items.iter().filter_map(|item| item.columns.get(column));
            cells.map(|(_, text)| Span::raw(text).width()).max()
        };
        let ids = items.iter().map(|item| item.id.clone());

        Self {
            widths: columns.filter_map(width_of).collect(),
            search_texts: items.iter().map(|i| i.search.as_str().into()).collect(),
            by_id: ids.zip(0..).collect(),
            memberships,
            scopes,
            items,
        }
    }

    pub(super) fn scope_contains(&self, scope: usize, item: usize) -> bool {
        self.memberships[item] & (1 << scope) != 0
    }

    pub(super) fn find_index(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }
}
