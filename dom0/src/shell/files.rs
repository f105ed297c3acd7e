//! `ls` and `cat`: the files in `/store`.

use alloc::format;
use alloc::string::String;
use core::fmt::Write;

use super::{Failure, Outcome, Shell};
use crate::disks::Listed;

/// What is listed when nothing is named, and all that there is at the root.
const STORE: &str = "/store";

impl Shell {
    /// `ls`: one name to a line, folders with a slash behind.
    pub(super) async fn ls(&self, paths: &[String], long: bool) -> Outcome {
        if paths.is_empty() {
            return self.ls_one(STORE, long).await;
        }
        for (index, path) in paths.iter().enumerate() {
            if paths.len() > 1 {
                let gap = if index == 0 { "" } else { "\n" };
                self.say(&format!("{gap}{path}:")).await?;
            }
            self.ls_one(path, long).await?;
        }
        Ok(())
    }

    async fn ls_one(&self, path: &str, long: bool) -> Outcome {
        let folder = path.trim_end_matches('/');
        if folder.is_empty() && path.starts_with('/') {
            let store = Listed { name: String::from(STORE.trim_start_matches('/')), is_dir: true, size: 0 };
            return self.say(&listing(&[store], long)?).await;
        }
        let listed = self.toolstack.disks.list(folder).await;
        let entries = listed.map_err(|error| Failure(format!("ls: {path}: {error}")))?;
        self.say(&listing(&entries, long)?).await
    }

    /// `cat`.
    pub(super) async fn cat(&self, paths: &[String]) -> Outcome {
        for path in paths {
            let read = self.toolstack.disks.read_file(path).await;
            let bytes = read.map_err(|error| Failure(format!("cat: {path}: {error}")))?;
            self.say(&String::from_utf8_lossy(&bytes)).await?;
        }
        Ok(())
    }
}

fn listing(entries: &[Listed], long: bool) -> Result<String, Failure> {
    let mut text = String::new();
    for entry in entries {
        if long {
            write!(text, "{:>10} ", entry.size)?;
        }
        writeln!(text, "{}{}", entry.name, if entry.is_dir { "/" } else { "" })?;
    }
    Ok(text)
}
