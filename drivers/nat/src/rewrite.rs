//! Changes of the head of a frame, which keep its checksums true.

use crate::checksum::{Field, FieldKind, be16, replace16, replace32};
use crate::packet::{End, Packet, Protocol};
use crate::parts::Fate;

/// The checksum of an IPv4 header.
pub(crate) fn ip_field(network: usize) -> Field {
    Field { at: network + 10, kind: FieldKind::Plain }
}

/// A packet has travelled long enough.
pub(crate) struct Expired;

/// Takes one off the number of hops that the packet may still make; with `ask` alone, only says whether it may.
pub(crate) fn one_hop_less(head: &mut [u8], network: usize, ask: bool) -> Result<(), Expired> {
    let word = be16(head, network + 8);
    if word >> 8 <= 1 {
        return Err(Expired);
    }
    if !ask {
        replace16(head, network + 8, word - 0x100, &[ip_field(network)]);
    }
    Ok(())
}

/// Replaces one end of a packet: the address at `address_at`, the port at `port_at`.
pub(crate) fn rewrite(head: &mut [u8], packet: &Packet, address_at: usize, port_at: usize, end: End, blank: bool) {
    let transport = packet.transport_field(blank);
    let address = u32::from(end.0);
    match packet.protocol {
        // Its checksum has no pseudo header.
        Protocol::Icmp => replace32(head, address_at, address, &[packet.ip_field()]),
        Protocol::Tcp | Protocol::Udp => replace32(head, address_at, address, &[packet.ip_field(), transport]),
    }
    // The pseudo header has no ports.
    let fields: &[Field] = if blank { &[] } else { &[transport] };
    replace16(head, port_at, end.1, fields);
}

/// The same for a packet that a message of ICMP quotes, whose own checksum covers the quoted bytes too. The quoted header's
/// checksum is kept true, and takes the change of its address out of the message's sum again; a quoted transport checksum
/// is left as it was sent, since what it covers is not all there.
pub(crate) fn rewrite_quoted(
    head: &mut [u8],
    message: usize,
    quoted: &Packet,
    address_at: usize,
    port_at: usize,
    end: End,
) {
    let whole = Field { at: message + 2, kind: FieldKind::Plain };
    let before = be16(head, quoted.network + 10);
    replace32(head, address_at, u32::from(end.0), &[quoted.ip_field(), whole]);
    let after = be16(head, quoted.network + 10);
    whole.adjust(head, before, after);
    replace16(head, port_at, end.1, &[whole]);
}

/// Writes the addresses and the number of a part of a packet.
pub(crate) fn rewrite_part(head: &mut [u8], network: usize, fate: Fate) {
    let field = [ip_field(network)];
    replace16(head, network + 4, fate.id, &field);
    replace32(head, network + 12, u32::from(fate.from), &field);
    replace32(head, network + 16, u32::from(fate.to), &field);
}
