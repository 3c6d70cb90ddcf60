//! `skerry secrets set|import|list|unset`. A value comes from a prompt that does not show it, from standard input or from a
//! file; it is never an argument, and nothing prints it.

mod lines;

use std::{
    fs::File,
    io::{self, BufRead, IsTerminal, Read, Write as _},
    path::Path,
};

use artifact::{
    names::SecretName,
    secrets::{SECRET_VALUE_BYTES_MAX, SecretValue},
};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use serde::Serialize;

use super::{idempotency_key, released::Released};
use crate::{
    api::Api,
    args::Secrets,
    error::{Error, Result},
    here,
    output::{Output, objects},
};

/// The end of what was typed, and of typing at all.
const ENTER: [u8; 2] = [b'\r', b'\n'];
const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const ERASE: [u8; 2] = [8, 127];

/// The JSON form of a secret that was set.
#[derive(Serialize)]
struct Set {
    name: String,
    store: Option<String>,
    set_ms: u64,
    released: Option<Released>,
}

/// The JSON form of secrets that were set together.
#[derive(Serialize)]
struct Imported {
    names: Vec<String>,
    store: Option<String>,
    set_ms: u64,
    released: Option<Released>,
}

/// Runs it.
pub fn run(api: &Api, command: &Secrets, output: Output) -> Result<()> {
    match command {
        Secrets::Set { app, key, store, file, waiting } => {
            let app = &here::app(app.as_ref())?;
            let key = &name(key)?;
            let value = value(key.as_str(), file.as_deref())?;
            let set = api.set_secret(app, store.as_ref(), key, &value, &idempotency_key()?)?;
            let released = match set.released {
                Some(deployed) => Some(Released::watch(api, app, deployed, waiting)?),
                None => None,
            };
            let set = Set { name: set.name, store: set.store, set_ms: set.set_ms, released };
            output.print(&set, || match &set.released {
                Some(released) => format!("the secret {key} is set: {}", released.text()),
                None => format!(
                    "the secret {key} is kept; the next version of {app} that declares it, and has all others it declares, gets it"
                ),
            })?;
            set.released.as_ref().map_or(Ok(()), Released::verdict)
        }
        Secrets::Import { app, store, file, waiting } => {
            let app = &here::app(app.as_ref())?;
            let secrets = lines::read(&text(file.as_deref(), io::stdin().lock())?)?;
            let set = api.set_secrets(app, store.as_ref(), &secrets, &idempotency_key()?)?;
            let released = match set.released {
                Some(deployed) => Some(Released::watch(api, app, deployed, waiting)?),
                None => None,
            };
            let names = secrets.iter().map(|(name, _)| name.to_string()).collect();
            let imported = Imported {
                names,
                store: store.as_ref().map(ToString::to_string),
                set_ms: set.set_ms,
                released,
            };
            output.print(&imported, || match &imported.released {
                Some(released) => format!("{} secrets are set: {}", set.set, released.text()),
                None => format!(
                    "{} secrets are kept; the next version of {app} that declares them, and has all others it declares, gets them",
                    set.set
                ),
            })?;
            imported.released.as_ref().map_or(Ok(()), Released::verdict)
        }
        Secrets::List { app } => {
            let secrets = api.secrets(&here::app(app.as_ref())?)?;
            output.print(&secrets, || objects(&["name", "store", "declared", "set_ms", "set_by"], &secrets))
        }
        Secrets::Unset { app, key, store } => {
            let app = &here::app(app.as_ref())?;
            api.unset_secret(app, store.as_ref(), key)?;
            let unset = serde_json::json!({ "name": key, "store": store, "unset": true });
            output.print(&unset, || format!("the secret {key} of {app} is forgotten"))
        }
    }
}

/// A value on the command line would be seen by every user of the machine; it is not repeated here either.
fn name(text: &str) -> Result<SecretName> {
    if text.contains('=') {
        let message =
            "the secret's name is wanted, not NAME=VALUE; the value is typed, or read from standard input";
        return Err(Error::Usage(message.to_owned()));
    }
    text.parse().map_err(|error: artifact::names::NameError| Error::Usage(error.to_string()))
}

/// Reads the value from where the user has it.
fn value(key: &str, file: Option<&Path>) -> Result<SecretValue> {
    let bytes = match file {
        Some(path) => {
            let reading = || format!("reading the value from {}", path.display());
            let file = File::open(path).map_err(Error::io(reading()))?;
            bounded(file).map_err(Error::io(reading()))?
        }
        None if io::stdin().is_terminal() => typed(key)?,
        None => {
            let bytes =
                bounded(io::stdin().lock()).map_err(Error::io("reading the value from standard input"))?;
            without_line_end(bytes)
        }
    };
    if bytes.is_empty() {
        return Err(Error::Usage(format!("the value of {key} is empty")));
    }
    if bytes.len() > SECRET_VALUE_BYTES_MAX {
        let max = SECRET_VALUE_BYTES_MAX;
        return Err(Error::Usage(format!("the value of {key} is larger than {max} bytes")));
    }
    Ok(SecretValue::new(bytes))
}

/// One byte more than there may be tells that there is too much.
fn bounded(source: impl Read) -> io::Result<Vec<u8>> {
    up_to(SECRET_VALUE_BYTES_MAX as u64 + 3, source)
}

fn up_to(bytes_max: u64, source: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The lines of several secrets. Not from a terminal, which would show what is typed.
fn text(file: Option<&Path>, input: impl Read + IsTerminal) -> Result<String> {
    let (from, read) = match file {
        Some(path) => {
            let from = path.display().to_string();
            let opened = File::open(path).map_err(Error::io(format!("reading the secrets from {from}")))?;
            (from, up_to(lines::BYTES_MAX + 1, opened))
        }
        None if input.is_terminal() => {
            let message = "the secrets are not typed: give --file FILE, or a pipe as standard input";
            return Err(Error::Usage(message.to_owned()));
        }
        None => ("standard input".to_owned(), up_to(lines::BYTES_MAX + 1, input)),
    };
    let bytes = read.map_err(Error::io(format!("reading the secrets from {from}")))?;
    if bytes.len() as u64 > lines::BYTES_MAX {
        return Err(Error::Usage(format!("{from} has more than {} bytes", lines::BYTES_MAX)));
    }
    String::from_utf8(bytes).map_err(|_| {
        Error::Usage(format!("{from} is not text; a value of any bytes is set alone: `skerry secrets set`"))
    })
}

/// `echo value | skerry ...` means the value, not the line.
fn without_line_end(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    bytes
}

/// The terminal as it was, again at the end.
struct Restored(Termios);

impl Drop for Restored {
    fn drop(&mut self) {
        // A terminal that is gone needs no mending.
        let _gone = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// Asks on the terminal without showing what is typed. Signals of keys are read as keys, so that the terminal is
/// never left silent.
fn typed(key: &str) -> Result<Vec<u8>> {
    let failed = |error: rustix::io::Errno| Error::io("asking on the terminal")(error.into());
    let before = Restored(tcgetattr(io::stdin()).map_err(failed)?);
    let mut silent = before.0.clone();
    silent.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
    silent.special_codes[SpecialCodeIndex::VMIN] = 1;
    silent.special_codes[SpecialCodeIndex::VTIME] = 0;
    tcsetattr(io::stdin(), OptionalActions::Flush, &silent).map_err(failed)?;
    eprint!("value of {key} (not shown): ");
    let _ = io::stderr().flush();
    let typed = line(io::stdin().lock());
    drop(before);
    eprintln!();
    typed
        .map_err(Error::io("reading what is typed"))?
        .ok_or_else(|| Error::Usage("nothing was set".to_owned()))
}

/// One line, byte by byte. `None`: given up.
fn line(source: impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    for byte in source.bytes() {
        match byte? {
            byte if ENTER.contains(&byte) => return Ok(Some(line)),
            CTRL_C => return Ok(None),
            CTRL_D => return Ok((!line.is_empty()).then_some(line)),
            byte if ERASE.contains(&byte) => erase(&mut line),
            byte if line.len() <= SECRET_VALUE_BYTES_MAX => line.push(byte),
            _ => {}
        }
    }
    Ok((!line.is_empty()).then_some(line))
}

/// Takes the last character out, all bytes of it (UTF-8: continuation bytes are 10xxxxxx).
fn erase(line: &mut Vec<u8>) {
    while let Some(byte) = line.pop() {
        if byte & 0b1100_0000 != 0b1000_0000 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typed_line_ends_with_enter_and_can_be_mended_or_given_up() {
        let line = |typed: &[u8]| super::line(typed).unwrap();
        assert_eq!(line(b"secret\nmore"), Some(b"secret".to_vec()));
        assert_eq!(line(b"se\x7f\x7f\x7fab\r"), Some(b"ab".to_vec()));
        assert_eq!(line("aé\u{7f}b\n".as_bytes()), Some(b"ab".to_vec()));
        assert_eq!(line(b"half\x03"), None);
        assert_eq!(line(b"\x04"), None);
    }

    #[test]
    fn a_value_on_the_command_line_is_refused_and_not_repeated() {
        let error = name("KEY=hunter2").unwrap_err();
        assert_eq!(error.exit(), crate::exit::Exit::Usage);
        assert!(!error.report().contains("hunter2"), "{}", error.report());
        assert!(name("KEY").is_ok() && name("a b").is_err());
    }

    #[test]
    fn one_line_end_is_not_part_of_a_value_from_standard_input() {
        for (given, kept) in [("v\n", "v"), ("v\r\n", "v"), ("v\n\n", "v\n"), ("v", "v"), ("\n", "")] {
            assert_eq!(without_line_end(given.as_bytes().to_vec()), kept.as_bytes(), "{given:?}");
        }
    }

    #[test]
    fn several_secrets_are_not_typed_on_a_terminal_that_would_show_them() {
        // The side of a new terminal that would show it is one itself.
        let terminal = File::options().read(true).write(true).open("/dev/ptmx").unwrap();
        let error = text(None, terminal.try_clone().unwrap()).unwrap_err();
        assert_eq!(error.exit(), crate::exit::Exit::Usage);
        assert!(error.report().contains("--file"), "{}", error.report());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        std::fs::write(&path, "A=1\n").unwrap();
        assert_eq!(text(Some(&path), terminal).unwrap(), "A=1\n", "with --file it is not looked at");
        assert_eq!(text(None, File::open(&path).unwrap()).unwrap(), "A=1\n", "and a pipe is none");
    }

    #[test]
    fn a_value_in_a_file_is_kept_byte_for_byte_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("value");
        std::fs::write(&path, b"pem\n").unwrap();
        assert_eq!(value("K", Some(&path)).unwrap().expose(), b"pem\n");
        std::fs::write(&path, vec![0; SECRET_VALUE_BYTES_MAX + 1]).unwrap();
        assert!(value("K", Some(&path)).unwrap_err().to_string().contains("larger"));
        std::fs::write(&path, b"").unwrap();
        assert!(value("K", Some(&path)).unwrap_err().to_string().contains("empty"));
    }
}
