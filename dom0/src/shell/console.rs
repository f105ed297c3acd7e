//! `xl console`: the terminal becomes the domain's console until Ctrl-].

use alloc::collections::VecDeque;
use alloc::format;
use core::future::pending;

use conback::Chunk;
use dom0_core::shell::{ConsoleKind, DomainRef};
use embassy_futures::select::{Either3, select3};

use super::{Failure, Outcome, Shell};
use crate::consoles::Kind;

/// Ctrl-].
const LEAVE: u8 = 0x1d;
/// Typed bytes that wait here for a domain that does not read; what is typed beyond them is lost.
const WAITING: usize = 4096;

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
        let mut typed = VecDeque::new();
        loop {
            // Neither a domain that does not read nor one that prints without end keeps the user here: what is typed comes
            // first, and waits here if it must.
            let first = typed.front().copied();
            let pass_on = async {
                match first {
                    Some(byte) => console.write(&[byte]).await,
                    None => pending().await,
                }
            };
            match select3(self.terminal.byte(), pass_on, reader.read(&mut buffer)).await {
                Either3::First(LEAVE) | Either3::Third(Chunk::Closed) => break,
                Either3::First(byte) => {
                    if typed.len() < WAITING {
                        typed.push_back(byte);
                    }
                }
                Either3::Second(()) => {
                    typed.pop_front();
                }
                Either3::Third(Chunk::Bytes(count)) => {
                    self.terminal.raw(buffer.get(..count).unwrap_or_default()).await;
                }
                Either3::Third(Chunk::Missed(bytes)) => {
                    self.terminal.print(&format!("\n[{bytes} bytes were lost]\n")).await;
                }
            }
        }
        self.terminal.print("\n").await;
        Ok(())
    }
}
