//! Bytes that must never be printed.

use std::fmt;

/// Secret bytes. Their `Debug` form shows only their number.
///
/// There is deliberately no `Display`, no `Serialize` and no `Deref`: reading the bytes takes a call of
/// [`SecretBytes::expose`], which is easy to find in a review.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Returns the bytes themselves, for writing them to a 0600 file or parsing them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[redacted, {} bytes]", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::SecretBytes;

    #[test]
    fn debug_shows_no_secret() {
        let secret = SecretBytes::new(b"rt.secret".to_vec());
        assert_eq!(format!("{secret:?}"), "[redacted, 9 bytes]");
    }
}
