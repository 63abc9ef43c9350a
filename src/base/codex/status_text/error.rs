//! The reasons to refuse a status text.

/// The reason why a status text is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatusTextError {
    /// The text is longer than 256 KiB.
    #[error("the status text is too long: {0} bytes")]
    TooLong(usize),
    #[error("the status text names no account and no quota")]
    Nothing,
    /// A limit whose figure is no percentage from 0 to 100.
    #[error("not a percentage from 0 to 100: {0}")]
    BadFigure(String),
    /// A reset whose time is missing or incomplete.
    #[error("not a reset time: {0}")]
    BadTime(String),
    /// A limit whose value is missing.
    #[error("the status text is cut off at {0}")]
    CutOff(String),
    /// One screen with two figures for one window: the heading between them is missing.
    #[error("the status text shows two different figures for one window: {0}")]
    TwoFigures(String),
    /// The text names two accounts, so the figures may belong to either.
    #[error("the status text names two accounts: {0} and {1}")]
    TwoAccounts(String, String),
}
