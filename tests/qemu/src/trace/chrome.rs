//! The JSON that Perfetto and Chrome's `about:tracing` show: a track for each pCPU with the vCPUs that run there, and one for
//! each vCPU with its exits.

use std::collections::{BTreeMap, BTreeSet};

use hypercall_abi::vcpu::Runstate;
use serde_json::{Value, json};

use super::summary::{hypercall, reason};
use super::{Event, Trace, Who};

/// The process under which the tracks of pCPUs stand; domains have theirs, by id.
const PCPUS: u64 = 1 << 20;

/// The whole trace, in the Trace Event Format: times in microseconds from the first record.
pub fn chrome(trace: &Trace) -> Value {
    let mut events = Vec::new();
    let mut since = BTreeMap::<u16, (Who, u64)>::new();
    let mut vcpus = BTreeSet::<Who>::new();
    let name = |who: Who| format!("{} v{}", trace.name(who.0), who.1);
    let slice = |name: String, pid: u64, tid: u64, from: u64, ticks: u64, args: Value| json!({"ph": "X", "name": name, "pid": pid, "tid": tid, "ts": trace.micros(from), "dur": trace.duration_us(ticks), "args": args});
    let instant = |name: String, pid: u64, tid: u64, at: u64, args: Value| json!({"ph": "i", "s": "t", "name": name, "pid": pid, "tid": tid, "ts": trace.micros(at), "args": args});
    for entry in &trace.entries {
        let (who, pcpu) = (entry.who, u64::from(entry.pcpu));
        let track = (u64::from(who.0), u64::from(who.1));
        match entry.event {
            Event::State { from, to, pcpu: target } => {
                vcpus.insert(who);
                if from == Runstate::Running
                    && let Some((who, start)) = since.remove(&entry.pcpu)
                {
                    let args = json!({"then": format!("{to:?}")});
                    events.push(slice(name(who), PCPUS, pcpu, start, entry.time - start, args));
                }
                match (from, to) {
                    (_, Runstate::Running) => {
                        since.insert(entry.pcpu, (who, entry.time));
                    }
                    (Runstate::Blocked | Runstate::Offline, Runstate::Runnable) => {
                        let args = json!({"by": pcpu, "to": target});
                        events.push(instant("wake".into(), track.0, track.1, entry.time, args));
                    }
                    _ => {}
                }
            }
            Event::Exit { kind, esr, span } => {
                vcpus.insert(who);
                let args = json!({"esr": format!("{esr:#x}"), "pcpu": pcpu});
                events.push(slice(reason(kind, esr), track.0, track.1, entry.time, span, args));
            }
            Event::Hypercall { number, command, span } => {
                vcpus.insert(who);
                let args = json!({"pcpu": pcpu});
                events.push(slice(hypercall(number, command), track.0, track.1, entry.time, span, args));
            }
            Event::Injection(irq) => {
                vcpus.insert(who);
                let args = json!({"pcpu": pcpu});
                events.push(instant(format!("interrupt {}", irq & 0x3FF), track.0, track.1, entry.time, args));
            }
        }
    }
    let named = |what: &str, pid: u64, tid: u64, name: String| json!({"ph": "M", "name": what, "pid": pid, "tid": tid, "args": {"name": name}});
    events.push(named("process_name", PCPUS, 0, "pCPUs".into()));
    events.extend((0..u64::from(trace.pcpus)).map(|pcpu| named("thread_name", PCPUS, pcpu, format!("pCPU {pcpu}"))));
    for (domid, vcpu) in vcpus {
        events.push(named("process_name", u64::from(domid), 0, trace.name(domid)));
        events.push(named("thread_name", u64::from(domid), u64::from(vcpu), format!("vCPU {vcpu}")));
    }
    json!({"traceEvents": events, "displayTimeUnit": "ns"})
}
