//! Which handler answers which path, and what stands before and after it.

mod pattern;

use std::{future::Future, marker::PhantomData, pin::Pin};

use http::{HeaderValue, Method, StatusCode, header};

use crate::{Handler, Request, Response, Result};

/// Handlers by path and method.
///
/// A pattern is a path of segments: a name, which must be equal, `{param}`, which is one segment, or as the last one
/// `{*rest}`, which is all that follows. Neither may be empty. Segments are compared and handed over decoded
/// ([`Request::param`]). The first route that fits answers, in the order they were added; a `GET` route answers `HEAD`,
/// too. Where only the path fits the answer is 405 with `allow`, else 404.
///
/// A program runs for one request, so nothing is prepared: adding a route is a push, and finding one goes down the list.
///
/// ```
/// use skerry::{Request, Response, Result, Router, testing};
///
/// fn item(req: Request) -> Result<Response> {
///     Ok(Response::text(format!("item {}\n", req.param("id").unwrap_or_default())))
/// }
///
/// #[skerry::handler]
/// async fn handle(req: Request) -> Result<Response> {
///     let app = Router::new()
///         .get("/", |_| "home\n")
///         .get("/items/{id}", item)
///         .post("/items", async |mut req: Request| req.text().await)
///         .get("/files/{*path}", |req: Request| req.param("path").unwrap_or_default().to_owned());
///     app.handle(req).await
/// }
///
/// assert_eq!(testing::answer(handle, Request::get("/items/7")?).text(), "item 7\n");
/// assert_eq!(testing::answer(handle, Request::get("/files/a/b")?).text(), "a/b");
/// let refused = testing::answer(handle, Request::get("/items")?);
/// assert_eq!((refused.status.as_u16(), refused.header("allow")), (405, Some("POST")));
/// # Ok::<(), skerry::Error>(())
/// ```
#[derive(Default)]
pub struct Router {
    routes: Vec<Route>,
    layers: Vec<Box<dyn Layer>>,
}

enum Route {
    /// `None` is any method.
    Handler {
        method: Option<Method>,
        pattern: &'static str,
        endpoint: Box<dyn Endpoint>,
    },
    Nested {
        prefix: &'static str,
        router: Router,
    },
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Response>> + 'a>>;

/// A handler without its type.
trait Endpoint {
    fn call(&self, request: Request) -> Answer<'_>;
}

/// Middleware without its type.
trait Layer {
    fn call<'a>(&'a self, request: Request, next: Next<'a>) -> Answer<'a>;
}

/// What a middleware stands before.
pub struct Next<'a> {
    layers: &'a [Box<dyn Layer>],
    router: &'a Router,
    /// Bytes of the path that prefixes have taken.
    from: usize,
}

impl Router {
    /// Without routes: 404 to all.
    pub fn new() -> Router {
        Router::default()
    }

    /// Adds a route for `GET` and `HEAD`.
    ///
    /// # Panics
    ///
    /// As [`Router::on`].
    pub fn get<K: 'static>(self, pattern: &'static str, handler: impl Handler<K> + 'static) -> Router {
        self.on(Method::GET, pattern, handler)
    }

    /// Adds a route for `POST`.
    ///
    /// # Panics
    ///
    /// As [`Router::on`].
    pub fn post<K: 'static>(self, pattern: &'static str, handler: impl Handler<K> + 'static) -> Router {
        self.on(Method::POST, pattern, handler)
    }

    /// Adds a route for `PUT`.
    ///
    /// # Panics
    ///
    /// As [`Router::on`].
    pub fn put<K: 'static>(self, pattern: &'static str, handler: impl Handler<K> + 'static) -> Router {
        self.on(Method::PUT, pattern, handler)
    }

    /// Adds a route for `PATCH`.
    ///
    /// # Panics
    ///
    /// As [`Router::on`].
    pub fn patch<K: 'static>(self, pattern: &'static str, handler: impl Handler<K> + 'static) -> Router {
        self.on(Method::PATCH, pattern, handler)
    }

    /// Adds a route for `DELETE`.
    ///
    /// # Panics
    ///
    /// As [`Router::on`].
    pub fn delete<K: 'static>(self, pattern: &'static str, handler: impl Handler<K> + 'static) -> Router {
        self.on(Method::DELETE, pattern, handler)
    }

    /// Adds a route for a method.
    ///
    /// # Panics
    ///
    /// If the pattern does not begin with `/` or has something behind `{*rest}`.
    pub fn on<K: 'static>(
        self,
        method: Method,
        pattern: &'static str,
        handler: impl Handler<K> + 'static,
    ) -> Router {
        self.add(Some(method), pattern, handler)
    }

    /// Adds a route for any method.
    ///
    /// # Panics
    ///
    /// As [`Router::on`].
    pub fn any<K: 'static>(self, pattern: &'static str, handler: impl Handler<K> + 'static) -> Router {
        self.add(None, pattern, handler)
    }

    fn add<K: 'static>(
        mut self,
        method: Option<Method>,
        pattern: &'static str,
        handler: impl Handler<K> + 'static,
    ) -> Router {
        pattern::check(pattern);
        let endpoint = Box::new(Of(handler, PhantomData));
        self.routes.push(Route::Handler { method, pattern, endpoint });
        self
    }

    /// Hands all paths that are or begin with a prefix (`/api`, no parameters) to another router, which sees the rest of
    /// the path. It answers them whatever it finds, with 404 and 405, too.
    ///
    /// # Panics
    ///
    /// If the prefix does not begin with `/`, or ends with it.
    ///
    /// ```
    /// use skerry::{Request, Router, block_on};
    ///
    /// let api = Router::new().get("/", |_| "all").get("/items", |_| "items");
    /// let app = Router::new().nest("/api", api).get("/{*rest}", |_| "site");
    /// let text = async |path| app.handle(Request::get(path)?).await?.into_text().await;
    /// assert_eq!(block_on(text("/api/items"))?, "items");
    /// assert_eq!(block_on(text("/api"))?, "all");
    /// assert_eq!(block_on(text("/apis"))?, "site");
    /// # Ok::<(), skerry::Error>(())
    /// ```
    pub fn nest(mut self, prefix: &'static str, router: Router) -> Router {
        pattern::check_prefix(prefix);
        self.routes.push(Route::Nested { prefix, router });
        self
    }

    /// Puts a middleware around all that this router answers, its 404 and 405 included. The first that was added is the
    /// outermost. It may answer by itself, and change the request before and the response behind.
    ///
    /// ```
    /// use skerry::{Next, Request, Response, Result, Router, StatusCode, block_on};
    ///
    /// async fn guard(req: Request, next: Next<'_>) -> Result<Response> {
    ///     if req.header("authorization").is_none() {
    ///         return Ok(Response::empty(StatusCode::UNAUTHORIZED));
    ///     }
    ///     let response = next.run(req).await?;
    ///     response.with_header("x-guarded", "yes")
    /// }
    ///
    /// let app = Router::new().get("/", |_| "in").wrap(guard);
    /// assert_eq!(block_on(app.handle(Request::get("/")?))?.status(), 401);
    /// let req = Request::get("/")?.with_header("authorization", "me")?;
    /// assert_eq!(block_on(app.handle(req))?.header("x-guarded"), Some("yes"));
    /// # Ok::<(), skerry::Error>(())
    /// ```
    pub fn wrap<F>(mut self, middleware: F) -> Router
    where
        F: AsyncFn(Request, Next<'_>) -> Result<Response> + 'static,
    {
        self.layers.push(Box::new(middleware));
        self
    }

    /// Answers a request.
    ///
    /// # Errors
    ///
    /// The handler's or a middleware's.
    pub async fn handle(&self, request: Request) -> Result<Response> {
        self.enter(request, 0).await
    }

    fn enter(&self, request: Request, from: usize) -> Answer<'_> {
        Next { layers: &self.layers, router: self, from }.run(request)
    }

    /// Behind all middleware.
    fn dispatch(&self, mut request: Request, from: usize) -> Answer<'_> {
        let mut allowed = Vec::new();
        for route in &self.routes {
            let path = match request.path().get(from..) {
                None | Some("") => "/", // the prefix was all of it
                Some(path) => path,
            };
            match route {
                Route::Nested { prefix, router } => {
                    if pattern::is_under(prefix, path) {
                        return router.enter(request, from + prefix.len());
                    }
                }
                Route::Handler { method, pattern, endpoint } => {
                    let Some(params) = pattern::fit(pattern, path) else { continue };
                    match method {
                        Some(method) if !answers(method, request.method()) => allow(&mut allowed, method),
                        _ => {
                            request.add_params(params);
                            return endpoint.call(request);
                        }
                    }
                }
            }
        }
        Box::pin(std::future::ready(Ok(none(&allowed))))
    }
}

/// Does a route of `method` answer this one?
fn answers(method: &Method, asked: &Method) -> bool {
    method == asked || (method == Method::GET && asked == Method::HEAD)
}

fn allow<'a>(allowed: &mut Vec<&'a str>, method: &'a Method) {
    let head = (method == Method::GET).then_some("HEAD");
    for name in [method.as_str()].into_iter().chain(head) {
        if !allowed.contains(&name) {
            allowed.push(name);
        }
    }
}

/// 405 if the path would have been answered with other methods, else 404.
fn none(allowed: &[&str]) -> Response {
    if allowed.is_empty() {
        return Response::text("not found\n").with_status(StatusCode::NOT_FOUND);
    }
    let mut response = Response::text("method not allowed\n").with_status(StatusCode::METHOD_NOT_ALLOWED);
    if let Ok(allowed) = HeaderValue::try_from(allowed.join(", ")) {
        response.headers_mut().insert(header::ALLOW, allowed); // always: methods are tokens
    }
    response
}

impl<'a> Next<'a> {
    /// Goes on: to the next middleware, or to the handler.
    pub fn run(self, request: Request) -> Pin<Box<dyn Future<Output = Result<Response>> + 'a>> {
        match self.layers {
            [first, layers @ ..] => first.call(request, Next { layers, ..self }),
            [] => self.router.dispatch(request, self.from),
        }
    }
}

struct Of<H, K>(H, PhantomData<K>);

impl<H: Handler<K>, K> Endpoint for Of<H, K> {
    fn call(&self, request: Request) -> Answer<'_> {
        Box::pin(self.0.call(request))
    }
}

impl<F> Layer for F
where
    F: AsyncFn(Request, Next<'_>) -> Result<Response>,
{
    fn call<'a>(&'a self, request: Request, next: Next<'a>) -> Answer<'a> {
        Box::pin(async move { self(request, next).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_on;

    fn ask(app: &Router, method: Method, path: &str) -> (u16, String, String) {
        let response = block_on(app.handle(Request::new(method, path).unwrap())).unwrap();
        let allow = response.header("allow").unwrap_or_default().to_owned();
        (response.status().as_u16(), allow, block_on(response.into_text()).unwrap())
    }

    #[test]
    fn methods_of_a_path_are_told_apart_and_told() {
        let app = Router::new().get("/a", |_| "got").post("/a", |_| "posted").get("/{other}", |_| "other");
        let text = |text: &str| (200, String::new(), text.to_owned());
        assert_eq!(ask(&app, Method::GET, "/a"), text("got"));
        assert_eq!(ask(&app, Method::HEAD, "/a"), text("got"));
        assert_eq!(ask(&app, Method::POST, "/a"), text("posted"));
        assert_eq!(ask(&app, Method::GET, "/b"), text("other"));
        let refused = (405, "GET, HEAD, POST".to_owned(), "method not allowed\n".to_owned());
        assert_eq!(ask(&app, Method::PUT, "/a"), refused);
        assert_eq!(ask(&app, Method::GET, "/a/b"), (404, String::new(), "not found\n".to_owned()));
        assert_eq!(ask(&app, Method::GET, "/a/"), (404, String::new(), "not found\n".to_owned()));
    }

    #[test]
    fn middleware_of_a_nested_router_is_inside_of_its_parents() {
        async fn mark(name: &'static str, req: Request, next: Next<'_>) -> Result<Response> {
            let response = next.run(req).await?;
            response.with_added_header("x-by", name)
        }
        let inner =
            Router::new().get("/x", |_| "x").wrap(async |req, next: Next<'_>| mark("inner", req, next).await);
        let app = Router::new()
            .nest("/in", inner)
            .wrap(async |req, next: Next<'_>| mark("first", req, next).await)
            .wrap(async |req, next: Next<'_>| mark("second", req, next).await);
        let by = |path: &str| {
            let response = block_on(app.handle(Request::get(path).unwrap())).unwrap();
            let by: Vec<_> = response
                .headers()
                .get_all("x-by")
                .iter()
                .map(|value| value.to_str().unwrap().to_owned())
                .collect();
            (response.status().as_u16(), by.join(" "))
        };
        assert_eq!(by("/in/x"), (200, "inner second first".to_owned()));
        assert_eq!(by("/in/y"), (404, "inner second first".to_owned()));
        assert_eq!(by("/y"), (404, "second first".to_owned()));
    }

    #[test]
    fn parameters_of_nested_routers_are_all_there() {
        let app = Router::new().nest(
            "/a",
            Router::new()
                .nest("/b", Router::new().get("/{id}", |req: Request| req.param("id").unwrap().to_owned())),
        );
        assert_eq!(ask(&app, Method::GET, "/a/b/c%2Fd").2, "c/d");
        assert_eq!(ask(&app, Method::GET, "/a/b").0, 404);
    }
}
