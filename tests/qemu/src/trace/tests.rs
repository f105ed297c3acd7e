//! A trace by hand, and what is made of it.

use hypercall_abi::ids::{DomId, VcpuId};
use zerocopy::IntoBytes;

use super::*;

const RUNNING: u8 = 0;
const RUNNABLE: u8 = 1;
const BLOCKED: u8 = 2;

fn state(time: u64, domid: u16, from: u8, to: u8) -> Record {
    let kind = Kind::State.raw();
    Record { time, kind, detail: from << 4 | to, domid: DomId(domid), vcpu: VcpuId(0), value: 0, span: 0 }
}

fn call(time: u64, domid: u16, span: u64) -> Record {
    let value = 32 | 4 << 32;
    Record { time, kind: Kind::Hypercall.raw(), domid: DomId(domid), value, span, ..Record::default() }
}

/// A file with the records of pCPU 0, of which the first `lost` are missing.
fn file(lost: u64, records: &[Record]) -> Vec<u8> {
    let header = FileHeader { magic: MAGIC, version: VERSION, pcpus: 1, counter_hz: 1_000_000, pad: 0 };
    let name = ChunkHeader { kind: ChunkKind::Name.raw(), id: 1, bytes: 2, position: 0 };
    let bytes = u32::try_from(size_of_val(records)).unwrap_or(0);
    let chunk = ChunkHeader { kind: ChunkKind::Records.raw(), id: 0, bytes, position: lost };
    [header.as_bytes(), name.as_bytes(), b"go", chunk.as_bytes(), records.as_bytes()].concat()
}

/// Dom0 runs, sends an event that wakes the guest, sleeps; the guest runs from 20 on, and the pCPU sleeps from 60 to 80.
fn example() -> Vec<Record> {
    vec![
        state(14, 1, BLOCKED, RUNNABLE),
        call(10, 0, 5),
        state(20, 0, RUNNING, BLOCKED),
        state(20, 1, RUNNABLE, RUNNING),
        state(60, 1, RUNNING, BLOCKED),
        state(80, 0, BLOCKED, RUNNABLE),
        state(80, 0, RUNNABLE, RUNNING),
        call(58, 1, 24),
        state(90, 0, RUNNING, RUNNABLE),
    ]
}

#[test]
fn the_times_of_each_vcpu_add_up_to_the_length_of_the_trace() -> Result<()> {
    let trace = Trace::read(&file(0, &example()))?;
    let summary = summarise(&trace);
    assert_eq!(summary.length, 80);
    assert_eq!(summary.vcpus[&(0, 0)].spent, [20, 0, 60, 0]);
    assert_eq!(summary.vcpus[&(1, 0)].spent, [40, 6, 34, 0]);
    assert_eq!(summary.vcpus[&(1, 0)].waits, [6]);
    assert_eq!(trace.check_switches()?, 2);
    let text = summary.to_string();
    assert!(text.contains("gov0") && text.contains("EventChannelOp 4"), "{text}");
    Ok(())
}

#[test]
fn the_sleep_of_a_pcpu_does_not_count_as_the_length_of_an_exit() -> Result<()> {
    let summary = summarise(&Trace::read(&file(0, &example()))?);
    assert_eq!(summary.exits[&((1, 0), "EventChannelOp 4".to_owned())].total, 4);
    assert_eq!(summary.exits[&((0, 0), "EventChannelOp 4".to_owned())].total, 5);
    Ok(())
}

#[test]
fn a_switch_that_does_not_follow_from_the_one_before_and_a_gap_are_found() -> Result<()> {
    let mut records = example();
    records.remove(2);
    assert!(Trace::read(&file(0, &records))?.check_switches().is_ok(), "who ran at first is not known");
    records.remove(3);
    assert!(Trace::read(&file(0, &records))?.check_switches().is_err());
    let trace = Trace::read(&file(3, &example()))?;
    assert_eq!(trace.lost[&0], 3);
    assert!(trace.check_switches().is_err());
    Ok(())
}

#[test]
fn bytes_that_are_no_trace_are_an_error() {
    let good = file(0, &example());
    // Behind the header, and behind the first chunk, the file might end.
    for length in (0..good.len()).filter(|length| ![24, 42].contains(length)) {
        assert!(Trace::read(&good[..length]).is_err(), "{length} bytes");
    }
    let mut version = good.clone();
    version[8] = 9;
    assert!(Trace::read(&version).is_err());
}

#[test]
fn perfetto_gets_a_slice_for_each_stretch_on_a_pcpu() -> Result<()> {
    let json = chrome(&Trace::read(&file(0, &example()))?);
    let events = json["traceEvents"].as_array().context("no events")?;
    let slices = |pid: u64| events.iter().filter(move |event| event["ph"] == "X" && event["pid"] == pid).count();
    assert_eq!((slices(1 << 20), slices(0), slices(1)), (2, 1, 1));
    Ok(())
}

#[test]
fn whatever_bytes_a_trace_has_it_is_an_error_or_shown() {
    let good = file(0, &example());
    let mut shown = 0;
    for at in 0..good.len() {
        for byte in [0, 1, 2, 0x7F, 0xFF] {
            for bytes in [1, 4, 8] {
                let mut bad = good.clone();
                bad.iter_mut().skip(at).take(bytes).for_each(|place| *place = byte);
                if let Ok(trace) = Trace::read(&bad) {
                    let _ = (summarise(&trace).to_string(), chrome(&trace), trace.check_switches());
                    shown += 1;
                }
            }
        }
    }
    assert!(shown > good.len(), "most of them are shown: {shown}");
}

#[test]
fn numbers_that_no_machine_writes_do_not_overflow() -> Result<()> {
    let chunk = |id: u16, position: u64| {
        let header = ChunkHeader { kind: ChunkKind::Records.raw(), id, bytes: 64, position };
        let records = [call(0, 0, u64::MAX), call(u64::MAX, 0, u64::MAX)];
        [header.as_bytes(), records.as_bytes()].concat()
    };
    let bytes = [file(0, &[]), chunk(0, u64::MAX), chunk(1, u64::MAX - 1)].concat();
    let text = summarise(&Trace::read(&bytes)?).to_string();
    assert!(text.contains(&format!("{} records lost", u64::MAX)), "{text}");
    let mut pcpus = file(0, &example());
    pcpus[12..16].fill(0xFF);
    assert!(Trace::read(&pcpus).is_err());
    Ok(())
}
