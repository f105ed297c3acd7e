//! Names stay unique, and every end leads where the configuration says.

use hypercall_abi::ids::DomId;
use hypercall_abi::sched::ShutdownReason as Reason;

use super::*;
use crate::config::DomainConfig;
use crate::shell::DomainRef;
use crate::uuid::Uuid;

fn config(name: &str, extra: &str) -> DomainConfig {
    DomainConfig::parse("a.cfg", &format!("name='{name}'\nkernel='/k'\n{extra}"), &[]).unwrap()
}

fn uuid(seed: u8) -> Uuid {
    Uuid::from_random([seed; 16])
}

/// A register with one live domain, number 1.
fn with_one(extra: &str) -> (Register, Handle) {
    let mut register = Register::default();
    let handle = register.begin(config("web", extra), uuid(1), 0).unwrap();
    register.assign(handle, DomId(1));
    register.built(handle);
    (register, handle)
}

fn name(name: &str) -> DomainRef {
    DomainRef::parse(name)
}

#[test]
fn a_name_is_taken_from_the_first_moment_of_building() {
    let mut register = Register::default();
    let handle = register.begin(config("web", ""), uuid(1), 0).unwrap();
    let error = register.begin(config("web", ""), uuid(2), 0).unwrap_err();
    assert_eq!(error.to_string(), "key 'name': a domain with name \"web\" already exists");
    register.forget(handle);
    assert!(register.begin(config("web", ""), uuid(2), 0).is_ok());
}

#[test]
fn nobody_can_be_called_domain_0_or_share_a_uuid() {
    let mut register = Register::default();
    assert!(matches!(register.begin(config("Domain-0", ""), uuid(1), 0), Err(DomainError::NameTaken(_))));
    register.begin(config("a", ""), uuid(1), 0).unwrap();
    assert_eq!(register.begin(config("b", ""), uuid(1), 0), Err(DomainError::UuidTaken(uuid(1))));
}

#[test]
fn domains_are_found_by_id_and_name() {
    let (register, handle) = with_one("");
    assert_eq!(register.find(&name("web")).unwrap().handle, handle);
    assert_eq!(register.find(&name("1")).unwrap().handle, handle);
    assert_eq!(register.domid(&name("Domain-0")), Ok(DomId(0)));
    assert_eq!(register.name(DomId(1)), Some("web"));
    assert_eq!(register.find(&name("0")).unwrap_err(), DomainError::IsDom0);
    assert_eq!(register.find(&name("x")).unwrap_err().to_string(), "x is an invalid domain identifier (rc=-6)");
}

#[test]
fn each_reason_follows_its_own_key() {
    let config = config("web", "on_poweroff='preserve'\non_reboot='destroy'\non_crash='coredump-restart'");
    assert_eq!(Next::after(Reason::Poweroff, &config), Next::Preserve);
    assert_eq!(Next::after(Reason::Reboot, &config), Next::Destroy);
    assert_eq!(Next::after(Reason::Crash, &config), Next::Dump { restart: true });
    assert_eq!(Next::after(Reason::Watchdog, &config), Next::Dump { restart: true });
    assert_eq!(Next::after(Reason::Suspend, &config), Next::Keep);
}

#[test]
fn an_end_is_acted_upon_once() {
    let (mut register, handle) = with_one("");
    assert_eq!(register.stopped(DomId(1), Reason::Poweroff), Some((handle, Next::Destroy)));
    assert_eq!(register.stopped(DomId(1), Reason::Poweroff), None);
    assert!(register.dying(handle).is_ok());
    assert!(matches!(register.dying(handle), Err(DomainError::WrongState { life: Life::Dying, .. })));
    register.forget(handle);
    assert_eq!(register.domid(&name("web")), Err(DomainError::NotFound("web".into())));
}

#[test]
fn a_domain_being_built_can_neither_stop_nor_be_destroyed() {
    let mut register = Register::default();
    let handle = register.begin(config("web", ""), uuid(1), 0).unwrap();
    register.assign(handle, DomId(1));
    assert_eq!(register.stopped(DomId(1), Reason::Crash), None);
    assert!(register.dying(handle).is_err());
}

#[test]
fn rename_restart_frees_name_and_uuid_for_the_successor() {
    let (mut register, handle) = with_one("on_crash='rename-restart'");
    assert_eq!(register.stopped(DomId(1), Reason::Crash), Some((handle, Next::RenameRestart)));
    register.give_uuid(handle, uuid(9));
    assert_eq!(register.name(DomId(1)), Some("web-1"));
    assert_eq!(register.get(handle).unwrap().life, Life::Preserved(Reason::Crash));
    assert!(register.begin(config("web", ""), uuid(1), 0).is_ok());
}

#[test]
fn a_renamed_domain_restarts_under_its_new_name() {
    let (mut register, _) = with_one("");
    let renamed = register.rename(&name("web"), "www").unwrap();
    assert_eq!(renamed.config.name, "www");
}

#[test]
fn rename_keeps_names_unique_and_sane() {
    let (mut register, _) = with_one("");
    register.begin(config("db", ""), uuid(2), 0).unwrap();
    assert!(matches!(register.rename(&name("web"), "db"), Err(DomainError::NameTaken(_))));
    assert!(matches!(register.rename(&name("web"), "12"), Err(DomainError::BadName { .. })));
    assert!(matches!(register.rename(&name("0"), "x"), Err(DomainError::IsDom0)));
    assert_eq!(register.rename(&name("1"), "www").unwrap().name, "www");
    assert!(register.find(&name("web")).is_err());
}
