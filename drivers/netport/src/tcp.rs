//! TCP between a stack that knows whole segments alone, and frames that are cut and summed by whoever puts them on a wire.

use core::net::IpAddr;
use core::ops::Range;

use driver_api::net::{Checksum, Gso, Offload};
use hypercall_abi::netif::GsoType;
use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket};

/// Bytes of an Ethernet header.
pub(crate) const HEADER: usize = 14;
/// The longest packet that segments are cut for; every station takes those.
const ETHERNET_MTU: u16 = 1500;
/// Segments that the stack hands over in one at most.
const MANY: u16 = 44;
/// Bytes of a TCP header without options.
const TCP: usize = 20;
/// Where the checksum stands in it.
const CHECKSUM: usize = 16;

/// The IP packet of TCP or UDP in a frame, without extension headers: nothing is left of others here.
struct Packet<'a> {
    from: IpAddr,
    to: IpAddr,
    protocol: IpProtocol,
    /// Where the transport header begins in the frame.
    transport: usize,
    payload: &'a [u8],
}

/// The protocol, if it is one of those whose checksum a receiver may be left with.
fn has_ports(protocol: IpProtocol) -> Option<IpProtocol> {
    matches!(protocol, IpProtocol::Tcp | IpProtocol::Udp).then_some(protocol)
}

impl<'a> Packet<'a> {
    fn parse(frame: &'a [u8]) -> Option<Self> {
        match EthernetFrame::new_checked(frame).ok()?.ethertype() {
            EthernetProtocol::Ipv4 => {
                let packet = Ipv4Packet::new_checked(frame.get(HEADER..)?).ok()?;
                let protocol = has_ports(packet.next_header())?;
                // Of a packet in parts no part has a transport header that fits its bytes.
                if packet.more_frags() || packet.frag_offset() != 0 {
                    return None;
                }
                let (from, to) = (packet.src_addr().into(), packet.dst_addr().into());
                let transport = HEADER + usize::from(packet.header_len());
                let payload = frame.get(transport..HEADER + usize::from(packet.total_len()))?;
                Some(Packet { from, to, protocol, transport, payload })
            }
            EthernetProtocol::Ipv6 => {
                let packet = Ipv6Packet::new_checked(frame.get(HEADER..)?).ok()?;
                let protocol = has_ports(packet.next_header())?;
                let (from, to) = (packet.src_addr().into(), packet.dst_addr().into());
                let transport = HEADER + packet.header_len();
                let payload = frame.get(transport..HEADER + packet.total_len())?;
                Some(Packet { from, to, protocol, transport, payload })
            }
            _ => None,
        }
    }

    /// Where the TCP header ends in the frame, if there is one.
    fn tcp_end(&self) -> Option<usize> {
        let len = TcpPacket::new_checked(self.payload).ok().filter(|_| self.protocol == IpProtocol::Tcp)?.header_len();
        Some(self.transport + usize::from(len))
    }

    /// Where the options of a SYN are in the frame; `None` if it is none.
    fn options_of_syn(&self) -> Option<Range<usize>> {
        let end = self.tcp_end()?;
        let [.., flags, _, _, _, _, _, _] = self.payload.get(..TCP)? else { return None };
        (flags & 0x02 != 0).then_some(self.transport + TCP..end)
    }

    /// Whether the checksum of TCP or UDP is that of the packet.
    fn is_sound(&self) -> bool {
        let (from, to) = (self.from.into(), self.to.into());
        match self.protocol {
            IpProtocol::Tcp => TcpPacket::new_checked(self.payload).is_ok_and(|tcp| tcp.verify_checksum(&from, &to)),
            IpProtocol::Udp => UdpPacket::new_checked(self.payload).is_ok_and(|udp| udp.verify_checksum(&from, &to)),
            _ => true,
        }
    }

    /// The longest segment in a packet of `mtu` bytes, TCP without options.
    fn segment(&self, mtu: u16) -> u16 {
        mtu.min(ETHERNET_MTU).saturating_sub(u16::try_from(self.transport - HEADER + TCP).unwrap_or(u16::MAX))
    }

    /// The sum over the pseudo header (RFC 9293, 3.1; RFC 8200, 8.1).
    fn pseudo_sum(&self) -> u16 {
        let words = |address: IpAddr| match address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        let sum_of = |address: IpAddr| (0..8).map(|word| words(address) >> (16 * word) & 0xFFFF).sum::<u128>();
        let sum =
            sum_of(self.from) + sum_of(self.to) + u128::from(u8::from(self.protocol)) + self.payload.len() as u128;
        // At most 18 words of 16 bits: one fold, and the carry of it.
        let sum = (sum & 0xFFFF) + (sum >> 16);
        u16::try_from((sum & 0xFFFF) + (sum >> 16)).unwrap_or(0)
    }
}

/// Makes a frame that has arrived ready for the stack, which does not look at checksums: false if the one of TCP or UDP was
/// not checked yet and is wrong. In a SYN from a station that takes full packets the stack is told that it takes many
/// segments in one.
pub fn admit(frame: &mut [u8], unchecked: bool, mtu: u16) -> bool {
    let Some(packet) = Packet::parse(frame) else { return true };
    if unchecked && !packet.is_sound() {
        return false;
    }
    let own = packet.segment(mtu);
    if let Some(options) = packet.options_of_syn() {
        change_mss(frame, options, |mss| if mss >= own { own * MANY } else { mss });
    }
    true
}

/// Makes a frame of the stack's ready: the sum over the pseudo header is all of a checksum that a receiver in the machine
/// needs, and who puts the frame on a wire makes the rest and cuts it.
pub fn finish(frame: &mut [u8], mtu: u16) -> Offload {
    let whole = Offload { checksum: Checksum::Valid, gso: None };
    let Some(packet) = Packet::parse(frame) else { return whole };
    let Some(end) = packet.tcp_end() else { return whole };
    let (start, own, sum, from) = (packet.transport, packet.segment(mtu), packet.pseudo_sum(), packet.from);
    let options = u16::try_from(end - start - TCP).unwrap_or(0);
    if let Some(options) = packet.options_of_syn() {
        change_mss(frame, options, |mss| mss.min(own));
    }
    if let Some(place) = frame.get_mut(start + CHECKSUM..start + CHECKSUM + 2) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
    let size = own.saturating_sub(options);
    let kind = if from.is_ipv4() { GsoType::TcpV4 } else { GsoType::TcpV6 };
    let gso = (frame.len() - end > usize::from(size)).then_some(Gso { kind, size });
    Offload { checksum: Checksum::Blank, gso }
}

/// Changes the longest segment that the options of a SYN say its sender takes. The checksum is no longer that of the frame
/// then.
fn change_mss(frame: &mut [u8], options: Range<usize>, change: impl Fn(u16) -> u16) {
    let mut options = frame.get_mut(options).unwrap_or_default();
    loop {
        // RFC 9293, 3.1: the options 0 and 1 are a byte, the others tell their length; that of the segment size is 4.
        let len = match options {
            [2, 4, mss @ ..] => {
                if let Some(place) = mss.first_chunk_mut() {
                    *place = change(u16::from_be_bytes(*place)).to_be_bytes();
                }
                return;
            }
            [] | [0, ..] => return,
            [1, ..] => 1,
            [_, len, ..] if *len >= 2 => usize::from(*len),
            [_, ..] => return,
        };
        options = options.get_mut(len..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{EthernetAddress, EthernetRepr, IpRepr, TcpControl, TcpRepr, TcpSeqNumber};

    use super::*;

    const MTU: u16 = 9000;
    const ENDS: [(&str, &str); 2] = [("10.0.0.1", "10.0.0.2"), ("fe80::1", "fe80::2")];

    /// A frame as a stack makes it that sums everything.
    fn frame(ends: (&str, &str), control: TcpControl, mss: Option<u16>, payload: &[u8]) -> Vec<u8> {
        let tcp = TcpRepr {
            src_port: 1,
            dst_port: 2,
            control,
            seq_number: TcpSeqNumber(7),
            ack_number: None,
            window_len: 100,
            window_scale: mss.map(|_| 7),
            max_seg_size: mss,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload,
        };
        let [from, to] = [ends.0, ends.1].map(|text| text.parse::<IpAddr>().unwrap().into());
        let ip = IpRepr::new(from, to, IpProtocol::Tcp, tcp.buffer_len(), 64);
        let mac = EthernetAddress([2; 6]);
        let ethertype = if ends.0.contains(':') { EthernetProtocol::Ipv6 } else { EthernetProtocol::Ipv4 };
        let ethernet = EthernetRepr { src_addr: mac, dst_addr: mac, ethertype };
        let start = HEADER + ip.header_len();
        let mut bytes = vec![0; start + tcp.buffer_len()];
        let sums = ChecksumCapabilities::default();
        ethernet.emit(&mut EthernetFrame::new_unchecked(&mut bytes[..]));
        ip.emit(&mut bytes[HEADER..], &sums);
        tcp.emit(&mut TcpPacket::new_unchecked(&mut bytes[start..]), &from, &to, &sums);
        bytes
    }

    /// The longest segment that a SYN announces.
    fn mss(frame: &[u8]) -> Option<u16> {
        let packet = Packet::parse(frame).unwrap();
        let segment = TcpPacket::new_checked(packet.payload).unwrap();
        let (from, to) = (packet.from.into(), packet.to.into());
        TcpRepr::parse(&segment, &from, &to, &ChecksumCapabilities::ignored()).unwrap().max_seg_size
    }

    #[test]
    fn a_station_that_takes_full_packets_is_told_to_take_many_and_no_other() {
        for (ends, own) in ENDS.into_iter().zip([1460, 1440]) {
            for (said, told) in [(own, MANY * own), (8940, MANY * own), (536, 536)] {
                let mut syn = frame(ends, TcpControl::Syn, Some(said), &[]);
                assert!(admit(&mut syn, false, MTU));
                assert_eq!(mss(&syn), Some(told));
            }
        }
        let data = frame(ENDS[0], TcpControl::None, None, &[2, 4, 5, 0xB4]);
        let mut same = data.clone();
        assert!(admit(&mut same, false, MTU));
        assert_eq!(same, data);
    }

    #[test]
    fn the_stack_never_promises_more_than_a_wire_carries() {
        for (mtu, own) in [(9000, 1460), (1500, 1460), (1400, 1360)] {
            let mut syn = frame(ENDS[0], TcpControl::Syn, Some(65_000), &[]);
            finish(&mut syn, mtu);
            assert_eq!(mss(&syn), Some(own));
        }
    }

    #[test]
    fn the_sum_that_is_left_blank_and_the_rest_of_the_frame_make_the_checksum() {
        for (ends, own) in ENDS.into_iter().zip([1460, 1440]) {
            for len in [0, 1, own, 5000] {
                let whole = frame(ends, TcpControl::Psh, None, &vec![0xA7; usize::from(len)]);
                let mut blank = whole.clone();
                let offload = finish(&mut blank, MTU);
                assert_eq!(offload.checksum, Checksum::Blank);
                assert_eq!(offload.gso.map(|gso| gso.size), (len > own).then_some(own), "{len}");
                let start = Packet::parse(&blank).unwrap().transport;
                let sum: u32 = blank[start..]
                    .chunks(2)
                    .map(|b| u32::from(b[0]) << 8 | b.get(1).map_or(0, |b| u32::from(*b)))
                    .sum();
                let folded = (sum & 0xFFFF) + (sum >> 16);
                let checksum = !u16::try_from((folded & 0xFFFF) + (folded >> 16)).unwrap();
                assert_eq!(whole[start + CHECKSUM..start + CHECKSUM + 2], checksum.to_be_bytes(), "{len}");
            }
        }
    }

    #[test]
    fn a_frame_that_was_changed_on_the_way_is_not_sound() {
        for ends in ENDS {
            let mut frame = frame(ends, TcpControl::None, None, b"payload");
            assert!(admit(&mut frame, true, MTU));
            *frame.last_mut().unwrap() ^= 1;
            assert!(!admit(&mut frame, true, MTU));
        }
        assert!(admit(&mut [0; 60], true, MTU), "not of a kind that has such a checksum");
    }
}
