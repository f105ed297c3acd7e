//! What the host of the tests has on its loopback, which guests reach as 10.0.2.2 and fec0::2.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::thread::JoinHandle;

use anyhow::Result;

/// 4 MiB without a period.
pub(super) fn pattern() -> Vec<u8> {
    (0..4u32 << 20).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

/// Serves one connection on the host's loopback with `text`.
pub(super) fn serve(text: impl Into<Vec<u8>>) -> Result<(u16, JoinHandle<Result<()>>)> {
    serve_at("127.0.0.1:0", text)
}

/// The same on a loopback of either version.
pub(super) fn serve_at(loopback: &str, text: impl Into<Vec<u8>>) -> Result<(u16, JoinHandle<Result<()>>)> {
    let (listener, bytes) = (TcpListener::bind(loopback)?, text.into());
    let port = listener.local_addr()?.port();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        stream.write_all(&bytes)?;
        Ok(())
    });
    Ok((port, served))
}

/// Serves one HTTP request on the host's loopback with `body`.
pub(super) fn serve_http(body: String) -> Result<(u16, JoinHandle<Result<()>>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        // What is not read before the end would end the connection early.
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
        Ok(())
    });
    Ok((port, served))
}

/// Takes what one connection to the host's loopback brings.
pub(super) fn collect() -> Result<(u16, JoinHandle<Result<Vec<u8>>>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let collected = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        listener.accept()?.0.read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    Ok((port, collected))
}

/// Answers questions for names on the host's loopback: each has the address `address`, in version 4 alone.
pub(super) fn answer_names(address: [u8; 4]) -> Result<u16> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let port = socket.local_addr()?.port();
    // It ends with the tests.
    std::thread::spawn(move || {
        let mut message = [0; 512];
        while let Ok((len, from)) = socket.recv_from(&mut message) {
            let Some(question) = message.get(12..len) else { continue };
            // The question is a name and four bytes of type and class (RFC 1035, section 4.1).
            let Some(end) = question.iter().position(|byte| *byte == 0).map(|end| end + 5) else { continue };
            let Some(question) = question.get(..end) else { continue };
            let is_v4 = question.get(end - 4..end - 2) == Some(&[0, 1]);
            let header = [message[0], message[1], 0x81, 0x80, 0, 1, 0, u8::from(is_v4), 0, 0, 0, 0];
            let mut answer = [&header[..], question].concat();
            if is_v4 {
                answer.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                answer.extend(address);
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    Ok(port)
}

/// A port of the loopback that is free now.
pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
