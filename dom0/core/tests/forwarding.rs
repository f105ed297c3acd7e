//! Two guests on a bridge, with the real back ends and the real switch between them: what a frame costs.
#![allow(clippy::cast_possible_truncation, reason = "patterns keep the low bits, and sizes are small")]

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use driver_api::fake::{GrantsOf, Machine, OwnMemory};
use driver_api::net::{HEAD, PageRef};
use driver_api::{EventPort, PAGE_SIZE};
use hypercall_abi::ids::{DomId, GrantRef, Port};
use hypercall_abi::netif::{
    ExtraInfo, ExtraType, GsoType, RX_SLOT_SIZE, RxRequest, TX_CSUM_BLANK, TX_EXTRA_INFO, TX_MORE_DATA, TX_SLOT_SIZE,
    TxRequest,
};
use hypercall_abi::ring;
use netback::{BackEnd, Control, Events, Features, HEAD_BYTES, Params, Parts, QueueParams};
use vswitch::{Bridge, PortConfig, SCRATCH_BYTES};
use zerocopy::{FromBytes, IntoBytes};

const SENDER: DomId = DomId(1);
const RECEIVER: DomId = DomId(2);

/// References of the rings, and of the first page of data.
const TX: u32 = 1;
const RX: u32 = 2;
const DATA: u32 = 100;

/// An event channel whose other end looks anyway.
#[derive(Clone)]
struct Ticking;

impl EventPort for Ticking {
    fn notify(&self) {}

    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<()> {
        cx.waker().wake_by_ref();
        Poll::Ready(())
    }
}

type Device = BackEnd<GrantsOf, Rc<Machine>, Ticking, OwnMemory>;

/// Connects a guest that takes everything, with pages posted to receive into.
fn connect(machine: &Rc<Machine>, domid: DomId) -> Device {
    for gref in [TX, RX].into_iter().chain(DATA..DATA + 64) {
        machine.grant(domid, gref, true);
    }
    for slot in 0..256 {
        let request = RxRequest { id: 0, pad: 0, gref: GrantRef(DATA + slot % 64) };
        machine.write(domid, RX, ring::slot_offset(slot, 256, RX_SLOT_SIZE), request.as_bytes());
    }
    machine.write(domid, RX, ring::REQ_PROD, &64u32.to_le_bytes());
    for ring in [TX, RX] {
        machine.write(domid, ring, ring::RSP_EVENT, &1u32.to_le_bytes());
    }
    let queue = QueueParams { tx: GrantRef(TX), rx: GrantRef(RX), events: Events::Shared(Port(1)) };
    let features = Features { scatter: true, gso_v4: true, gso_v6: true, checksum_v4: true, checksum_v6: true };
    let params = Params { queues: vec![queue], ctrl: None, features };
    let parts = Parts { queues: vec![(Events::Shared(Ticking), machine.own(HEAD_BYTES))], ctrl: None };
    BackEnd::connect(domid, GrantsOf(Rc::clone(machine), domid), Rc::clone(machine), &params, parts).unwrap()
}

/// Puts a frame of the sender's, spread over its pages, into the slots from `first` on; returns the slot behind it.
fn put(machine: &Machine, first: u32, len: usize, segment: Option<u16>) -> u32 {
    let mut slots: Vec<Vec<u8>> = Vec::new();
    let pages = len.div_ceil(PAGE_SIZE) as u32;
    for page in 0..pages {
        let here = (len - page as usize * PAGE_SIZE).min(PAGE_SIZE);
        let size = if page == 0 { len } else { here } as u16;
        let mut flags = if page + 1 < pages { TX_MORE_DATA } else { 0 };
        if page == 0 && segment.is_some() {
            flags |= TX_EXTRA_INFO | TX_CSUM_BLANK;
        }
        let request = TxRequest { gref: GrantRef(DATA + page), offset: 0, flags, id: 0, size };
        slots.push(request.as_bytes().to_vec());
        if let Some(gso_size) = segment.filter(|_| page == 0) {
            let (kind, gso_type) = (ExtraType::Gso.raw(), GsoType::TcpV4.raw());
            slots.push(ExtraInfo { kind, gso_size, gso_type, ..ExtraInfo::default() }.as_bytes().to_vec());
        }
    }
    let mut next = first;
    for slot in slots {
        machine.write(SENDER, TX, ring::slot_offset(next, 256, TX_SLOT_SIZE), &slot);
        next += 1;
    }
    machine.write(SENDER, TX, ring::REQ_PROD, &next.to_le_bytes());
    next
}

fn word(machine: &Machine, domid: DomId, gref: u32, at: usize) -> u32 {
    u32::read_from_bytes(&machine.read(domid, gref, at, 4)).unwrap()
}

fn turns(devices: &mut [Pin<&mut dyn Future<Output = ()>>]) {
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..8 {
        for device in devices.iter_mut() {
            assert!(device.as_mut().poll(&mut cx).is_pending(), "a back end has ended");
        }
    }
}

/// Lets `scene` put frames on the sender's ring and let the host work, with the controls of both back ends.
fn with_two_guests(scene: impl FnOnce(&Machine, &mut dyn FnMut(), [&Control; 2])) {
    let machine = Machine::new();
    let bridge = Bridge::new(Rc::clone(&machine), machine.own(SCRATCH_BYTES), 7, || 0);
    let [from, to] = [SENDER, RECEIVER].map(|domid| connect(&machine, domid));
    let controls = [from.control(), to.control()];
    let plugs = [&from, &to].map(|device| bridge.attach("vif".into(), device.cable(), PortConfig::default()));
    let [from_plug, to_plug] = plugs;
    let mut from = pin!(async move { _ = from.run(from_plug).await });
    let mut to = pin!(async move { _ = to.run(to_plug).await });
    let mut devices: [Pin<&mut dyn Future<Output = ()>>; 2] = [from.as_mut(), to.as_mut()];
    scene(&machine, &mut || turns(&mut devices), [&controls[0], &controls[1]]);
}

#[test]
fn the_bytes_of_a_frame_are_copied_once_and_its_head_once_more() {
    for (len, segment) in [(60, None), (1514, None), (60_000, Some(1448))] {
        with_two_guests(|machine, work, _| {
            let data: Vec<u8> = (0..len).map(|n| (n * 7 + n / 251) as u8).collect();
            for (page, bytes) in (0..).zip(data.chunks(PAGE_SIZE)) {
                machine.write(SENDER, DATA + page, 0, bytes);
            }
            machine.write(SENDER, DATA, 0, &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2, 0, 0, 0, 0, 1, 8, 0]);
            put(machine, 0, len, segment);
            work();
            assert!(word(machine, RECEIVER, RX, ring::RSP_PROD) > 0, "{len}: nothing arrived");
            let copies = machine.copies.borrow();
            let bytes = |wanted: fn(PageRef, PageRef) -> bool| -> usize {
                copies
                    .iter()
                    .filter(|copy| wanted(copy.from.page, copy.to))
                    .map(|copy| usize::from(copy.from.len))
                    .sum()
            };
            let granted = |page| matches!(page, PageRef::Granted(..));
            let head = len.min(HEAD);
            assert_eq!(bytes(|from, to| matches!((from, to), (PageRef::Granted(..), PageRef::Own(_)))), head);
            assert_eq!(bytes(|from, to| matches!((from, to), (PageRef::Own(_), PageRef::Granted(..)))), head);
            // From guest to guest, without a stop in the host.
            assert_eq!(
                bytes(|from, to| matches!((from, to), (PageRef::Granted(..), PageRef::Granted(..)))),
                len - head
            );
            assert!(copies.iter().all(|copy| granted(copy.from.page) || granted(copy.to)));
            assert_eq!(machine.copy_calls.get(), 2, "{len}: one call for heads, one for data");
            assert_eq!(machine.read(RECEIVER, DATA, 14, 46), data[14..60]);
        });
    }
}

#[test]
fn a_busy_stream_costs_at_most_one_notification_for_sixteen_packets() {
    with_two_guests(|machine, work, [from, to]| {
        let mut next = 0;
        for burst in 0..20 {
            for _ in 0..32 {
                machine.write(SENDER, DATA, 0, &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2, 0, 0, 0, 0, 1, 8, 0]);
                next = put(machine, next, 1514, None);
            }
            work();
            // Both guests are as eager as Linux: they want to hear of the next answer.
            for (domid, ring) in [(SENDER, TX), (RECEIVER, RX)] {
                let answered = word(machine, domid, ring, ring::RSP_PROD);
                assert_eq!(answered, (burst + 1) * 32);
                machine.write(domid, ring, ring::RSP_EVENT, &(answered + 1).to_le_bytes());
            }
            let posted = word(machine, RECEIVER, RX, ring::REQ_PROD) + 32;
            machine.write(RECEIVER, RX, ring::REQ_PROD, &posted.to_le_bytes());
        }
        for (stats, packets) in [(from.stats(), from.stats().tx_packets), (to.stats(), to.stats().rx_packets)] {
            assert_eq!(packets, 640);
            assert!(stats.notifications * 16 <= packets, "{} notifications", stats.notifications);
        }
    });
}
