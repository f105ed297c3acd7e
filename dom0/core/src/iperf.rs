//! What an iperf3 client and its server tell each other (esnet/iperf, `iperf_api.h`): states of a byte, and two documents
//! of JSON with their length before them.

use alloc::format;
use alloc::string::String;

use serde::Deserialize;

/// The port of servers.
pub const PORT: u16 = 5201;
/// Bytes by which a client marks the connections of a test.
pub const COOKIE: usize = 37;
/// The longest document that is taken.
pub const DOCUMENT: usize = 16 * 1024;

/// Where a test is, as the one side tells the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// The test begins.
    TestStart = 1,
    /// It runs.
    TestRunning = 2,
    /// The client has ended it.
    TestEnd = 4,
    /// The client is to send what it wants.
    ParamExchange = 9,
    /// The client is to connect its streams.
    CreateStreams = 10,
    /// Both tell what they counted, the client first.
    ExchangeResults = 13,
    /// The client may show them.
    DisplayResults = 14,
    /// The client is done.
    Done = 16,
    /// The server does not do that.
    Denied = 0xFF,
}

/// What matters here of what a client writes.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Wanted {
    tcp: bool,
    reverse: bool,
    bidirectional: bool,
    /// Streams.
    parallel: Option<u32>,
}

/// A test that a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Test {
    /// The server sends.
    pub reverse: bool,
}

impl Test {
    /// Reads the client's document. `None` for what this server does not do: anything but one stream of TCP, one way.
    pub fn parse(document: &str) -> Option<Self> {
        let wanted: Wanted = serde_json::from_str(document).ok()?;
        let ours = wanted.tcp && !wanted.bidirectional && wanted.parallel.is_none_or(|streams| streams == 1);
        ours.then_some(Test { reverse: wanted.reverse })
    }
}

/// The server's document: `bytes` that went in `micros` microseconds.
pub fn results(bytes: u64, micros: u64) -> String {
    let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
    format!(
        "{{\"cpu_util_total\":0,\"cpu_util_user\":0,\"cpu_util_system\":0,\"sender_has_retransmits\":0,\"streams\":\
         [{{\"id\":1,\"bytes\":{bytes},\"retransmits\":-1,\"jitter\":0,\"errors\":0,\"packets\":0,\"start_time\":0,\
         \"end_time\":{seconds}.{rest:06}}}]}}"
    )
}

#[cfg(test)]
mod tests {
    use super::{Test, results};

    #[test]
    fn what_a_client_wants_is_read_from_its_document() {
        let document = r#"{"tcp":true,"omit":0,"num":268435456,"parallel":1,"len":131072,"client_version":"3.12"}"#;
        assert_eq!(Test::parse(document), Some(Test { reverse: false }));
        let document = "{ \"tcp\" : true, \"reverse\" : true }";
        assert_eq!(Test::parse(document), Some(Test { reverse: true }));
    }

    #[test]
    fn more_streams_other_protocols_and_noise_are_refused() {
        for document in [
            r#"{"udp":true,"parallel":1}"#,
            r#"{"tcp":true,"parallel":2}"#,
            r#"{"tcp":true,"bidirectional":true}"#,
            r#"{"tcp":"#,
            "",
        ] {
            assert_eq!(Test::parse(document), None, "{document}");
        }
    }

    #[test]
    fn the_servers_document_has_what_a_client_needs_for_its_rate() {
        let document = results(1_000_000, 2_000_500);
        assert!(document.contains("\"bytes\":1000000,") && document.contains("\"end_time\":2.000500}"), "{document}");
    }
}
