//! `xl info` and `xl dmesg`: the machine, and what the hypervisor and its domains have logged.

use alloc::string::String;
use alloc::vec::Vec;

use dom0_core::format::{HostInfo, info};
use pv_guest_lib::{control, hypercall};

use super::{Failure, Outcome, Shell};

/// Name of the host. The machine has no other.
const HOST: &str = "xenolith";
/// Bytes of the log that are read at once.
const CHUNK: usize = 1024;

impl Shell {
    /// `xl info`.
    pub(super) async fn info(&self) -> Outcome {
        let platform = control::platform_info()?;
        let text = hypercall::command_line()?;
        let commandline = String::from_utf8_lossy(text.split(|byte| *byte == 0).next().unwrap_or_default());
        let version = env!("CARGO_PKG_VERSION");
        let host = HostInfo { platform: &platform, host: HOST, version, commandline: &commandline };
        let mut text = String::new();
        info(&mut text, &host)?;
        self.say(&text).await
    }

    /// `xl dmesg`. The log cannot be emptied; to clear it is to start behind what was shown, the next time.
    pub(super) async fn dmesg(&self, clear: bool) -> Outcome {
        let (end, log) = read_log(self.dmesg_start.get())?;
        if clear {
            self.dmesg_start.set(end);
        }
        self.say(&String::from_utf8_lossy(&log)).await
    }
}

/// The log from `start` to where it ends now, and that end. Not further: guests add to it all the time.
fn read_log(start: u64) -> Result<(u64, Vec<u8>), Failure> {
    // A position beyond the end comes back as the end; but not without room for a byte, when nothing is looked at.
    let (end, _) = control::console_read(u64::MAX, &mut [0])?;
    let mut log = Vec::new();
    let mut buffer = [0; CHUNK];
    let mut position = start;
    while position < end {
        let (next, count) = control::console_read(position, &mut buffer)?;
        if count == 0 {
            break;
        }
        log.extend_from_slice(buffer.get(..count).unwrap_or_default());
        position = next;
    }
    Ok((position, log))
}
