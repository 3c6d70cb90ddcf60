//! Requests: the client's, and those to backends.

use std::{cell::OnceCell, fmt, rc::Rc};

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Uri};

use crate::{
    Body, Error, Query, Result,
    headers::{self, Old},
    sys,
};

/// A request: the one a handler answers, or one to be sent by [`fetch`](fn@crate::fetch).
///
/// What a client sent is fetched from the host when it is first looked at, so a handler pays only for what it uses.
///
/// ```
/// use skerry::Request;
///
/// let req = Request::post("https://api.example/items?page=2")?
///     .with_header("x-from", "skerry")?
///     .with_body("text");
/// assert_eq!((req.method().as_str(), req.path(), req.query_string()), ("POST", "/items", Some("page=2")));
/// assert_eq!(req.header("X-From"), Some("skerry"));
/// # Ok::<(), skerry::Error>(())
/// ```
pub struct Request {
    /// Where comes from what is not in its cell yet; `None` for one that was made here, whose cells are filled.
    client: Option<Rc<sys::ClientRequest>>,
    method: OnceCell<Method>,
    /// Path and query, as sent.
    target: OnceCell<String>,
    uri: OnceCell<Uri>,
    headers: OnceCell<HeaderMap>,
    params: Vec<(&'static str, String)>,
    extensions: Extensions,
    body: Option<Body>,
}

impl Request {
    /// A request to an absolute URI (`http` or `https`), without fields and body. A path alone (`/x`) is enough in tests.
    ///
    /// # Errors
    ///
    /// If the URI is none. A [`Url`](crate::Url) is taken by reference.
    pub fn new<U>(method: Method, uri: U) -> Result<Request>
    where
        U: TryInto<Uri>,
        Error: From<U::Error>,
    {
        let uri: Uri = uri.try_into()?;
        Ok(Request {
            client: None,
            method: method.into(),
            target: OnceCell::new(),
            uri: uri.into(),
            headers: HeaderMap::new().into(),
            params: Vec::new(),
            extensions: Extensions::new(),
            body: None,
        })
    }

    /// GET. See [`Request::new`].
    pub fn get<U>(uri: U) -> Result<Request>
    where
        U: TryInto<Uri>,
        Error: From<U::Error>,
    {
        Request::new(Method::GET, uri)
    }

    /// POST. See [`Request::new`].
    pub fn post<U>(uri: U) -> Result<Request>
    where
        U: TryInto<Uri>,
        Error: From<U::Error>,
    {
        Request::new(Method::POST, uri)
    }

    /// The client's.
    #[cfg(target_os = "wasi")]
    pub(crate) fn of_client(client: sys::ClientRequest) -> Request {
        Request {
            client: Some(Rc::new(client)),
            method: OnceCell::new(),
            target: OnceCell::new(),
            uri: OnceCell::new(),
            headers: OnceCell::new(),
            params: Vec::new(),
            extensions: Extensions::new(),
            body: None,
        }
    }

    /// Its method.
    pub fn method(&self) -> &Method {
        self.method.get_or_init(|| self.client.as_ref().map_or(Method::GET, |client| client.method()))
    }

    /// Its path as it was sent, nothing decoded: `/` at least.
    ///
    /// ```
    /// let req = skerry::Request::get("/a%20b?c=d")?;
    /// assert_eq!((req.path(), req.query_string()), ("/a%20b", Some("c=d")));
    /// # Ok::<(), skerry::Error>(())
    /// ```
    pub fn path(&self) -> &str {
        let target = self.target();
        target.split_once('?').map_or(target, |(path, _)| path)
    }

    /// Its query as it was sent, without the `?`; `None` if there is no `?`.
    pub fn query_string(&self) -> Option<&str> {
        self.target().split_once('?').map(|(_, query)| query)
    }

    /// Its query as names and values; empty if there is none.
    pub fn query(&self) -> Query<'_> {
        Query::new(self.query_string().unwrap_or_default())
    }

    /// All of its URI: scheme, authority, path and query. [`Request::path`] costs less.
    pub fn uri(&self) -> &Uri {
        self.uri.get_or_init(|| {
            self.client.as_ref().map_or_else(Uri::default, |client| client.uri(self.target()))
        })
    }

    fn target(&self) -> &str {
        self.target.get_or_init(|| match (&self.client, self.uri.get()) {
            (Some(client), _) => client.target(),
            (None, uri) => uri.and_then(Uri::path_and_query).map_or("/", |target| target.as_str()).to_owned(),
        })
    }

    /// Its fields. The one that names the host is [`Request::uri`]'s authority.
    pub fn headers(&self) -> &HeaderMap {
        self.headers
            .get_or_init(|| self.client.as_ref().map_or_else(HeaderMap::new, |client| client.headers()))
    }

    /// Its fields, to be changed.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers();
        self.headers.get_mut().expect("filled in the line above")
    }

    /// The first value of a field, by its name in any case; `None` also if it is not visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        headers::text(self.headers(), name)
    }

    /// What the path has at a parameter of the route, decoded: `id` of `/users/{id}`. See [`Router`](crate::Router).
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().rev().find(|(found, _)| *found == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn add_params(&mut self, params: Vec<(&'static str, String)>) {
        self.params.extend(params);
    }

    /// Values that middleware leaves for handlers, one of each type.
    ///
    /// ```
    /// #[derive(Clone)]
    /// struct User(String);
    ///
    /// let mut req = skerry::Request::get("/")?;
    /// req.extensions_mut().insert(User("ana".into()));
    /// assert_eq!(req.extensions().get::<User>().unwrap().0, "ana");
    /// # Ok::<(), skerry::Error>(())
    /// ```
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// The same, to be changed.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }

    /// With this field instead of any of that name.
    ///
    /// # Errors
    ///
    /// If name or value is none (RFC 9110 §5.1, §5.5).
    pub fn with_header<N, V>(mut self, name: N, value: V) -> Result<Request>
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
        Error: From<N::Error> + From<V::Error>,
    {
        headers::put(self.headers_mut(), name, value, Old::Replaced)?;
        Ok(self)
    }

    /// With this field beside those of that name.
    ///
    /// # Errors
    ///
    /// As [`Request::with_header`].
    pub fn with_added_header<N, V>(mut self, name: N, value: V) -> Result<Request>
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
        Error: From<N::Error> + From<V::Error>,
    {
        headers::put(self.headers_mut(), name, value, Old::Kept)?;
        Ok(self)
    }

    /// With this body.
    pub fn with_body(mut self, body: impl Into<Body>) -> Request {
        self.body = Some(body.into());
        self
    }

    /// With this value as its body, and `content-type: application/json`.
    ///
    /// # Errors
    ///
    /// If the value cannot be JSON, such as a map whose keys are no text.
    #[cfg(feature = "json")]
    pub fn with_json(self, value: &impl serde::Serialize) -> Result<Request> {
        let text = crate::json::text_of(value)?;
        Ok(self.with_header(http::header::CONTENT_TYPE, crate::json::CONTENT_TYPE)?.with_body(text))
    }

    /// Its body, and none is left.
    pub fn take_body(&mut self) -> Body {
        match (self.body.take(), &self.client) {
            (Some(body), _) => body,
            // The host gives it out once; asked again it has none.
            (None, Some(client)) => client.body(),
            (None, None) => Body::empty(),
        }
    }

    /// Its body.
    pub fn into_body(mut self) -> Body {
        self.take_body()
    }

    /// Reads all of its body.
    ///
    /// # Errors
    ///
    /// As [`Body::bytes`].
    pub async fn bytes(&mut self) -> Result<Bytes> {
        self.take_body().bytes().await
    }

    /// Reads all of its body as text.
    ///
    /// # Errors
    ///
    /// As [`Body::text`].
    pub async fn text(&mut self) -> Result<String> {
        self.take_body().text().await
    }

    /// Reads all of its body as JSON. Its content type is not asked for.
    ///
    /// # Errors
    ///
    /// As [`Body::bytes`]; [`json::NotThat`](crate::json::NotThat), answered with 400, if it is no JSON or not of this
    /// shape.
    ///
    /// ```
    /// use skerry::{Request, block_on};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Sum {
    ///     a: i64,
    ///     b: i64,
    /// }
    ///
    /// let mut req = Request::post("/")?.with_body(r#"{"a":1,"b":2}"#);
    /// let Sum { a, b } = block_on(req.json())?;
    /// assert_eq!(a + b, 3);
    /// let error = block_on(Request::post("/")?.with_body("{}").json::<Sum>()).err().unwrap();
    /// assert_eq!(error.status(), 400);
    /// # Ok::<(), skerry::Error>(())
    /// ```
    #[cfg(feature = "json")]
    pub async fn json<T: serde::de::DeserializeOwned>(&mut self) -> Result<T> {
        crate::json::value_of(&self.bytes().await?)
    }
}

impl From<http::Request<Body>> for Request {
    fn from(request: http::Request<Body>) -> Request {
        let (head, body) = request.into_parts();
        Request {
            client: None,
            method: head.method.into(),
            target: OnceCell::new(),
            uri: head.uri.into(),
            headers: head.headers.into(),
            params: Vec::new(),
            extensions: head.extensions,
            body: Some(body),
        }
    }
}

/// Parameters of the route stay behind.
impl From<Request> for http::Request<Body> {
    fn from(mut request: Request) -> http::Request<Body> {
        let mut made = http::Request::new(request.take_body());
        request.headers();
        *made.method_mut() = request.method().clone();
        *made.uri_mut() = request.uri().clone();
        *made.headers_mut() = request.headers.take().unwrap_or_default();
        *made.extensions_mut() = request.extensions;
        made
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} {})", self.method(), self.uri())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_on;

    #[test]
    fn a_request_becomes_one_of_http_and_comes_back() {
        let req =
            Request::post("http://a.example/b?c").unwrap().with_header("x-a", "1").unwrap().with_body("body");
        let theirs = http::Request::from(req);
        assert_eq!(
            (theirs.method(), theirs.uri()),
            (&Method::POST, &Uri::from_static("http://a.example/b?c"))
        );
        let mut ours = Request::from(theirs);
        assert_eq!((ours.path(), ours.query_string(), ours.header("x-a")), ("/b", Some("c"), Some("1")));
        assert_eq!(block_on(ours.text()).unwrap(), "body");
        assert_eq!(block_on(ours.text()).unwrap(), "", "it was read");
    }

    #[test]
    fn fields_are_replaced_or_kept() {
        let req =
            Request::get("/").unwrap().with_header("x-a", "1").unwrap().with_header("X-A", "2").unwrap();
        let req = req.with_added_header("x-a", "3").unwrap();
        assert_eq!(req.headers().get_all("x-a").iter().collect::<Vec<_>>(), ["2", "3"]);
        assert!(req.with_header("no name", "x").is_err());
        assert!(Request::get("/").unwrap().with_header("x", "a\r\nb").is_err());
        assert!(Request::get("http://a b").is_err());
    }
}
