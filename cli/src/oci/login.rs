//! Who asks a registry: a name and password given on the command line, else what `docker login` left.
//!
//! Looked for only once a registry wants to know. Deliberately absent: identity tokens and keeping anything, which is
//! `docker login`'s work.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;

use crate::error::{Error, Result};

/// Docker's file names registries and helpers; a thousand of them are 200 KB.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// A password, or a token that stands for one: those of cloud registries have 2 to 5 KB.
const PASSWORD_BYTES_MAX: u64 = 64 << 10;
/// What a helper says when it has nothing.
const HELPER_HAS_NONE: &str = "credentials not found";
/// The name that helpers give where the password is an identity token.
const IDENTITY_TOKEN_USER: &str = "<token>";
/// Docker's own registry, and the name under which `docker login` keeps it.
const DOCKER_HUB: (&str, &str) = ("docker.io", "https://index.docker.io/v1/");

/// A name and its password. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub username: String,
    pub password: String,
}

/// Where logins are found.
pub struct Logins {
    /// Given by hand: wins.
    given: Option<Login>,
    /// Docker's configuration.
    docker: Option<PathBuf>,
}

/// `config.json`, as far as it is about logins.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DockerConfig {
    auths: BTreeMap<String, Auth>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    /// base64 of `name:password`.
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// What a helper answers.
#[derive(Deserialize)]
struct Helped {
    #[serde(rename = "Username")]
    username: String,
    #[serde(rename = "Secret")]
    secret: String,
}

impl Login {
    /// The value of `Authorization`.
    pub fn basic(&self) -> String {
        format!("Basic {}", BASE64.encode(format!("{}:{}", self.username, self.password)))
    }
}

impl Logins {
    /// As the command line and the environment say. With a name the password is read from standard input.
    pub fn find(username: Option<&str>) -> Result<Logins> {
        let env = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = env("DOCKER_CONFIG").or_else(|| env("HOME").map(|home| home.join(".docker")));
        let given = match username {
            Some(username) => Some(Login { username: username.to_owned(), password: read_password()? }),
            None => None,
        };
        Ok(Logins { given, docker: folder.map(|folder| folder.join("config.json")) })
    }

    /// What is known for a registry.
    pub fn of(&self, host: &str) -> Result<Option<Login>> {
        if let Some(given) = &self.given {
            return Ok(Some(given.clone()));
        }
        let Some(config) = self.docker.as_deref().map(read_config).transpose()?.flatten() else {
            return Ok(None);
        };
        config.login(host, ask_helper)
    }

    #[cfg(test)]
    pub fn only(given: Option<(&str, &str)>) -> Logins {
        let given = given.map(|(name, word)| Login { username: name.into(), password: word.into() });
        Logins { given, docker: None }
    }
}

impl DockerConfig {
    fn login(&self, host: &str, ask: impl Fn(&str, &str) -> Result<Option<Login>>) -> Result<Option<Login>> {
        let server = if host == DOCKER_HUB.0 { DOCKER_HUB.1 } else { host };
        if let Some(helper) = self.cred_helpers.get(host).or(self.creds_store.as_ref())
            && let Some(login) = ask(helper, server)?
        {
            return Ok(Some(login));
        }
        let is_it = |name: &&String| name.as_str() == server || bare(name) == host;
        let Some(auth) = self.auths.keys().find(is_it).and_then(|name| self.auths.get(name)) else {
            return Ok(None);
        };
        auth.login(host)
    }
}

impl Auth {
    fn login(&self, host: &str) -> Result<Option<Login>> {
        let unusable = |why: &str| {
            Error::Usage(format!(
                "docker's configuration has a login for {host} that cannot be used: {why}; give --username and \
                 --password-stdin"
            ))
        };
        if let (Some(username), Some(password)) = (&self.username, &self.password) {
            return Ok(Some(Login { username: username.clone(), password: password.clone() }));
        }
        if self.identitytoken.as_ref().is_some_and(|token| !token.is_empty()) {
            return Err(unusable("it is an identity token"));
        }
        let Some(auth) = self.auth.as_deref().filter(|auth| !auth.is_empty()) else { return Ok(None) };
        let text = BASE64.decode(auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let text = text.ok_or_else(|| unusable("it is no base64"))?;
        let (username, password) = text.split_once(':').ok_or_else(|| unusable("it has no password"))?;
        let password = password.trim_end_matches('\0').to_owned();
        Ok(Some(Login { username: username.to_owned(), password }))
    }
}

/// `https://host/v1/` is `host`.
fn bare(server: &str) -> &str {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}

fn read_config(path: &Path) -> Result<Option<DockerConfig>> {
    let doing = || format!("reading {}", path.display());
    let mut file = match fs::File::open(path) {
        Ok(file) => file.take(CONFIG_BYTES_MAX),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(Error::io(doing())(cause)),
    };
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(Error::io(doing()))?;
    let read = serde_json::from_str(&text);
    read.map(Some).map_err(|cause| Error::io(doing())(io::Error::new(io::ErrorKind::InvalidData, cause)))
}

/// Asks `docker-credential-NAME`. `None`: it has no login for the server.
fn ask_helper(name: &str, server: &str) -> Result<Option<Login>> {
    let program = format!("docker-credential-{name}");
    let doing = || format!("asking {program}, which docker's configuration names, for the login of {server}");
    if name.is_empty() || !name.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c)) {
        return Err(Error::Usage(format!(
            "docker's configuration names {name:?}, which is no credential helper"
        )));
    }
    let mut helper = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit()) // it may ask for something
        .spawn()
        .map_err(Error::io(doing()))?;
    if let Some(mut input) = helper.stdin.take() {
        let _ = input.write_all(server.as_bytes()); // what it does not read it does not need
    }
    let output = helper.wait_with_output().map_err(Error::io(doing()))?;
    if !output.status.success() {
        return match String::from_utf8_lossy(&output.stdout).contains(HELPER_HAS_NONE) {
            true => Ok(None),
            false => Err(Error::Command(format!("{} failed ({})", doing(), output.status))),
        };
    }
    let helped: Helped = serde_json::from_slice(&output.stdout)
        .map_err(|_| Error::Command(format!("{} failed: it answered what no helper answers", doing())))?;
    if helped.username == IDENTITY_TOKEN_USER {
        let message =
            "it has an identity token, which is not supported; give --username and --password-stdin";
        return Err(Error::Usage(format!("{}: {message}", doing())));
    }
    Ok(Some(Login { username: helped.username, password: helped.secret }))
}

/// The password, as `docker login --password-stdin` takes it: without the line end at its end.
fn read_password() -> Result<String> {
    let doing = "reading the password from standard input";
    let mut text = String::new();
    io::stdin().lock().take(PASSWORD_BYTES_MAX).read_to_string(&mut text).map_err(Error::io(doing))?;
    let password =
        text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    match password {
        "" => Err(Error::Usage("no password on standard input".into())),
        password => Ok(password.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: serde_json::Value) -> DockerConfig {
        serde_json::from_value(json).unwrap()
    }

    fn pair(login: Result<Option<Login>>) -> Option<(String, String)> {
        login.unwrap_or_else(|error| panic!("{error}")).map(|login| (login.username, login.password))
    }

    fn nobody(_: &str, _: &str) -> Result<Option<Login>> {
        Ok(None)
    }

    #[test]
    fn logins_of_docker_are_found_for_their_own_registry() {
        let auth = |text: &str| serde_json::json!({ "auth": BASE64.encode(text) });
        let config = config(serde_json::json!({
            "auths": {
                "ghcr.io": auth("me:pa:ss"),
                "https://r.example/v1/": auth("old:word"),
                "https://index.docker.io/v1/": auth("hub:word"),
                "localhost:5000": { "username": "u", "password": "p" },
                "empty.example": {},
            },
            "HttpHeaders": { "User-Agent": "other keys are none of ours" },
        }));
        let of = |host: &str| pair(config.login(host, nobody));
        let is = |name: &str, word: &str| Some((name.to_owned(), word.to_owned()));
        assert_eq!(of("ghcr.io"), is("me", "pa:ss"));
        assert_eq!(of("r.example"), is("old", "word"));
        assert_eq!(of("docker.io"), is("hub", "word"));
        assert_eq!(of("localhost:5000"), is("u", "p"));
        for other in
            ["localhost", "evil.example", "empty.example", "ghcr.io.evil.example", "evil-ghcr.io", "io"]
        {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn helpers_are_asked_first_and_what_cannot_be_used_is_said() {
        let config = config(serde_json::json!({
            "auths": { "a.example": { "auth": "???" }, "b.example": { "identitytoken": "x" } },
            "credHelpers": { "c.example": "cloud" },
            "credsStore": "keychain",
        }));
        let ask = |program: &str, server: &str| -> Result<Option<Login>> {
            let known = program == "cloud" || server == "d.example";
            Ok(known.then(|| Login { username: program.into(), password: server.into() }))
        };
        let of = |host: &str| pair(config.login(host, ask));
        assert_eq!(of("c.example"), Some(("cloud".into(), "c.example".into())));
        assert_eq!(of("d.example"), Some(("keychain".into(), "d.example".into())));
        assert_eq!(of("e.example"), None);
        for (host, why) in [("a.example", "no base64"), ("b.example", "identity token")] {
            let error = config.login(host, ask).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(why) && error.contains("--password-stdin"), "{error}");
        }
        assert!(ask_helper("../x", "a").is_err(), "no path");
    }

    #[test]
    fn what_is_given_wins_and_no_file_is_no_login() {
        let given =
            Logins { given: Logins::only(Some(("me", "word"))).given, docker: Some("/nowhere".into()) };
        assert_eq!(pair(given.of("r.example")), Some(("me".into(), "word".into())));
        let none = Logins { given: None, docker: Some("/nowhere/config.json".into()) };
        assert_eq!(pair(none.of("r.example")), None);
    }
}
