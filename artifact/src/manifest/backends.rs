//! What a manifest may say of backends and of hosts to fetch from.

use super::{
    AppConfig, Backend, bounds,
    origin::{HostPattern, Origin, OriginHost, Scheme},
};

/// Notes every mistake, each with its key's path.
pub(super) fn check(config: &AppConfig, note: &mut impl FnMut(String, String)) {
    let count = config.backends.len();
    if count > bounds::BACKENDS_MAX {
        note("backends".into(), format!("{count} backends, at most {}", bounds::BACKENDS_MAX));
    }
    for (name, backend) in &config.backends {
        check_backend(backend, &mut |key, why| note(format!("backends.{name}.{key}"), why));
    }
    let bytes = config.backends.values().map(pem_bytes).sum::<usize>();
    if bytes > bounds::PEM_BYTES_MAX {
        let max = bounds::PEM_BYTES_MAX;
        note("backends".into(), format!("{bytes} bytes of certificates in all, at most {max}"));
    }
    let count = config.outbound.len();
    if count > bounds::OUTBOUND_MAX {
        note("outbound".into(), format!("{count} hosts, at most {}", bounds::OUTBOUND_MAX));
    }
    for pattern in &config.outbound {
        if let Err(error) = HostPattern::parse(pattern) {
            note("outbound".into(), format!("{error}; host, *.host or *, each with an optional :port"));
        }
    }
}

fn pem_bytes(backend: &Backend) -> usize {
    [&backend.ca_pem, &backend.client_cert_pem].into_iter().flatten().map(String::len).sum()
}

fn check_backend(backend: &Backend, note: &mut impl FnMut(&str, String)) {
    let mut secure = false;
    let urls =
        [("url", &backend.url)].into_iter().chain(backend.failover.iter().map(|url| ("failover", url)));
    for (key, url) in urls {
        match Origin::parse(url) {
            Ok(origin) => secure |= origin.scheme == Scheme::Https,
            Err(error) => note(key, error.to_string()),
        }
    }
    if backend.failover.len() > bounds::FAILOVER_MAX {
        note("failover", format!("{} origins, at most {}", backend.failover.len(), bounds::FAILOVER_MAX));
    }
    if let Some(host) = &backend.override_host
        && let Err(error) = Origin::of(Scheme::Https, host)
    {
        note("override_host", error.to_string());
    }
    if let Some(host) = &backend.cert_host
        && let Err(error) = OriginHost::parse(host)
    {
        note("cert_host", error.to_string());
    }
    check_tls(backend, secure, note);
    for (key, ms) in [
        ("connect_timeout_ms", backend.connect_timeout_ms),
        ("first_byte_timeout_ms", backend.first_byte_timeout_ms),
        ("between_bytes_timeout_ms", backend.between_bytes_timeout_ms),
    ] {
        let range = bounds::TIMEOUT_MS;
        if let Some(ms) = ms
            && !range.contains(&ms)
        {
            note(key, format!("{ms} is out of range: {} to {}", range.start(), range.end()));
        }
    }
    if let Some(health) = &backend.health {
        let range = bounds::HEALTH_INTERVAL_MS;
        if !range.contains(&health.interval_ms) {
            let (ms, least, most) = (health.interval_ms, range.start(), range.end());
            note("health.interval_ms", format!("{ms} is out of range: {least} to {most}"));
        }
        let visible = health.path.bytes().all(|c| c.is_ascii_graphic() && c != b'#');
        if !health.path.starts_with('/') || !visible || health.path.len() > bounds::PATH_PREFIX_BYTES_MAX {
            note("health.path", format!("{:?} is not a path that starts with '/'", health.path));
        }
    }
}

fn check_tls(backend: &Backend, secure: bool, note: &mut impl FnMut(&str, String)) {
    for (key, value) in [
        ("cert_host", &backend.cert_host),
        ("ca_pem", &backend.ca_pem),
        ("client_cert_pem", &backend.client_cert_pem),
        ("client_key_secret", &backend.client_key_secret),
    ] {
        if value.is_some() && !secure {
            note(key, "is for https:// and no origin of this backend is".into());
        }
    }
    for (key, pem) in [("ca_pem", &backend.ca_pem), ("client_cert_pem", &backend.client_cert_pem)] {
        if pem.as_ref().is_some_and(|pem| !pem.contains("-----BEGIN CERTIFICATE-----")) {
            note(key, "has no certificate in PEM form".into());
        }
    }
    match (&backend.client_cert_pem, &backend.client_key_secret) {
        (Some(_), None) => {
            note("client_key_secret", "is missing: the name of the secret with the key".into())
        }
        (None, Some(_)) => note("client_cert_pem", "is missing: the certificate of the key".into()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::HealthCheck;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\n";

    fn keys(backend: Backend, outbound: &[&str]) -> Vec<String> {
        let config = AppConfig {
            backends: [("b".to_owned(), backend)].into(),
            outbound: outbound.iter().map(|text| text.to_string()).collect(),
            ..AppConfig::default()
        };
        config.mistakes().into_iter().map(|mistake| mistake.key).collect()
    }

    #[test]
    fn a_full_backend_is_fine() {
        let backend = Backend {
            url: "https://a.example".into(),
            failover: vec!["https://192.0.2.1:8443".into()],
            override_host: Some("www.example:8443".into()),
            cert_host: Some("cert.example".into()),
            ca_pem: Some(PEM.into()),
            client_cert_pem: Some(PEM.into()),
            client_key_secret: Some("KEY".into()),
            connect_timeout_ms: Some(1),
            first_byte_timeout_ms: Some(600_000),
            between_bytes_timeout_ms: Some(1),
            health: Some(HealthCheck { path: "/up?x=1".into(), interval_ms: 1_000 }),
        };
        assert_eq!(keys(backend, &["*.example", "a.example:1", "*"]), Vec::<String>::new());
    }

    #[test]
    fn every_mistake_of_a_backend_is_found() {
        let backend = Backend {
            url: "http://0x7f.1".into(),
            failover: vec!["http://a.example".into(); bounds::FAILOVER_MAX + 1],
            override_host: Some("a b".into()),
            cert_host: Some("a.example:443".into()),
            ca_pem: Some("x".into()),
            client_cert_pem: Some(PEM.into()),
            client_key_secret: Some("OTHER".into()),
            connect_timeout_ms: Some(0),
            first_byte_timeout_ms: Some(600_001),
            between_bytes_timeout_ms: Some(0),
            health: Some(HealthCheck { path: "up".into(), interval_ms: 1 }),
        };
        let expected = [
            "url",
            "failover",
            "override_host",
            "cert_host",
            "cert_host",
            "ca_pem",
            "client_cert_pem",
            "client_key_secret",
            "ca_pem",
            "connect_timeout_ms",
            "first_byte_timeout_ms",
            "between_bytes_timeout_ms",
            "health.interval_ms",
            "health.path",
        ];
        let mut expected: Vec<String> = expected.iter().map(|key| format!("backends.b.{key}")).collect();
        expected.push("outbound".into());
        assert_eq!(keys(backend, &["https://a.example"]), expected);
        let lone = Backend { url: "https://a.example".into(), ..Backend::default() };
        let key = Backend { client_key_secret: Some("KEY".into()), ..lone.clone() };
        assert_eq!(keys(key, &[]), ["backends.b.client_cert_pem"]);
        let certificate = Backend { client_cert_pem: Some(PEM.into()), ..lone };
        assert_eq!(keys(certificate, &[]), ["backends.b.client_key_secret"]);
    }
}
