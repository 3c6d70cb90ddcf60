//! Routes → the one path prefix that an app has.

use super::{super::Note, Walk};

impl Walk<'_> {
    /// The prefix that all routes are under. What a program answers there is its own matter, so a prefix may hold more.
    pub(super) fn prefix(&mut self, base: Option<&str>, routes: &[String]) -> String {
        let base = base.unwrap_or("/").trim_matches('/');
        let whole: Vec<String> = routes.iter().map(|route| join(base, route)).collect();
        let prefix = common(&whole);
        let is_a_prefix = matches!(routes, [only] if fixed(only).1 == Rest::All);
        if !routes.is_empty() && !is_a_prefix {
            let routes = routes.join(", ");
            let text = format!(
                "routes {routes}: the app gets every path under {prefix} and tells them apart itself"
            );
            self.notes.push(Note::Taken(text));
        }
        prefix
    }
}

fn join(base: &str, route: &str) -> String {
    let route = route.trim_start_matches('/');
    if base.is_empty() { format!("/{route}") } else { format!("/{base}/{route}") }
}

/// What follows the fixed part of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Nothing: one path.
    Nothing,
    /// `...`
    All,
    /// `:name` and maybe more.
    Named,
}

/// The segments before the first that stands for others.
fn fixed(route: &str) -> (Vec<&str>, Rest) {
    let mut segments = Vec::new();
    for segment in route.split('/').filter(|segment| !segment.is_empty()) {
        match segment {
            "..." => return (segments, Rest::All),
            named if named.starts_with(':') => return (segments, Rest::Named),
            plain => segments.push(plain),
        }
    }
    (segments, Rest::Nothing)
}

fn common(routes: &[String]) -> String {
    let mut routes = routes.iter().map(|route| fixed(route).0);
    let first = routes.next().unwrap_or_default();
    let shared = routes.fold(first, |shared, route| {
        let same = shared.iter().zip(&route).take_while(|(a, b)| a == b).count();
        shared[..same].to_vec()
    });
    format!("/{}", shared.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_have_the_prefix_they_share() {
        for (routes, prefix) in [
            (&["/..."][..], "/"),
            (&["/api/..."], "/api"),
            (&["/api/v1/..."], "/api/v1"),
            (&["/hello"], "/hello"),
            (&["/users/:id"], "/users"),
            (&["/users/:id/posts/..."], "/users"),
            (&["/api/a", "/api/b/..."], "/api"),
            (&["/a", "/b"], "/"),
            (&["/", "/a"], "/"),
            (&[], "/"),
        ] {
            let routes: Vec<String> = routes.iter().map(|route| route.to_string()).collect();
            assert_eq!(common(&routes), prefix, "{routes:?}");
        }
        assert_eq!(join("", "/..."), "/...");
        assert_eq!(join("shop", "/cart/..."), "/shop/cart/...");
    }
}
