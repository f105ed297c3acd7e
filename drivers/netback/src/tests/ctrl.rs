//! The control ring: what a front end asks for, right and wrong, and what becomes of its frames.

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use driver_api::fake::{GrantsOf, Machine, OwnMemory};
use driver_api::net::{Frame, Offload, PageRef, Piece, Port};
use driver_api::{DmaMemory, EventPort};
use hypercall_abi::ids::GrantRef;
use hypercall_abi::netif::{
    CtrlRequest, CtrlResponse, CtrlStatus, CtrlType, ExtraType, GREF_READ_ONLY, GrefMapping, HASH_IPV4_TCP, HashInfo,
    HashType, RX_EXTRA_INFO, RX_SLOT_SIZE, RxRequest, RxResponse, TX_SLOT_SIZE, TxRequest,
};
use hypercall_abi::ring;
use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

use super::{GUEST, Sink};
use crate::hash::tests::{RSS, RSS_KEY, head};
use crate::negotiate::{CtrlParams, Events, Features, Params, QueueParams};
use crate::{BackEnd, End, HEAD_BYTES, Parts};

/// References: of the control ring, of a page for what requests name, and the first of each pair of rings.
const CTRL: u32 = 3;
const PAGE: u32 = 4;
const RINGS: u32 = 10;
/// Bytes of a control slot: those of a request.
const SLOT: usize = size_of::<CtrlRequest>();

/// A port at which there is always something to look at.
#[derive(Clone)]
struct Ticking;

impl EventPort for Ticking {
    fn notify(&self) {}

    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<()> {
        cx.waker().wake_by_ref();
        Poll::Ready(())
    }
}

/// A front end with two pairs of rings and a control ring.
struct Front {
    machine: Rc<Machine>,
    sent: u32,
}

type Device = BackEnd<GrantsOf, Rc<Machine>, Ticking, OwnMemory>;

impl Front {
    fn connect() -> (Front, Device) {
        let machine = Machine::new();
        for gref in [CTRL, PAGE].into_iter().chain(RINGS..RINGS + 4) {
            machine.grant(GUEST, gref, true);
        }
        let pair = |n: u32| QueueParams {
            tx: GrantRef(RINGS + 2 * n),
            rx: GrantRef(RINGS + 2 * n + 1),
            events: Events::Shared(hypercall_abi::ids::Port(1)),
        };
        let event = hypercall_abi::ids::Port(2);
        let ctrl = Some(CtrlParams { ring: GrantRef(CTRL), event });
        let params = Params { queues: vec![pair(0), pair(1)], ctrl, features: Features::default() };
        let part = || (Events::Shared(Ticking), machine.own(HEAD_BYTES));
        let parts = Parts { queues: vec![part(), part()], ctrl: Some(Ticking) };
        let grants = GrantsOf(Rc::clone(&machine), GUEST);
        let device = BackEnd::connect(GUEST, grants, Rc::clone(&machine), &params, parts).unwrap();
        for rx in [RINGS + 1, RINGS + 3] {
            for slot in 0..8u32 {
                machine.grant(GUEST, 100 + slot, true);
                let request = RxRequest { id: 0, pad: 0, gref: GrantRef(100 + slot) };
                machine.write(GUEST, rx, ring::slot_offset(slot, 256, RX_SLOT_SIZE), request.as_bytes());
            }
            machine.write(GUEST, rx, ring::REQ_PROD, &8u32.to_le_bytes());
        }
        (Front { machine, sent: 0 }, device)
    }

    fn ask(&mut self, kind: u16, data: [u32; 3]) {
        let request = CtrlRequest { id: self.sent as u16, kind, data };
        let slots = ring::slots(1, SLOT);
        self.machine.write(GUEST, CTRL, ring::slot_offset(self.sent, slots, SLOT), request.as_bytes());
        self.sent += 1;
        self.machine.write(GUEST, CTRL, ring::REQ_PROD, &self.sent.to_le_bytes());
    }

    fn fill(&self, bytes: &[u8]) {
        self.machine.write(GUEST, PAGE, 0, bytes);
    }

    /// Somebody sends it a frame of these bytes.
    fn put(&self, cable: &impl Port, bytes: &[u8]) {
        let memory = self.machine.own(4096);
        memory.copy_in(0, bytes);
        let piece = Piece { page: PageRef::Own(memory.bus_addr()), offset: 0, len: bytes.len() as u16 };
        let (pieces, len) = (&[piece], bytes.len() as u32);
        cable.put(&Frame { head: bytes, pieces, len, offload: Offload::default(), source: 0 }).unwrap();
        cable.commit();
    }

    fn word(&self, gref: u32, at: usize) -> u32 {
        u32::read_from_bytes(&self.machine.read(GUEST, gref, at, 4)).unwrap()
    }

    /// Status and data of each answer so far.
    fn answers(&self) -> Vec<(u32, u32)> {
        let answer = |slot| {
            let at = ring::slot_offset(slot, ring::slots(1, SLOT), SLOT);
            let response = CtrlResponse::read_from_bytes(&self.machine.read(GUEST, CTRL, at, 12)).unwrap();
            assert_eq!(u32::from(response.id), slot);
            (response.status, response.data)
        };
        (0..self.word(CTRL, ring::RSP_PROD)).map(answer).collect()
    }
}

/// Lets the device work for some turns; how it ended, if it did.
fn turns(device: &mut Pin<&mut impl Future<Output = End>>) -> Option<End> {
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..64 {
        if let Poll::Ready(end) = device.as_mut().poll(&mut cx) {
            return Some(end);
        }
    }
    None
}

const OK: u32 = CtrlStatus::Success.raw();
const INVALID: u32 = CtrlStatus::InvalidParameter.raw();
const UNKNOWN: u32 = CtrlStatus::NotSupported.raw();
const OVERFLOW: u32 = CtrlStatus::BufferOverflow.raw();

#[test]
fn a_front_end_names_the_queue_of_each_hash_and_is_told_the_hash() {
    let (mut front, device) = Front::connect();
    let cable = device.cable();
    let mut device = pin!(device.run(Sink::new(&front.machine)));
    front.fill(&RSS_KEY);
    front.ask(CtrlType::SetHashAlgorithm.raw(), [1, 0, 0]);
    front.ask(CtrlType::GetHashFlags.raw(), [0; 3]);
    front.ask(CtrlType::SetHashFlags.raw(), [HASH_IPV4_TCP, 0, 0]);
    front.ask(CtrlType::SetHashKey.raw(), [PAGE, 40, 0]);
    front.ask(CtrlType::GetHashMappingSize.raw(), [0; 3]);
    front.ask(CtrlType::SetHashMappingSize.raw(), [4, 0, 0]);
    assert_eq!(turns(&mut device), None);
    assert_eq!(front.answers(), [(OK, 0), (OK, 15), (OK, 0), (OK, 0), (OK, 128), (OK, 0)]);
    // What has the first place in the table goes to queue 1, all else to queue 0.
    front.fill(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    front.ask(CtrlType::SetHashMapping.raw(), [PAGE, 4, 0]);
    assert_eq!(turns(&mut device), None);
    let mut given = [0, 0];
    for (from, to, _, hash) in RSS.iter().filter(|(from, ..)| !from.starts_with('[')) {
        let queue = usize::from(hash % 4 == 0);
        front.put(&*cable, &head(from, to, 6));
        let rx = RINGS + 1 + 2 * queue as u32;
        let at = |slot| front.machine.read(GUEST, rx, ring::slot_offset(slot, 256, RX_SLOT_SIZE), 8);
        let response = RxResponse::read_from_bytes(&at(given[queue])).unwrap();
        assert_eq!((response.flags, response.status), (RX_EXTRA_INFO, 54), "{from}");
        let extra = HashInfo::read_from_bytes(&at(given[queue] + 1)).unwrap();
        let (kind, hash_type) = (ExtraType::Hash.raw(), HashType::Ipv4Tcp.raw());
        assert_eq!(extra, HashInfo { kind, flags: 0, hash_type, algorithm: 1, value: *hash });
        given[queue] += 2;
        assert_eq!(front.word(rx, ring::RSP_PROD), given[queue]);
    }
    assert!(given[0] > 0 && given[1] > 0, "one queue got everything");
    // Without an algorithm the back end chooses again, and tells nothing.
    front.ask(CtrlType::SetHashAlgorithm.raw(), [0; 3]);
    assert_eq!(turns(&mut device), None);
    let before = front.word(RINGS + 1, ring::RSP_PROD) + front.word(RINGS + 3, ring::RSP_PROD);
    front.put(&*cable, &head(RSS[0].0, RSS[0].1, 6));
    assert_eq!(front.word(RINGS + 1, ring::RSP_PROD) + front.word(RINGS + 3, ring::RSP_PROD), before + 1);
    assert_eq!(front.machine.mapped(), 5, "a page of a request stays mapped");
}

#[test]
fn requests_that_make_no_sense_get_the_headers_codes_and_change_nothing() {
    let (mut front, device) = Front::connect();
    let mut device = pin!(device.run(Sink::new(&front.machine)));
    front.fill(&[9; 4096]);
    let wrong = [
        (CtrlType::GetHashFlags.raw(), [0; 3], UNKNOWN),
        (CtrlType::SetHashFlags.raw(), [1, 0, 0], INVALID),
        (CtrlType::SetHashAlgorithm.raw(), [2, 0, 0], INVALID),
        (CtrlType::SetHashKey.raw(), [PAGE, 41, 0], OVERFLOW),
        (CtrlType::SetHashKey.raw(), [PAGE, u32::MAX, 0], OVERFLOW),
        (CtrlType::SetHashKey.raw(), [999, 40, 0], INVALID),
        (CtrlType::SetHashMappingSize.raw(), [129, 0, 0], INVALID),
        (CtrlType::SetHashMapping.raw(), [PAGE, 1, 0], INVALID),
        (CtrlType::SetHashMapping.raw(), [PAGE, 129, 0], OVERFLOW),
        (CtrlType::SetHashMapping.raw(), [PAGE, u32::MAX, u32::MAX], OVERFLOW),
        (CtrlType::GetGrefMappingSize.raw(), [2, 0, 0], INVALID),
        (CtrlType::AddGrefMapping.raw(), [2, PAGE, 1], INVALID),
        (CtrlType::AddGrefMapping.raw(), [0, PAGE, 1], INVALID),
        (CtrlType::AddGrefMapping.raw(), [0, PAGE, 257], INVALID),
        (CtrlType::AddGrefMapping.raw(), [0, 999, 1], INVALID),
        (CtrlType::DelGrefMapping.raw(), [0, PAGE, u32::MAX], INVALID),
        (0, [0; 3], UNKNOWN),
        (u16::MAX, [u32::MAX; 3], UNKNOWN),
    ];
    for (kind, data, _) in wrong {
        front.ask(kind, data);
    }
    assert_eq!(turns(&mut device), None);
    assert_eq!(front.answers(), wrong.map(|(_, _, status)| (status, 0)));
    assert_eq!(front.machine.mapped(), 5);
}

/// A list of references to be read only.
fn list(references: &[u32]) -> Vec<u8> {
    let entry = |gref: &u32| GrefMapping { gref: GrantRef(*gref), flags: GREF_READ_ONLY, status: 0xFFFF };
    references.iter().flat_map(|gref| entry(gref).as_bytes().to_vec()).collect()
}

#[test]
fn pages_that_are_kept_mapped_need_no_call_for_the_heads_of_frames() {
    let (mut front, device) = Front::connect();
    let sink = Sink::new(&front.machine);
    let mut device = pin!(device.run(&sink));
    let calls = |front: &Front| front.machine.copy_calls.get();
    let send = |front: &Front, slot: u32| {
        let request = TxRequest { gref: GrantRef(100), offset: 8, flags: 0, id: 0, size: 60 };
        front.machine.write(GUEST, RINGS, ring::slot_offset(slot, 256, TX_SLOT_SIZE), request.as_bytes());
        front.machine.write(GUEST, RINGS, ring::REQ_PROD, &(slot + 1).to_le_bytes());
    };
    front.machine.write(GUEST, 100, 8, &[7; 60]);
    send(&front, 0);
    assert_eq!(turns(&mut device), None);
    assert_eq!(calls(&front), 1);
    front.fill(&list(&[100, 101]));
    front.ask(CtrlType::GetGrefMappingSize.raw(), [0; 3]);
    front.ask(CtrlType::AddGrefMapping.raw(), [0, PAGE, 2]);
    assert_eq!(turns(&mut device), None);
    assert_eq!((front.answers(), front.machine.mapped()), (vec![(OK, 256), (OK, 0)], 7));
    send(&front, 1);
    assert_eq!(turns(&mut device), None);
    assert_eq!((calls(&front), sink.received.borrow().len()), (1, 2));
    assert!(sink.received.borrow().iter().all(|frame| frame.bytes == [7; 60] && frame.head == [7; 60]));
    // Not twice, and one that is not granted spoils the list.
    front.ask(CtrlType::AddGrefMapping.raw(), [0, PAGE, 1]);
    assert_eq!(turns(&mut device), None);
    front.fill(&list(&[102, 999]));
    front.ask(CtrlType::AddGrefMapping.raw(), [0, PAGE, 2]);
    assert_eq!(turns(&mut device), None);
    assert_eq!((&front.answers()[2..], front.machine.mapped()), (&[(INVALID, 0), (INVALID, 0)][..], 7));
    front.fill(&list(&[100, 55]));
    front.ask(CtrlType::DelGrefMapping.raw(), [0, PAGE, 2]);
    assert_eq!(turns(&mut device), None);
    assert_eq!((front.answers()[4], front.machine.mapped()), ((OK, 1), 6));
    let status = |entry: usize| front.machine.read(GUEST, PAGE, entry * 8 + 6, 2);
    assert_eq!((status(0), status(1)), (vec![0, 0], vec![INVALID as u8, 0]));
    send(&front, 2);
    assert_eq!(turns(&mut device), None);
    assert_eq!(calls(&front), 2);
    // What is still mapped goes with the device.
    front.machine.write(GUEST, CTRL, ring::REQ_PROD, &1000u32.to_le_bytes());
    assert_eq!(turns(&mut device), Some(End::Broken));
    assert_eq!(front.machine.mapped(), 0);
}

#[test]
fn a_producer_beyond_the_control_ring_ends_the_device_with_nothing_mapped() {
    let (front, device) = Front::connect();
    let mut device = pin!(device.run(Sink::new(&front.machine)));
    front.machine.write(GUEST, CTRL, ring::REQ_PROD, &1000u32.to_le_bytes());
    assert_eq!(turns(&mut device), Some(End::Broken));
    assert_eq!(front.machine.mapped(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_control_requests_are_answered_one_for_one(
        requests in proptest::collection::vec((0..14u16, prop_oneof![0..200u32, any::<u32>()], prop_oneof![0..200u32, any::<u32>()], any::<u32>()), 1..60)
    ) {
        let (mut front, device) = Front::connect();
        let mut device = pin!(device.run(Sink::new(&front.machine)));
        for (kind, first, second, third) in &requests {
            front.ask(*kind, [*first, *second, *third]);
        }
        prop_assert_eq!(turns(&mut device), None);
        prop_assert_eq!(front.answers().len(), requests.len());
        prop_assert_eq!(front.machine.mapped(), 5);
    }
}
