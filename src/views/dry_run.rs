//! The words of a dry run: what a command would do, in place of what it did.

/// Returns `if_planned` in a dry run, else `if_done`.
pub(crate) fn wording<T>(dry_run: bool, if_planned: T, if_done: T) -> T {
    if dry_run { if_planned } else { if_done }
}

/// Returns the words before a participle: "would be " in a dry run, else none.
pub(crate) fn would_be(dry_run: bool) -> &'static str {
    wording(dry_run, "would be ", "")
}
