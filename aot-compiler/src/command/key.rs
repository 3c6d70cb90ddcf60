//! `aot-compiler key`: signing keys as plain files, on a machine that needs nobody else. How a fleet takes up a new one is told
//! in docs/operating.md.
//!
//! Deliberately absent: talking to a control plane. What is signed here is a file that anybody may carry there.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use artifact::{
    key_change::{KEY_CHANGE_BYTES_MAX, KeyChange, Verb},
    keys::{Compiler, PublicKey},
};

use crate::files;

/// What to sign.
#[derive(Debug, Clone)]
pub struct Say {
    /// Endorses or revokes.
    pub verb: Verb,
    /// File with the public key of which it is said.
    pub of: PathBuf,
    /// Folder with the `compiler.key` that says it.
    pub data_dir: PathBuf,
    /// Where the signed change goes. Never over another file.
    pub out: PathBuf,
    /// Absent: the milliseconds since 1970.
    pub serial: Option<u64>,
}

/// Makes a key in a folder that has none. One line for people.
pub fn new(data_dir: &Path) -> anyhow::Result<String> {
    let shown = data_dir.display();
    if data_dir.join(files::KEY_FILE).exists() {
        bail!("{shown} has a {} already: name another folder", files::KEY_FILE);
    }
    let key = files::compiler_key(data_dir).with_context(|| format!("making a key in {shown}"))?;
    Ok(format!("made compiler key {} in {shown}", key.public().id()))
}

/// Signs a change and writes it. One line for people.
pub fn say(say: &Say) -> anyhow::Result<String> {
    let key = public_key(&say.of)?;
    let by = files::existing_compiler_key(&say.data_dir).context("reading the key that signs")?;
    let serial = match say.serial {
        Some(serial) => serial,
        None => {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .context("this machine's clock is before 1970")?;
            u64::try_from(now.as_millis()).context("this machine's clock is far ahead")?
        }
    };
    let change = KeyChange::sign(&by, say.verb, key, serial)?;
    let out = say.out.display();
    if say.out.exists() {
        bail!("{out} is there already: name another file");
    }
    files::replace(&say.out, change.to_text().as_bytes(), 0o644).context("writing the signed change")?;
    Ok(format!("{out}: {change}"))
}

/// What a file says: a public key, or a change. One line for people.
pub fn show(file: &Path) -> anyhow::Result<String> {
    let text = small(file)?;
    if let Ok(key) = text.parse::<PublicKey<Compiler>>() {
        return Ok(format!("compiler key {}", key.id()));
    }
    let change = KeyChange::from_text(&text)
        .with_context(|| format!("{} is neither a compiler's public key nor a change", file.display()))?;
    Ok(change.to_string())
}

fn public_key(file: &Path) -> anyhow::Result<PublicKey<Compiler>> {
    let shown = file.display();
    small(file)?.parse().with_context(|| format!("{shown} holds no compiler's public key (compiler.pub)"))
}

/// A file's text, if it is as small as keys and changes are.
fn small(file: &Path) -> anyhow::Result<String> {
    let shown = file.display();
    let opened = fs::File::open(file).with_context(|| format!("reading {shown}"))?;
    let (most, mut text) = (KEY_CHANGE_BYTES_MAX + 1, String::new());
    opened.take(most as u64 + 1).read_to_string(&mut text).with_context(|| format!("reading {shown}"))?;
    if text.len() > most {
        bail!("{shown} has more than {most} bytes: it is neither a compiler's public key nor a change");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_endorsed_and_its_forerunner_revoked_by_plain_files() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        new(&at("old")).unwrap();
        let made = new(&at("new")).unwrap();
        assert!(new(&at("new")).unwrap_err().to_string().contains("already"), "never over another");
        let key = |name: &str| files::existing_compiler_key(&at(name)).unwrap().public();
        assert!(made.contains(&key("new").id().to_string()), "{made}");

        let endorse = Say {
            verb: Verb::Endorses,
            of: at("new").join("compiler.pub"),
            data_dir: at("old"),
            out: at("new.endorsed"),
            serial: None,
        };
        let said = say(&endorse).unwrap();
        let change = KeyChange::from_text(&fs::read_to_string(at("new.endorsed")).unwrap()).unwrap();
        assert_eq!((change.signer(), change.verb(), change.key()), (key("old"), Verb::Endorses, key("new")));
        assert!(change.serial() > 1_700_000_000_000, "{change}");
        assert!(said.ends_with(&change.to_string()), "{said}");
        assert_eq!(show(&at("new.endorsed")).unwrap(), change.to_string());
        assert_eq!(show(&endorse.of).unwrap(), format!("compiler key {}", key("new").id()));
        assert!(say(&endorse).unwrap_err().to_string().contains("already"), "never over another");

        let revoke = Say {
            verb: Verb::Revokes,
            of: at("old").join("compiler.pub"),
            data_dir: at("new"),
            out: at("old.revoked"),
            serial: Some(9),
        };
        say(&revoke).unwrap();
        assert!(show(&at("old.revoked")).unwrap().ends_with("serial 9"));
    }

    #[test]
    fn what_cannot_be_signed_is_refused_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        new(&at("only")).unwrap();
        let ours = at("only").join("compiler.pub");
        let order = |of: PathBuf, data_dir: PathBuf| Say {
            verb: Verb::Revokes,
            of,
            data_dir,
            out: at("out"),
            serial: None,
        };
        fs::write(at("huge"), vec![b'a'; 4096]).unwrap();
        for (order, why) in [
            (order(ours.clone(), at("only")), "itself"),
            (order(ours.clone(), at("none")), "has no compiler.key"),
            (order(at("only").join("compiler.key"), at("only")), "no compiler's public key"),
            (order(at("huge"), at("only")), "more than"),
            (order(at("gone"), at("only")), "reading"),
        ] {
            let refused = format!("{:#}", say(&order).unwrap_err());
            assert!(refused.contains(why), "{refused}");
        }
        assert!(!at("out").exists() && !at("none").exists());
        assert!(show(&at("only").join("compiler.key")).is_err(), "a secret key is not shown");
    }
}
