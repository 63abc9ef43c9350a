//! The subagents and side conversations, below the conversations that started them.

use crate::choices::listed::{list_threads, list_threads_as};
use crate::context::Context;
use crate::error::Result;
use codex_manager_core::codex::threads::ChildThreads;
use codex_manager_core::codex::{ListedThread, ThreadFilter};
use std::collections::{HashMap, HashSet};

/// The largest depth of children below a conversation that is shown.
const MAX_DEPTH: usize = 8;

#[derive(Default)]
pub(super) struct Children {
    /// The children by parent, newest first.
    by_parent: HashMap<String, Vec<ListedThread>>,
    /// The children that are not shown, by parent.
    pub hidden: HashMap<String, ChildCounts>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ChildCounts {
    pub subagents: usize,
    pub sides: usize,
}

impl Children {
    /// Reads only the numbers of children of `parents`, for a list that does not show the children. `None` means all
    /// conversations.
    ///
    /// # Errors
    /// Codex's list cannot be read.
    pub(super) fn read_counts(parents: Option<Vec<String>>, context: &Context) -> Result<Self> {
        let filter = ThreadFilter {
            children: ChildThreads::Only,
            parents,
            ..ThreadFilter::default()
        };
        // No conversation has the empty id, so a child without a known parent is not shown as hidden.
        let to_pair = |child: ListedThread| (child.parent_id.unwrap_or_default(), child.is_side);
        let parents_of_children: Vec<_> = list_threads_as(&filter, context, to_pair)?;

        let mut children = Self::default();
        for (parent, is_side) in parents_of_children {
            let counts = children.hidden.entry(parent).or_default();
            if is_side {
                counts.sides += 1;
            } else {
                counts.subagents += 1;
            }
        }
        Ok(children)
    }

    /// Reads all children, without those in `listed_ids`.
    ///
    /// # Errors
    /// Codex's list cannot be read.
    pub(super) fn read(listed_ids: &HashSet<&str>, context: &Context) -> Result<Self> {
        let filter = ThreadFilter {
            children: ChildThreads::Only,
            ..ThreadFilter::default()
        };
        let mut children = Self::default();
        for child in list_threads(&filter, context)? {
            if let Some(parent) = child.parent_id.clone()
                && !listed_ids.contains(&*child.id)
            {
                children.by_parent.entry(parent).or_default().push(child);
            }
        }
        Ok(children)
    }

    /// Returns the descendants of a conversation, each with its depth: 1 for a child, 2 for a child of a child. Stops
    /// at [`MAX_DEPTH`], because damaged rows may form a cycle. A parent comes before its children, and newer siblings
    /// before older ones.
    pub(super) fn descendants_of(&self, id: &str) -> Vec<(usize, &ListedThread)> {
        let mut ordered = Vec::new();
        let mut pending: Vec<(usize, &ListedThread)> = self.children(id, 1).collect();
        while let Some((depth, child)) = pending.pop() {
            ordered.push((depth, child));
            if depth < MAX_DEPTH {
                pending.extend(self.children(&child.id, depth + 1));
            }
        }
        ordered
    }

    /// Returns the children, each with `depth`. The oldest child is first, because the caller takes children from the
    /// end.
    fn children(&self, id: &str, depth: usize) -> impl Iterator<Item = (usize, &ListedThread)> {
        let children = self.by_parent.get(id).into_iter().flatten().rev();
        children.map(move |child| (depth, child))
    }
}
