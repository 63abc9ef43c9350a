//! What the tests stand on.

pub(crate) mod env;
pub(crate) mod fake_codex;
pub(crate) mod mock_backend;
pub(crate) mod processes;
pub(crate) mod real_codex;
pub(crate) mod sign_in;
