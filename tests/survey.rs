//! `status --account` and `status --all`: each account is asked where its login belongs.
