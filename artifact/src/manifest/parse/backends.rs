//! `[backends.<name>]` of a `skerry.toml`.

use super::{Reader, Value};
use crate::manifest::{AppConfig, Backend, HealthCheck, health_interval_ms, keys};

impl Reader<'_> {
    pub(super) fn backends(&mut self, path: &str, value: &Value<'_>, config: &mut AppConfig) {
        for (name, value) in self.table(path, value).into_iter().flatten() {
            let path = format!("{path}.{}", name.get_ref());
            if let Some(backend) = self.backend(&path, value) {
                config.backends.insert(name.get_ref().to_string(), backend);
            }
        }
    }

    fn backend(&mut self, path: &str, value: &Value<'_>) -> Option<Backend> {
        let mut backend = Backend::default();
        let mut url = None;
        for (key, value) in self.table(path, value).into_iter().flatten() {
            let name = key.get_ref().as_ref();
            let path = format!("{path}.{name}");
            let mut text = || self.string(&path, value).map(str::to_owned);
            match name {
                "url" => url = text(),
                "override_host" => backend.override_host = text(),
                "cert_host" => backend.cert_host = text(),
                "ca_pem" => backend.ca_pem = text(),
                "client_cert_pem" => backend.client_cert_pem = text(),
                "client_key_secret" => backend.client_key_secret = text(),
                "failover" => backend.failover = self.strings(&path, value),
                "connect_timeout_ms" => backend.connect_timeout_ms = self.number(&path, value),
                "first_byte_timeout_ms" => backend.first_byte_timeout_ms = self.number(&path, value),
                "between_bytes_timeout_ms" => backend.between_bytes_timeout_ms = self.number(&path, value),
                "health" => backend.health = self.health(&path, value),
                _ => self.unknown(&path, key, keys::BACKEND),
            }
        }
        match url {
            Some(url) => Some(Backend { url, ..backend }),
            None => {
                self.note(path, value.span(), "needs a url of the form http[s]://host[:port]".into());
                None
            }
        }
    }

    fn health(&mut self, path: &str, value: &Value<'_>) -> Option<HealthCheck> {
        let (mut target, mut interval_ms) = (None, health_interval_ms());
        for (key, value) in self.table(path, value).into_iter().flatten() {
            let name = key.get_ref().as_ref();
            let path = format!("{path}.{name}");
            match name {
                "path" => target = self.string(&path, value).map(str::to_owned),
                "interval_ms" => interval_ms = self.number(&path, value).unwrap_or(interval_ms),
                _ => self.unknown(&path, key, keys::HEALTH),
            }
        }
        if target.is_none() {
            self.note(path, value.span(), "needs a path, such as \"/healthz\"".into());
        }
        Some(HealthCheck { path: target?, interval_ms })
    }
}

#[cfg(test)]
mod tests {
    use crate::manifest::{HealthCheck, Project};

    #[test]
    fn a_backend_with_everything() {
        let text = r#"
            name = "shop"
            component = "shop.wasm"
            outbound = ["*.example"]
            secrets = ["KEY"]
            [backends.origin]
            url = "https://a.example"
            failover = ["https://b.example"]
            override_host = "www.example"
            cert_host = "cert.example"
            ca_pem = "-----BEGIN CERTIFICATE-----"
            client_cert_pem = "-----BEGIN CERTIFICATE-----"
            client_key_secret = "KEY"
            connect_timeout_ms = 1000
            first_byte_timeout_ms = 2000
            between_bytes_timeout_ms = 3000
            health = { path = "/up" }
        "#;
        let config = Project::parse(text).unwrap().config;
        assert_eq!(config.outbound, ["*.example"]);
        let backend = &config.backends["origin"];
        assert_eq!(backend.failover, ["https://b.example"]);
        assert_eq!(backend.health, Some(HealthCheck { path: "/up".into(), interval_ms: 10_000 }));
        assert_eq!(
            [backend.connect_timeout_ms, backend.first_byte_timeout_ms, backend.between_bytes_timeout_ms],
            [Some(1_000), Some(2_000), Some(3_000)]
        );
        let texts = [&backend.override_host, &backend.cert_host, &backend.client_key_secret];
        assert_eq!(
            texts.map(|text| text.as_deref()),
            [Some("www.example"), Some("cert.example"), Some("KEY")]
        );
        assert!(backend.ca_pem.is_some() && backend.client_cert_pem.is_some());
    }
}
