//! What a file is sent as, by the end of its name. A table and no crate: some forty types are what sites have, and each
//! entry says as well whether compressing it is worth while.

/// Sent for what is not in the table: a browser saves it, and guesses nothing.
const UNKNOWN: (&str, bool) = ("application/octet-stream", false);

/// Content type of a path, and whether its bytes compress well.
pub fn of(path: &str) -> (&'static str, bool) {
    let name = path.rsplit('/').next().unwrap_or(path);
    let Some((_, end)) = name.rsplit_once('.') else { return UNKNOWN };
    let end = end.to_ascii_lowercase();
    TYPES
        .iter()
        .find(|(ends, ..)| ends.contains(&end.as_str()))
        .map_or(UNKNOWN, |(_, kind, compresses)| (*kind, *compresses))
}

/// Ends of names, type (IANA media types registry), and whether its bytes are not compressed already.
const TYPES: &[(&[&str], &str, bool)] = &[
    (&["html", "htm"], "text/html; charset=utf-8", true),
    (&["css"], "text/css; charset=utf-8", true),
    (&["js", "mjs", "cjs"], "text/javascript; charset=utf-8", true),
    (&["json", "map"], "application/json", true),
    (&["txt", "text", "log"], "text/plain; charset=utf-8", true),
    (&["md", "markdown"], "text/markdown; charset=utf-8", true),
    (&["csv"], "text/csv; charset=utf-8", true),
    (&["ics"], "text/calendar; charset=utf-8", true),
    (&["vtt"], "text/vtt; charset=utf-8", true),
    (&["yaml", "yml"], "application/yaml", true),
    (&["toml"], "application/toml", true),
    (&["xml", "xsl"], "application/xml", true),
    (&["xhtml"], "application/xhtml+xml", true),
    (&["rss"], "application/rss+xml", true),
    (&["atom"], "application/atom+xml", true),
    (&["svg"], "image/svg+xml", true),
    (&["webmanifest"], "application/manifest+json", true),
    (&["jsonld"], "application/ld+json", true),
    (&["geojson"], "application/geo+json", true),
    (&["wasm"], "application/wasm", true),
    (&["pdf"], "application/pdf", false),
    (&["zip"], "application/zip", false),
    (&["gz", "tgz"], "application/gzip", false),
    (&["png"], "image/png", false),
    (&["jpg", "jpeg"], "image/jpeg", false),
    (&["gif"], "image/gif", false),
    (&["webp"], "image/webp", false),
    (&["avif"], "image/avif", false),
    (&["ico"], "image/vnd.microsoft.icon", true),
    (&["bmp"], "image/bmp", true),
    (&["woff"], "font/woff", false),
    (&["woff2"], "font/woff2", false),
    (&["ttf"], "font/ttf", true),
    (&["otf"], "font/otf", true),
    (&["mp3"], "audio/mpeg", false),
    (&["m4a"], "audio/mp4", false),
    (&["ogg", "oga", "opus"], "audio/ogg", false),
    (&["wav"], "audio/wav", false),
    (&["mp4", "m4v"], "video/mp4", false),
    (&["webm"], "video/webm", false),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_in_its_type() {
        for (path, kind, compresses) in [
            ("index.html", "text/html; charset=utf-8", true),
            ("a.b/STYLE.CSS", "text/css; charset=utf-8", true),
            ("jquery.min.js", "text/javascript; charset=utf-8", true),
            ("x.png", "image/png", false),
            ("LICENSE", "application/octet-stream", false),
            ("a.html/plain", "application/octet-stream", false),
            ("x.unheard", "application/octet-stream", false),
        ] {
            assert_eq!(of(path), (kind, compresses), "{path}");
        }
    }

    #[test]
    fn each_end_has_one_type_that_an_index_takes() {
        let ends: Vec<_> = TYPES.iter().flat_map(|(ends, ..)| ends.iter()).collect();
        let distinct: std::collections::BTreeSet<_> = ends.iter().collect();
        assert_eq!(ends.len(), distinct.len());
        assert!(TYPES.iter().all(|(_, kind, _)| kind.len() <= artifact::assets::TYPE_BYTES_MAX));
    }
}
