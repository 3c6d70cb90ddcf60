//! Random bytes of the operating system, in one place.

/// `N` bytes nobody can guess.
///
/// # Panics
/// When the kernel has no random source: no key or token made without one may exist.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("Linux getrandom(2) does not fail once the machine has booted");
    bytes
}
