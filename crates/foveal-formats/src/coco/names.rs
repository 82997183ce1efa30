//! File names of images as labelling programs write them: with folders, percent-encoding, addresses, and the prefixes
//! of uploads.

use std::path::Path;

use percent_encoding::percent_decode_str;

use crate::images::{Image, Images, Way, last_part};
use crate::notes::Kind;

/// Number of characters of the prefix that Label Studio puts before the name of an uploaded file, without the hyphen.
const PREFIX: usize = 8;

/// A folder of images, in which such names are looked up.
pub(super) struct Names(Images);

impl Names {
    pub(super) fn new(folder: &Path) -> Self {
        Self(Images::new(folder))
    }

    /// The image that a name means, and what is to be noted about it.
    ///
    /// # Errors
    /// A reason that names the folder, if no image or several images could be meant.
    pub(super) fn find(&mut self, name: &str) -> Result<(Image, Option<Kind>), String> {
        let reason = match self.0.find(name) {
            Ok(image) => {
                let kind = match image.way {
                    Way::Exact => None,
                    Way::Spelling => Some(Kind::Spelling),
                    Way::LastPart => Some(Kind::LastPart),
                };
                return Ok((image, kind));
            }
            Err(reason) => reason,
        };
        let path = path_of_address(name);
        if path != name
            && let Ok(image) = self.0.find(&path)
        {
            return Ok((image, Some(Kind::LastPart)));
        }
        if let Some(plain) = without_prefix(last_part(&path))
            && let Ok(image) = self.0.find(plain)
        {
            return Ok((image, Some(Kind::Uploaded)));
        }
        Err(reason)
    }
}

/// The path in an address such as `http://host/a%20b.jpg?size=1` or `/data/local-files/?d=images/a.jpg`.
fn path_of_address(name: &str) -> String {
    let plain = percent_decode_str(name).decode_utf8().unwrap_or_else(|_| name.into());
    if let Some((_, path)) = plain.split_once("/local-files/?d=") {
        return path.split('&').next().unwrap_or(path).to_owned();
    }
    match plain.split_once("://") {
        Some((_, rest)) => rest.split(['?', '#']).next().unwrap_or(rest).to_owned(),
        None => plain.into_owned(),
    }
}

/// The name of a file before it was uploaded to Label Studio.
fn without_prefix(name: &str) -> Option<&str> {
    let (prefix, rest) = name.split_once('-')?;
    let is_prefix = prefix.len() == PREFIX && prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_prefix && !rest.is_empty()).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_prefixes_of_uploads() {
        for (name, path) in [
            ("https://host/x/a%20b.jpg?size=1#x", "host/x/a b.jpg"),
            ("s3://bucket/dir/a.jpg", "bucket/dir/a.jpg"),
            ("/data/local-files/?d=one/images/a.jpg&x=1", "one/images/a.jpg"),
            ("images/a.jpg", "images/a.jpg"),
        ] {
            assert_eq!(path_of_address(name), path);
        }
        assert_eq!(without_prefix("c374a449-bench_press_10.jpg"), Some("bench_press_10.jpg"));
        assert_eq!(without_prefix("c374a449-a-b.jpg"), Some("a-b.jpg"));
        for name in ["photo-1.jpg", "c374a449.jpg", "c374a44-1.jpg", "c374a44g-1.jpg", "c374a449-"] {
            assert_eq!(without_prefix(name), None, "{name}");
        }
    }
}
