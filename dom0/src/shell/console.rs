//! `xl console`: the terminal becomes the domain's console until Ctrl-].

use alloc::collections::VecDeque;
use alloc::format;
use core::future::pending;

use conback::Chunk;
use dom0_core::shell::{ConsoleKind, DomainRef};
use embassy_futures::select::{Either3, select, select3};
use embassy_time::{Duration, Instant, Timer};

use super::{Failure, Outcome, Shell};
use crate::consoles::{DomainConsole, Kind};

/// Ctrl-].
const LEAVE: u8 = 0x1d;
/// Typed bytes that wait here for a domain that does not read; then the line waits, as long as there is patience.
const WAITING: usize = 4096;
/// How long a domain may take no typed byte before nobody waits for it any longer.
const PATIENCE: Duration = Duration::from_secs(1);

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
        let mut typed = Typed::new(console);
        // Neither a domain that does not read nor one that prints without end keeps the user here: what is typed comes first.
        loop {
            match select3(typed.pass_on(), self.typed_byte(typed.full_until()), reader.read(&mut buffer)).await {
                Either3::First(()) => typed.passed_on(),
                Either3::Second(LEAVE) => {
                    typed.finish().await;
                    break;
                }
                Either3::Second(byte) => typed.push(byte),
                Either3::Third(Chunk::Bytes(count)) => {
                    self.terminal.raw(buffer.get(..count).unwrap_or_default()).await;
                }
                Either3::Third(Chunk::Missed(bytes)) => {
                    self.terminal.print(&format!("\n[{bytes} bytes were lost]\n")).await;
                }
                Either3::Third(Chunk::Closed) => break,
            }
        }
        self.terminal.print("\n").await;
        Ok(())
    }

    /// The next byte that is typed, which is left in the line for as long as `not_before` says.
    async fn typed_byte(&self, not_before: Option<Instant>) -> u8 {
        if let Some(instant) = not_before {
            Timer::at(instant).await;
        }
        self.terminal.byte().await
    }
}

/// What was typed and waits for its domain.
struct Typed {
    console: DomainConsole,
    bytes: VecDeque<u8>,
    /// When the domain took a byte last.
    taken: Instant,
}

impl Typed {
    fn new(console: DomainConsole) -> Self {
        Typed { console, bytes: VecDeque::new(), taken: Instant::now() }
    }

    /// Types the first byte, of which this may be dropped without having done a part; waits for ever if there is none.
    async fn pass_on(&self) {
        match self.bytes.front() {
            Some(&byte) => self.console.write(&[byte]).await,
            None => pending().await,
        }
    }

    /// Takes note that [`Self::pass_on`] has come to its end.
    fn passed_on(&mut self) {
        self.bytes.pop_front();
        self.taken = Instant::now();
    }

    /// Until when no further byte is to be taken off the line, if there is no room for it now.
    fn full_until(&self) -> Option<Instant> {
        (self.bytes.len() >= WAITING).then_some(self.taken + PATIENCE)
    }

    /// Adds a byte; it is lost if the domain has stopped to read.
    fn push(&mut self, byte: u8) {
        if self.bytes.is_empty() {
            self.taken = Instant::now();
        }
        if self.bytes.len() < WAITING {
            self.bytes.push_back(byte);
        }
    }

    /// Types what still waits, as far as the domain takes it in time.
    async fn finish(&mut self) {
        let rest = self.bytes.make_contiguous();
        select(self.console.write(rest), Timer::after(PATIENCE)).await;
    }
}
