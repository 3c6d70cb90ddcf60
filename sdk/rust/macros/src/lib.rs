//! `#[skerry::handler]`: makes a function the one that answers requests.
//!
//! It leaves the function as it is and adds the component's export after it (`skerry::__export!`), which is a mere type
//! check where the target is not wasm. So an app's tests call the function like any other.

use proc_macro::{Delimiter, Group, Ident, Literal, Punct, Spacing, Span, TokenStream, TokenTree};

/// Makes a function the component's `wasi:http/incoming-handler`. See `skerry::handler`, where this is re-exported.
#[proc_macro_attribute]
pub fn handler(attribute: TokenStream, item: TokenStream) -> TokenStream {
    match name_of(attribute, &item) {
        Ok(name) => item.into_iter().chain(export(name)).collect(),
        Err(Wrong { what, span }) => item.into_iter().chain(compile_error(what, span)).collect(),
    }
}

/// What is wrong, and where.
struct Wrong {
    what: &'static str,
    span: Span,
}

/// The function's name.
fn name_of(attribute: TokenStream, item: &TokenStream) -> Result<Ident, Wrong> {
    if let Some(token) = attribute.into_iter().next() {
        return Err(Wrong { what: "#[skerry::handler] takes no arguments", span: token.span() });
    }
    let mut tokens = item.clone().into_iter();
    let function = tokens.find(|token| matches!(token, TokenTree::Ident(word) if word.to_string() == "fn"));
    let Some(function) = function else {
        return Err(Wrong { what: "#[skerry::handler] stands before a function", span: Span::call_site() });
    };
    let Some(TokenTree::Ident(name)) = tokens.next() else {
        return Err(Wrong { what: "this function has no name", span: function.span() });
    };
    if name.to_string() == "main" {
        let what = "a handler is not `main`: name it `handle`, and make the crate a library \
                    (`[lib]` with `crate-type = [\"cdylib\"]`)";
        return Err(Wrong { what, span: name.span() });
    }
    match tokens.next() {
        Some(TokenTree::Punct(next)) if next.as_char() == '<' => {
            Err(Wrong { what: "a handler has no type parameters", span: next.span() })
        }
        _ => Ok(name),
    }
}

/// `::skerry::__export!(NAME);`
fn export(name: Ident) -> TokenStream {
    let span = Span::mixed_site().located_at(name.span());
    let name = TokenTree::Ident(name);
    call(&["skerry", "__export"], name.into(), span)
}

fn compile_error(what: &str, span: Span) -> TokenStream {
    let mut text = Literal::string(what);
    text.set_span(span);
    call(&["core", "compile_error"], TokenTree::Literal(text).into(), span)
}

/// `::PATH!(ARGUMENTS);`
fn call(path: &[&str], arguments: TokenStream, span: Span) -> TokenStream {
    let mut tokens = Vec::new();
    let punct = |character, spacing| {
        let mut punct = Punct::new(character, spacing);
        punct.set_span(span);
        TokenTree::Punct(punct)
    };
    for part in path {
        tokens.push(punct(':', Spacing::Joint));
        tokens.push(punct(':', Spacing::Alone));
        tokens.push(TokenTree::Ident(Ident::new(part, span)));
    }
    tokens.push(punct('!', Spacing::Alone));
    let mut group = Group::new(Delimiter::Parenthesis, arguments);
    group.set_span(span);
    tokens.push(TokenTree::Group(group));
    tokens.push(punct(';', Spacing::Alone));
    tokens.into_iter().collect()
}
