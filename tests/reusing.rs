//! What the next archive copies from the one before, and what it must not.
