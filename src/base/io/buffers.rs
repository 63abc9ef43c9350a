//! A pool of large buffers. Allocating each anew costs page faults, and the allocator keeps memory that several threads
//! freed.

use super::position::ALIGNMENT;
use std::ops::{Deref, DerefMut, Range};
use std::sync::{Arc, Mutex, PoisonError};

/// Unused buffers, shared by all clones.
#[derive(Debug, Clone, Default)]
pub(crate) struct BufferPool(Arc<Mutex<Vec<Vec<u8>>>>);

impl BufferPool {
    pub(crate) fn take_empty(&self) -> Buffer {
        let mut buffer = self.take_unused();
        buffer.clear();
        buffer
    }

    /// Returns a buffer of `len` bytes, aligned to [`ALIGNMENT`], with arbitrary content.
    pub(crate) fn take_aligned(&self, len: usize) -> AlignedBuffer {
        let mut buffer = self.take_unused();

        // Never shortened: to grow again would fill it with zeros first.
        if buffer.len() < len + ALIGNMENT {
            // The allocator aligns to 16 bytes only, so the aligned part begins somewhere in the
            // first page.
            buffer.resize(len + ALIGNMENT, 0);
        }

        let begin = buffer.as_ptr().align_offset(ALIGNMENT);
        AlignedBuffer {
            buffer,
            range: begin..begin + len,
        }
    }

    /// Returns a buffer with its old content, or a new empty one.
    fn take_unused(&self) -> Buffer {
        let mut unused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Buffer {
            bytes: unused.pop().unwrap_or_default(),
            pool: self.clone(),
        }
    }
}

/// A buffer that returns to the pool when dropped.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    pool: BufferPool,
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
        let mut unused = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
        unused.push(std::mem::take(&mut self.bytes));
    }
}

/// A part of a buffer, aligned for direct I/O.
#[derive(Debug)]
pub(crate) struct AlignedBuffer {
    buffer: Buffer,
    range: Range<usize>,
}

impl AlignedBuffer {
    /// Shortens the buffer to its first `len` bytes.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.range.end = self.range.end.min(self.range.start + len);
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[self.range.clone()]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.range.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_reused() {
        let buffers = BufferPool::default();
        let mut first = buffers.take_aligned(1000);
        first[999] = 7;
        let at = first.as_ptr();
        drop(first);
        let again = buffers.take_aligned(10);
        assert_eq!((again.as_ptr(), again.len()), (at, 10));
        drop(again);
        // The pool does not clear buffers.
        let mut again = buffers.take_aligned(1000);
        assert_eq!(again[999], 7);
        again.truncate(900);
        assert_eq!(again.len(), 900);
        again.truncate(950);
        assert_eq!(again.len(), 900);
        drop(again);
        assert!(buffers.take_empty().is_empty());
    }

    #[test]
    fn aligned_buffers_begin_at_a_page_boundary() {
        let buffers = BufferPool::default();
        for len in [0, 1, 5000, 100_000, 3] {
            let mut buffer = buffers.take_aligned(len);
            buffer.fill(7);
            assert_eq!(buffer.len(), len);
            assert!(buffer.as_ptr().addr().is_multiple_of(ALIGNMENT));
        }
    }
}
