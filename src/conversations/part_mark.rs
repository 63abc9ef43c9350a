//! The marks between the conversations that a transcript of a fork consists of.

/// The mark before a part of a transcript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PartMark {
    /// The beginning of the conversation with this id follows, which the shown one continues.
    Base(String),
    /// The turns of the shown conversation follow.
    Own,
    /// The earlier turns are in the conversation with this id, whose rollout cannot be read.
    Missing(String),
}

impl PartMark {
    /// Returns the sentence for the reader. `code` formats an id.
    pub(crate) fn text(&self, code: impl Fn(&str) -> String) -> String {
        match self {
            Self::Base(id) => format!("From {}, which this conversation continues:", code(id)),
            Self::Own => "This conversation:".to_owned(),
            Self::Missing(id) => format!(
                "The earlier turns are missing: they are in {}, whose rollout cannot be read.",
                code(id)
            ),
        }
    }
}
