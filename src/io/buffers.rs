//! Large buffers that go round. Getting each anew costs a page fault for every page of it, and what
//! several threads have freed stays with the allocator of each.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Buffers that nobody uses now. A clone is another way to the same ones.
#[derive(Debug, Clone, Default)]
pub struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    /// A buffer without content.
    pub fn empty(&self) -> Buffer {
        let mut buffer = self.take();
        buffer.clear();
        buffer
    }

    /// A buffer of this length whose content is whatever was in it: to be written over.
    pub fn of_len(&self, len: usize) -> Buffer {
        let mut buffer = self.take();
        buffer.resize(len, 0);
        buffer
    }

    fn take(&self) -> Buffer {
        let mut unused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Buffer {
            bytes: unused.pop().unwrap_or_default(),
            home: self.clone(),
        }
    }
}

/// A buffer. Dropped, it is there for others.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    home: Buffers,
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut unused = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        unused.push(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_goes_round() {
        let buffers = Buffers::default();
        let mut first = buffers.of_len(1000);
        first[999] = 7;
        let at = first.as_ptr();
        drop(first);
        let again = buffers.of_len(10);
        assert_eq!((again.as_ptr(), again.len()), (at, 10));
        assert!(buffers.empty().is_empty());
    }
}
