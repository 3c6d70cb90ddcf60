//! Target → what may be asked and how: origins, `Host`, TLS, times. Whatever is neither declared nor on the app's
//! list is refused here, before anything is looked up.

use std::{borrow::Cow, time::Duration};

use artifact::{
    HostName,
    manifest::{
        AppConfig, Backend,
        origin::{HostPattern, Origin, OriginHost, Scheme},
    },
};
use http::{
    HeaderMap, Uri, header, request,
    uri::{Authority, Scheme as UriScheme},
};

use super::{
    FetchError, Options, Target,
    deadline::Seals,
    head::{Fetches, Outgoing},
    limits,
};

/// A backend that may be asked.
pub struct Allowed<'a> {
    /// Its definition; an empty one for a host of the list.
    pub backend: Cow<'a, Backend>,
    /// Its origins, in the order they are asked.
    pub origins: Vec<Origin>,
    /// What it gets as `Host`.
    pub authority: Authority,
    /// How long it may take.
    pub times: Times,
}

/// Times for one request, all decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// To connect, lookup and TLS included.
    pub connect: Duration,
    /// From the request's last byte to the response's head.
    pub first_byte: Duration,
    /// Between two pieces of the response's body.
    pub between_bytes: Duration,
}

impl<'a> Allowed<'a> {
    /// Finds what `target` means for an app, and checks it.
    pub fn find(
        config: &'a AppConfig,
        target: &'a Target<'_>,
        head: &request::Parts,
        options: Options,
    ) -> Result<Allowed<'a>, FetchError> {
        let (backend, origins) = match target {
            Target::Backend(name) => {
                let backend = config.backends.get(*name).ok_or(FetchError::NoBackend)?;
                (Cow::Borrowed(backend), origins(backend)?)
            }
            Target::Dynamic(made) => {
                let origins = origins(&made.backend)?;
                for origin in &origins {
                    check(config, origin)?;
                }
                (Cow::Borrowed(&made.backend), origins)
            }
            Target::Url => by_origin(config, origin_of(&head.uri)?)?,
        };
        let authority = match (target, &backend.override_host) {
            (_, Some(host)) => authority(host.as_bytes())?,
            (Target::Url, None) => head.uri.authority().cloned().ok_or(FetchError::UriInvalid)?,
            (_, None) => asked_host(head).unwrap_or_else(|| own_host(&origins))?,
        };
        let times = Times::of(&backend, options);
        Ok(Allowed { backend, origins, authority, times })
    }

    /// The checked head of a request to it.
    pub fn outgoing(
        &self,
        head: request::Parts,
        fetches: &Fetches,
        seals: &Seals,
    ) -> Result<Outgoing, FetchError> {
        Outgoing::new(head, self.authority.clone(), self.own_name().as_ref(), fetches, seals)
    }

    /// What it gets as `Host`, where that is the name of the servers themselves: nobody else's is connected to by it.
    fn own_name(&self) -> Option<HostName> {
        let name = HostName::from_authority_host(self.authority.host()).ok()?;
        let is_its =
            |origin: &Origin| matches!(&origin.host, OriginHost::Name(connected) if *connected == name);
        self.origins.iter().all(is_its).then_some(name)
    }
}

/// The first is the one asked first.
fn origins(backend: &Backend) -> Result<Vec<Origin>, FetchError> {
    let urls = std::iter::once(&backend.url).chain(&backend.failover);
    urls.map(|url| Origin::parse(url).map_err(|_| FetchError::UriInvalid)).collect()
}

fn origin_of(uri: &Uri) -> Result<Origin, FetchError> {
    let scheme = match uri.scheme() {
        Some(scheme) if *scheme == UriScheme::HTTP => Scheme::Http,
        Some(scheme) if *scheme == UriScheme::HTTPS => Scheme::Https,
        _ => return Err(FetchError::UriInvalid),
    };
    let authority = uri.authority().ok_or(FetchError::UriInvalid)?;
    Origin::of(scheme, authority.as_str()).map_err(|_| FetchError::UriInvalid)
}

/// The backend of this origin with all its settings, or the bare origin if the app's list holds it.
fn by_origin(config: &AppConfig, origin: Origin) -> Result<(Cow<'_, Backend>, Vec<Origin>), FetchError> {
    for backend in config.backends.values() {
        if Origin::parse(&backend.url).is_ok_and(|declared| declared == origin) {
            return Ok((Cow::Borrowed(backend), origins(backend)?));
        }
    }
    check(config, &origin)?;
    Ok((Cow::Owned(Backend::default()), vec![origin]))
}

fn check(config: &AppConfig, origin: &Origin) -> Result<(), FetchError> {
    let mut patterns = config.outbound.iter().filter_map(|text| HostPattern::parse(text).ok());
    let mut declared = config.backends.values().flat_map(|b| std::iter::once(&b.url).chain(&b.failover));
    if patterns.any(|pattern| pattern.holds(origin))
        || declared.any(|url| Origin::parse(url).as_ref() == Ok(origin))
    {
        return Ok(());
    }
    Err(FetchError::NotAllowed)
}

/// The host a guest's request names: by its field, else by its URI.
fn asked_host(head: &request::Parts) -> Option<Result<Authority, FetchError>> {
    let field = only(&head.headers);
    field
        .or_else(|| head.uri.authority().map(|authority| Ok(authority.as_str().as_bytes())))
        .map(|host| authority(host?))
}

fn only(headers: &HeaderMap) -> Option<Result<&[u8], FetchError>> {
    let mut values = headers.get_all(header::HOST).iter();
    let first = values.next()?;
    Some(if values.next().is_some() { Err(FetchError::UriInvalid) } else { Ok(first.as_bytes()) })
}

fn own_host(origins: &[Origin]) -> Result<Authority, FetchError> {
    authority(origins.first().ok_or(FetchError::NoBackend)?.authority().as_bytes())
}

fn authority(host: &[u8]) -> Result<Authority, FetchError> {
    let authority = Authority::try_from(host).map_err(|_| FetchError::UriInvalid)?;
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return Err(FetchError::UriInvalid);
    }
    Ok(authority)
}

impl Times {
    fn of(backend: &Backend, options: Options) -> Times {
        let chosen = |asked: Option<Duration>, declared: Option<u32>, default: Duration| {
            asked.or(declared.map(|ms| Duration::from_millis(ms.into()))).unwrap_or(default)
        };
        Times {
            connect: chosen(options.connect, backend.connect_timeout_ms, limits::CONNECT_TIMEOUT),
            first_byte: chosen(options.first_byte, backend.first_byte_timeout_ms, limits::FIRST_BYTE_TIMEOUT),
            between_bytes: chosen(
                options.between_bytes,
                backend.between_bytes_timeout_ms,
                limits::BETWEEN_BYTES_TIMEOUT,
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Request;

    use super::*;
    use crate::host::outbound::{body::Sending, deadline};

    fn config() -> AppConfig {
        let backend = |url: &str| Backend { url: url.into(), ..Backend::default() };
        AppConfig {
            backends: [
                ("plain".to_owned(), backend("http://plain.example:8080")),
                (
                    "full".to_owned(),
                    Backend {
                        failover: vec!["https://second.example".into()],
                        override_host: Some("www.example".into()),
                        first_byte_timeout_ms: Some(7),
                        ..backend("https://full.example")
                    },
                ),
            ]
            .into(),
            outbound: vec!["*.listed.example".into()],
            ..AppConfig::default()
        }
    }

    /// Origins and `Host` of a target, or why not.
    fn find(target: Target<'_>, request: request::Builder) -> Result<String, FetchError> {
        let (head, ()) = request.body(()).unwrap().into_parts();
        let (config, options) = (config(), Options::default());
        let allowed = Allowed::find(&config, &target, &head, options)?;
        let origins: Vec<String> = allowed.origins.iter().map(Origin::to_string).collect();
        Ok(format!("{} as {}", origins.join(" "), allowed.authority))
    }

    #[test]
    fn a_backend_is_found_by_name() {
        let plain = |request| find(Target::Backend("plain"), request);
        assert_eq!(plain(Request::get("/")).unwrap(), "http://plain.example:8080 as plain.example:8080");
        let uri = "https://a.example/x";
        assert_eq!(plain(Request::get(uri)).unwrap(), "http://plain.example:8080 as a.example");
        assert_eq!(
            plain(Request::get(uri).header("host", "b.example")).unwrap(),
            "http://plain.example:8080 as b.example"
        );
        assert_eq!(
            find(Target::Backend("full"), Request::get(uri).header("host", "b.example")).unwrap(),
            "https://full.example https://second.example as www.example"
        );
        assert_eq!(find(Target::Backend("other"), Request::get("/")), Err(FetchError::NoBackend));
        for bad in ["user@b.example", "", "b c", ":80"] {
            assert_eq!(plain(Request::get(uri).header("host", bad)), Err(FetchError::UriInvalid), "{bad:?}");
        }
        let two = Request::get(uri).header("host", "a.example").header("host", "b.example");
        assert_eq!(plain(two), Err(FetchError::UriInvalid));
    }

    #[test]
    fn a_deadline_is_sealed_only_for_the_host_that_is_connected_to() {
        let seals = Seals::of(Some(artifact::seal::SecretsKey::from_bytes([1; 32])));
        let is_sealed = |target: Target<'_>, uri: &str, host: Option<&str>| {
            let (mut head, ()) = Request::get(uri).body(()).unwrap().into_parts();
            host.map(|host| head.headers.insert("host", host.parse().unwrap()));
            let config = config();
            let allowed = Allowed::find(&config, &target, &head, Options::default()).unwrap();
            let fetches = Fetches::new(std::time::Instant::now() + Duration::from_secs(9));
            let message = allowed.outgoing(head, &fetches, &seals).unwrap().h1(Sending::Empty);
            assert!(message.headers().contains_key(&deadline::MS));
            message.headers().contains_key(&deadline::SEAL)
        };
        let plain = |host: &str| is_sealed(Target::Backend("plain"), "/", Some(host));
        assert!(plain("plain.example") && plain("PLAIN.example.") && plain("plain.example:1"));
        assert!(is_sealed(Target::Backend("plain"), "/", None));
        assert!(is_sealed(Target::Url, "https://x.listed.example/", None));
        assert!(!plain("shop.victim.example"), "the guest's word for the victim's");
        assert!(!plain("192.0.2.1"), "no name, no node");
        assert!(!is_sealed(Target::Backend("full"), "/", None), "its manifest names another");
        let made = |url: &str, failover: Option<&str>, host: Option<&str>| {
            let failover = failover.into_iter().map(str::to_owned).collect();
            let (url, override_host) = (url.to_owned(), host.map(str::to_owned));
            let backend = Backend { url, failover, override_host, ..Backend::default() };
            is_sealed(Target::Dynamic(Arc::new(backend.into())), "/", None)
        };
        assert!(made("https://x.listed.example", None, None));
        assert!(!made("https://x.listed.example", None, Some("shop.victim.example")));
        let second = Some("https://second.example");
        assert!(!made("https://x.listed.example", second, None), "two hosts, one of them somebody else's");
    }

    #[test]
    fn a_url_must_be_a_backends_or_on_the_list() {
        let url = |uri: &str| find(Target::Url, Request::get(uri));
        assert_eq!(
            url("http://plain.example:8080/x").unwrap(),
            "http://plain.example:8080 as plain.example:8080"
        );
        assert_eq!(
            url("HTTPS://FULL.example:443/x").unwrap(),
            "https://full.example https://second.example as www.example"
        );
        assert_eq!(url("https://second.example/").unwrap(), "https://second.example as second.example");
        assert_eq!(url("https://x.listed.example/").unwrap(), "https://x.listed.example as x.listed.example");
        for refused in [
            "http://plain.example/",
            "https://plain.example:8080/",
            "http://full.example/",
            "https://listed.example/",
            "https://x.listed.example:8443/",
            "https://x.listed.example.evil/",
            "http://169.254.169.254/",
        ] {
            assert_eq!(url(refused), Err(FetchError::NotAllowed), "{refused}");
        }
        for invalid in ["/", "ftp://plain.example/", "http://u@plain.example:8080/", "http://0x7f.1/"] {
            assert_eq!(url(invalid), Err(FetchError::UriInvalid), "{invalid}");
        }
    }

    #[test]
    fn a_backend_made_by_a_guest_must_be_on_the_list_with_all_its_origins() {
        let made = |url: &str, failover: &[&str]| {
            let failover = failover.iter().map(|url| url.to_string()).collect();
            let backend = Backend { url: url.into(), failover, ..Backend::default() };
            find(Target::Dynamic(Arc::new(backend.into())), Request::get("/"))
        };
        assert_eq!(
            made("https://x.listed.example", &[]).unwrap(),
            "https://x.listed.example as x.listed.example"
        );
        assert!(made("https://x.listed.example", &["https://second.example"]).is_ok());
        assert_eq!(made("https://x.listed.example", &["https://evil.example"]), Err(FetchError::NotAllowed));
        assert_eq!(made("https://evil.example", &[]), Err(FetchError::NotAllowed));
        assert_eq!(made("evil", &[]), Err(FetchError::UriInvalid));
    }

    #[test]
    fn the_requests_times_come_before_the_backends_and_the_defaults() {
        let config = config();
        let asked = Options { between_bytes: Some(Duration::from_millis(3)), ..Options::default() };
        let times = Times::of(&config.backends["full"], asked);
        let expected = Times {
            connect: limits::CONNECT_TIMEOUT,
            first_byte: Duration::from_millis(7),
            between_bytes: Duration::from_millis(3),
        };
        assert_eq!(times, expected);
    }
}
