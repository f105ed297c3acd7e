//! `xl console`: the terminal becomes the domain's console until Ctrl-].

use alloc::format;

use conback::Chunk;
use dom0_core::shell::{ConsoleKind, DomainRef};
use embassy_futures::select::{Either, select};

use super::{Failure, Outcome, Shell};
use crate::consoles::Kind;

/// Ctrl-].
const LEAVE: u8 = 0x1d;

impl Shell {
    /// Shows what the domain has printed, then what it prints, and passes on what is typed.
    pub(super) async fn console(&self, domain: &DomainRef, kind: ConsoleKind) -> Outcome {
        let domid = self.toolstack.register.borrow().domid(domain)?;
        let kind = match kind {
            ConsoleKind::Pv => Kind::Pv,
            ConsoleKind::Vuart => Kind::Vuart,
        };
        let console = self.toolstack.consoles.get(domid, kind);
        let console = console.ok_or_else(|| Failure(format!("domain {domain} has no such console")))?;
        let mut reader = console.log().start();
        let mut buffer = [0; 512];
        loop {
            match select(reader.read(&mut buffer), self.terminal.byte()).await {
                Either::First(Chunk::Bytes(count)) => {
                    self.terminal.raw(buffer.get(..count).unwrap_or_default()).await;
                }
                Either::First(Chunk::Missed(bytes)) => {
                    self.terminal.print(&format!("\n[{bytes} bytes were lost]\n")).await;
                }
                Either::First(Chunk::Closed) => break,
                Either::Second(LEAVE) => break,
                Either::Second(byte) => console.write(&[byte]).await,
            }
        }
        self.terminal.print("\n").await;
        Ok(())
    }
}
