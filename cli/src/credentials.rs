//! Where the API is and which token to show it. Order: options, environment, the fleet directory that `up` left.
//! Each of URL and token is looked for by itself, so `--api` with `SKERRY_TOKEN` works; but a token found in a
//! fleet's directory is shown to that fleet only.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use artifact::TenantName;
use serde::Deserialize;

use crate::{
    args::Shared,
    error::{Error, Result},
};

/// The directory `up` makes when not told another.
pub const DATA_DIR_DEFAULT: &str = ".skerry";
/// The file in it that says how to reach the fleet.
pub const FLEET_FILE: &str = "skerry.json";

/// How to talk to a control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Its URL without a trailing slash.
    pub api: String,
    /// The API token.
    pub token: String,
    /// Tenant to act for, if not the token's own.
    pub tenant: Option<TenantName>,
    /// Certificate authorities for an https URL.
    pub ca: Option<PathBuf>,
    /// The cure to print when nobody answers.
    pub cure: String,
    /// The directory of a fleet on this machine, if its URL was found there.
    pub fleet: Option<PathBuf>,
}

/// The part of `skerry.json` that a client needs.
#[derive(Debug, Deserialize)]
struct FleetFile {
    api: String,
    token_file: PathBuf,
}

/// The process's surroundings, given so that tests need not change them.
pub struct Surroundings<'a> {
    /// Reads an environment variable; empty counts as unset.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The current directory.
    pub directory: &'a Path,
}

impl Credentials {
    /// Finds URL and token.
    pub fn find(shared: &Shared, around: &Surroundings<'_>) -> Result<Credentials> {
        let env = |name: &str| (around.env)(name).filter(|value| !value.is_empty());
        let tenant = match (&shared.tenant, env("SKERRY_TENANT")) {
            (Some(tenant), _) => Some(tenant.clone()),
            (None, Some(text)) => {
                Some(text.parse().map_err(|error| Error::Usage(format!("SKERRY_TENANT: {error}")))?)
            }
            (None, None) => None,
        };
        let api = shared.api.clone().or_else(|| env("SKERRY_API"));
        let token = shared.token.clone().or_else(|| env("SKERRY_TOKEN"));
        let mut found_in = None;
        let (api, token, cure) = match (api, token) {
            (Some(api), Some(token)) => {
                let cure = "is the address right, and is the control plane running?".to_owned();
                (api, token, cure)
            }
            (Some(api), None) if shared.data.is_none() => {
                let message = format!("no token for {api}; give --token or set SKERRY_TOKEN");
                return Err(Error::Usage(message));
            }
            (api, token) => {
                let directory = find_directory(shared, around.directory)?;
                let fleet = read_fleet(&directory)?;
                let token = token.map_or_else(|| read_token(&fleet.token_file), Ok)?;
                let cure =
                    format!("is the fleet running? Start it with: skerry up --data {}", directory.display());
                found_in = api.is_none().then_some(directory);
                (api.unwrap_or(fleet.api), token, cure)
            }
        };
        let (api, token) = (checked_url(&api)?, checked_token(&token)?);
        Ok(Credentials { api, token, tenant, ca: shared.ca.clone(), cure, fleet: found_in })
    }
}

fn find_directory(shared: &Shared, current: &Path) -> Result<PathBuf> {
    if let Some(directory) = &shared.data {
        return Ok(directory.clone());
    }
    let candidates = current.ancestors().map(|ancestor| ancestor.join(DATA_DIR_DEFAULT));
    let is_fleet = |directory: &PathBuf| directory.join(FLEET_FILE).is_file() && is_ours(directory);
    candidates.into_iter().find(is_fleet).ok_or_else(|| {
        Error::Usage(format!(
            "no fleet is named and no {DATA_DIR_DEFAULT}/{FLEET_FILE} is here or in a directory above; start one with \
             `skerry up`, or give --api and --token (or SKERRY_API and SKERRY_TOKEN), or --data DIR"
        ))
    })
}

/// Is this directory this user's, and nobody else's to write into? A stranger could leave one in a directory above, such as
/// /tmp, and be shown tokens and programs by whoever works below it.
pub fn is_ours(directory: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(directory).is_ok_and(|metadata| {
        metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o022 == 0
    })
}

fn read_fleet(directory: &Path) -> Result<FleetFile> {
    let path = directory.join(FLEET_FILE);
    let text = fs::read_to_string(&path).map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound => Error::Usage(format!(
            "{} holds no fleet ({FLEET_FILE} is missing); start one with: skerry up --data {}",
            directory.display(),
            directory.display()
        )),
        _ => Error::io(format!("reading {}", path.display()))(cause),
    })?;
    serde_json::from_str(&text).map_err(|cause| {
        Error::io(format!("reading {}", path.display()))(io::Error::new(io::ErrorKind::InvalidData, cause))
    })
}

fn read_token(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(Error::io(format!("reading the token in {}", path.display())))
}

/// It goes into a header; the message does not repeat it.
fn checked_token(token: &str) -> Result<String> {
    let token = token.trim();
    if token.is_empty() || !token.bytes().all(|c| c.is_ascii_graphic()) {
        return Err(Error::Usage("the API token is empty or has characters no token has".into()));
    }
    Ok(token.to_owned())
}

fn checked_url(api: &str) -> Result<String> {
    let rest = api.strip_prefix("http://").or_else(|| api.strip_prefix("https://"));
    match rest {
        Some(host) if !host.is_empty() && !host.starts_with('/') => Ok(api.trim_end_matches('/').to_owned()),
        _ => Err(Error::Usage(format!("the API's URL is {api:?}; it must start with http:// or https://"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_ENV: &dyn Fn(&str) -> Option<String> = &|_| None;

    fn fleet(directory: &Path) {
        fs::create_dir_all(directory).unwrap();
        let token_file = directory.join("operator.token");
        fs::write(&token_file, "skt_file\n").unwrap();
        let file = serde_json::json!({ "api": "http://127.0.0.1:1/", "token_file": token_file, "pid": 1 });
        fs::write(directory.join(FLEET_FILE), file.to_string()).unwrap();
    }

    fn found(shared: &Shared, env: &dyn Fn(&str) -> Option<String>, directory: &Path) -> (String, String) {
        let credentials = Credentials::find(shared, &Surroundings { env, directory }).unwrap();
        (credentials.api, credentials.token)
    }

    fn pair(api: &str, token: &str) -> (String, String) {
        (api.to_owned(), token.to_owned())
    }

    #[test]
    fn options_win_over_environment_and_environment_over_the_directory() {
        let home = tempfile::tempdir().unwrap();
        fleet(&home.path().join(DATA_DIR_DEFAULT));
        let env = |name: &str| match name {
            "SKERRY_API" => Some("http://env:2".to_owned()),
            "SKERRY_TOKEN" => Some("skt_env".to_owned()),
            _ => None,
        };
        let options = Shared {
            api: Some("http://option:3".into()),
            token: Some("skt_option".into()),
            ..Shared::default()
        };
        assert_eq!(found(&options, &env, home.path()), pair("http://option:3", "skt_option"));
        assert_eq!(found(&Shared::default(), &env, home.path()), pair("http://env:2", "skt_env"));
        assert_eq!(found(&Shared::default(), NO_ENV, home.path()), pair("http://127.0.0.1:1", "skt_file"));
    }

    #[test]
    fn the_directory_is_found_from_below_or_by_option() {
        let home = tempfile::tempdir().unwrap();
        fleet(&home.path().join(DATA_DIR_DEFAULT));
        let below = home.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        assert_eq!(found(&Shared::default(), NO_ENV, &below).1, "skt_file");
        let elsewhere = tempfile::tempdir().unwrap();
        let named = Shared { data: Some(home.path().join(DATA_DIR_DEFAULT)), ..Shared::default() };
        assert_eq!(found(&named, NO_ENV, elsewhere.path()).1, "skt_file");
        let fleet = |shared: &Shared| {
            Credentials::find(shared, &Surroundings { env: NO_ENV, directory: &below }).unwrap().fleet
        };
        assert_eq!(fleet(&Shared::default()), Some(home.path().join(DATA_DIR_DEFAULT)));
        let elsewhere = Shared { api: Some("http://other:1".into()), token: Some("skt_x".into()), ..named };
        assert_eq!(fleet(&elsewhere), None, "its keys are not this one's");
    }

    #[test]
    fn a_token_of_a_directory_is_not_shown_to_another_url() {
        let home = tempfile::tempdir().unwrap();
        fleet(&home.path().join(DATA_DIR_DEFAULT));
        let shared = Shared { api: Some("http://elsewhere".into()), ..Shared::default() };
        let around = Surroundings { env: NO_ENV, directory: home.path() };
        let error = Credentials::find(&shared, &around).unwrap_err().to_string();
        assert!(error.contains("SKERRY_TOKEN"), "{error}");
    }

    #[test]
    fn nothing_found_and_bad_urls_are_usage_with_a_cure() {
        let empty = tempfile::tempdir().unwrap();
        let around = Surroundings { env: NO_ENV, directory: empty.path() };
        let error = Credentials::find(&Shared::default(), &around).unwrap_err();
        assert_eq!(error.exit(), crate::exit::Exit::Usage);
        assert!(error.to_string().contains("skerry up"), "{error}");
        for bad in ["127.0.0.1:7400", "ftp://x", "http://"] {
            let shared = Shared { api: Some(bad.into()), token: Some("t".into()), ..Shared::default() };
            assert!(Credentials::find(&shared, &around).is_err(), "{bad}");
        }
    }
}
