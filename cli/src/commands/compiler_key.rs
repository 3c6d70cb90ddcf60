//! `skerry compiler-key list|add`. Signing is `aot-compiler key`'s, where the keys are.

use std::{fs::File, io::Read as _, path::Path};

use artifact::key_change::{KEY_CHANGE_BYTES_MAX, KeyChange};

use crate::{
    api::{AddedKeyChange, Api, CompilerKeySummary},
    args::CompilerKey,
    error::{Error, Result},
    output::{Output, table},
};

/// Runs it.
pub fn run(api: &Api, command: &CompilerKey, output: Output) -> Result<()> {
    match command {
        CompilerKey::List => {
            let keys = api.compiler_keys()?;
            output.print(&keys, || table_of(&keys))
        }
        CompilerKey::Add { file } => {
            let added = api.add_key_change(&read(file)?.to_text())?;
            output.print(&added, || text(&added))
        }
    }
}

/// A file's change. One that is none is told here, with its name.
fn read(path: &Path) -> Result<KeyChange> {
    let reading = |source| Error::io(format!("reading {}", path.display()))(source);
    let mut text = String::new();
    let most = KEY_CHANGE_BYTES_MAX as u64 + 2; // and a line's end
    File::open(path).map_err(reading)?.take(most).read_to_string(&mut text).map_err(reading)?;
    KeyChange::from_text(&text).map_err(|error| {
        let message = format!(
            "{} is no signed change of compiler keys: name a file that `aot-compiler key endorse` or `revoke` wrote ({error})",
            path.display()
        );
        Error::Usage(message)
    })
}

fn text(added: &AddedKeyChange) -> String {
    let AddedKeyChange { rev, signer, verb, key } = added;
    format!(
        "compiler key {signer} {verb} {key}\nnodes follow as soon as they are at rev {rev}: skerry node list"
    )
}

fn table_of(keys: &[CompilerKeySummary]) -> String {
    let head = ["KEY", "STATE", "ENDORSED BY", "REVOKED BY"].map(str::to_owned).to_vec();
    let rows = keys.iter().map(|key| {
        vec![
            key.id.clone(),
            if key.trusted { "trusted" } else { "revoked" }.to_owned(),
            key.endorsed_by.clone().unwrap_or_else(|| "configuration".to_owned()),
            key.revoked_by.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    });
    table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_with_whose_word_they_stand_on() {
        let key = |id: &str, endorsed_by: Option<&str>, revoked_by: Option<&str>| CompilerKeySummary {
            id: id.into(),
            key: "compiler-public:..".into(),
            trusted: revoked_by.is_none(),
            endorsed_by: endorsed_by.map(str::to_owned),
            revoked_by: revoked_by.map(str::to_owned),
        };
        assert_eq!(
            table_of(&[key("bbbb", Some("aaaa"), None), key("aaaa", None, Some("bbbb"))]),
            "KEY   STATE    ENDORSED BY    REVOKED BY\n\
             bbbb  trusted  aaaa           -\n\
             aaaa  revoked  configuration  bbbb"
        );
    }

    #[test]
    fn what_is_no_change_is_refused_with_the_files_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("compiler.pub");
        std::fs::write(&path, "compiler-public:00\n").unwrap();
        let refused = read(&path).unwrap_err().to_string();
        assert!(refused.contains("compiler.pub is no signed change"), "{refused}");
        std::fs::write(&path, [b'x'; 5000]).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("at most 1024 bytes"));
    }
}
