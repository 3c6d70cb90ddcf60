//! Random numbers of the host, good enough for keys.

use crate::sys;

/// Fills a buffer. In tests the numbers are the same in every run ([`World::seed`](crate::testing::World::seed)).
///
/// ```
/// let mut token = [0; 16];
/// skerry::random::fill(&mut token);
/// assert_ne!(token, [0; 16]);
/// ```
pub fn fill(bytes: &mut [u8]) {
    sys::random(bytes);
}

/// So many bytes.
///
/// ```
/// let [a, b] = [skerry::random::bytes::<16>(), skerry::random::bytes::<16>()];
/// assert_ne!(a, b);
/// ```
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}

/// A number, each as likely as any other.
///
/// ```
/// assert_ne!(skerry::random::u64(), skerry::random::u64());
/// ```
pub fn u64() -> u64 {
    u64::from_le_bytes(bytes())
}
