//! The names nearest to a mistyped one.

use std::cmp::Ordering;

/// The largest number of names that a message lists.
pub const MAX_SUGGESTIONS: usize = 3;

/// The largest difference in similarity between the best suggestion and another one.
const MAX_DIFFERENCE: f64 = 0.2;

/// The least similarity of a suggestion.
const MIN_SIMILARITY: f64 = 0.7;

/// Returns the names similar to `text`, most similar first, at most [`MAX_SUGGESTIONS`]. Compares
/// without regard to case.
pub fn find_nearest<'a>(text: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let text = text.trim().to_lowercase();
    let mut rated_names: Vec<_> = names
        .into_iter()
        .map(|name| (similarity(&text, name), name))
        .collect();
    // Stable: equally similar names keep their order.
    rated_names.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal));

    let best_rating = rated_names.first().map_or(0.0, |(rating, _)| *rating);
    // A good match hides the mediocre ones.
    let min_rating = (best_rating - MAX_DIFFERENCE).max(MIN_SIMILARITY);

    let nearest = rated_names
        .into_iter()
        .take_while(|(rating, _)| *rating >= min_rating);
    nearest
        .map(|(_, name)| name)
        .take(MAX_SUGGESTIONS)
        .collect()
}

/// Returns the highest similarity of `text` to the whole name or one of its words, from 0 to 1. Of an email among the
/// words, only the part before the `@` is compared, because many accounts share a domain.
fn similarity(text: &str, name: &str) -> f64 {
    let name = name.to_lowercase();
    let text = local_part(text);
    let words = name.split([' ', '(', ')']).filter(|word| !word.is_empty());
    words
        .map(local_part)
        .chain([&*name])
        .map(|candidate| strsim::jaro_winkler(text, candidate))
        .fold(0.0, f64::max)
}

/// Returns the part of an email before the `@`, and any other word as it is.
fn local_part(word: &str) -> &str {
    word.split('@').next().unwrap_or(word)
}

/// Returns the hint that suggests the names similar to `text`, if there are any.
pub fn format_suggestion<'a>(
    text: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let nearest = find_nearest(text, names);
    (!nearest.is_empty()).then(|| format!("did you mean: {}", nearest.join(", ")))
}

/// Joins the first names of a list and counts the others: "a, b, c and 27 more".
pub fn join_first_names(names: &[String]) -> String {
    let first_names = &names[..names.len().min(MAX_SUGGESTIONS)];
    match names.len() - first_names.len() {
        0 => first_names.join(", "),
        other_count => format!("{} and {other_count} more", first_names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_names_come_first_by_any_of_their_parts_and_distant_ones_are_left_out() {
        let names = [
            "bob@example.com",
            "work (alice@example.com)",
            "workshop (carol@example.com)",
            "acct33 (dave@example.com)",
        ];
        assert_eq!(find_nearest("acct34", names)[0], names[3]);
        assert_eq!(find_nearest("wrok", names)[..2], [names[1], names[2]]);
        assert_eq!(find_nearest("ALICE@example.org", names)[0], names[1]);
        assert_eq!(find_nearest("bob", names), [names[0]]);
        assert_eq!(find_nearest("oos-14@example.com", names), [""; 0]);
        let numbered = ["oss-11 (a@x.com)", "oss-14 (b@x.com)", "work (oos@x.com)"];
        assert_eq!(find_nearest("oos-14", numbered)[0], numbered[1]);
        assert_eq!(find_nearest("x", names), [""; 0]);
        assert_eq!(find_nearest("x", []), [""; 0]);
    }

    #[test]
    fn a_long_list_is_counted_instead_of_printed() {
        let names: Vec<_> = ["a", "b", "c", "d"].map(String::from).into();
        assert_eq!(join_first_names(&names[..3]), "a, b, c");
        assert_eq!(join_first_names(&names), "a, b, c and 1 more");
    }
}
