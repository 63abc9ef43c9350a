//! A list in a JSON document whose items are read while they are printed.

use crate::error::{CommandError, Result};
use serde::ser::{Error as _, SerializeSeq as _};
use serde::{Serialize, Serializer};
use std::cell::Cell;
use std::marker::PhantomData;

/// A list of items that are read during its serialization, so it can be serialized only once.
pub(super) struct ItemStream<F, T> {
    items: Cell<Option<F>>,
    error: Cell<Option<CommandError>>,
    item: PhantomData<fn(&T)>,
}

impl<F, T> ItemStream<F, T> {
    pub(super) fn new(read_items: F) -> Self {
        Self {
            items: Cell::new(Some(read_items)),
            error: Cell::new(None),
            item: PhantomData,
        }
    }

    /// Returns the error of `read_items`, if it failed during serialization.
    ///
    /// # Errors
    /// The items could not be read to their end.
    pub(super) fn into_result(self) -> Result<()> {
        self.error.into_inner().map_or(Ok(()), Err)
    }
}

impl<F, T> Serialize for ItemStream<F, T>
where
    F: FnOnce(&mut dyn FnMut(&T) -> bool) -> Result<()>,
    T: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        let mut write_error = None;
        let mut write_item = |item: &T| {
            write_error = list.serialize_element(item).err();
            write_error.is_none()
        };

        let read_result = self.items.take().map(|read| read(&mut write_item));
        if let Some(Err(e)) = read_result {
            self.error.set(Some(e));
            return Err(S::Error::custom("incomplete"));
        }
        write_error.map_or_else(|| list.end(), Err)
    }
}
