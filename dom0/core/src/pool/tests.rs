//! Pools, the domains in them, and what cannot be.

use super::*;

const D: DomId = DomId(3);

fn cpus(text: &str) -> CpuSet {
    CpuSet::parse(text).unwrap()
}

fn wish(hard: &str) -> Wish {
    Wish { hard: cpus(hard), soft: CpuSet::all() }
}

/// Four pCPUs, and a domain of two vCPUs in the default pool.
fn four() -> Pools {
    let mut pools = Pools::new(4, 1);
    pools.admit(D, None, vec![Wish::ANYWHERE, wish("1-2")]).unwrap();
    pools
}

fn hard(pools: &Pools, domid: DomId) -> Vec<u64> {
    pools.masks(domid).into_iter().map(|(hard, _)| hard).collect()
}

#[test]
fn masks_stay_within_the_pool_and_follow_it() {
    let mut pools = four();
    assert_eq!(hard(&pools, D), [0b1111, 0b0110]);
    pools.remove_cpus(DEFAULT_POOL, cpus("2-3")).unwrap();
    assert_eq!((hard(&pools, D), hard(&pools, DomId::DOM0)), (vec![0b0011, 0b0010], vec![0b0011]));
    pools.create("rt", Some(cpus("3")), Scheduler::Credit2).unwrap();
    pools.add_cpus(DEFAULT_POOL, cpus("2")).unwrap();
    assert_eq!(hard(&pools, D), [0b0111, 0b0110]);
    pools.migrate(D, "rt").unwrap();
    assert_eq!(hard(&pools, D), [0b1000, 0b1000]);
    pools.rename("rt", "fast").unwrap();
    assert_eq!(pools.domains("fast"), [D]);
    pools.forget(D);
    pools.destroy("fast").unwrap();
    assert_eq!(pools.iter().count(), 1);
}

#[test]
fn a_null_pool_gives_each_vcpu_a_pcpu_of_its_own() {
    let mut pools = four();
    pools.remove_cpus(DEFAULT_POOL, cpus("1,3")).unwrap();
    pools.create("rt", Some(cpus("1,3")), Scheduler::Null).unwrap();
    pools.migrate(D, "rt").unwrap();
    assert_eq!(hard(&pools, D), [0b0010, 0b1000]);
    let late = pools.admit(DomId(4), Some("rt"), vec![Wish::ANYWHERE]);
    assert_eq!(late, Err(PoolError::TooFew("rt".into(), 1)));
    assert_eq!(pools.pin(D, None, Some(cpus("1")), None), Err(PoolError::Fixed("rt".into())));
    assert_eq!(pools.remove_cpus("rt", cpus("3")), Err(PoolError::TooFew("rt".into(), 1)));
    pools.migrate(D, DEFAULT_POOL).unwrap();
    assert_eq!(hard(&pools, D), [0b0101, 0b0101]);
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let mut pools = four();
    let before = (pools.masks(D), pools.masks(DomId::DOM0), pools.pools.clone());
    let vcpu1 = Some(1);
    let pool0 = || DEFAULT_POOL.to_owned();
    assert_eq!(pools.remove_cpus(DEFAULT_POOL, cpus("1-2")), Err(PoolError::Nowhere(D, 1, pool0())));
    assert_eq!(pools.remove_cpus(DEFAULT_POOL, cpus("0-3")), Err(PoolError::LastCpu(pool0())));
    assert_eq!(pools.remove_cpus(DEFAULT_POOL, cpus("4")), Err(PoolError::NotInPool(cpus("4"), pool0())));
    assert_eq!(pools.remove_cpus("x", cpus("1")), Err(PoolError::NoPool("x".into())));
    assert_eq!(pools.create("rt", None, Scheduler::Null), Err(PoolError::NoneFree));
    assert_eq!(pools.create("rt", Some(cpus("2,9")), Scheduler::Null), Err(PoolError::NotFree(cpus("2,9"))));
    assert_eq!(pools.create(DEFAULT_POOL, None, Scheduler::Null), Err(PoolError::NameTaken(pool0())));
    assert!(matches!(pools.create("", None, Scheduler::Null), Err(PoolError::BadName(..))));
    assert_eq!(pools.destroy(DEFAULT_POOL), Err(PoolError::Default(pool0())));
    assert_eq!(pools.migrate(DomId::DOM0, DEFAULT_POOL), Err(PoolError::Default(pool0())));
    assert_eq!(pools.pin(D, vcpu1, Some(cpus("4-63")), None), Err(PoolError::Absent(cpus("4-63"))));
    assert_eq!(pools.pin(D, vcpu1, None, Some(cpus("9"))), Err(PoolError::Absent(cpus("9"))));
    assert_eq!(pools.pin(D, Some(2), None, None), Err(PoolError::NoVcpu(2)));
    assert_eq!(pools.admit(DomId(4), None, vec![wish("7")]), Err(PoolError::Absent(cpus("7"))));
    assert_eq!(pools.admit(DomId(4), Some("x"), vec![]), Err(PoolError::NoPool("x".into())));
    assert_eq!((pools.masks(D), pools.masks(DomId::DOM0), pools.pools.clone()), before);
    // A pCPU that is out of use cannot be pinned to.
    pools.remove_cpus(DEFAULT_POOL, cpus("3")).unwrap();
    assert_eq!(pools.pin(D, Some(0), Some(cpus("3")), None), Err(PoolError::Nowhere(D, 0, pool0())));
    pools.rename(DEFAULT_POOL, "main").unwrap();
    assert_eq!(pools.destroy("main"), Err(PoolError::Default("main".into())));
}

#[test]
fn a_pin_changes_what_it_names_and_keeps_the_rest() {
    let mut pools = four();
    pools.pin(D, Some(0), Some(cpus("3")), Some(cpus("0-1"))).unwrap();
    assert_eq!(pools.masks(D), [(0b1000, 0b0011), (0b0110, u64::MAX)]);
    pools.pin(D, None, None, Some(cpus("2"))).unwrap();
    assert_eq!(pools.masks(D), [(0b1000, 0b0100), (0b0110, 0b0100)]);
}
