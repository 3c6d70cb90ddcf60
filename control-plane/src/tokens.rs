//! API tokens: their text, what they allow, and the question "may this caller do that".
//!
//! `skt_` + 32 random bytes + a checksum, all base64url: the prefix lets secret scanners find a leaked token, the checksum
//! lets a tool tell a typing error from a revoked token without asking. Only the sha-256 of the text is stored.
//! Deliberately absent: a bound on failed tries. A token has 256 random bits, and text without a right checksum never
//! reaches the store, so guessing costs the guesser more than us.

use std::{collections::BTreeSet, fmt, str::FromStr};

use artifact::{AppName, Digest, TenantName};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::random;

const PREFIX: &str = "skt_";
/// 32 bytes in base64url without padding.
const SECRET_CHARS: usize = 43;
/// 4 bytes in base64url without padding.
const CHECKSUM_CHARS: usize = 6;
const TOKEN_CHARS: usize = PREFIX.len() + SECRET_CHARS + CHECKSUM_CHARS;

/// The text of a token. `Debug` does not print it.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenText(String);

/// The text is no token: mistyped, cut, or something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an API token: it starts with skt_, has 53 characters and ends in its own checksum")]
pub struct TokenTextError;

impl TokenText {
    /// A new random token.
    pub fn generate() -> TokenText {
        let body = format!("{PREFIX}{}", BASE64URL.encode(random::bytes::<32>()));
        let checksum = checksum(&body);
        TokenText(body + &checksum)
    }

    /// The text to hand out, once.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is stored and looked up.
    pub fn hash(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }
}

impl FromStr for TokenText {
    type Err = TokenTextError;

    fn from_str(text: &str) -> Result<TokenText, TokenTextError> {
        if text.len() != TOKEN_CHARS || !text.is_ascii() || !text.starts_with(PREFIX) {
            return Err(TokenTextError);
        }
        let (body, check) = text.split_at(TOKEN_CHARS - CHECKSUM_CHARS);
        if checksum(body) != check {
            return Err(TokenTextError);
        }
        Ok(TokenText(text.to_owned()))
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText(..)")
    }
}

fn checksum(body: &str) -> String {
    BASE64URL.encode(&Digest::of(body.as_bytes()).as_bytes()[..4])
}

/// What a token may be used for. None includes another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Upload programs, deploy, roll back and delete apps.
    Deploy,
    /// List apps and see their state.
    Read,
    /// Make and revoke tokens; for an operator also tenants and nodes.
    Admin,
}

impl Action {
    /// The word in JSON, in the store and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Action::Deploy => "deploy",
            Action::Read => "read",
            Action::Admin => "admin",
        }
    }

    /// Every action.
    pub const ALL: [Action; 3] = [Action::Deploy, Action::Read, Action::Admin];
}

/// Whose things a token reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// The whole fleet, acting for one tenant at a time.
    Operator,
    /// One tenant, or one app of it.
    Tenant {
        /// The tenant.
        tenant: TenantName,
        /// Only this app.
        app: Option<AppName>,
    },
}

/// What a token allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Where.
    pub scope: Scope,
    /// What.
    pub actions: BTreeSet<Action>,
}

impl Grant {
    /// All of one tenant's or of the fleet's things.
    pub fn all(scope: Scope) -> Grant {
        Grant { scope, actions: Action::ALL.into() }
    }
}

/// Who is asking: a live token and the tenant it acts for in this request.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The token's id, the actor in records and audit rows.
    pub token_id: String,
    /// What it may do.
    pub grant: Grant,
    /// The tenant whose things this request is about.
    pub tenant: TenantName,
}

/// The caller may not do that. Says nothing of whether the thing exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this token does not allow that: ask for one of the right tenant, app and action")]
pub struct Forbidden;

impl Caller {
    /// May the caller do one of `actions` to this app?
    pub fn allow_app(&self, actions: &[Action], app: &AppName) -> Result<(), Forbidden> {
        match &self.grant.scope {
            Scope::Tenant { app: Some(only), .. } if only != app => Err(self.refused()),
            _ => self.allow_somewhere(actions),
        }
    }

    /// May the caller do one of `actions` to anything at all? For uploads and for lists that are narrowed afterwards.
    pub fn allow_somewhere(&self, actions: &[Action]) -> Result<(), Forbidden> {
        if actions.iter().any(|action| self.grant.actions.contains(action)) {
            Ok(())
        } else {
            Err(self.refused())
        }
    }

    /// May the caller run the fleet?
    pub fn allow_operator(&self) -> Result<(), Forbidden> {
        match self.grant.scope {
            Scope::Operator => self.allow_somewhere(&[Action::Admin]),
            Scope::Tenant { .. } => Err(self.refused()),
        }
    }

    /// A token that tries doors is worth a line; the audit table holds only what was let begin.
    fn refused(&self) -> Forbidden {
        tracing::warn!(token = self.token_id, tenant = %self.tenant, "a token was used beyond its scope");
        Forbidden
    }

    /// The only app the token reaches, if it is a token of one app.
    pub fn only_app(&self) -> Option<&AppName> {
        match &self.grant.scope {
            Scope::Tenant { app, .. } => app.as_ref(),
            Scope::Operator => None,
        }
    }

    /// May the caller hand out, see or revoke a token with this grant? Never more than its own reach.
    pub fn allow_grant(&self, grant: &Grant) -> Result<(), Forbidden> {
        self.allow_somewhere(&[Action::Admin])?;
        match (&self.grant.scope, &grant.scope) {
            (Scope::Operator, _) => Ok(()),
            (Scope::Tenant { .. }, Scope::Operator) => Err(Forbidden),
            (Scope::Tenant { tenant: own, app: only }, Scope::Tenant { tenant, app }) => {
                if own == tenant && (only.is_none() || only == app) { Ok(()) } else { Err(Forbidden) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(scope: Scope, actions: &[Action]) -> Caller {
        let grant = Grant { scope, actions: actions.iter().copied().collect() };
        Caller { token_id: "tok_1".into(), grant, tenant: "a".parse().unwrap() }
    }

    fn of_tenant(tenant: &str, app: Option<&str>) -> Scope {
        Scope::Tenant { tenant: tenant.parse().unwrap(), app: app.map(|app| app.parse().unwrap()) }
    }

    #[test]
    fn a_token_reads_back_and_any_typing_error_is_noticed() {
        let token = TokenText::generate();
        let text = token.expose();
        assert_eq!(text.len(), 53);
        assert_eq!(text.parse::<TokenText>().unwrap().hash(), token.hash());
        assert_ne!(TokenText::generate().hash(), token.hash());
        for at in 0..text.len() {
            let mut typo = text.as_bytes().to_vec();
            typo[at] = if typo[at] == b'A' { b'B' } else { b'A' };
            assert!(std::str::from_utf8(&typo).unwrap().parse::<TokenText>().is_err(), "at {at}");
        }
        for bad in
            ["", "skt_", &text[..52], &format!("{text}A"), &text.replace("skt_", "pat_"), &"é".repeat(27)]
        {
            assert!(bad.parse::<TokenText>().is_err(), "{bad:?}");
        }
        assert_eq!(format!("{token:?}"), "TokenText(..)");
    }

    #[test]
    fn an_app_token_reaches_its_app_only() {
        let caller = caller(of_tenant("a", Some("shop")), &[Action::Deploy]);
        assert_eq!(caller.allow_app(&[Action::Deploy], &"shop".parse().unwrap()), Ok(()));
        assert_eq!(caller.allow_app(&[Action::Deploy], &"blog".parse().unwrap()), Err(Forbidden));
        assert_eq!(caller.allow_app(&[Action::Read], &"shop".parse().unwrap()), Err(Forbidden));
        assert_eq!(caller.allow_operator(), Err(Forbidden));
    }

    #[test]
    fn nobody_hands_out_more_than_he_has() {
        let admin = [Action::Admin];
        for (own, asked, expected) in [
            (Scope::Operator, Scope::Operator, Ok(())),
            (Scope::Operator, of_tenant("b", None), Ok(())),
            (of_tenant("a", None), of_tenant("a", Some("shop")), Ok(())),
            (of_tenant("a", None), of_tenant("b", None), Err(Forbidden)),
            (of_tenant("a", None), Scope::Operator, Err(Forbidden)),
            (of_tenant("a", Some("shop")), of_tenant("a", Some("shop")), Ok(())),
            (of_tenant("a", Some("shop")), of_tenant("a", None), Err(Forbidden)),
            (of_tenant("a", Some("shop")), of_tenant("a", Some("blog")), Err(Forbidden)),
        ] {
            assert_eq!(
                caller(own.clone(), &admin).allow_grant(&Grant::all(asked.clone())),
                expected,
                "{own:?} {asked:?}"
            );
        }
        let reader = caller(of_tenant("a", None), &[Action::Read]);
        assert_eq!(reader.allow_grant(&Grant::all(of_tenant("a", None))), Err(Forbidden));
    }
}
