//! Writes an archive in the "newc" format, which Linux takes as its initial file system.

use anyhow::{Context, Result};
use std::collections::BTreeSet;

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const SYMLINK: u32 = 0o120_777;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An archive in the making. Folders appear by themselves before the first thing in them.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    inode: u32,
    folders: BTreeSet<String>,
}

impl Archive {
    /// Adds a folder and those above it; the same folder twice is one folder.
    pub fn folder(&mut self, path: &str) -> Result<()> {
        if path.is_empty() || self.folders.contains(path) {
            return Ok(());
        }
        self.folder(parent(path))?;
        self.folders.insert(path.to_owned());
        self.entry(path, DIRECTORY, (0, 0), &[])
    }

    /// Adds a file that may be executed.
    pub fn file(&mut self, path: &str, data: &[u8]) -> Result<()> {
        self.folder(parent(path))?;
        self.entry(path, PROGRAM, (0, 0), data)
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, points_to: &str) -> Result<()> {
        self.folder(parent(path))?;
        self.entry(path, SYMLINK, (0, 0), points_to.as_bytes())
    }

    /// Adds a character device.
    pub fn device(&mut self, path: &str, major: u32, minor: u32) -> Result<()> {
        self.folder(parent(path))?;
        self.entry(path, CHARACTER_DEVICE, (major, minor), &[])
    }

    /// Ends the archive and returns it.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        Ok(self.bytes)
    }

    /// One entry: 13 fields of eight hexadecimal digits, the name, the data, each padded to four bytes
    /// (Linux Documentation/driver-api/early-userspace/buffer-format).
    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), data: &[u8]) -> Result<()> {
        self.inode += 1;
        let links = if mode == DIRECTORY { 2 } else { 1 };
        let size = u32::try_from(data.len()).with_context(|| format!("{path} is too large for the archive"))?;
        let name = u32::try_from(path.len() + 1)?;
        self.bytes.extend_from_slice(b"070701");
        for field in [self.inode, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name, 0] {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// The folder that a path is in; empty at the top.
fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn an_entry_is_a_header_a_name_and_data_each_padded_to_four_bytes() -> anyhow::Result<()> {
        let mut archive = Archive::default();
        archive.file("init", b"hello")?;
        let bytes = archive.finish()?;
        let text = String::from_utf8_lossy(&bytes);
        let header = "07070100000001000081ed000000000000000000000001000000000000000500000000000000000000000000000000\
                      0000000500000000init\0\0hello\0\0\x00070701";
        assert_eq!(text.get(..header.len()), Some(header));
        assert_eq!(bytes.len() % 4, 0);
        Ok(())
    }

    #[test]
    fn folders_come_before_what_is_in_them_and_only_once() -> anyhow::Result<()> {
        let mut archive = Archive::default();
        archive.file("usr/bin/a", b"")?;
        archive.link("usr/bin/b", "a")?;
        let bytes = archive.finish()?;
        let text = String::from_utf8_lossy(&bytes);
        let places: Vec<_> = ["usr\0", "usr/bin\0", "usr/bin/a\0", "usr/bin/b\0"].map(|name| text.find(name)).into();
        assert!(places.iter().all(Option::is_some) && places.is_sorted());
        assert_eq!(text.matches("usr/bin\0").count(), 1);
        Ok(())
    }
}
