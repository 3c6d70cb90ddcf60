//! Who serves: a fleet of our own in the project's `.skerry`, or one that runs already, here or in a directory above.

use std::{fs, thread::JoinHandle};

use crate::{
    api::Api,
    args::Dev,
    credentials::{Credentials, DATA_DIR_DEFAULT},
    error::{Error, Result},
    up::{self, Own, Ready, Stop},
};

/// A fleet to deploy to.
pub struct Serving {
    /// A client with its operator's token.
    pub api: Api,
    /// Where everything is.
    pub ready: Ready,
    /// Watches the servers, where they are ours.
    own: Option<Servers>,
}

/// Servers of ours: they outlive whoever deploys to them.
struct Servers {
    watched: JoinHandle<()>,
    stop: Stop,
}

impl Serving {
    /// Finds one that runs, or starts one.
    pub fn open(args: &Dev, stop: &Stop) -> Result<Serving> {
        let folder = fs::canonicalize(&args.folder)
            .map_err(Error::io(format!("finding the folder {}", args.folder.display())))?;
        let places = folder.ancestors().map(|ancestor| ancestor.join(DATA_DIR_DEFAULT));
        if let Some((place, ready)) =
            places.into_iter().find_map(|place| up::running_in(&place).map(|ready| (place, ready)))
        {
            let https = ready.https;
            eprintln!("using the fleet that runs in {}; it serves on {https}", place.display());
            return Ok(Serving { api: client(&ready)?, ready, own: None });
        }
        let own = Own::start(&args.up(folder.join(DATA_DIR_DEFAULT)), stop)?;
        own.write_ready()?;
        let ready = own.ready().clone();
        let stop = Stop::by_hand();
        let for_servers = stop.clone();
        let watched = std::thread::spawn(move || own.until_stopped(None, &for_servers));
        Ok(Serving { api: client(&ready)?, ready, own: Some(Servers { watched, stop }) })
    }

    /// Another client, for another thread.
    pub fn client(&self) -> Result<Api> {
        client(&self.ready)
    }

    /// Stops what is ours, and returns when it is gone.
    pub fn close(self) {
        if let Some(Servers { watched, stop }) = self.own {
            stop.raise();
            let _ = watched.join();
        }
    }
}

fn client(ready: &Ready) -> Result<Api> {
    let token = fs::read_to_string(&ready.token_file)
        .map_err(Error::io(format!("reading the operator's token {}", ready.token_file.display())))?;
    Api::new(Credentials {
        api: ready.api.clone(),
        token: token.trim().to_owned(),
        tenant: None,
        ca: None,
        cure: "is the fleet still running?".into(),
        fleet: None,
    })
}
