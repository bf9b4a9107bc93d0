//! In: a word that was not found, and those there are. Out: the ones that were probably meant. For error messages alone.

/// Levenshtein's distance: letters to insert, delete or replace.
pub fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut left = i + 1;
        let mut diagonal = row.first_mut().map_or(0, |first| std::mem::replace(first, left));
        for (to, above) in b.chars().zip(row.iter_mut().skip(1)) {
            left = (diagonal + usize::from(from != to)).min(left + 1).min(*above + 1);
            diagonal = std::mem::replace(above, left);
        }
    }
    row.last().copied().unwrap_or(0)
}

/// The nearest words, best first, however far; upper and lower case are one.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>, count: usize) -> Vec<&'a str> {
    let wrong = wrong.to_lowercase();
    let mut known: Vec<_> = known.into_iter().map(|word| (distance(&wrong, &word.to_lowercase()), word)).collect();
    known.sort_unstable();
    known.into_iter().take(count).map(|(_, word)| word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in [("", "", 0), ("", "abc", 3), ("hodl_ms", "hold_ms", 2), ("kitten", "sitting", 3)] {
            assert_eq!((distance(a, b), distance(b, a)), (expected, expected), "{a} {b}");
        }
    }

    #[test]
    fn the_nearest_come_first() {
        assert_eq!(nearest("gpio71", ["SDA", "GPIO27", "GPIO17"], 2), ["GPIO17", "GPIO27"]);
    }
}
