//! In: a word that was not found, and those there are. Out: the ones that were probably meant. For error messages
//! alone.

/// The nearest words, best first, however far; upper and lower case are one.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>, count: usize) -> Vec<&'a str> {
    let wrong = wrong.to_lowercase();
    let mut known: Vec<_> =
        known.into_iter().map(|word| (strsim::levenshtein(&wrong, &word.to_lowercase()), word)).collect();
    known.sort_unstable();
    known.into_iter().take(count).map(|(_, word)| word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_come_first() {
        assert_eq!(nearest("gpio71", ["SDA", "GPIO27", "GPIO17"], 2), ["GPIO17", "GPIO27"]);
    }
}
