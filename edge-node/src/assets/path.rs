//! From a request's path to a file's, by exact match in the index. No path is ever given to a file system: files lie by their
//! digest, so there is nothing to climb out of, and what does not match is the program's. Pure.

use std::borrow::Cow;

use artifact::assets::{AssetFile, AssetIndex};

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
pub enum Named<'i> {
    /// A file.
    File(&'i AssetFile),
    /// A folder that has an index, without the `/` at its end.
    Folder,
    /// Nothing of these files.
    Nothing,
}

/// Looks up the path of a request. `prefix` is the app's, which its folder stands for; `index` the name of the file that
/// answers for a folder.
pub fn named<'i>(files: &'i AssetIndex, path: &str, prefix: &str, index: &str) -> Named<'i> {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let Some(rest) = path.strip_prefix(prefix) else { return Named::Nothing };
    let folder_index = |folder: &str| files.files().get(&format!("{folder}{index}"));
    let Some(rest) = rest.strip_prefix('/') else {
        // `/docs` of an app under `/docs`.
        return if rest.is_empty() && folder_index("").is_some() { Named::Folder } else { Named::Nothing };
    };
    let Some(path) = decoded(rest) else { return Named::Nothing };
    if path.is_empty() || path.ends_with('/') {
        return folder_index(&path).map_or(Named::Nothing, Named::File);
    }
    if let Some(file) = files.files().get(&*path) {
        return Named::File(file);
    }
    if folder_index(&format!("{path}/")).is_some() { Named::Folder } else { Named::Nothing }
}

/// Undoes percent-encoding, once. `None`: it is malformed, not UTF-8, or hides a `/`, which would be another path.
fn decoded(path: &str) -> Option<Cow<'_, str>> {
    if !path.contains('%') {
        return Some(Cow::Borrowed(path));
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, after @ ..] = rest else { return None };
        let nibble = |c: u8| char::from(c).to_digit(16);
        let byte = (nibble(*high)? << 4 | nibble(*low)?) as u8;
        if byte == b'/' {
            return None;
        }
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use artifact::assets::AssetBlob;

    use super::*;

    fn files() -> AssetIndex {
        let paths = [
            "index.html",
            "a.css",
            "a b.css",
            "dir/index.html",
            "dir/x.js",
            "empty/x.js",
            "ü.txt",
            "100%.txt",
            "a..b",
        ];
        let file = |path: &str| AssetFile {
            content_type: path.into(),
            plain: AssetBlob::of(b""),
            br: None,
            gzip: None,
        };
        let ascii = |path: &str| path.replace('ü', "u");
        AssetIndex::new(paths.iter().map(|path| ((*path).to_owned(), file(&ascii(path)))).collect()).unwrap()
    }

    fn found(path: &str, prefix: &str) -> String {
        match named(&files(), path, prefix, "index.html") {
            Named::File(file) => file.content_type.clone(),
            Named::Folder => "→".into(),
            Named::Nothing => String::new(),
        }
    }

    #[test]
    fn a_path_names_a_file_exactly() {
        for (path, expected) in [
            ("/", "index.html"),
            ("/index.html", "index.html"),
            ("/a.css", "a.css"),
            ("/a%20b.css", "a b.css"),
            ("/%61.css", "a.css"),
            ("/dir/", "dir/index.html"),
            ("/dir", "→"),
            ("/d%69r", "→"),
            ("/dir/x.js", "dir/x.js"),
            ("/%C3%BC.txt", "u.txt"),
            ("/100%25.txt", "100%.txt"),
            ("/a..b", "a..b"),
            ("/empty", ""),
            ("/empty/", ""),
            ("/A.css", ""),
            ("/a.css/", ""),
            ("*", ""),
            ("", "→"),
        ] {
            assert_eq!(found(path, "/"), expected, "{path}");
        }
    }

    #[test]
    fn path_escape_and_double_decoding_name_nothing() {
        for path in [
            "/../a.css",
            "/dir/../a.css",
            "/./a.css",
            "/dir/./x.js",
            "/%2e%2e/a.css",
            "/dir/%2e%2e/a.css",
            "/dir%2Fx.js",
            "/dir%2f",
            "/dir%5Cx.js",
            "/dir\\x.js",
            "//a.css",
            "//dir",
            "/dir//x.js",
            "/dir//",
            "//evil.example/..",
            "/a.css%00",
            "/a.css%00.html",
            "/%2561.css",
            "/a%2",
            "/a%",
            "/a%zz",
            "/%ff",
            "/%c0%ae%c0%ae/a.css",
            "/etc/passwd",
            "/..%c0%af",
            "/a.css;x",
        ] {
            assert_eq!(found(path, "/"), "", "{path}");
        }
    }

    #[test]
    fn the_folder_stands_for_the_apps_prefix() {
        for (prefix, path, expected) in [
            ("/docs", "/docs", "→"),
            ("/docs", "/docs/", "index.html"),
            ("/docs", "/docs/a.css", "a.css"),
            ("/docs/", "/docs", "→"),
            ("/docs/", "/docs/dir", "→"),
            ("/docs/", "/docs/dir/x.js", "dir/x.js"),
            ("/docs", "/docsa.css", ""),
            ("/docs", "/a.css", ""),
        ] {
            assert_eq!(found(path, prefix), expected, "{prefix} {path}");
        }
    }
}
