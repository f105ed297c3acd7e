//! The serial line as a terminal: one line editor, and messages that come in between without tearing it.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use dom0_core::shell::editor::{Editor, Event};
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::mutex::Mutex;
use embedded_io_async::{Read, Write};
use pl011::Pl011;

/// The prompt. Scripts know it by the marks around it.
const PROMPT: &str = "xenolith# ";

/// The user's terminal.
pub struct Terminal {
    uart: Rc<Pl011<'static>>,
    editor: RefCell<Editor>,
    /// Whether the prompt stands on the screen.
    prompting: Cell<bool>,
    /// The writer's turn: one text at a time.
    turn: Mutex<NoopRawMutex, ()>,
    /// Bytes that were read and not used yet.
    pending: RefCell<alloc::collections::VecDeque<u8>>,
}

/// What the user did at the prompt.
pub enum Input {
    /// A line.
    Line(String),
    /// Tab behind this text.
    Complete(String),
}

impl Terminal {
    /// A terminal on a UART.
    pub fn new(uart: Rc<Pl011<'static>>) -> Self {
        Terminal {
            uart,
            editor: RefCell::new(Editor::new(PROMPT)),
            prompting: Cell::new(false),
            turn: Mutex::new(()),
            pending: RefCell::default(),
        }
    }

    /// Writes bytes as they are.
    pub async fn raw(&self, bytes: &[u8]) {
        let _turn = self.turn.lock().await;
        self.put(bytes).await;
    }

    async fn put(&self, bytes: &[u8]) {
        // The UART's errors are Infallible.
        let _ = (&*self.uart).write_all(bytes).await;
    }

    /// Writes text; each line ends as terminals want it.
    pub async fn print(&self, text: &str) {
        self.raw(&lines(text)).await;
    }

    /// Writes text that has nothing to do with what the user types: the prompt and the line make way for it.
    pub async fn interject(&self, text: &str) {
        let _turn = self.turn.lock().await;
        let mut out = Vec::new();
        if self.prompting.get() {
            self.editor.borrow().hide(&mut out);
        }
        out.extend(lines(text));
        if self.prompting.get() {
            self.editor.borrow().show(&mut out);
        }
        self.put(&out).await;
    }

    /// The next byte that the user types.
    pub async fn byte(&self) -> u8 {
        loop {
            if let Some(byte) = self.pending.borrow_mut().pop_front() {
                return byte;
            }
            let mut bytes = [0; 64];
            let count = (&*self.uart).read(&mut bytes).await.unwrap_or(0);
            self.pending.borrow_mut().extend(bytes.iter().take(count));
        }
    }

    /// Shows the prompt. Before it stand two marks of the shell-integration convention (OSC 133): D, the command before
    /// has ended with this status, and A, a prompt begins. Terminals hide them; scripts wait for them.
    pub async fn prompt(&self, status: i32) {
        let mut out = alloc::format!("\x1b]133;D;{status}\x07\x1b]133;A\x07").into_bytes();
        self.editor.borrow().show(&mut out);
        self.prompting.set(true);
        self.raw(&out).await;
    }

    /// What the user does next at the prompt.
    pub async fn input(&self) -> Input {
        loop {
            let byte = self.byte().await;
            let mut out = Vec::new();
            let event = self.editor.borrow_mut().feed(byte, &mut out);
            if matches!(event, Event::Line(_)) {
                self.prompting.set(false);
            }
            self.raw(&out).await;
            match event {
                Event::Line(line) => return Input::Line(line),
                Event::Complete(before) => return Input::Complete(before),
                Event::None | Event::Interrupt | Event::EndOfFile => {}
            }
        }
    }

    /// Goes on after [`Input::Complete`] with what the word may become.
    pub async fn complete(&self, word: &str, candidates: &[String]) {
        let mut out = Vec::new();
        self.editor.borrow_mut().complete(word, candidates, &mut out);
        self.raw(&out).await;
    }

    /// Waits for Ctrl-C or `q`; what else is typed meanwhile is dropped.
    pub async fn interrupted(&self) {
        while !matches!(self.byte().await, 3 | b'q') {}
    }
}

/// Text with a carriage return before each newline.
fn lines(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if byte == b'\n' {
            out.push(b'\r');
        }
        out.push(byte);
    }
    out
}
