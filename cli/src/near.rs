//! The name that a mistyped one was most likely meant to be.

/// Names that are compared: with more the question takes longer than reading a list.
const NAMES_MAX: usize = 10_000;
/// Characters of a name that are compared; the distance takes the product of both lengths.
const CHARS_MAX: usize = 64;

/// The nearest of the known names, if one is near: one slip in three letters, or a beginning.
pub fn nearest<'k>(wrong: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let cut = |text: &str| text.chars().take(CHARS_MAX).collect::<String>();
    let wrong = cut(wrong);
    let near = known.into_iter().take(NAMES_MAX).filter(|known| **known != wrong).filter_map(|known| {
        let distance = strsim::osa_distance(&wrong, &cut(known));
        let begins = wrong.len() >= 2 && (known.starts_with(&wrong) || wrong.starts_with(known));
        (begins || distance <= wrong.len().max(3) / 3).then_some((distance, known))
    });
    near.min().map(|(_, known)| known)
}

/// `; did you mean …?`, or nothing.
pub fn hint<'k>(wrong: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    nearest(wrong, known).map_or_else(String::new, |near| format!("; did you mean {near}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_known_by_its_neighbour_and_another_name_is_not() {
        let known = ["hello", "shop", "shop-api"];
        for (wrong, meant) in [
            ("helo", Some("hello")),
            ("hlelo", Some("hello")),
            ("sho", Some("shop")),
            ("blog", None),
            ("", None),
        ] {
            assert_eq!(nearest(wrong, known), meant, "{wrong}");
        }
        assert_eq!(hint("helo", known), "; did you mean hello?");
    }
}
