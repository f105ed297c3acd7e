//! Command lines as people type them, and what is said about wrong ones.

use hypercall_abi::ids::DomId;
use proptest::prelude::*;

use super::*;

fn name(name: &str) -> DomainRef {
    DomainRef::Name(name.into())
}

fn xl(line: &str) -> Xl {
    match parse(line) {
        Ok(Command::Xl(command)) => command,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn a_line_holds_commands_between_semicolons_that_nothing_protects() {
    assert_eq!(commands("xl pause a; xl pause b ;ls"), ["xl pause a", " xl pause b ", "ls"]);
    assert_eq!(commands("ls 'a;b' \"c;\\\";d\" e\\;f g#;h"), ["ls 'a;b' \"c;\\\";d\" e\\;f g#", "h"]);
    assert_eq!(commands("ls; # cat; more"), ["ls", " # cat; more"]);
    assert_eq!(commands("ls 'open; cat"), ["ls 'open; cat"]);
    assert_eq!(commands(""), [""]);
}

#[test]
fn quotes_protect_blanks_and_hashes_start_comments() {
    assert_eq!(split("a 'b c' \"d \\\" e\" f\\ g h#i # rest").unwrap(), ["a", "b c", "d \" e", "f g", "h#i"]);
    assert_eq!(split("''"), Ok(vec![String::new()]));
    assert_eq!(split("'open"), Err(Unclosed));
    assert_eq!(parse("   # only a comment"), Ok(Command::Nothing));
}

#[test]
fn create_takes_its_file_options_and_keys_in_any_order() {
    let expected = Xl::Create {
        file: "/store/a.cfg".into(),
        overrides: vec!["memory=64".into(), "name=b".into()],
        console: true,
        paused: true,
    };
    assert_eq!(xl("xl create -c -p /store/a.cfg memory=64 name=b"), expected);
    assert_eq!(xl("xl create /store/a.cfg memory=64 'name=b' -cp"), expected);
}

#[test]
fn create_without_a_file_or_with_two_is_refused() {
    assert_eq!(parse("xl create memory=64").unwrap_err().status(), 2);
    let error = parse("xl create a.cfg b.cfg").unwrap_err().to_string();
    assert!(error.contains("'b.cfg' is neither an option nor key=value"), "{error}");
}

#[test]
fn digits_are_a_domid_and_anything_else_is_a_name() {
    assert_eq!(xl("xl destroy 5"), Xl::Destroy(DomainRef::Id(DomId(5))));
    assert_eq!(xl("xl destroy web5"), Xl::Destroy(name("web5")));
    assert_eq!(xl("xl destroy +5"), Xl::Destroy(name("+5")));
    assert_eq!(xl("xl destroy 70000"), Xl::Destroy(name("70000")));
}

#[test]
fn shutdown_wants_a_domain_or_all() {
    assert_eq!(xl("xl shutdown -w web"), Xl::Shutdown { target: Target::One(name("web")), wait: true });
    assert_eq!(xl("xl shutdown --all"), Xl::Shutdown { target: Target::All, wait: false });
    assert!(parse("xl shutdown").unwrap_err().to_string().starts_with("You must specify '-a' or a domain id."));
    assert!(parse("xl shutdown -a web").is_err());
}

#[test]
fn the_other_subcommands_parse() {
    assert_eq!(xl("xl list -lv"), Xl::List { long: true, verbose: true, domains: vec![] });
    assert_eq!(xl("xl console -t vuart 3"), Xl::Console { domain: DomainRef::Id(DomId(3)), kind: ConsoleKind::Vuart });
    assert_eq!(xl("xl rename a b"), Xl::Rename { domain: name("a"), name: "b".into() });
    for (text, kib) in [("64", 65536), ("64m", 65536), ("100K", 100), ("1g", 1 << 20), ("4096b", 4)] {
        assert_eq!(xl(&format!("xl mem-set a {text}")), Xl::MemSet { domain: name("a"), kib });
    }
    assert_eq!(xl("xl domname 4"), Xl::Domname(DomId(4)));
    assert_eq!(
        xl("xl block-attach a /store/x.img raw xvdb w"),
        Xl::BlockAttach { domain: name("a"), disk: "/store/x.img,raw,xvdb,w".into() }
    );
    assert_eq!(
        xl("xl block-detach -f a xvdb"),
        Xl::BlockDetach { domain: name("a"), vdev: "xvdb".into(), force: true }
    );
    assert_eq!(
        xl("xl block-resize a xvdb 32m"),
        Xl::BlockResize { domain: name("a"), vdev: "xvdb".into(), kib: 32 << 10 }
    );
    let pictures = Xl::Top { batch: true, networks: false, delay_ms: 500, iterations: Some(2) };
    assert_eq!(xl("xl top -b -i2 --delay=0.5"), pictures);
    assert_eq!(xl("xl top -n"), Xl::Top { batch: false, networks: true, delay_ms: 3000, iterations: None });
    assert_eq!(xl("xl dmesg -c"), Xl::Dmesg { clear: true });
    assert_eq!(xl("xl info"), Xl::Info);
    assert_eq!(xl("xl help list"), Xl::Help(Some("list".into())));
}

#[test]
fn a_trace_is_started_to_a_file_and_stopped_and_completed() {
    assert_eq!(xl("xl trace start /store/t"), Xl::Trace(Trace::Start("/store/t".into())));
    assert_eq!(xl("xl trace stop"), Xl::Trace(Trace::Stop));
    assert_eq!(xl("xl trace status"), Xl::Trace(Trace::Status));
    for line in ["xl trace start", "xl trace stop now", "xl trace sideways"] {
        assert!(matches!(parse(line), Err(UsageError::Usage(text)) if text.contains("xl trace")), "{line}");
    }
    assert_eq!(completion("xl trace st").candidates, ["start", "stop", "status"]);
    assert_eq!(completion("xl trace start /st").source, Source::File);
}

#[test]
fn commands_about_cpus_parse() {
    let cpus = |text: &str| crate::config::CpuSet::parse(text).unwrap();
    let (vcpu, hard, soft) = (Some(1), Some(cpus("0-2,^1")), None);
    assert_eq!(xl("xl vcpu-pin web 1 0-2,^1"), Xl::VcpuPin { domain: name("web"), vcpu, hard, soft });
    let (vcpu, hard, soft) = (None, None, Some(cpus("all")));
    assert_eq!(xl("xl vcpu-pin web all - all"), Xl::VcpuPin { domain: name("web"), vcpu, hard, soft });
    assert_eq!(xl("xl vcpu-set -i web 3"), Xl::VcpuSet { domain: name("web"), count: 3, ignore_host: true });
    let all = Xl::Share { domain: None, pool: None, weight: None, cap: None };
    assert_eq!((xl("xl sched-credit2"), xl("xl sched")), (all.clone(), all));
    assert_eq!(
        xl("xl sched-credit2 -d web -w 512 --cap=50"),
        Xl::Share { domain: Some(name("web")), pool: None, weight: Some(512), cap: Some(50) }
    );
    assert_eq!(xl("xl cpupool-list -c rt"), Xl::Pool(Pool::List { cpus: true, pool: Some("rt".into()) }));
    let overrides = vec!["name=rt".into(), "sched=null".into()];
    assert_eq!(xl("xl cpupool-create name=rt sched=null"), Xl::Pool(Pool::Create { file: None, overrides }));
    assert_eq!(xl("xl cpupool-cpu-remove rt 2-3"), Xl::Pool(Pool::Remove("rt".into(), cpus("2-3"))));
    assert_eq!(xl("xl cpupool-migrate web rt"), Xl::Pool(Pool::Migrate(name("web"), "rt".into())));
    for (wrong, says) in [
        ("xl vcpu-pin web 1", "'xl vcpu-pin' requires at least 3 arguments."),
        ("xl vcpu-pin web x 1", "invalid vcpu 'x'."),
        ("xl vcpu-pin web all 64", "invalid cpu list '64'."),
        ("xl vcpu-set web 0", "invalid number of vcpus '0'."),
        ("xl sched-credit2 -w 5", "Must specify a domain."),
        ("xl sched-credit2 -d web -w 5000000000", "invalid weight '5000000000'."),
        ("xl sched-credit2 -d web -c -1", "invalid cap '-1'."),
        ("xl cpupool-cpu-add rt all", "invalid cpu list 'all'."),
        ("xl cpupool-create a b", "'xl cpupool-create': 'b' is neither a file nor key=value."),
    ] {
        let error = parse(wrong).unwrap_err();
        assert!(error.to_string().starts_with(says) && error.status() == 2, "{wrong}: {error}");
    }
    assert_eq!(completion("xl cpupool-migrate web ").source, Source::Pool);
}

#[test]
fn errors_come_in_the_manner_of_xl() {
    let error = parse("xl destroy").unwrap_err();
    assert!(error.to_string().starts_with("'xl destroy' requires at least 1 argument.\n\nUsage: xl destroy <Domain>"));
    assert_eq!(error.status(), 2);
    assert!(parse("xl list -x").unwrap_err().to_string().starts_with("option 'x' not supported.\n\nUsage: xl list"));
    assert_eq!(parse("xl migrate a b").unwrap_err().to_string(), "command not implemented");
    assert_eq!(parse("frobnicate").unwrap_err().to_string(), "frobnicate: command not found");
    assert_eq!(parse("frobnicate").unwrap_err().status(), 127);
}

#[test]
fn asking_for_help_is_no_failure() {
    let help = parse("xl create -h").unwrap_err();
    assert_eq!(help.status(), 0);
    assert!(help.to_string().starts_with("Usage: xl create <ConfigFile> [options] [vars]"));
}

#[test]
fn xenstore_commands_parse() {
    let store = |line: &str| match parse(line) {
        Ok(Command::Store(store)) => store,
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(store("xenstore-ls -fp"), Store::Ls { path: "/".into(), full: true, perms: true });
    assert_eq!(
        store("xenstore-write a b c 'd\\n\\x41\\101'"),
        Store::Write { pairs: vec![("a".into(), b"b".to_vec()), ("c".into(), b"d\nAA".to_vec())] }
    );
    assert_eq!(store("xenstore-watch -n 2 a"), Store::Watch { keys: vec!["a".into()], events: Some(2) });
    assert_eq!(
        store("xenstore-chmod -r /a n0 r5"),
        Store::Chmod { key: "/a".into(), modes: vec!["n0".into(), "r5".into()], upto: false, recurse: true }
    );
    assert!(parse("xenstore-write a").is_err());
    assert!(parse("xenstore-write a b c").is_err());
    assert!(parse("xenstore-chmod /a x0").is_err());
    assert!(parse("xenstore-chmod /a r").is_err());
}

#[test]
fn sleep_takes_fractions_of_seconds() {
    assert_eq!(parse("sleep 1.25"), Ok(Command::Sleep(1250)));
    assert_eq!(parse("sleep .5"), Ok(Command::Sleep(500)));
    assert_eq!(parse("sleep 2"), Ok(Command::Sleep(2000)));
    for bad in ["sleep x", "sleep .", "sleep -1", "sleep 1.x", "sleep"] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn every_command_in_the_table_has_help_and_parses() {
    for spec in &table::SHELL {
        assert!(help(Some(spec.name)).is_some());
        assert_ne!(parse(spec.name), Err(UsageError::NotFound(spec.name.into())));
    }
    for spec in &table::XL {
        assert!(xl_help(Some(spec.name)).contains(spec.name));
        assert_ne!(parse(&format!("xl {}", spec.name)), Err(UsageError::NotImplemented));
    }
}

#[test]
fn completion_knows_what_stands_where() {
    assert_eq!(completion("xenstore-r").candidates, ["xenstore-read", "xenstore-rm"]);
    assert_eq!(completion("xl unp").candidates, ["unpause"]);
    assert_eq!(completion("xl create -c /st").source, Source::File);
    assert_eq!(completion("xl destroy we").source, Source::Domain);
    assert_eq!(completion("xl destroy web ").source, Source::Nothing);
    assert_eq!(completion("xenstore-read /lo").source, Source::StorePath);
    assert_eq!(completion("nonsense x").source, Source::Nothing);
    assert_eq!(completion("xl list; xl unp").candidates, ["unpause"]);
    assert_eq!(completion("time xl destroy we").source, Source::Domain);
    assert_eq!(completion("bridge sh").candidates, ["show", "showmacs"]);
    assert_eq!(completion("xl sched -d we").source, Source::Domain);
    assert_eq!(completion("xl sched-credit2 -d web -p ").source, Source::Pool);
    assert_eq!(completion("xl sched -d web ").source, Source::Nothing);
    assert_eq!(completion("xl console -t v").candidates, ["vuart"]);
    assert_eq!(completion("xl console -t vuart we").source, Source::Domain);
}

proptest! {
    #[test]
    fn no_line_makes_the_parser_panic(line in ".*") {
        let _ = parse(&line);
        let _ = completion(&line);
    }

    #[test]
    fn no_arguments_make_a_subcommand_panic(command in 0..table::XL.len(), rest in "[-a-z0-9=. ]{0,40}") {
        let _ = parse(&format!("xl {} {rest}", table::XL[command].name));
    }

    #[test]
    fn a_quoted_word_comes_back_whole(word in "[^']*") {
        prop_assert_eq!(split(&format!("'{word}'")), Ok(vec![word]));
    }
}

#[test]
fn a_timed_command_is_parsed_as_if_it_stood_alone() {
    let timed = |line| match parse(line) {
        Ok(Command::Timed(inner)) => Ok(*inner),
        other => other,
    };
    assert_eq!(timed("time xl destroy hello"), parse("xl destroy hello"));
    assert_eq!(timed("time time poweroff"), Ok(Command::Poweroff));
    assert_eq!(timed("time nothing"), parse("nothing"));
}
