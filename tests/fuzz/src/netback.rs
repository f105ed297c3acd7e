//! The rings of a network front end, written by somebody who keeps to nothing.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use arbitrary::{Result, Unstructured};
use driver_api::EventPort;
use driver_api::fake::{GrantsOf, Machine};
use hypercall_abi::ids::{DomId, GrantRef};
use hypercall_abi::netif::{CtrlRequest, RX_SLOT_SIZE, RxRequest, TX_SLOT_SIZE, TxRequest};
use hypercall_abi::ring;
use netback::{BackEnd, End, Events, HEAD_BYTES, Params, Parts};
use zerocopy::IntoBytes;

use crate::frames::{self, Names};
use crate::station::{Station, send};

const GUEST: DomId = DomId(7);
const TX_RING: u32 = 1;
const RX_RING: u32 = 2;
const CTRL_RING: u32 = 3;
/// The first of the pages to send from, and of those to receive into.
const TX_PAGE: u32 = 100;
const RX_PAGE: u32 = 200;
const PAGES: u32 = 8;
const MACS: [[u8; 6]; 3] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [0xFF; 6]];
const HOSTS: [[u8; 4]; 2] = [[10, 0, 0, 1], [10, 0, 0, 2]];

/// What the guest has published; the story says which features it has.
const KEYS: [(&str, &str); 7] = [
    ("request-rx-copy", "1"),
    ("tx-ring-ref", "1"),
    ("rx-ring-ref", "2"),
    ("event-channel", "3"),
    ("multi-queue-num-queues", "1"),
    ("ctrl-ring-ref", "3"),
    ("event-channel-ctrl", "4"),
];

/// Writes slots, indices and pages, and looks at what comes: nobody gets more answers than questions, nothing is read that was not
/// granted, nothing stays mapped.
pub fn run(bytes: &[u8]) {
    let _ = story(&mut Unstructured::new(bytes));
}

/// An event channel whose events are always there.
#[derive(Clone, Default)]
struct Bell(Rc<Cell<bool>>);

impl EventPort for Bell {
    fn notify(&self) {}

    fn poll_event(&self, _: &mut Context<'_>) -> Poll<()> {
        if self.0.replace(false) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// The guest's half of one ring.
struct Ring {
    machine: Rc<Machine>,
    page: u32,
    slot: usize,
    prod: u32,
}

impl Ring {
    fn put(&mut self, bytes: &[u8]) {
        let at = ring::slot_offset(self.prod, ring::slots(1, self.slot), self.slot);
        self.machine.write(GUEST, self.page, at, bytes);
        self.produce(self.prod.wrapping_add(1));
    }

    fn produce(&mut self, prod: u32) {
        self.prod = prod;
        self.machine.write(GUEST, self.page, ring::REQ_PROD, &prod.to_le_bytes());
    }

    /// Whether there are more answers than requests.
    fn is_overrun(&self) -> bool {
        let bytes = self.machine.read(GUEST, self.page, ring::RSP_PROD, 4);
        let answers = u32::from_le_bytes(bytes.try_into().unwrap_or_default());
        // Indices wrap; requests that are not answered yet may be more than the ring holds, if the guest overruns it.
        self.prod.wrapping_sub(answers) > u32::MAX / 2
    }
}

fn story(u: &mut Unstructured<'_>) -> Result<()> {
    let machine = Machine::new();
    for gref in [TX_RING, RX_RING, CTRL_RING] {
        machine.grant(GUEST, gref, true);
    }
    for page in 0..PAGES {
        machine.grant(GUEST, TX_PAGE + page, false);
        machine.grant(GUEST, RX_PAGE + page, true);
    }
    let features: u8 = u.arbitrary()?;
    let Ok(params) = Params::parse(|key| published(key, features)) else { return Ok(()) };
    let (bell, ctrl_bell) = (Bell::default(), Bell::default());
    let heads = machine.own(HEAD_BYTES);
    let grants = GrantsOf(Rc::clone(&machine), GUEST);
    let parts = Parts { queues: vec![(Events::Shared(bell.clone()), heads)], ctrl: Some(ctrl_bell.clone()) };
    let back_end = BackEnd::connect(GUEST, grants, Rc::clone(&machine), &params, parts).expect("the rings are granted");
    let (control, cable) = (back_end.control(), back_end.cable());
    let wire = Station::new(&machine, false);
    let memory = machine.own(1 << 14);
    let mut tx = Ring { machine: Rc::clone(&machine), page: TX_RING, slot: TX_SLOT_SIZE, prod: 0 };
    let mut rx = Ring { machine: Rc::clone(&machine), page: RX_RING, slot: RX_SLOT_SIZE, prod: 0 };
    let mut ctrl = Ring { machine: Rc::clone(&machine), page: CTRL_RING, slot: size_of::<CtrlRequest>(), prod: 0 };
    let mut running = pin!(back_end.run(Rc::clone(&wire)));
    let mut cx = Context::from_waker(Waker::noop());
    let mut end = None;
    // Whether the producer index is one that could be true.
    let mut honest = true;
    while !u.is_empty() && end.is_none() {
        match u.int_in_range(0..=12)? {
            0..=3 => tx.put(request(u)?.as_bytes()),
            4 => tx.put(&u.arbitrary::<[u8; TX_SLOT_SIZE]>()?),
            5 if u.ratio(1, 8)? => {
                tx.produce(u.arbitrary()?);
                honest = false;
            }
            6 => {
                let page = TX_PAGE + u.int_in_range(0..=PAGES - 1)?;
                if u.ratio(1, 8)? {
                    machine.revoke(GUEST, page);
                } else {
                    let frame = frames::frame(u, Names { macs: &MACS, hosts: &HOSTS })?;
                    machine.grant(GUEST, page, u.arbitrary()?);
                    machine.write(GUEST, page, 0, &frame[..frame.len().min(4096)]);
                }
            }
            7 | 8 => {
                let gref = GrantRef(RX_PAGE + u.int_in_range(0..=PAGES)?);
                rx.put(RxRequest { id: u.arbitrary()?, pad: 0, gref }.as_bytes());
            }
            9 | 10 => {
                let frame = frames::frame(u, Names { macs: &MACS, hosts: &HOSTS })?;
                let _ = send(&memory, &cable, &frame, frames::offload(u)?);
            }
            11 => ctrl.put(ctrl_request(u)?.as_bytes()),
            _ => wire.full.set(u.ratio(1, 4)?),
        }
        bell.0.set(true);
        ctrl_bell.0.set(true);
        for _ in 0..4 {
            if let Poll::Ready(how) = running.as_mut().poll(&mut cx) {
                end = Some(how);
                break;
            }
        }
        wire.take();
        assert!(!honest || !tx.is_overrun(), "more answers than requests to send");
        assert!(!rx.is_overrun(), "more answers than pages to receive into");
        assert!(!ctrl.is_overrun(), "more answers than control requests");
    }
    if end.is_none() {
        control.stop();
        let Poll::Ready(how) = running.as_mut().poll(&mut cx) else { panic!("a device that is stopped goes on") };
        assert_eq!(how, End::Stopped);
    }
    assert_eq!(machine.mapped(), 0, "a page stayed mapped");
    Ok(())
}

/// A control request about hashes that could be one. None about pages that stay mapped: grants here end whatever is mapped.
fn ctrl_request(u: &mut Unstructured<'_>) -> Result<CtrlRequest> {
    let odd = u.arbitrary()?;
    let mut word = || u.choose(&[0, 1, 3, 15, 40, 41, 128, 129, TX_PAGE, RX_PAGE, 999, odd]).copied();
    let data = [word()?, word()?, word()?];
    Ok(CtrlRequest { id: 0, kind: u.int_in_range(0..=8)?, data })
}

/// A value that the guest has published.
fn published(key: &str, features: u8) -> Option<String> {
    let flags = [
        "feature-sg",
        "feature-gso-tcpv4",
        "feature-gso-tcpv6",
        "feature-no-csum-offload",
        "feature-ipv6-csum-offload",
    ];
    if let Some(bit) = flags.iter().position(|flag| *flag == key) {
        return Some((features >> bit & 1).to_string());
    }
    KEYS.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_string())
}

/// A request that could be one: near a page's end, a bit too long, with any of the flags.
fn request(u: &mut Unstructured<'_>) -> Result<TxRequest> {
    Ok(TxRequest {
        gref: GrantRef(TX_PAGE + u.int_in_range(0..=PAGES)?),
        offset: *u.choose(&[0, 0, 2, 4000, 4095, 4096, 0xFFFF])?,
        flags: u.int_in_range(0..=15)?,
        id: u.arbitrary()?,
        size: *u.choose(&[0, 13, 14, 60, 96, 200, 1514, 4096, 9000, 0xFFFF])?,
    })
}
