//! Origins: `[local_server.backends]`, which is a complete description, and `[setup.backends]`, which is an address
//! and a port.

use std::net::{IpAddr, Ipv6Addr};

use artifact::manifest::{Backend, parse::Value};
use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use super::{
    items::{Put, SecretItem},
    manifest::Walk,
    wanted::{Origin, Wanted},
};

/// Bytes of a certificate chain, of authorities or of a key, as PEM.
const PEM_BYTES_MAX: u64 = 256 * 1024;
/// The port of a backend in `[setup]` that names none, as Fastly has it. It alone means TLS.
const SETUP_PORT: u32 = 443;

impl Walk<'_> {
    /// `[local_server.backends.<name>]`
    pub fn local_backends(&mut self, path: &str, value: &Value<'_>, wanted: &mut Wanted) {
        for (name, value) in self.reader.table(path, value).into_iter().flatten() {
            let path = format!("{path}.{}", name.get_ref());
            self.place(format!("backends.{}", name.get_ref()), &path, name);
            let Some(table) = self.reader.table(&path, value) else { continue };
            if let Some(origin) = self.local_backend(&path, name, table) {
                wanted.backends.insert(name.get_ref().to_string(), origin);
            }
        }
    }

    fn local_backend(
        &mut self,
        path: &str,
        name: &Spanned<DeString<'_>>,
        table: &DeTable<'_>,
    ) -> Option<Origin> {
        let mut origin = Origin::default();
        let mut has_url = false;
        for (key, value) in table {
            let backend = &mut origin.backend;
            let path = format!("{path}.{}", key.get_ref());
            match key.get_ref().as_ref() {
                "url" => {
                    has_url = true;
                    backend.url = self.url(&path, key, value).unwrap_or_default();
                }
                "override_host" => backend.override_host = self.text(&path, value),
                "cert_host" => backend.cert_host = self.text(&path, value),
                "connect_timeout_ms" => backend.connect_timeout_ms = self.reader.number(&path, value),
                "first_byte_timeout_ms" => backend.first_byte_timeout_ms = self.reader.number(&path, value),
                "between_bytes_timeout_ms" => {
                    backend.between_bytes_timeout_ms = self.reader.number(&path, value)
                }
                "ca_certificate" => backend.ca_pem = self.certificates(&path, value),
                "client_certificate" => self.client_certificate(&path, value, name.get_ref(), &mut origin),
                "use_sni" if self.boolean(&path, value) == Some(false) => {
                    self.ignored(&path, key, "the name of the certificate is always sent");
                }
                "grpc" if self.boolean(&path, value) == Some(true) => {
                    self.ignored(&path, key, "HTTP/2 is used whenever an https origin offers it");
                }
                "use_sni" | "grpc" => {}
                "health" => self.ignored(&path, key, "whether an origin is well is found out, not set"),
                _ => self.unknown(&path, key),
            }
        }
        if !has_url {
            self.reader.note(path, name.span(), "needs a url of the form http[s]://host[:port]".into());
        }
        Some(origin).filter(|origin| !origin.backend.url.is_empty())
    }

    /// An origin without path: a backend is a host, on Fastly's network too.
    fn url(&mut self, path: &str, key: &Spanned<DeString<'_>>, value: &Value<'_>) -> Option<String> {
        let text = self.text(path, value)?;
        let Some((scheme, rest)) = text.split_once("://") else {
            self.mistake(path, value, format!("{text:?} is not of the form http[s]://host[:port]"));
            return None;
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, dropped) = rest.split_at(end);
        if !matches!(dropped, "" | "/") {
            self.ignored(
                path,
                key,
                &format!("its path {dropped:?}; a backend is a host, the request has the path"),
            );
        }
        Some(format!("{}://{authority}", scheme.to_ascii_lowercase()))
    }

    /// PEM text, `{ file = … }`, `{ value = … }`, or a list of them.
    fn certificates(&mut self, path: &str, value: &Value<'_>) -> Option<String> {
        match value.get_ref() {
            DeValue::Array(items) => {
                let items: Vec<String> =
                    items.iter().filter_map(|item| self.certificate(path, item)).collect();
                if items.is_empty() {
                    self.mistake(path, value, "is an empty list");
                }
                Some(items.join("\n"))
            }
            _ => self.certificate(path, value),
        }
    }

    fn certificate(&mut self, path: &str, value: &Value<'_>) -> Option<String> {
        match value.get_ref() {
            DeValue::Table(table) => {
                let (mut pem, mut known) = (None, false);
                for (key, value) in table {
                    let path = format!("{path}.{}", key.get_ref());
                    match key.get_ref().as_ref() {
                        "file" | "certificate_file" => pem = self.pem_file(&path, value, CERTIFICATE),
                        "value" | "certificate" => pem = self.pem(&path, value, CERTIFICATE),
                        _ => {
                            self.unknown(&path, key);
                            continue;
                        }
                    }
                    known = true;
                }
                if !known {
                    self.mistake(path, value, "needs a file or a value");
                }
                pem
            }
            _ => self.pem(path, value, CERTIFICATE),
        }
    }

    /// Certificate and key; the key becomes a secret of the app.
    fn client_certificate(&mut self, path: &str, value: &Value<'_>, backend: &str, origin: &mut Origin) {
        let (mut certificate, mut key_pem) = (None, None);
        let mut missing = vec!["certificate or certificate_file", "key or key_file"];
        for (key, value) in self.reader.table(path, value).into_iter().flatten() {
            let path = format!("{path}.{}", key.get_ref());
            let name = key.get_ref().as_ref();
            match name {
                "certificate" => certificate = self.pem(&path, value, CERTIFICATE),
                "certificate_file" => certificate = self.pem_file(&path, value, CERTIFICATE),
                "key" => key_pem = self.pem(&path, value, KEY),
                "key_file" => key_pem = self.pem_file(&path, value, KEY),
                _ => {
                    self.unknown(&path, key);
                    continue;
                }
            }
            missing.retain(|wanted| !wanted.starts_with(name.trim_end_matches("_file")));
        }
        for missing in missing {
            self.mistake(path, value, format!("needs {missing}"));
        }
        if let (Some(certificate), Some(key_pem)) = (certificate, key_pem) {
            let key = key_secret(backend);
            origin.backend.client_cert_pem = Some(certificate);
            origin.backend.client_key_secret = Some(key.clone());
            // With its certificate, which every deploy replaces.
            let put = Put::Always;
            origin.key = Some(SecretItem { store: None, key, value: key_pem.into_bytes(), put });
        }
    }

    fn pem(&mut self, path: &str, value: &Value<'_>, label: &str) -> Option<String> {
        let text = self.text(path, value)?;
        self.checked_pem(path, value, text, label)
    }

    fn pem_file(&mut self, path: &str, value: &Value<'_>, label: &str) -> Option<String> {
        let bytes = self.file(path, value, PEM_BYTES_MAX)?;
        let text = String::from_utf8(bytes).unwrap_or_default();
        self.checked_pem(path, value, text, label)
    }

    fn checked_pem(&mut self, path: &str, value: &Value<'_>, text: String, label: &str) -> Option<String> {
        let begins = |line: &str| line.trim_start().starts_with("-----BEGIN ") && line.contains(label);
        if text.lines().any(begins) {
            return Some(text.trim().to_owned());
        }
        self.mistake(path, value, format!("has no {} in PEM form", label.to_ascii_lowercase()));
        None
    }

    /// `[setup.backends.<name>]`
    pub fn setup_backends(&mut self, path: &str, value: &Value<'_>, wanted: &mut Wanted) {
        for (name, value) in self.reader.table(path, value).into_iter().flatten() {
            let path = format!("{path}.{}", name.get_ref());
            let (mut address, mut port) = (None, SETUP_PORT);
            for (key, value) in self.reader.table(&path, value).into_iter().flatten() {
                let path = format!("{path}.{}", key.get_ref());
                match key.get_ref().as_ref() {
                    "address" => address = self.text(&path, value),
                    "port" => port = self.port(&path, value).unwrap_or(port),
                    "description" | "prompt" => {}
                    _ => self.unknown(&path, key),
                }
            }
            let Some(address) = address else {
                self.ignored(&path, name, "it has no address");
                continue;
            };
            self.place(format!("backends.{}", name.get_ref()), &path, name);
            wanted.backends.insert(name.get_ref().to_string(), at_address(address, port));
        }
    }

    fn port(&mut self, path: &str, value: &Value<'_>) -> Option<u32> {
        let port = self.reader.number(path, value)?;
        if !(1..=65_535).contains(&port) {
            self.mistake(path, value, format!("{port} is not a port: 1 to 65535"));
            return None;
        }
        Some(port)
    }
}

const CERTIFICATE: &str = "CERTIFICATE";
const KEY: &str = "PRIVATE KEY";

/// As Fastly makes a backend of it: a host name is also what the origin gets as `Host` and must be certified for.
fn at_address(address: String, port: u32) -> Origin {
    let bare = address.trim_matches(['[', ']']);
    let host = match bare.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => address.clone(),
    };
    let url = match port {
        443 => format!("https://{host}"),
        80 => format!("http://{host}"),
        _ => format!("http://{host}:{port}"),
    };
    let override_host = bare.parse::<IpAddr>().is_err().then_some(address);
    Origin { backend: Backend { url, override_host, ..Backend::default() }, key: None }
}

/// The name of the secret that holds a backend's key.
fn key_secret(backend: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    format!("backend-{}-client-key", backend.chars().take(200).map(plain).collect::<String>())
}
