//! An iperf3 server at Dom0's address: how fast a guest and Dom0 are together.
//!
//! What comes is dropped where the stack has put it, and what is sent is whatever stands in the stack's buffer: there is no
//! program behind it that would read or write the bytes.

use alloc::boxed::Box;
use alloc::vec;
use core::cell::Cell;

use dom0_core::iperf::{COOKIE, DOCUMENT, PORT, State, Test, results};
use embassy_futures::join::join;
use embassy_futures::select::{Either, select};
use embassy_net::Stack;
use embassy_net::tcp::{Error, TcpSocket};
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::signal::Signal;
use embassy_time::{Duration, Instant};

/// Bytes of the stream that the stack keeps for each direction.
const STREAM: usize = 1 << 20;
/// Bytes of the control connection that it keeps.
const CONTROL: usize = 4096;
/// After so long without a word from the client, the test is over.
const SILENCE: Duration = Duration::from_secs(30);

/// A server that somebody may ask for.
#[derive(Default)]
pub struct Iperf {
    wanted: Signal<NoopRawMutex, ()>,
}

/// The client broke off.
struct Broken;

impl From<Error> for Broken {
    fn from(_: Error) -> Self {
        Broken
    }
}

impl Iperf {
    /// Starts the server, if it does not run.
    pub fn start(&self) {
        self.wanted.signal(());
    }

    /// Serves one client after the other, once it is asked to. Never completes.
    pub async fn serve(&self, stack: Stack<'_>) {
        self.wanted.wait().await;
        let (mut near_in, mut near_out) = (vec![0; CONTROL], vec![0; CONTROL]);
        let (mut far_in, mut far_out) = (vec![0; STREAM], vec![0; STREAM]);
        loop {
            let mut control = TcpSocket::new(stack, &mut near_in, &mut near_out);
            let mut stream = TcpSocket::new(stack, &mut far_in, &mut far_out);
            for socket in [&mut control, &mut stream] {
                socket.set_timeout(Some(SILENCE));
                // Answers of a byte must not wait for more.
                socket.set_nagle_enabled(false);
            }
            let _ = test(&mut control, &mut stream).await;
            for mut socket in [control, stream] {
                socket.abort();
                let _ = socket.flush().await;
            }
        }
    }
}

/// Accepts a client and carries its test out.
async fn test(control: &mut TcpSocket<'_>, stream: &mut TcpSocket<'_>) -> Result<(), Broken> {
    control.accept(PORT).await.map_err(|_| Broken)?;
    let mut cookie = [0; COOKIE];
    read(control, &mut cookie).await?;
    tell(control, State::ParamExchange).await?;
    let wanted = document(control).await?;
    let Some(test) = core::str::from_utf8(&wanted).ok().and_then(Test::parse) else {
        return tell(control, State::Denied).await;
    };
    // It listens before the client is told.
    let (accepted, told) = join(stream.accept(PORT), tell(control, State::CreateStreams)).await;
    told?;
    accepted.map_err(|_| Broken)?;
    let mut same = [0; COOKIE];
    read(stream, &mut same).await?;
    if same != cookie {
        return tell(control, State::Denied).await;
    }
    tell(control, State::TestStart).await?;
    tell(control, State::TestRunning).await?;
    let (bytes, micros) = run(control, stream, test).await?;
    tell(control, State::ExchangeResults).await?;
    document(control).await?;
    let results = results(bytes, micros);
    write(control, &u32::try_from(results.len()).unwrap_or(0).to_be_bytes()).await?;
    write(control, results.as_bytes()).await?;
    tell(control, State::DisplayResults).await?;
    // The client says that it is done, or just goes.
    read(control, &mut [0]).await
}

/// Moves bytes until the client says that it is enough: how many, and in how many microseconds.
async fn run(control: &mut TcpSocket<'_>, stream: &mut TcpSocket<'_>, test: Test) -> Result<(u64, u64), Broken> {
    let (start, bytes) = (Instant::now(), Cell::new(0));
    let everything = |buffer: &mut [u8]| (buffer.len(), buffer.len());
    let moving = async {
        loop {
            let moved =
                if test.reverse { stream.write_with(everything).await } else { stream.read_with(everything).await };
            match moved {
                Ok(0) | Err(_) => core::future::pending().await,
                Ok(moved) => bytes.set(bytes.get() + moved as u64),
            }
        }
    };
    let mut state = [0];
    let ended = match select(read(control, &mut state), moving).await {
        Either::First(ended) => ended,
        Either::Second(never) => never,
    };
    ended?;
    if state == [State::TestEnd as u8] { Ok((bytes.get(), start.elapsed().as_micros())) } else { Err(Broken) }
}

/// Fills the buffer.
async fn read(socket: &mut TcpSocket<'_>, mut buffer: &mut [u8]) -> Result<(), Broken> {
    while !buffer.is_empty() {
        match socket.read(buffer).await? {
            0 => return Err(Broken),
            len => buffer = buffer.get_mut(len..).unwrap_or_default(),
        }
    }
    Ok(())
}

async fn write(socket: &mut TcpSocket<'_>, mut bytes: &[u8]) -> Result<(), Broken> {
    while !bytes.is_empty() {
        let len = socket.write(bytes).await?;
        bytes = bytes.get(len..).unwrap_or_default();
    }
    socket.flush().await.map_err(Broken::from)
}

async fn tell(socket: &mut TcpSocket<'_>, state: State) -> Result<(), Broken> {
    write(socket, &[state as u8]).await
}

/// A document with its length before it.
async fn document(socket: &mut TcpSocket<'_>) -> Result<Box<[u8]>, Broken> {
    let mut len = [0; 4];
    read(socket, &mut len).await?;
    let len = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
    if len > DOCUMENT {
        return Err(Broken);
    }
    let mut document = vec![0; len].into_boxed_slice();
    read(socket, &mut document).await?;
    Ok(document)
}
