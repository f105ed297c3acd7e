//! The echo service (RFC 862): Dom0 sends back what it is sent, so that a guest can try its way to Dom0.

use alloc::vec;

use embassy_futures::join::join_array;
use embassy_net::Stack;
use embassy_net::tcp::TcpSocket;
use embassy_time::Duration;
use embedded_io_async::Write;

/// The service's port.
const PORT: u16 = 7;
/// Connections at a time.
pub const SOCKETS: usize = 4;
/// Bytes that a connection holds in each direction.
const BUFFER: usize = 64 * 1024;
/// How long a silent connection keeps its place.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serves, for ever.
pub async fn serve(stack: Stack<'_>) {
    join_array([(); SOCKETS].map(|()| listen(stack))).await;
}

/// Serves one connection after the other.
async fn listen(stack: Stack<'_>) {
    let (mut receive, mut send, mut bytes) = (vec![0; BUFFER], vec![0; BUFFER], vec![0; BUFFER]);
    loop {
        let mut socket = TcpSocket::new(stack, &mut receive, &mut send);
        socket.set_timeout(Some(PATIENCE));
        if socket.accept(PORT).await.is_err() {
            continue;
        }
        // Until the other side has no more to say, or has gone.
        while let Ok(len @ 1..) = socket.read(&mut bytes).await {
            if socket.write_all(bytes.get(..len).unwrap_or_default()).await.is_err() {
                break;
            }
        }
        socket.close();
        let _ = socket.flush().await;
    }
}
