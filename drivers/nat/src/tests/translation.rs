//! What becomes of single packets.

use proptest::prelude::*;

use super::frames::{checked, echo, ends, error, frame, packet, pseudo_sum, quoted, set_byte};
use super::{GUEST, HOST, OUTSIDE, SERVER, nat};
use crate::checksum::{be16, checksum, put16};
use crate::packet::{ACK, FIN, RST, SYN};
use crate::{End, FIRST_PORT, ForwardError, Nat, PortForward, Protocol, Refusal, STRANGERS, Unknown};

const ALL: [Protocol; 3] = [Protocol::Icmp, Protocol::Tcp, Protocol::Udp];

fn to_server(protocol: Protocol, from: End, flags: u8) -> Vec<u8> {
    frame([1; 6], [2; 6], &packet(protocol, from, (SERVER, 80), flags, b"some payload"))
}

/// Sends a packet out and returns the end that the server sees.
fn out(nat: &mut Nat, protocol: Protocol, from: End, flags: u8, now: u64) -> Result<End, Refusal> {
    let mut bytes = to_server(protocol, from, flags);
    assert_eq!(nat.outbound(&mut bytes, false, 1, now)?, SERVER);
    Ok(checked(&bytes).0)
}

/// Sends the server's answer back and returns the end that gets it.
fn back(nat: &mut Nat, protocol: Protocol, to: End, flags: u8, now: u64) -> Result<End, Refusal> {
    let packet = match protocol {
        Protocol::Icmp => echo(SERVER, to),
        Protocol::Tcp | Protocol::Udp => packet(protocol, (SERVER, 80), to, flags, b"an answer"),
    };
    let mut bytes = frame([1; 6], [2; 6], &packet);
    nat.inbound(&mut bytes, false, now)?;
    Ok(checked(&bytes).1)
}

#[test]
fn a_guest_is_seen_under_the_outside_address_and_gets_its_answers() {
    for protocol in ALL {
        let mut nat = nat();
        let seen = out(&mut nat, protocol, (GUEST, 40_000), SYN, 0).unwrap();
        assert_eq!(seen, (OUTSIDE, 40_000), "a free port is kept");
        assert_eq!(back(&mut nat, protocol, seen, SYN | ACK, 0), Ok((GUEST, 40_000)));
        assert_eq!(nat.connections(), 1);
    }
}

#[test]
fn two_guests_with_the_same_port_are_told_apart() {
    for protocol in ALL {
        let mut nat = nat();
        let other = "10.1.0.3".parse().unwrap();
        let first = out(&mut nat, protocol, (GUEST, 40_000), SYN, 0).unwrap();
        let second = out(&mut nat, protocol, (other, 40_000), SYN, 0).unwrap();
        assert_ne!(first, second);
        assert!(second.1 >= FIRST_PORT);
        assert_eq!(back(&mut nat, protocol, second, ACK, 0), Ok((other, 40_000)));
        assert_eq!(back(&mut nat, protocol, first, ACK, 0), Ok((GUEST, 40_000)));
    }
}

#[test]
fn nothing_comes_in_that_no_guest_has_asked_for() {
    for protocol in ALL {
        let mut nat = nat();
        assert_eq!(back(&mut nat, protocol, (OUTSIDE, 40_000), SYN, 0), Err(Refusal::Stranger));
        out(&mut nat, protocol, (GUEST, 40_000), SYN, 0).unwrap();
        assert_eq!(back(&mut nat, protocol, (OUTSIDE, 40_001), ACK, 0), Err(Refusal::Stranger));
        assert_eq!(back(&mut nat, protocol, (HOST, 40_000), ACK, 0), Err(Refusal::Stranger));
    }
}

#[test]
fn a_packet_from_an_address_that_is_not_inside_goes_nowhere() {
    let mut nat = nat();
    for from in [SERVER, HOST, "10.1.0.255".parse().unwrap(), "10.1.0.0".parse().unwrap(), "0.0.0.0".parse().unwrap()] {
        assert_eq!(out(&mut nat, Protocol::Udp, (from, 40_000), 0, 0), Err(Refusal::Source), "{from}");
    }
    assert_eq!(nat.connections(), 0);
}

#[test]
fn silence_ends_a_connection_by_the_times_of_the_rfcs() {
    for (protocol, patience) in [(Protocol::Icmp, 60), (Protocol::Udp, 180), (Protocol::Tcp, 7440)] {
        let mut nat = nat();
        let seen = out(&mut nat, protocol, (GUEST, 40_000), SYN, 0).unwrap();
        back(&mut nat, protocol, seen, SYN | ACK, 100.min(patience - 1)).unwrap();
        let last = 100.min(patience - 1);
        assert!(back(&mut nat, protocol, seen, ACK, last + patience - 1).is_ok());
        let over = last + patience - 1 + patience;
        assert_eq!(back(&mut nat, protocol, seen, ACK, over), Err(Refusal::Stranger), "{protocol:?}");
        (0..16).for_each(|_| nat.sweep(over));
        assert_eq!(nat.connections(), 0);
    }
}

#[test]
fn tcp_that_was_ended_or_never_answered_is_forgotten_in_four_minutes() {
    for ending in [&[RST][..], &[FIN | ACK][..]] {
        let mut nat = nat();
        let seen = out(&mut nat, Protocol::Tcp, (GUEST, 40_000), SYN, 0).unwrap();
        back(&mut nat, Protocol::Tcp, seen, SYN | ACK, 0).unwrap();
        out(&mut nat, Protocol::Tcp, (GUEST, 40_000), ending[0], 0).unwrap();
        back(&mut nat, Protocol::Tcp, seen, ending[0], 0).unwrap();
        assert_eq!(back(&mut nat, Protocol::Tcp, seen, ACK, 240), Err(Refusal::Stranger));
    }
    let mut nat = nat();
    let seen = out(&mut nat, Protocol::Tcp, (GUEST, 40_000), SYN, 0).unwrap();
    assert_eq!(back(&mut nat, Protocol::Tcp, seen, SYN | ACK, 240), Err(Refusal::Stranger));
}

#[test]
fn a_forwarded_port_leads_to_its_guest_and_the_answers_come_from_that_port() {
    let mut nat = nat();
    let forward = PortForward { protocol: Protocol::Tcp, port: 8080, to: (GUEST, 80) };
    nat.forward(forward).unwrap();
    let client = (SERVER, 5555);
    let mut first = frame([1; 6], [2; 6], &packet(Protocol::Tcp, client, (OUTSIDE, 8080), SYN, b""));
    assert_eq!(nat.inbound(&mut first, false, 0), Ok(GUEST));
    assert_eq!(checked(&first), (client, (GUEST, 80)));
    assert_eq!(nat.connections_of(STRANGERS), 1);
    let mut answer = frame([1; 6], [2; 6], &packet(Protocol::Tcp, (GUEST, 80), client, SYN | ACK, b""));
    assert_eq!(nat.outbound(&mut answer, false, 3, 0), Ok(SERVER));
    assert_eq!(checked(&answer), ((OUTSIDE, 8080), client));
    // Only a packet that begins a connection does so.
    let mut stray = frame([1; 6], [2; 6], &packet(Protocol::Tcp, (SERVER, 5556), (OUTSIDE, 8080), ACK, b""));
    assert_eq!(nat.inbound(&mut stray, false, 0), Err(Refusal::Stranger));
    assert_eq!(nat.forward(forward), Err(ForwardError::Taken));
    assert_eq!(nat.unforward(Protocol::Tcp, 8080), Ok(()));
    assert_eq!(nat.unforward(Protocol::Tcp, 8080), Err(ForwardError::Absent));
    let mut late = frame([1; 6], [2; 6], &packet(Protocol::Tcp, (SERVER, 5557), (OUTSIDE, 8080), SYN, b""));
    assert_eq!(nat.inbound(&mut late, false, 0), Err(Refusal::Stranger));
}

#[test]
fn a_forward_that_makes_no_sense_is_refused() {
    let mut nat = nat();
    let forward = |port, to| PortForward { protocol: Protocol::Udp, port, to };
    assert_eq!(nat.forward(forward(53, (SERVER, 53))), Err(ForwardError::NotInside));
    assert_eq!(nat.forward(forward(53, (HOST, 53))), Err(ForwardError::NotInside));
    assert_eq!(nat.forward(forward(FIRST_PORT, (GUEST, 53))), Err(ForwardError::Reserved));
}

#[test]
fn messages_about_a_guests_packets_reach_it_with_its_own_ends_in_them() {
    for protocol in ALL {
        let mut nat = nat();
        let mut sent = to_server(protocol, (GUEST, 1000), SYN);
        nat.outbound(&mut sent, false, 1, 0).unwrap();
        let router = "203.0.113.1".parse().unwrap();
        let mut message = frame([1; 6], [2; 6], &error(router, OUTSIDE, &sent[14..]));
        assert_eq!(nat.inbound(&mut message, false, 0), Ok(GUEST), "{protocol:?}");
        assert_eq!(ends(quoted(&message)).0, (GUEST, 1000));
        assert_eq!(ends(&message[14..]).1.0, GUEST);
        assert_eq!(ends(&message[14..]).0.0, router);
        let mut stray = frame([1; 6], [2; 6], &error(router, OUTSIDE, &to_server(protocol, (GUEST, 1), SYN)[14..]));
        assert_eq!(nat.inbound(&mut stray, false, 0), Err(Refusal::Stranger));
    }
}

#[test]
fn messages_of_a_guest_about_packets_it_got_leave_without_its_address() {
    let mut nat = nat();
    let seen = out(&mut nat, Protocol::Udp, (GUEST, 1000), 0, 0).unwrap();
    let mut answer = frame([1; 6], [2; 6], &packet(Protocol::Udp, (SERVER, 80), seen, 0, b"too late"));
    nat.inbound(&mut answer, false, 0).unwrap();
    let mut message = frame([1; 6], [2; 6], &error(GUEST, SERVER, &answer[14..]));
    assert_eq!(nat.outbound(&mut message, false, 1, 0), Ok(SERVER));
    assert_eq!(ends(quoted(&message)).1, seen);
    assert_eq!(ends(&message[14..]).0.0, OUTSIDE);
    let inside = GUEST.octets();
    assert!(!message.windows(4).any(|bytes| bytes == inside), "the address inside shows");
}

#[test]
fn a_packet_makes_no_more_hops_than_it_may() {
    let mut nat = nat();
    let mut bytes = to_server(Protocol::Udp, (GUEST, 40_000), 0);
    set_byte(&mut bytes, 14 + 8, 1);
    assert_eq!(nat.outbound(&mut bytes, false, 1, 0), Err(Refusal::Expired));
    assert_eq!(nat.connections(), 0);
    let mut bytes = to_server(Protocol::Udp, (GUEST, 40_000), 0);
    nat.outbound(&mut bytes, false, 1, 0).unwrap();
    assert_eq!(bytes[14 + 8], 63);
}

#[test]
fn a_blank_checksum_stays_the_sum_of_the_pseudo_header() {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let mut nat = nat();
        let at = 14 + 20 + if protocol == Protocol::Tcp { 16 } else { 6 };
        let mut bytes = to_server(protocol, (GUEST, 1000), SYN);
        let sum = pseudo_sum(&bytes[14..]);
        put16(&mut bytes, at, sum);
        nat.outbound(&mut bytes, true, 1, 0).unwrap();
        assert_eq!(be16(&bytes, at), pseudo_sum(&bytes[14..]));
        assert_eq!(ends(&bytes[14..]).0.0, OUTSIDE);
    }
}

#[test]
fn udp_without_a_checksum_stays_without() {
    let mut nat = nat();
    let mut bytes = to_server(Protocol::Udp, (GUEST, 1000), 0);
    put16(&mut bytes, 14 + 26, 0);
    nat.outbound(&mut bytes, false, 1, 0).unwrap();
    assert_eq!(be16(&bytes, 14 + 26), 0);
}

#[test]
fn a_name_server_answers_as_if_the_host_had() {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let mut nat = nat();
        let ask = || frame([1; 6], [2; 6], &packet(protocol, (GUEST, 40_000), (HOST, 53), SYN, b"who is"));
        let mut bytes = ask();
        nat.outbound(&mut bytes, false, 1, 0).unwrap();
        assert_eq!(checked(&bytes).1, (HOST, 53), "without a name server nobody is asked");
        nat.forget(1);
        let server = (SERVER, 5353);
        nat.set_resolver(Some(server));
        let mut bytes = ask();
        assert_eq!(nat.outbound(&mut bytes, false, 1, 0), Ok(SERVER));
        assert_eq!(checked(&bytes), ((OUTSIDE, 40_000), server));
        let answer = packet(protocol, server, (OUTSIDE, 40_000), SYN | ACK, b"it is");
        let mut bytes = frame([1; 6], [2; 6], &answer);
        assert_eq!(nat.inbound(&mut bytes, false, 0), Ok(GUEST));
        assert_eq!(checked(&bytes), ((HOST, 53), (GUEST, 40_000)));
    }
}

#[test]
fn other_protocols_and_parts_without_a_first_one_go_nowhere() {
    let mut nat = nat();
    let mut part = to_server(Protocol::Udp, (GUEST, 1000), 0);
    set_byte(&mut part, 14 + 7, 1);
    assert_eq!(nat.outbound(&mut part, false, 1, 0), Err(Refusal::Unknown(Unknown::Fragment)));
    let mut other = to_server(Protocol::Udp, (GUEST, 1000), 0);
    set_byte(&mut other, 14 + 9, 47);
    assert_eq!(nat.outbound(&mut other, false, 1, 0), Err(Refusal::Unknown(Unknown::Protocol)));
}

/// The frames of a packet in parts of 400 bytes.
fn in_parts(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (header, payload) = (&bytes[..20], &bytes[20..]);
    let parts = payload.chunks(400).enumerate().map(|(n, chunk)| {
        let mut part = [header, chunk].concat();
        let more = if (n + 1) * 400 < payload.len() { 0x2000 } else { 0 };
        put16(&mut part, 2, 20 + chunk.len() as u16);
        put16(&mut part, 6, more | (n * 50) as u16);
        put16(&mut part, 10, 0);
        let sum = checksum(&part[..20], 0);
        put16(&mut part, 10, sum);
        frame([1; 6], [2; 6], &part)
    });
    parts.collect()
}

/// The packet whose parts these are, in a frame; they have one number in common.
fn together(parts: &[Vec<u8>]) -> Vec<u8> {
    assert!(parts.iter().all(|part| part[18..20] == parts[0][18..20] && checksum(&part[14..34], 0) == 0));
    let payload: Vec<u8> = parts.iter().flat_map(|part| part[34..].to_vec()).collect();
    let mut whole = parts[0][14..34].to_vec();
    put16(&mut whole, 2, 20 + payload.len() as u16);
    put16(&mut whole, 6, 0);
    put16(&mut whole, 10, 0);
    let sum = checksum(&whole, 0);
    put16(&mut whole, 10, sum);
    whole.extend(payload);
    frame([1; 6], [2; 6], &whole)
}

#[test]
fn a_packet_in_parts_is_whole_again_at_either_end() {
    for protocol in ALL {
        let mut nat = nat();
        let other = "10.1.0.3".parse().unwrap();
        let payload: Vec<u8> = (0..2000).map(|n| (n % 251) as u8).collect();
        let mut numbers = Vec::new();
        // Both guests number their packets alike.
        for guest in [GUEST, other] {
            let mut parts = in_parts(&packet(protocol, (guest, 40_000), (SERVER, 80), SYN, &payload));
            for part in &mut parts {
                assert_eq!(nat.outbound(part, false, 1, 0), Ok(SERVER));
            }
            let whole = together(&parts);
            let (from, _) = checked(&whole);
            assert_eq!((from.0, &whole[whole.len() - 2000..]), (OUTSIDE, &payload[..]));
            numbers.push(be16(&whole, 18));
            let mut answer = match protocol {
                Protocol::Icmp => continue,
                Protocol::Tcp | Protocol::Udp => in_parts(&packet(protocol, (SERVER, 80), from, ACK, &payload)),
            };
            for part in &mut answer {
                assert_eq!(nat.inbound(part, false, 0), Ok(guest));
            }
            assert_eq!(checked(&together(&answer)), ((SERVER, 80), (guest, 40_000)));
        }
        assert_ne!(numbers[0], numbers[1], "the server would mix them up");
    }
}

#[test]
fn a_packet_whose_header_was_damaged_goes_nowhere() {
    let mut nat = nat();
    let whole = to_server(Protocol::Udp, (GUEST, 1000), 0);
    for at in 14..34 {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        assert!(nat.outbound(&mut bytes, false, 1, 0).is_err(), "byte {at}");
    }
    assert_eq!(nat.connections(), 0);
}

#[test]
fn another_outside_address_ends_what_was_open_under_the_old_one() {
    let mut nat = nat();
    let seen = out(&mut nat, Protocol::Udp, (GUEST, 40_000), 0, 0).unwrap();
    nat.set_outside(None);
    assert_eq!(out(&mut nat, Protocol::Udp, (GUEST, 40_000), 0, 0), Err(Refusal::NoAddress));
    nat.set_outside(Some(OUTSIDE));
    assert_eq!(back(&mut nat, Protocol::Udp, seen, 0, 0), Err(Refusal::Stranger));
}

proptest! {
    #[test]
    fn whatever_goes_out_comes_back_to_its_sender_with_true_checksums(
        guests in proptest::collection::vec((2..250u8, any::<u16>(), 0..3usize, any::<u16>()), 1..60),
    ) {
        let mut nat = nat();
        let mut sent = Vec::new();
        for (host, port, kind, remote) in guests {
            let (from, to) = ((std::net::Ipv4Addr::new(10, 1, 0, host), port), (SERVER, remote));
            let protocol = ALL[kind];
            let mut bytes = frame([1; 6], [2; 6], &packet(protocol, from, to, SYN, b"x"));
            prop_assert_eq!(nat.outbound(&mut bytes, false, host.into(), 0), Ok(SERVER));
            let (seen, _) = checked(&bytes);
            prop_assert!(seen.0 == OUTSIDE && seen.1 >= FIRST_PORT);
            sent.push((protocol, from, to, seen));
        }
        for (protocol, from, to, seen) in sent {
            if protocol == Protocol::Icmp {
                continue;
            }
            let mut bytes = frame([1; 6], [2; 6], &packet(protocol, to, seen, ACK, b"odd"));
            prop_assert_eq!(nat.inbound(&mut bytes, false, 0), Ok(from.0));
            prop_assert_eq!(checked(&bytes), (to, from));
        }
    }

    #[test]
    fn no_frame_makes_the_translation_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..192), ip: bool, blank: bool) {
        let mut nat = nat();
        nat.forward(PortForward { protocol: Protocol::Udp, port: 53, to: (GUEST, 53) }).unwrap();
        if ip && bytes.len() > 34 {
            // Close enough to be looked at.
            (bytes[12], bytes[13], bytes[14]) = (8, 0, 0x45 + (bytes[14] & 3));
            // Whole, or a first part.
            bytes[20] &= 0x20;
            bytes[21] = 0;
            bytes[23] = [1, 6, 17][usize::from(bytes[23]) % 3];
            bytes[26..30].copy_from_slice(&GUEST.octets());
        }
        let before = bytes.clone();
        if nat.outbound(&mut bytes, blank, 1, 0).is_err() {
            prop_assert_eq!(&bytes, &before, "a refused frame was changed");
        }
        if bytes.len() > 34 {
            bytes[30..34].copy_from_slice(&OUTSIDE.octets());
        }
        let before = bytes.clone();
        if nat.inbound(&mut bytes, blank, 0).is_err() {
            prop_assert_eq!(&bytes, &before, "a refused frame was changed");
        }
    }
}
