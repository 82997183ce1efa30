//! Files for the fuzz targets: the readers take paths, so each case is written to a file first.

use std::path::PathBuf;
use std::sync::OnceLock;

/// The folder of this process for temporary files. scripts/fuzz sets `TMPDIR` to a file system in memory.
pub fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("foveal-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the folder for temporary files can be created");
        folder
    })
}

/// Writes a case to a file of the folder and returns its path.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    std::fs::write(&path, bytes).expect("a temporary file can be written");
    path
}

/// Checks that an error names the file and is not longer than a message may be.
pub fn check_message(message: &str, name: &str) {
    assert!(message.contains(name), "`{message}` does not name {name}");
    assert!(message.len() < 10_000, "a message of {} bytes: {:.500}", message.len(), message);
}
