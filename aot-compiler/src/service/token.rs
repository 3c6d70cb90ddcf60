//! The shared token that callers of the service present. Compared in constant time, never printed.

use artifact::Digest;
use axum::http::{HeaderMap, header::AUTHORIZATION};
use subtle::ConstantTimeEq as _;

/// Shortest token accepted, in characters: a generated one has 64.
pub const TOKEN_CHARS_MIN: usize = 32;

/// A bearer token. Kept hashed: equal lengths make the comparison constant-time, and a dump holds no token.
#[derive(Clone)]
pub struct Token(Digest);

impl Token {
    /// Takes the text of a token file, white space around it dropped. `None` if it is too short to be a secret.
    pub fn from_text(text: &str) -> Option<Token> {
        let text = text.trim();
        (text.len() >= TOKEN_CHARS_MIN).then(|| Token(Digest::of(text.as_bytes())))
    }

    /// Do these headers carry it as `Authorization: Bearer`?
    pub fn is_presented_in(&self, headers: &HeaderMap) -> bool {
        let presented =
            headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        presented.is_some_and(|token| {
            Digest::of(token.trim().as_bytes()).as_bytes().ct_eq(self.0.as_bytes()).into()
        })
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_as_bearer_passes() {
        let secret = "0123456789abcdef0123456789abcdef";
        let token = Token::from_text(&format!("{secret}\n")).unwrap();
        let passes = |value: &str| {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
            token.is_presented_in(&headers)
        };
        assert!(passes(&format!("Bearer {secret}")));
        for wrong in [
            secret,
            "Bearer ",
            "",
            "Basic x",
            &format!("Bearer {secret}0"),
            &format!("Bearer {}", &secret[1..]),
        ] {
            assert!(!passes(wrong), "{wrong:?}");
        }
        assert!(!token.is_presented_in(&HeaderMap::new()));
        assert!(Token::from_text("short").is_none());
    }
}
