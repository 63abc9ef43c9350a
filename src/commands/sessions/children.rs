//! The subagents and side conversations, below the conversations that started them.

use crate::codex::threads::{ListedThread, ThreadFilter};
use crate::error::Result;
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
    /// Returns only the numbers of children of `parents`, for a list that does not show them.
    pub(super) fn counted(
        parents: Vec<String>,
        read_threads: impl Fn(&ThreadFilter) -> Result<Vec<ListedThread>>,
    ) -> Result<Self> {
        let mut children = Self::default();
        for child in read_children(parents, read_threads)? {
            let counts = children.hidden.entry(child.parent_id.unwrap_or_default());
            let counts = counts.or_default();
            if child.is_side {
                counts.sides += 1;
            } else {
                counts.subagents += 1;
            }
        }
        Ok(children)
    }

    /// Reads the descendants of `parents`, to a depth of [`MAX_DEPTH`]. Conversations in `seen_ids` are left out, and
    /// the others are added to `seen_ids`, because damaged rows may form a cycle.
    pub(super) fn read_descendants(
        mut parents: Vec<String>,
        seen_ids: &mut HashSet<String>,
        read_threads: impl Fn(&ThreadFilter) -> Result<Vec<ListedThread>>,
    ) -> Result<Self> {
        let mut children = Self::default();
        for _ in 0..MAX_DEPTH {
            if parents.is_empty() {
                break;
            }
            // The children that are found are the parents of the next level.
            for child in read_children(std::mem::take(&mut parents), &read_threads)? {
                let Some(parent) = child.parent_id.clone() else {
                    continue;
                };
                if seen_ids.insert(child.id.clone()) {
                    parents.push(child.id.clone());
                    children.by_parent.entry(parent).or_default().push(child);
                }
            }
        }
        Ok(children)
    }

    /// Returns the descendants of a conversation, each with its depth: 1 for a child, 2 for a child of a child. A
    /// parent is before its children, and newer siblings are before older ones.
    pub(super) fn descendants_of(&self, id: &str) -> Vec<(usize, &ListedThread)> {
        let mut ordered = Vec::new();
        let mut pending: Vec<(usize, &ListedThread)> = self.children(id, 1).collect();
        while let Some((depth, child)) = pending.pop() {
            ordered.push((depth, child));
            pending.extend(self.children(&child.id, depth + 1));
        }
        ordered
    }

    /// Returns the children, each with `depth`. The oldest is first, because the caller takes children from the end.
    fn children(&self, id: &str, depth: usize) -> impl Iterator<Item = (usize, &ListedThread)> {
        let children = self.by_parent.get(id).into_iter().flatten().rev();
        children.map(move |child| (depth, child))
    }
}

fn read_children(
    parents: Vec<String>,
    read_threads: impl Fn(&ThreadFilter) -> Result<Vec<ListedThread>>,
) -> Result<Vec<ListedThread>> {
    read_threads(&ThreadFilter {
        parents: Some(parents),
        ..ThreadFilter::default()
    })
}
