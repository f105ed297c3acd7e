//! A running QEMU and its serial line.
//!
//! A thread reads all the time, so the machine never waits for us; what it said is kept from the first byte,
//! because the reason of a hang is often far above its last line.

use std::fmt;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::config::Config;
use crate::marks;

/// Lines of the console that a failure shows.
const SHOWN: usize = 60;

/// Everything the machine has said.
#[derive(Debug, Default)]
struct Said {
    bytes: Vec<u8>,
    ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    said: Mutex<Said>,
    more: Condvar,
}

/// A copy of the console for somebody else, called with each piece as it arrives.
pub type Listener = Box<dyn FnMut(&[u8]) + Send>;

/// A running machine. It is killed when dropped.
pub struct Console {
    child: Child,
    input: ChildStdin,
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").field("pid", &self.child.id()).finish_non_exhaustive()
    }
}

/// Why waiting ended without what was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// The time was up.
    Timeout,
    /// The machine is gone.
    Ended,
    /// The hypervisor has stopped and said why.
    Failed,
}

/// How the hypervisor's last words begin.
const LAST_WORDS: [&[u8]; 2] = [b"(xenolith) *** pCPU", b"(xenolith) cannot boot:"];

/// Time for the backtrace that follows them.
const BACKTRACE: Duration = Duration::from_millis(500);

impl Console {
    /// Starts the machine.
    pub fn start(config: &Config, mut listener: Option<Listener>) -> Result<Self> {
        let mut child = Command::new(&config.emulator)
            .args(config.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| format!("cannot start {}", config.emulator.display()))?;
        let input = child.stdin.take().context("QEMU has no stdin")?;
        let mut output = child.stdout.take().context("QEMU has no stdout")?;
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            loop {
                // A read error is the end, like end of file: there is nothing more to hear.
                let heard = output.read(&mut piece).unwrap_or(0);
                let piece = &piece[..heard];
                if let Some(listener) = &mut listener {
                    listener(piece);
                }
                let mut said = lock(&theirs.said);
                said.bytes.extend_from_slice(piece);
                said.ended = piece.is_empty();
                theirs.more.notify_all();
                if said.ended {
                    return;
                }
            }
        });
        Ok(Self { child, input, shared, reader: Some(reader) })
    }

    /// Types these bytes.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.input.write_all(bytes).and_then(|()| self.input.flush()).context("QEMU takes no more input")
    }

    /// Waits until `look` finds what it wants in everything said so far.
    pub fn wait<T>(&self, until: Instant, mut look: impl FnMut(&[u8]) -> Option<T>) -> Result<T, Silence> {
        let mut said = lock(&self.shared.said);
        let (mut until, mut silence, mut searched) = (until, Silence::Timeout, 0);
        loop {
            if let Some(found) = look(&said.bytes) {
                return Ok(found);
            }
            if said.ended {
                return Err(Silence::Ended);
            }
            let fresh = said.bytes.get(searched..).unwrap_or_default();
            if silence == Silence::Timeout && LAST_WORDS.iter().any(|words| marks::find(fresh, words).is_some()) {
                (until, silence) = (until.min(Instant::now() + BACKTRACE), Silence::Failed);
            }
            // The words may arrive in two pieces.
            searched = said.bytes.len().saturating_sub(LAST_WORDS[1].len());
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(silence);
            }
            let waited = self.shared.more.wait_timeout(said, left);
            said = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Number of bytes said so far.
    pub fn length(&self) -> usize {
        lock(&self.shared.said).bytes.len()
    }

    /// The bytes said from `from` on.
    pub fn since(&self, from: usize) -> Vec<u8> {
        lock(&self.shared.said).bytes.get(from..).unwrap_or_default().to_vec()
    }

    /// The last lines, for a person.
    pub fn last_lines(&self) -> String {
        let text = marks::plain(&lock(&self.shared.said).bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(SHOWN)..].join("\n")
    }

    /// An error about this machine, with the end of its console attached.
    pub fn error(&self, what: &str, silence: Silence) -> anyhow::Error {
        let why = match silence {
            Silence::Timeout => "in time",
            Silence::Ended => "before the machine ended",
            Silence::Failed => "before the hypervisor failed",
        };
        anyhow!("{what} {why}; the end of the console:\n{}", indent(&self.last_lines()))
    }

    /// Waits for the machine to end by itself.
    pub fn end(&mut self, within: Duration) -> Result<ExitStatus> {
        let until = Instant::now() + within;
        match self.wait(until, |_| None::<()>) {
            Err(Silence::Ended) => Ok(self.child.wait()?),
            Ok(()) => Err(self.error("the machine did not power off", Silence::Timeout)),
            Err(silence) => Err(self.error("the machine did not power off", silence)),
        }
    }

    /// Ends the machine at once.
    pub fn kill(&mut self) {
        // Both fail only when the process is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A listener that panicked must not hide what the machine said.
fn lock(said: &Mutex<Said>) -> MutexGuard<'_, Said> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("    | {line}\n")).collect()
}
