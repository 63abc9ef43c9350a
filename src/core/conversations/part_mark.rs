//! The marks in the transcript of a fork, which consists of parts of several conversations.

/// The mark before one part of a transcript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartMark {
    /// Turns of another conversation follow, which the fork continues. The text is the id of that conversation.
    Base(String),
    /// The turns of the fork itself follow.
    Own,
    /// Earlier turns are missing, because a rollout cannot be read. The text is the id of the conversation of that
    /// rollout.
    Missing(String),
}

impl PartMark {
    /// Returns the sentence that the transcript shows. `format_id` formats the id of a conversation.
    pub fn format_sentence(&self, format_id: impl Fn(&str) -> String) -> String {
        match self {
            Self::Base(id) => format!("From {}, which this conversation continues:", format_id(id)),
            Self::Own => "This conversation:".to_owned(),
            Self::Missing(id) => format!(
                "The earlier turns are missing: they are in {}, whose rollout cannot be read.",
                format_id(id)
            ),
        }
    }
}
