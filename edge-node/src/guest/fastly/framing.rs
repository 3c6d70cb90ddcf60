//! Who says how a body is framed. Automatic, as programs have it unless they ask: what the body itself tells, and a
//! `Content-Length` that the head has from elsewhere is none. Manual: a streamed body has the length that its head gives,
//! and is held to it by whoever sends it. A body that is complete has its true length in either mode.

use http::{Extensions, HeaderMap, HeaderValue, header::CONTENT_LENGTH};

use super::abi::{Answer, Status};

/// Extension of a head whose own fields count.
#[derive(Debug, Clone, Copy)]
struct Manual;

/// Chooses the mode, by its number.
pub(super) fn set_mode(extensions: &mut Extensions, mode: u32) -> Answer {
    match mode {
        0 => drop(extensions.remove::<Manual>()),
        1 => drop(extensions.insert(Manual)),
        _ => return Err(Status::Invalid),
    }
    Ok(())
}

/// Makes the head of a message fit for its body, of this length if it is known before it is sent.
pub(super) fn settle(headers: &mut HeaderMap, extensions: &Extensions, length: Option<u64>) {
    if !headers.contains_key(CONTENT_LENGTH) {
        return; // whoever sends it knows what to say
    }
    let is_manual = length.is_none() && extensions.get::<Manual>().is_some();
    if is_manual && is_one_length(headers) {
        return;
    }
    headers.remove(CONTENT_LENGTH);
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

fn is_one_length(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let number = |value: &HeaderValue| {
        value.to_str().is_ok_and(|text| text.parse::<u64>().is_ok() && !text.starts_with('+'))
    };
    values.next().is_some_and(number) && values.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths that are left of these, of a body of `length`.
    fn settled(mode: u32, lengths: &[&str], length: Option<u64>) -> Vec<String> {
        let (mut headers, mut extensions) = (HeaderMap::new(), Extensions::new());
        set_mode(&mut extensions, mode).unwrap();
        for length in lengths {
            headers.append(CONTENT_LENGTH, length.parse().unwrap());
        }
        settle(&mut headers, &extensions, length);
        headers.get_all(CONTENT_LENGTH).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_length_counts_where_the_guest_wants_it_to_and_where_it_can() {
        let none: [&str; 0] = [];
        assert_eq!(settled(0, &["5"], None), none, "it may be that of another body");
        assert_eq!(settled(0, &["5"], Some(7)), ["7"]);
        assert_eq!(settled(0, &[], Some(7)), none);
        assert_eq!(settled(1, &["5"], None), ["5"]);
        assert_eq!(settled(1, &["5"], Some(7)), ["7"], "a lie is told in no mode");
        for invalid in [&["+5"][..], &["5", "5"], &["x"], &["99999999999999999999"]] {
            assert_eq!(settled(1, invalid, None), none, "{invalid:?}");
        }
        assert_eq!(set_mode(&mut Extensions::new(), 2), Err(Status::Invalid));
    }
}
