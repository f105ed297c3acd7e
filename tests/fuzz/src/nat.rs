//! A router between two wires, guests on one and the world on the other.

use std::net::Ipv4Addr;
use std::rc::Rc;

use arbitrary::{Result, Unstructured};
use driver_api::fake::Machine;
use driver_api::net::Offload;
use nat::{CONNECTIONS, End, Facing, Gate, Inside, MEMORY, Nat, Outside, PortForward, Protocol, Router};

use crate::frames::{self, Names, checksum};
use crate::station::{Station, send};

const INNER: [u8; 6] = [2, 0, 0, 0, 0, 1];
const OUTER: [u8; 6] = [2, 0, 0, 0, 0, 2];
const MACS: [[u8; 6]; 6] = [INNER, OUTER, [2, 0, 0, 0, 0, 3], [2, 0, 0, 0, 0, 4], [0xFF; 6], [2, 0, 0, 0, 0, 5]];
const HOST: [u8; 4] = [10, 1, 0, 1];
const GUEST: [u8; 4] = [10, 1, 0, 2];
const OUTSIDE: [u8; 4] = [192, 0, 2, 15];
const GATEWAY: [u8; 4] = [192, 0, 2, 1];
const HOSTS: [[u8; 4]; 8] =
    [HOST, GUEST, [10, 1, 0, 3], OUTSIDE, GATEWAY, [198, 51, 100, 7], [255; 4], [10, 1, 0, 255]];

/// Sends frames from both sides: addresses inside do not show outside, what comes in is for a guest, headers stay right.
pub fn run(bytes: &[u8]) {
    let _ = story(&mut Unstructured::new(bytes));
}

fn story(u: &mut Unstructured<'_>) -> Result<()> {
    let machine = Machine::new();
    let memory = machine.own(1 << 14);
    let (inner, outer, host) =
        (Station::new(&machine, false), Station::new(&machine, false), Station::new(&machine, false));
    let mut nat = Nat::new(Inside { host: HOST.into(), mask: 0xFFFF_FF00 }, 0x1234_5678_9ABC_DEF1);
    let to: End = (GUEST.into(), 80);
    nat.forward(PortForward { protocol: Protocol::Tcp, port: 80, to }).expect("an empty table takes a forward");
    let router = Router::new(nat, [INNER, OUTER], machine.own(MEMORY), Rc::clone(&machine) as _, || 7);
    router.connect(&inner, &outer);
    let outside = Outside { address: OUTSIDE.into(), mask: 0xFFFF_FF00, gateway: Some(GATEWAY.into()), mtu: 1500 };
    router.set_outside(Some(outside));
    let gates = [Facing::Inside, Facing::Outside].map(|facing| {
        let gate = Gate::new(Rc::clone(&host));
        gate.add_router(facing, &router);
        gate
    });
    while !u.is_empty() {
        let gate = u.choose(&gates)?;
        let full = u.int_in_range(0..=15)?;
        inner.full.set(full == 1);
        outer.full.set(full == 2);
        let frame = frames::frame(u, Names { macs: &MACS, hosts: &HOSTS })?;
        let _ = send(&memory, gate, &frame, Offload::default());
        if u.ratio(1, 16)? {
            router.tick();
        }
        outer.take().iter().for_each(|frame| outbound(frame));
        inner.take().iter().for_each(|frame| inbound(frame));
        host.take();
        assert!(router.nat().connections() <= usize::from(CONNECTIONS));
    }
    Ok(())
}

/// A frame on the wire to the world: the sender is the host, whoever it was.
fn outbound(frame: &[u8]) {
    assert_eq!(frame[6..12], OUTER, "another station's address shows outside");
    if let Some(header) = ipv4(frame) {
        assert_eq!(header[12..16], OUTSIDE, "an address inside shows outside");
        assert!(!is_inside(&header[16..20]), "a packet for a guest went out");
    }
}

/// A frame on the wire to the guests.
fn inbound(frame: &[u8]) {
    assert_eq!(frame[6..12], INNER, "a station outside shows inside");
    if let Some(header) = ipv4(frame) {
        assert!(is_inside(&header[16..20]), "a packet for nobody inside came in");
    }
}

/// The IPv4 header of a frame that has one, whose checksum must be right.
fn ipv4(frame: &[u8]) -> Option<&[u8]> {
    let packet = frame.strip_prefix(frame.get(..12)?)?.strip_prefix(&[0x08, 0x00])?;
    let header = packet.get(..usize::from(packet.first()? & 0xF) * 4)?;
    assert!(header.len() >= 20, "a header that is too short was passed on");
    assert_eq!(checksum(header), 0, "a header whose checksum is wrong was passed on");
    Some(header)
}

fn is_inside(address: &[u8]) -> bool {
    let address: [u8; 4] = address.try_into().unwrap_or_default();
    Ipv4Addr::from(address).octets()[..3] == GUEST[..3]
}
