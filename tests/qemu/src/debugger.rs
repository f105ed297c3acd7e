//! A debugger at QEMU's stub: what is needed to follow a path instruction by instruction.
//!
//! The packets are those of GDB's remote serial protocol (GDB's manual, appendix E).

use std::io::{BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// Time for an answer. One comes as soon as the machine stops, which it may do late on a busy host.
const PATIENCE: Duration = Duration::from_secs(120);

/// How the machine says that it stopped at a breakpoint, and what stops it where it is.
const AT_BREAKPOINT: &str = "T05";
const INTERRUPT: &[u8] = b"\x03";

/// Bytes of `g`'s answer: x0 to x30, sp and pc of eight bytes each, and the state of four.
const PC: usize = 32 * 8;
const STATE: usize = 33 * 8;

/// Stepping lets interrupts come, but holds timers (QEMU's manual, "GDB usage": 1 enables, 2 holds interrupts, 4 timers): a
/// step takes so long that the next tick of a timer would have come whenever the handler of the last one is done.
const STEP_WITHOUT_TIMERS: &str = "Qqemu.sstep=5";

/// A connection; the machine stands still but for what is asked of it.
#[derive(Debug)]
pub struct Debugger {
    input: BufReader<UnixStream>,
    output: UnixStream,
}

/// The registers that matter here.
#[derive(Clone, Debug)]
pub struct Registers(Vec<u8>);

impl Registers {
    fn word(&self, at: usize) -> u64 {
        let bytes = self.0.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_le_bytes)
    }

    /// A general register, x0 to x30.
    pub fn x(&self, number: usize) -> u64 {
        self.word(number * 8)
    }

    /// The next instruction's address.
    pub fn pc(&self) -> u64 {
        self.word(PC)
    }

    /// The exception level, 0 to 3 (Arm ARM, C5.2.2: CurrentEL as in PSTATE).
    pub fn level(&self) -> u8 {
        self.0.get(STATE).map_or(0, |mode| mode >> 2 & 3)
    }
}

impl Debugger {
    /// Connects and stops the machine.
    pub fn attach(socket: &Path) -> Result<Self> {
        let output = UnixStream::connect(socket).with_context(|| format!("no debugger at {}", socket.display()))?;
        output.set_read_timeout(Some(PATIENCE))?;
        let mut debugger = Self { input: BufReader::new(output.try_clone()?), output };
        debugger.command(STEP_WITHOUT_TIMERS)?;
        // QEMU lets nobody set a register who has not asked what registers there are.
        debugger.ask("qXfer:features:read:target.xml:0,10")?;
        Ok(debugger)
    }

    /// Lets the machine run until it comes to an address.
    pub fn run_to(&mut self, address: u64) -> Result<Registers> {
        // From where it stands it would not move.
        self.step()?;
        self.run_until(&[address], PATIENCE)?.with_context(|| format!("the machine does not come to {address:#x}"))
    }

    /// Lets the machine run until a pCPU comes to one of these addresses, for so long at most: its registers there, if one did.
    pub fn run_until(&mut self, addresses: &[u64], within: Duration) -> Result<Option<Registers>> {
        for address in addresses {
            self.command(&format!("Z1,{address:x},4"))?;
        }
        self.send("c")?;
        self.output.set_read_timeout(Some(within))?;
        let answer = match self.answer() {
            Err(error) if timed_out(&error) => {
                self.output.set_read_timeout(Some(PATIENCE))?;
                self.output.write_all(INTERRUPT).context("the debugger lost QEMU")?;
                self.answer()?
            }
            answer => answer?,
        };
        self.output.set_read_timeout(Some(PATIENCE))?;
        for address in addresses {
            self.command(&format!("z1,{address:x},4"))?;
        }
        if answer.starts_with(AT_BREAKPOINT) { self.registers().map(Some) } else { Ok(None) }
    }

    /// Executes one instruction.
    pub fn step(&mut self) -> Result<Registers> {
        self.stopped("s")?;
        self.registers()
    }

    /// The registers as they are.
    pub fn registers(&mut self) -> Result<Registers> {
        let registers = bytes(&self.ask("g")?)?;
        ensure!(registers.len() > STATE, "QEMU gives too few registers");
        Ok(Registers(registers))
    }

    /// Sets x0.
    pub fn set_x0(&mut self, value: u64) -> Result<()> {
        let digits: String = value.to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        self.command(&format!("P0={digits}"))
    }

    /// Memory as the code that runs sees it.
    pub fn memory(&mut self, address: u64, length: u64) -> Result<Vec<u8>> {
        bytes(&self.ask(&format!("m{address:x},{length:x}"))?)
    }

    /// Memory by its physical address.
    pub fn physical(&mut self, address: u64, length: u64) -> Result<Vec<u8>> {
        self.command("Qqemu.PhyMemMode:1")?;
        let bytes = self.memory(address, length);
        self.command("Qqemu.PhyMemMode:0")?;
        bytes
    }

    /// Lets the machine go on alone.
    pub fn detach(mut self) -> Result<()> {
        self.command("D")
    }

    /// Sends what is answered with OK.
    fn command(&mut self, packet: &str) -> Result<()> {
        let mut answer = self.ask(packet)?;
        // That the machine has stopped for the debugger is said unasked.
        while answer.starts_with('T') {
            answer = self.answer()?;
        }
        ensure!(answer == "OK", "QEMU answers {answer:?} to the debugger's {packet}");
        Ok(())
    }

    /// Sends what is answered when the machine stops again: with T and a signal.
    fn stopped(&mut self, packet: &str) -> Result<()> {
        let answer = self.ask(packet)?;
        ensure!(answer.starts_with('T') || answer.starts_with('S'), "QEMU answers {answer:?} to {packet}");
        Ok(())
    }

    /// Sends a packet and waits for its answer.
    fn ask(&mut self, packet: &str) -> Result<String> {
        self.send(packet)?;
        self.answer().with_context(|| format!("the debugger asked {packet}"))
    }

    fn send(&mut self, packet: &str) -> Result<()> {
        let sum = packet.bytes().fold(0u8, u8::wrapping_add);
        self.output.write_all(format!("${packet}#{sum:02x}").as_bytes()).context("the debugger lost QEMU")
    }

    /// The next packet from QEMU.
    fn answer(&mut self) -> Result<String> {
        let mut answer = Vec::new();
        let mut byte = || -> Result<u8> {
            let mut one = [0];
            self.input.read_exact(&mut one).context("QEMU does not answer the debugger")?;
            Ok(one[0])
        };
        // The acknowledgement of what was sent comes before it.
        while byte()? != b'$' {}
        loop {
            match byte()? {
                b'#' => break,
                other => answer.push(other),
            }
        }
        // The sum: a socket loses nothing.
        byte()?;
        byte()?;
        self.output.write_all(b"+").context("the debugger lost QEMU")?;
        String::from_utf8(answer).context("QEMU answers the debugger with no text")
    }
}

/// Nothing came in the time that there was for it.
fn timed_out(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    matches!(kind, Some(ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

/// Reads pairs of hexadecimal digits; registers that QEMU does not know are written with x.
fn bytes(text: &str) -> Result<Vec<u8>> {
    if text.len() % 2 == 1 || text.starts_with('E') {
        bail!("QEMU refuses: {text}");
    }
    let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap_or_default());
    Ok(pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap_or(0)).collect())
}

#[cfg(test)]
mod tests {
    use super::{Registers, STATE, bytes};

    #[test]
    fn the_exception_level_is_bits_2_and_3_of_the_state() {
        let mut registers = vec![0; STATE + 4];
        registers[STATE] = 0xC9;
        assert_eq!(Registers(registers.clone()).level(), 2);
        registers[STATE] = 0xC5;
        assert_eq!(Registers(registers).level(), 1);
    }

    #[test]
    fn an_error_is_no_memory() {
        assert!(bytes("E14").is_err());
        assert_eq!(bytes("1f00").unwrap_or_default(), [0x1F, 0]);
    }
}
