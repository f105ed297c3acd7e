//! Configurations from the xl.cfg manual and from people's keyboards, good and bad.

use proptest::prelude::*;

use super::*;
use crate::pool::Scheduler;

const BASE: &str = "name = 'web'\nkernel = '/store/Image'\n";

fn parse(text: &str) -> Result<DomainConfig, ConfigError> {
    DomainConfig::parse("/store/web.cfg", text, &[])
}

fn with(extra: &str) -> DomainConfig {
    parse(&format!("{BASE}{extra}")).unwrap_or_else(|error| panic!("{error}"))
}

/// The message for a configuration whose third line is `extra`.
fn refused(extra: &str) -> String {
    parse(&format!("{BASE}{extra}")).expect_err(extra).to_string()
}

#[test]
fn a_whole_configuration_is_read() {
    let text = r#"
# A guest as people write it
name    = "debian"
uuid    = '01234567-89ab-4def-8123-456789abcdef'
kernel  = "/store/Image" ; ramdisk = "/store/initrd.gz"
root    = "/dev/xvda1 ro"
extra   = 'console=hvc0'
memory  = 512
maxmem  = 0x400
vcpus   = 2
maxvcpus = "4"      # a quoted number is a number
cpus    = "0-3,^1"
disk    = [ '/dev/vda1,raw,xvda,rw',
            'format=raw, vdev=xvdb, access=ro, target=/store/data.img', ]
on_poweroff = "preserve"
on_reboot = 'rename-restart'
on_crash = 'coredump-restart'
vuart   = "sbsa_uart"
device_tree = "/store/part.dtb"
max_grant_frames = 32
max_event_channels = 512
nr_spis = 960
"#;
    let config = parse(text).unwrap();
    assert_eq!(config.name, "debian");
    assert_eq!(config.uuid.unwrap().to_string(), "01234567-89ab-4def-8123-456789abcdef");
    assert_eq!((config.kernel.as_str(), config.ramdisk.as_deref()), ("/store/Image", Some("/store/initrd.gz")));
    assert_eq!(config.cmdline, "root=/dev/xvda1 ro console=hvc0");
    assert_eq!((config.memory_mib, config.maxmem_mib), (512, 1024));
    assert_eq!((config.vcpus, config.max_vcpus), (2, 4));
    assert_eq!(config.cpus.of(0).mask(), 0b1101);
    assert_eq!(config.disks.len(), 2);
    assert_eq!(config.disks[1].vdev.number(), 51728);
    assert_eq!(config.on_poweroff, Action::Preserve);
    assert_eq!(config.on_reboot, Action::RenameRestart);
    assert_eq!(config.on_crash, Action::CoredumpRestart);
    assert_eq!(config.vuart, Vuart::Sbsa);
    assert_eq!(config.device_tree.as_deref(), Some("/store/part.dtb"));
    assert_eq!((config.max_grant_frames, config.max_event_channels, config.nr_spis), (32, 512, 960));
}

#[test]
fn defaults_are_those_of_libxl() {
    let config = with("");
    assert_eq!((config.memory_mib, config.maxmem_mib), (32, 32));
    assert_eq!((config.vcpus, config.max_vcpus), (1, 1));
    assert_eq!(config.cpus, Affinity::Same(CpuSet::all()));
    assert_eq!(config.on_poweroff, Action::Destroy);
    assert_eq!(config.on_reboot, Action::Restart);
    assert_eq!(config.on_crash, Action::Destroy);
    assert_eq!((config.max_grant_frames, config.max_event_channels, config.nr_spis), (64, 1023, 0));
}

#[test]
fn unknown_keys_are_named_with_their_line() {
    assert_eq!(refused("memroy = 64"), "/store/web.cfg:3: unknown key 'memroy'");
}

#[test]
fn missing_keys_are_named() {
    assert_eq!(parse("name='a'").unwrap_err().to_string(), "/store/web.cfg: key 'kernel' is missing");
    assert_eq!(parse("kernel='a'").unwrap_err().to_string(), "/store/web.cfg: key 'name' is missing");
}

#[test]
fn wrong_types_and_ranges_name_the_key_and_the_line() {
    for (text, message) in [
        ("memory = 'lots'", "key 'memory' must be a number"),
        ("memory = [1]", "key 'memory' must be a number"),
        ("memory = 0", "key 'memory': 0 is not between 1 and 1043456"),
        ("memory = 64\nmaxmem = 32", "key 'maxmem': 32 is not between 64 and 1043456"),
        ("vcpus = 129", "key 'vcpus': 129 is not between 1 and 128"),
        ("vcpus = 4\nmaxvcpus = 2", "key 'maxvcpus': 2 is not between 4 and 128"),
        ("ramdisk = ['a']", "key 'ramdisk' must be a string"),
        ("ramdisk = ''", "key 'ramdisk': '' is not a name"),
        ("disk = '/a,raw,xvda'", "key 'disk' must be a list of strings"),
        ("disk = [['/a,raw,xvda']]", "key 'disk' must be a list of strings"),
        ("uuid = 'x'", "key 'uuid': 'x' is not a UUID"),
        ("on_crash = 'explode'", "key 'on_crash': 'explode' is not one of destroy, restart"),
        ("vuart = 'pl011'", "key 'vuart': 'pl011' is not 'sbsa_uart'"),
        ("cpu_weight = 0", "key 'cpu_weight': 0 is not between 1 and 65535"),
        ("vcpus = 2\ncap = 201", "key 'cap': 201 is not between 0 and 200"),
        ("pool = ''", "key 'pool': '' is not a name"),
        ("cpus_soft = '0-64'", "key 'cpus_soft': '0-64' is not a set of CPUs"),
        ("cpus = '2-1'", "key 'cpus': '2-1' is not a set of CPUs"),
        ("cpus = ['0', '1']", "key 'cpus': '[\"0\", \"1\"]' is not a list with one set for each vCPU"),
        ("max_grant_frames = 0", "key 'max_grant_frames': 0 is not between 1 and 64"),
        ("nr_spis = 989", "key 'nr_spis': 989 is not between 0 and 988"),
        ("type = 'hvm'", "key 'type': 'hvm' is not 'pvh'"),
        ("disk = ['/a,qcow2,xvda']", "key 'disk': '/a,qcow2,xvda': format 'qcow2' is not supported (only raw)"),
        ("disk = ['/a,raw,xvda', '/b,raw,d0']", "key 'disk': vdev 'd0' is used twice"),
    ] {
        let error = refused(text);
        let line = if text.contains('\n') { 4 } else { 3 };
        assert!(error.starts_with(&format!("/store/web.cfg:{line}: {message}")), "{text}: {error}");
        assert!(!error.contains('\n'), "one line: {error}");
    }
}

#[test]
fn bad_syntax_names_what_was_expected_and_found() {
    for (text, message) in [
        ("memory 64", "expected '=' after the key, found '64'"),
        ("memory = ", "expected a string, a number or a list, found the end of the file"),
        ("= 3", "expected a key, found '='"),
        ("memory = 6x4", "expected a string, a number or a list, found '6x4'"),
        ("memory = 64 vcpus = 1", "expected the end of the line, found 'vcpus'"),
        ("extra = 'open", "string is not closed"),
        ("extra = 'a\\q'", "bad escape sequence in string"),
        ("disk = ['a' 'b']", "expected ',' or ']', found a string"),
        ("memory = 64 @", "unexpected character '@'"),
        ("disk = [[[[[[[[[[ ]]]]]]]]]]", "lists are nested too deeply"),
    ] {
        assert_eq!(refused(text), format!("/store/web.cfg:3: {message}"));
    }
}

#[test]
fn a_bad_name_is_refused() {
    for name in ["", "12", "a b", "a/b", &"x".repeat(65)] {
        let error = parse(&format!("name='{name}'\nkernel='/k'")).unwrap_err().to_string();
        assert!(error.starts_with("/store/web.cfg:1: key 'name'"), "{error}");
    }
}

#[test]
fn relative_paths_start_at_the_folder_of_the_file() {
    let text = "name='a'\nkernel='Image'\nramdisk='sub/initrd'\ndisk=['disk.img,raw,xvda','/dev/vda,raw,xvdb']";
    let config = parse(text).unwrap();
    assert_eq!(config.kernel, "/store/Image");
    assert_eq!(config.ramdisk.as_deref(), Some("/store/sub/initrd"));
    assert_eq!(config.disks[0].target.to_string(), "/store/disk.img");
    assert_eq!(config.disks[1].target.to_string(), "/dev/vda");
    assert_eq!(DomainConfig::parse("a.cfg", text, &[]).unwrap().kernel, "Image");
}

#[test]
fn the_command_line_wins_over_the_file() {
    let text = format!("{BASE}memory = 64");
    let arguments = ["memory=128", "name=other", "extra=console=hvc0 quiet", "disk=['/a,raw,xvda']"];
    let config = DomainConfig::parse("a.cfg", &text, &arguments).unwrap();
    assert_eq!((config.memory_mib, config.name.as_str()), (128, "other"));
    assert_eq!(config.cmdline, "console=hvc0 quiet");
    assert_eq!(config.disks.len(), 1);
}

#[test]
fn errors_of_the_command_line_say_so() {
    let error = |argument| DomainConfig::parse("a.cfg", BASE, &[argument]).unwrap_err().to_string();
    assert_eq!(error("memroy=1"), "command line: unknown key 'memroy'");
    assert_eq!(error("memory=lots"), "command line: key 'memory' must be a number");
    assert_eq!(error("disk=['a'"), "command line: disk=['a': expected ',' or ']', found the end of the file");
    // What is left when the shell has taken the quotes.
    assert_eq!(error("disk=[/a,raw,xvda]"), "command line: disk=[/a,raw,xvda]: unexpected character '/'");
    assert_eq!(error("=1"), "command line: expected key=value, found '=1'");
}

#[test]
fn later_assignments_replace_and_plus_appends() {
    assert_eq!(with("memory=1\nmemory=2").memory_mib, 2);
    assert_eq!(with("extra='a'\nextra += ' b'").cmdline, "a b");
    assert_eq!(with("disk=['/a,raw,xvda']\ndisk += ['/b,raw,xvdb']").disks.len(), 2);
    assert_eq!(refused("extra='a'\nextra += ['b']"), "/store/web.cfg:4: expected a string after '+=', found a list");
}

#[test]
fn cmdline_wins_over_root_and_extra() {
    assert_eq!(with("cmdline='c'\nroot='r'\nextra='e'").cmdline, "c");
    assert_eq!(with("root='/dev/xvda'").cmdline, "root=/dev/xvda");
    assert_eq!(with("extra='e'").cmdline, "e");
}

#[test]
fn escapes_and_both_quotes_work() {
    assert_eq!(with(r#"extra='a\'b\x41\101\\'"#).cmdline, "a'bAA\\");
    assert_eq!(with(r#"extra="it's""#).cmdline, "it's");
}

#[test]
fn files_with_dos_line_ends_are_read() {
    assert_eq!(parse("name='a'\r\nkernel='/k'\r\n").unwrap().name, "a");
}

#[test]
fn cpu_sets_print_as_xl_shows_them() {
    for (text, shown) in
        [("all", "all"), ("0", "0"), ("0,1,2,5", "0-2,5"), ("0-63", "all"), ("1-4,^2", "1,3-4"), ("all,^7", "0-6,8-63")]
    {
        assert_eq!(CpuSet::parse(text).unwrap().to_string(), shown);
    }
    assert_eq!(CpuSet::parse("64"), None);
    assert_eq!(CpuSet::parse("0,^0"), None);
    assert_eq!(CpuSet::parse("all,^0-63"), None);
}

fn value() -> impl Strategy<Value = Value> {
    let atom = "[ -~\n]{0,20}".prop_map(Value::Atom);
    atom.prop_recursive(3, 20, 5, |inner| prop::collection::vec(inner, 0..5).prop_map(Value::List))
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "(?s).*") {
        let _ = parse(&text);
    }

    #[test]
    fn no_tokens_make_the_parser_panic(
        tokens in prop::collection::vec(prop::sample::select(&[
            "name", "disk", "=", "+=", "[", "]", ",", "\n", ";", "'x'", "\"", "1", "0x", "#", "memory", "\\",
        ][..]), 0..40),
    ) {
        let _ = parse(&tokens.join(" "));
    }

    #[test]
    fn what_is_printed_parses_back(settings in prop::collection::btree_map("[a-z][a-z0-9_]{0,8}", value(), 0..8)) {
        let text: String = settings.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        let raw = RawConfig::parse("t", &text).unwrap();
        let read: std::collections::BTreeMap<_, _> =
            raw.settings.into_iter().map(|setting| (setting.key, setting.value)).collect();
        prop_assert_eq!(read, settings);
    }

    #[test]
    fn no_override_makes_the_parser_panic(argument in "(?s).*") {
        let _ = DomainConfig::parse("a.cfg", BASE, &[&argument]);
    }

    #[test]
    fn no_disk_specification_panics(spec in ".*") {
        let _ = crate::disk::Disk::parse(&spec);
    }

    #[test]
    fn a_cpu_set_prints_back_to_itself(mask in 1u64..) {
        let set = CpuSet::from_mask(mask);
        prop_assert_eq!(CpuSet::parse(&set.to_string()), Some(set));
    }
}

#[test]
fn a_pool_is_configured_by_three_keys() {
    let parse = |text: &str, overrides: &[&str]| PoolConfig::parse("rt.cfg", text, overrides);
    let rt = PoolConfig { name: "rt".into(), scheduler: Scheduler::Null, cpus: CpuSet::parse("1-3") };
    assert_eq!(parse("name = 'rt'\nsched = 'null'\ncpus = '1-3'", &[]), Ok(rt.clone()));
    assert_eq!(parse("name = 'x'\ncpus = ['1', '2-3']", &["name=rt", "sched=null"]), Ok(rt));
    assert_eq!(parse("name = 'a'", &[]).map(|pool| (pool.scheduler, pool.cpus)), Ok((Scheduler::Credit2, None)));
    for (wrong, says) in [
        ("sched = 'null'", "key 'name'"),
        ("name = 'a'\nsched = 'rtds'", "key 'sched': 'rtds' is not 'credit2' or 'null'"),
        ("name = 'a'\ncpus = 'all'", "key 'cpus': 'all' is not a set of CPUs"),
        ("name = 'a'\ncpus = []", "key 'cpus': '' is not a set of CPUs"),
        ("name = 'a'\nnodes = '0'", "nodes"),
    ] {
        let error = parse(wrong, &[]).unwrap_err().to_string();
        assert!(error.contains(says), "{wrong}: {error}");
    }
}
