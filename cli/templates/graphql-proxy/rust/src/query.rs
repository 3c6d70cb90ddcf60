//! As much of the GraphQL language as it takes to say what a query asks for, and how deep.
//!
//! (<https://spec.graphql.org>, section 2. Arguments, variables and directives are passed over.)

use std::{collections::HashMap, iter::Peekable, vec::IntoIter};

/// Selections in selections that are read at all: parsing them takes stack.
const NESTING_MAX: usize = 64;

/// What may be asked for.
pub struct Rules {
    /// `query.field`, `mutation.field`; empty: everything.
    pub allow: Vec<String>,
    /// Fields in fields; `{ a { b } }` has two.
    pub depth_max: usize,
}

/// A query document.
pub struct Document {
    operations: Vec<Operation>,
    fragments: HashMap<String, Vec<Selection>>,
}

struct Operation {
    kind: &'static str,
    name: Option<String>,
    selections: Vec<Selection>,
}

enum Selection {
    Field(String, Vec<Selection>),
    Inline(Vec<Selection>),
    Spread(String),
}

impl Document {
    pub fn parse(text: &str) -> Result<Document, String> {
        let mut parser = Parser {
            tokens: tokens(text)?.into_iter().peekable(),
        };
        let mut document = Document {
            operations: Vec::new(),
            fragments: HashMap::new(),
        };
        while let Some(token) = parser.tokens.next() {
            let kind = match token {
                Token::Mark('{') => {
                    let selections = parser.selections(1)?;
                    document.operations.push(Operation {
                        kind: "query",
                        name: None,
                        selections,
                    });
                    continue;
                }
                Token::Name(word) if word == "fragment" => {
                    let name = parser.name()?;
                    parser.until_brace()?;
                    if document
                        .fragments
                        .insert(name, parser.selections(1)?)
                        .is_some()
                    {
                        return Err("two fragments of one name".into());
                    }
                    continue;
                }
                Token::Name(word) if word == "query" => "query",
                Token::Name(word) if word == "mutation" => "mutation",
                Token::Name(word) if word == "subscription" => "subscription",
                _ => return Err("not a GraphQL query".into()),
            };
            let name = parser.name().ok();
            parser.until_brace()?;
            let selections = parser.selections(1)?;
            document.operations.push(Operation {
                kind,
                name,
                selections,
            });
        }
        Ok(document)
    }

    /// Is the operation that will be run allowed?
    pub fn check(&self, name: Option<&str>, rules: &Rules) -> Result<(), String> {
        let mut chosen = self
            .operations
            .iter()
            .filter(|operation| name.is_none() || operation.name.as_deref() == name);
        let (Some(operation), None) = (chosen.next(), chosen.next()) else {
            return Err("operationName does not name one operation of the query".into());
        };
        let mut reach = Reach {
            document: self,
            depths: HashMap::new(),
            fields: Vec::new(),
        };
        let depth = reach.depth(&operation.selections)?;
        if depth > rules.depth_max {
            return Err(format!(
                "the query is {depth} fields deep, and none may be deeper than {}",
                rules.depth_max
            ));
        }
        reach.collect(&operation.selections);
        for field in reach.fields {
            let field = format!("{}.{field}", operation.kind);
            if !rules.allow.is_empty() && !rules.allow.contains(&field) {
                return Err(format!("{field} is not allowed"));
            }
        }
        Ok(())
    }
}

/// What an operation reaches, through its fragments, too.
struct Reach<'a> {
    document: &'a Document,
    /// Of fragments; `None` while one is being looked at.
    depths: HashMap<&'a str, Option<usize>>,
    /// At the top.
    fields: Vec<&'a str>,
}

impl<'a> Reach<'a> {
    fn depth(&mut self, selections: &'a [Selection]) -> Result<usize, String> {
        let mut deepest = 0;
        for selection in selections {
            deepest = deepest.max(match selection {
                Selection::Field(_, inner) => 1 + self.depth(inner)?,
                Selection::Inline(inner) => self.depth(inner)?,
                Selection::Spread(name) => self.fragment_depth(name)?,
            });
        }
        Ok(deepest)
    }

    /// Each fragment is looked at once, however often it is spread.
    fn fragment_depth(&mut self, name: &'a str) -> Result<usize, String> {
        match self.depths.get(name) {
            Some(Some(depth)) => return Ok(*depth),
            Some(None) => return Err(format!("fragment {name} holds itself")),
            None => {}
        }
        let selections = self
            .document
            .fragments
            .get(name)
            .ok_or_else(|| format!("there is no fragment {name}"))?;
        if self.depths.len() >= NESTING_MAX {
            return Err("too many fragments".into());
        }
        self.depths.insert(name, None);
        let depth = self.depth(selections)?;
        self.depths.insert(name, Some(depth));
        Ok(depth)
    }

    /// The fields at the top. That no fragment holds itself was found out before.
    fn collect(&mut self, selections: &'a [Selection]) {
        let document = self.document;
        for selection in selections {
            match selection {
                Selection::Field(name, _) => self.fields.push(name),
                Selection::Inline(inner) => self.collect(inner),
                // Once is enough: taken out, it is not gone into again.
                Selection::Spread(name) => {
                    if self.depths.remove(name.as_str()).is_some() {
                        self.collect(&document.fragments[name]);
                    }
                }
            }
        }
    }
}

struct Parser {
    tokens: Peekable<IntoIter<Token>>,
}

impl Parser {
    /// What stands behind `{`, up to its `}`.
    fn selections(&mut self, nesting: usize) -> Result<Vec<Selection>, String> {
        if nesting > NESTING_MAX {
            return Err("the query is nested too deeply".into());
        }
        let mut selections = Vec::new();
        loop {
            match self.tokens.next() {
                Some(Token::Mark('}')) if !selections.is_empty() => return Ok(selections),
                Some(Token::Spread) => selections.push(self.spread(nesting)?),
                Some(Token::Name(mut name)) => {
                    if self.skip(':') {
                        name = self.name()?; // what stood before was an alias
                    }
                    self.arguments_and_directives()?;
                    let inner = if self.skip('{') {
                        self.selections(nesting + 1)?
                    } else {
                        Vec::new()
                    };
                    selections.push(Selection::Field(name, inner));
                }
                _ => return Err("a selection of fields is not well formed".into()),
            }
        }
    }

    /// Behind `...`.
    fn spread(&mut self, nesting: usize) -> Result<Selection, String> {
        if matches!(self.tokens.peek(), Some(Token::Name(name)) if name != "on") {
            let name = self.name()?;
            self.arguments_and_directives()?;
            return Ok(Selection::Spread(name));
        }
        self.until_brace()?;
        Ok(Selection::Inline(self.selections(nesting + 1)?))
    }

    /// Passes over everything up to a `{` outside of parentheses, and that.
    fn until_brace(&mut self) -> Result<(), String> {
        loop {
            match self.tokens.next() {
                Some(Token::Mark('{')) => return Ok(()),
                Some(Token::Mark('(')) => self.parentheses()?,
                Some(Token::Mark('}') | Token::Spread) | None => {
                    return Err("a selection of fields is missing".into());
                }
                Some(_) => {}
            }
        }
    }

    fn arguments_and_directives(&mut self) -> Result<(), String> {
        loop {
            if self.skip('(') {
                self.parentheses()?;
            } else if self.skip('@') {
                self.name()?;
            } else {
                return Ok(());
            }
        }
    }

    /// Behind `(`, up to its `)`. Neither stands in a value but in strings, which are tokens of their own.
    fn parentheses(&mut self) -> Result<(), String> {
        loop {
            match self.tokens.next() {
                Some(Token::Mark(')')) => return Ok(()),
                Some(Token::Mark('(')) | None => {
                    return Err("a list of arguments is not well formed".into());
                }
                Some(_) => {}
            }
        }
    }

    fn name(&mut self) -> Result<String, String> {
        match self.tokens.next_if(|token| matches!(token, Token::Name(_))) {
            Some(Token::Name(name)) => Ok(name),
            _ => Err("a name is missing".into()),
        }
    }

    fn skip(&mut self, mark: char) -> bool {
        self.tokens
            .next_if(|token| matches!(token, Token::Mark(found) if *found == mark))
            .is_some()
    }
}

enum Token {
    Name(String),
    /// A character of its own: braces, parentheses, colons, …
    Mark(char),
    /// `...`
    Spread,
    /// A number or a string: what it says is not looked at.
    Value,
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            ' ' | '\t' | '\r' | '\n' | ',' | '\u{feff}' => first.len_utf8(),
            '#' => rest.find(['\n', '\r']).unwrap_or(rest.len()),
            '"' => {
                tokens.push(Token::Value);
                string(rest).ok_or("a string has no end")?
            }
            'a'..='z' | 'A'..='Z' | '_' => {
                let end = rest
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .unwrap_or(rest.len());
                tokens.push(Token::Name(rest[..end].to_owned()));
                end
            }
            '0'..='9' | '-' => {
                tokens.push(Token::Value);
                rest.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c))
                    .unwrap_or(rest.len())
            }
            '.' if rest.starts_with("...") => {
                tokens.push(Token::Spread);
                3
            }
            '!' | '$' | '&' | '(' | ')' | ':' | '=' | '@' | '[' | ']' | '{' | '|' | '}' => {
                tokens.push(Token::Mark(first));
                1
            }
            other => return Err(format!("{other:?} has no place in a query")),
        };
        rest = &rest[taken..];
    }
    Ok(tokens)
}

/// The length of the string that stands first.
fn string(text: &str) -> Option<usize> {
    if let Some(block) = text.strip_prefix(r#"""""#) {
        // `\"""` is the one escape.
        let mut from = 0;
        loop {
            let end = from + block[from..].find(r#"""""#)?;
            if !block[..end].ends_with('\\') {
                return Some(end + 6);
            }
            from = end + 3;
        }
    }
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '\n' | '\r' => return None,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, name: Option<&str>) -> Result<(), String> {
        let rules = Rules {
            allow: vec!["query.a".into(), "mutation.m".into()],
            depth_max: 3,
        };
        Document::parse(query)?.check(name, &rules)
    }

    #[test]
    fn fields_at_the_top_are_looked_at_wherever_they_come_from() {
        for good in [
            "{ a }",
            "query Q($x: [Int!]! = {deep: {er: 1}}) @live { alias: a(x: $x, s: \"}\", o: {p: {q: 1}}) @skip(if: true) }",
            "mutation { m }",
            "{ a(s: \"\"\"}{ \\\"\"\" \"\"\") { b } } # }",
            "{ ...F } fragment F on Query { ... on Query { a } }",
            "query One { a } query Two { b }",
        ] {
            let name = good.contains("One").then_some("One");
            assert_eq!(check(good, name), Ok(()), "{good}");
        }
        for bad in [
            "{ b }",
            "{ a: b }",
            "mutation { a }",
            "{ a ...F } fragment F on Query { b }",
            "{ ... { b } }",
        ] {
            assert!(
                check(bad, None).unwrap_err().contains("not allowed"),
                "{bad}"
            );
        }
        assert!(check("query One { a } query Two { b }", Some("Two")).is_err());
        assert!(check("query One { a } query Two { a }", None).is_err());
    }

    #[test]
    fn depth_counts_fields_through_fragments() {
        assert_eq!(check("{ a { ... on X { b { c } } } }", None), Ok(()));
        assert!(
            check("{ a { b { c { d } } } }", None)
                .unwrap_err()
                .contains("4 fields deep")
        );
        assert!(
            check("{ a { ...F } } fragment F on X { b { c { d } } }", None)
                .unwrap_err()
                .contains("4 fields deep")
        );
        assert!(
            check("{ ...F } fragment F on X { a { ...F } }", None)
                .unwrap_err()
                .contains("holds itself")
        );
        assert!(check("{ ...F }", None).unwrap_err().contains("no fragment"));
    }

    #[test]
    fn what_is_no_query_is_said_to_be() {
        let nested = "{ a ".repeat(10_000);
        for bad in [
            "", "{", "{}", "a", "{ a } }", "{ a(", "{ a(() }", "{ \"", "{ ... }", "query",
            "{ a; }", &nested,
        ] {
            assert!(check(bad, None).is_err(), "{}", &bad[..bad.len().min(20)]);
        }
    }
}
