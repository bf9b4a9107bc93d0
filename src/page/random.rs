//! Secrets that nobody can guess, from the kernel (getrandom(2)).

use rustix::rand::{GetRandomFlags, getrandom};

/// So many random bytes.
pub(super) fn bytes<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += getrandom(rest, GetRandomFlags::empty())?;
    }
    Ok(bytes)
}

/// 256 random bits in hexadecimal digits.
pub(super) fn token() -> std::io::Result<String> {
    Ok(bytes::<32>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// True if both are the same; how long it takes says nothing about where they differ.
pub(super) fn equal(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_are_compared_as_a_whole() {
        let (a, b) = (token().unwrap(), token().unwrap());
        assert_eq!((a.len(), a == b), (64, false));
        assert!(equal(&a, &a) && !equal(&a, &b) && !equal(&a, &a[..63]) && !equal("", &a));
    }
}
