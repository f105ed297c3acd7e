//! VMIDs while a generation ends: no two domains that run share one, and who changes tables knows who may have them.

use std::sync::{Arc, Mutex};

use super::{AtomicU64, Ordering, Task, explore, point};
use crate::fake::Fake;
use crate::hw::PcpuId;
use crate::vmid::{DomainVmid, VmidAllocator};

const ORDERS: usize = 600;

#[test]
fn no_two_pcpus_run_two_domains_with_one_vmid_while_a_generation_ends() {
    explore(ORDERS, || {
        crate::fake::reset();
        let vmids = Arc::new(VmidAllocator::new());
        // One VMID of this generation is left. The first of the next one, which is 1, has somebody who may be running.
        let [first, second, third]: [Arc<DomainVmid>; 3] = Default::default();
        assert_eq!(vmids.enter::<Fake>(&first, PcpuId(3)), 1);
        (2..255).for_each(|vmid| assert_eq!(vmids.enter::<Fake>(&DomainVmid::default(), PcpuId(3)), vmid));
        let runs: Arc<Mutex<[(usize, u64); 2]>> = Arc::default();
        let play = |pcpu: u8, domains: Vec<Arc<DomainVmid>>| -> Task {
            let (vmids, runs) = (vmids.clone(), runs.clone());
            Box::new(move || {
                for domain in domains {
                    runs.lock().unwrap()[usize::from(pcpu)] = (0, 0);
                    let vmid = vmids.enter::<Fake>(&domain, PcpuId(pcpu));
                    let mut runs = runs.lock().unwrap();
                    let (other, its) = runs[usize::from(1 - pcpu)];
                    let me = Arc::as_ptr(&domain).addr();
                    assert!(vmid != 0 && (other == me) == (its == vmid), "two domains run with VMID {vmid}");
                    runs[usize::from(pcpu)] = (me, vmid);
                    drop(runs);
                    // The domain runs for a while.
                    (0..8).for_each(|_| point());
                }
            })
        };
        let tasks =
            [play(0, vec![second.clone(), third.clone(), first.clone()]), play(1, vec![first.clone(), third, second])];
        (tasks, Box::new(|| ()))
    });
}

#[test]
fn whoever_changes_tables_is_told_of_the_vmid_or_the_tables_are_walked_as_they_are_by_then() {
    explore(ORDERS, || {
        crate::fake::reset();
        let (vmids, domain) = (VmidAllocator::new(), Arc::new(DomainVmid::default()));
        let (table, told, walked) = <(Arc<AtomicU64>, Arc<Mutex<Option<u64>>>, Arc<Mutex<u64>>)>::default();
        let changes: Task = {
            let (domain, table, told) = (domain.clone(), table.clone(), told.clone());
            Box::new(move || {
                table.store(1, Ordering::Release);
                *told.lock().unwrap() = domain.tag();
            })
        };
        let enters: Task = {
            let (table, walked) = (table.clone(), walked.clone());
            Box::new(move || {
                vmids.enter::<Fake>(&domain, PcpuId(1));
                *walked.lock().unwrap() = table.load(Ordering::Relaxed);
            })
        };
        let then = move || assert!(told.lock().unwrap().is_some() || *walked.lock().unwrap() == 1, "nobody forgets it");
        ([changes, enters], Box::new(then))
    });
}
