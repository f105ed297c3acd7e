//! Lines as Xen's tools print them, character by character.

use super::*;
use crate::config::DomainConfig;
use crate::disk::Disk;
use crate::layout::GicVersion;
use crate::uuid::Uuid;

fn dom0() -> DomainRow<'static> {
    DomainRow {
        name: "Domain-0",
        domid: 0,
        memory_mib: 512,
        vcpus: 2,
        state: StateFlags { running: true, ..StateFlags::default() },
        cpu_ns: 12_345_678_901,
        uuid: Uuid::default(),
    }
}

#[test]
fn xl_list_has_the_columns_of_xen() {
    let mut out = String::new();
    let crashed = StateFlags { shutdown: Some(3), ..StateFlags::default() };
    let guest = DomainRow { name: "web", domid: 12, memory_mib: 64, vcpus: 1, state: crashed, cpu_ns: 0, ..dom0() };
    domain_list(&mut out, [dom0(), guest], false).unwrap();
    let expected = "\
Name                                        ID   Mem VCPUs\tState\tTime(s)
Domain-0                                     0   512     2     r-----      12.3
web                                         12    64     1     ---sc-       0.0
";
    assert_eq!(out, expected);
}

#[test]
fn xl_list_v_adds_uuid_and_reason() {
    let mut out = String::new();
    let off = StateFlags { shutdown: Some(0), paused: true, ..StateFlags::default() };
    domain_list(&mut out, [DomainRow { state: off, ..dom0() }], true).unwrap();
    let line = out.lines().nth(1).unwrap();
    assert!(
        line.ends_with("     --ps--      12.3 00000000-0000-0000-0000-000000000000        0                -"),
        "{line}"
    );
}

#[test]
fn every_reason_has_its_letter() {
    for (reason, letters) in [(0, "---s--"), (1, "---sr-"), (2, "---ss-"), (4, "---sw-"), (5, "---sS-"), (9, "---s?-")]
    {
        let mut out = String::new();
        let state = StateFlags { shutdown: Some(reason), ..StateFlags::default() };
        domain_list(&mut out, [DomainRow { state, ..dom0() }], false).unwrap();
        assert!(out.contains(letters), "{reason}: {out}");
    }
}

#[test]
fn state_bits_of_the_control_abi_become_letters() {
    use hypercall_abi::control as c;
    let info = c::DomainInfo { state: c::STATE_BLOCKED | c::STATE_SHUTDOWN, shutdown_reason: 1, ..Default::default() };
    let expected = StateFlags { blocked: true, shutdown: Some(1), ..StateFlags::default() };
    assert_eq!(StateFlags::from(&info), expected);
}

#[test]
fn xl_list_l_is_json_in_the_shape_of_libxl() {
    let text = "name='web'\nkernel='/k'\nextra='console=hvc0 \"q\"'\nmemory=64\nvcpus=2\ndisk=['/a,raw,xvda,ro']";
    let config = DomainConfig::parse("a.cfg", text, &[]).unwrap();
    let domain = LongDomain {
        domid: 3,
        name: "web",
        uuid: Uuid::default(),
        memory_mib: 64,
        max_vcpus: 2,
        vcpus: 1,
        gic: GicVersion::V2,
        config: Some(&config),
        disks: &[Disk::parse("/a,raw,xvda,ro").unwrap()],
        vifs: &[crate::vif::Vif::parse("mac=00:16:3e:01:02:03,bridge=lan0").unwrap()],
    };
    let mut out = String::new();
    list_long(&mut out, [domain]).unwrap();
    let start = "[\n    {\n        \"domid\": 3,\n        \"config\": {\n            \"c_info\": {\n                \"type\": \"pvh\",\n                \"name\": \"web\",";
    assert!(out.starts_with(start), "{out}");
    assert!(out.contains("\"avail_vcpus\": [\n                    0\n                ],"), "{out}");
    assert!(out.contains("\"cmdline\": \"console=hvc0 \\\"q\\\"\""), "{out}");
    assert!(out.contains("\"type.pvh\": {},"), "{out}");
    assert!(out.contains("\"readwrite\": 0") && out.contains("\"gic_version\": \"v2\""), "{out}");
    assert!(out.contains("\"mac\": \"00:16:3e:01:02:03\"") && out.contains("\"bridge\": \"lan0\""), "{out}");
    assert!(out.ends_with("\"on_crash\": \"destroy\"\n        }\n    }\n]\n"), "{out}");
    let balance = |open, close| out.matches(open).count() == out.matches(close).count();
    assert!(balance('{', '}') && balance('[', ']'));
}

#[test]
fn an_empty_list_is_still_json() {
    let mut out = String::new();
    list_long(&mut out, []).unwrap();
    assert_eq!(out, "[]\n");
}

#[test]
fn xl_vcpu_list_has_the_columns_of_xen() {
    let row = VcpuRow {
        name: "web",
        domid: 1,
        vcpu: 0,
        pcpu: Some(3),
        running: false,
        blocked: true,
        cpu_ns: 1_500_000_000,
        affinity: u64::MAX,
        soft_affinity: u64::MAX,
    };
    let offline = VcpuRow { vcpu: 1, pcpu: None, affinity: 0b0111, soft_affinity: 0b1001, ..row };
    let mut out = String::new();
    vcpu_list(&mut out, [row, offline], 4).unwrap();
    let expected = "\
Name                                ID  VCPU   CPU State   Time(s) Affinity (Hard / Soft)
web                                  1     0    3   -b-       1.5  all / all
web                                  1     1    -   --p       1.5  0-2 / 0,3
";
    assert_eq!(out, expected);
}

#[test]
fn xl_sched_credit2_and_cpupool_list_have_the_columns_of_xen() {
    let mut out = String::new();
    let row = ShareRow { name: "Domain-0", domid: 0, weight: 256, cap: 0 };
    share_list(&mut out, Some("Pool-0"), [row, ShareRow { name: "web", domid: 12, weight: 65535, cap: 150 }]).unwrap();
    let mut pools = crate::pool::Pools::new(3, 1);
    pools.rename("Pool-0", "all").unwrap();
    for cpus in [false, true] {
        pool_list(&mut out, pools.iter().map(|pool| (pool, 11)), cpus).unwrap();
    }
    let expected = "\
Cpupool Pool-0: ratelimit=0us
Name                                ID Weight  Cap
Domain-0                             0    256    0
web                                 12  65535  150
Name               CPUs   Sched     Active   Domain count
all                  3   credit2       y         11
Name               CPU list
all                0,1,2
";
    assert_eq!(out, expected);
}

#[test]
fn xl_info_lines_are_keys_and_values() {
    let platform = hypercall_abi::control::PlatformInfo {
        total_pages: 4096 * 64,
        free_pages: 2560,
        counter_hz: 62_500_000,
        pcpus: 4,
        ..Default::default()
    };
    let mut out = String::new();
    info(&mut out, &HostInfo { platform: &platform, host: "xenolith", version: "0.1.0", commandline: "" }).unwrap();
    assert!(out.starts_with("host                   : xenolith\n"));
    assert!(out.contains("nr_cpus                : 4\n"));
    assert!(out.contains("total_memory           : 1024\nfree_memory            : 10\n"));
    assert!(out.contains("cpu_mhz                : 62.500\n"));
    assert!(out.lines().all(|line| line.as_bytes()[23] == b':'), "{out}");
}

#[test]
fn xl_block_list_has_the_columns_of_xen() {
    let row = BlockRow { vdev: 51712, domid: 5, state: 4, event_channel: 7, ring_ref: -1, backend: "/b" };
    let mut out = String::new();
    block_list(&mut out, [row]).unwrap();
    let mut lines = out.lines();
    assert_eq!(lines.next().unwrap().trim_end(), "Vdev  BE  handle state evt-ch ring-ref BE-path");
    assert_eq!(lines.next().unwrap().trim_end(), "51712 0   5      4     7      -1       /b");
}

#[test]
fn xl_network_list_has_the_columns_of_xen() {
    let mac = vswitch::Mac([0, 0x16, 0x3E, 1, 2, 3]);
    let row =
        NetworkRow { number: 0, mac, state: 4, event_channel: -1, tx_ring_ref: 768, rx_ring_ref: 769, backend: "/b" };
    let mut out = String::new();
    network_list(&mut out, [row]).unwrap();
    let mut lines = out.lines();
    assert_eq!(
        lines.next().unwrap().trim_end(),
        "Idx BE Mac Addr.         handle state evt-ch   tx-/rx-ring-ref BE-path"
    );
    assert_eq!(lines.next().unwrap().trim_end(), "0   0  00:16:3e:01:02:03      0     4     -1   768/769         /b");
}

#[test]
fn a_bridge_lists_its_ports_under_its_name_and_an_empty_one_only_that() {
    let ports = [
        BridgePort { name: "vif1.0".into(), frames: [5, 6, 0, 1], down: false },
        BridgePort { name: "vif2.0".into(), frames: [0; 4], down: true },
    ];
    let mut out = String::new();
    bridge_list(&mut out, [("lan0", &ports[..]), ("lan1", &[])]).unwrap();
    let lines: Vec<Vec<&str>> = out.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    let second = vec!["vif2.0", "0", "0", "0", "0", "down"];
    assert_eq!(lines, [vec!["lan0", "vif1.0", "5", "6", "0", "1"], second, vec!["lan1"]]);
}

#[test]
fn xl_uptime_counts_days() {
    let mut out = String::new();
    uptime_head(&mut out).unwrap();
    uptime_line(&mut out, "Domain-0", 0, 3661).unwrap();
    uptime_line(&mut out, "web", 1, 86400).unwrap();
    uptime_line(&mut out, "web", 1, 2 * 86400 + 59).unwrap();
    uptime_short(&mut out, 45_296, "web", 1, 7200).unwrap();
    let expected = "\
Name                                ID Uptime
Domain-0                             0  1:01:01
web                                  1 1 day,  0:00:00
web                                  1 2 days,  0:00:59
 12:34:56 up  2:00, web (1)
";
    assert_eq!(out, expected);
}

#[test]
fn xl_top_has_the_columns_of_xentop() {
    let row = TopRow {
        name: "Domain-0",
        state: StateFlags { running: true, ..StateFlags::default() },
        cpu_ns: 93_000_000_000,
        cpu_permille: 15,
        memory_kib: 524_288,
        max_memory_kib: None,
        vcpus: 2,
        nets: 0,
        net_kib: [0, 0],
        interfaces: &[],
        vbds: 0,
        vbd: [0; 5],
    };
    let guest = TopRow { name: "web", max_memory_kib: Some(1_048_576), ..row };
    let mut out = String::new();
    top(&mut out, [row, guest], 4_194_304).unwrap();
    let expected = "      NAME  STATE   CPU(sec) CPU(%)     MEM(k) MEM(%)  MAXMEM(k) MAXMEM(%) VCPUS NETS NETTX(k) NETRX(k) VBDS   VBD_OO   VBD_RD   VBD_WR  VBD_RSECT  VBD_WSECT SSID
  Domain-0 -----r         93    1.5     524288   12.5   no limit       n/a     2    0        0        0    0        0        0        0          0          0    0
       web -----r         93    1.5     524288   12.5    1048576      25.0     2    0        0        0    0        0        0        0          0          0    0
";
    assert_eq!(out, expected);
}

#[test]
fn xl_top_n_has_the_lines_of_xentop_for_interfaces() {
    let tx = Traffic { bytes: 1_000_000, packets: 700, errors: 1, dropped: 2 };
    let interface = NetworkCounters { number: 1, tx, events: 30, ..NetworkCounters::default() };
    let row = TopRow {
        name: "web",
        state: StateFlags::default(),
        cpu_ns: 0,
        cpu_permille: 0,
        memory_kib: 0,
        max_memory_kib: None,
        vcpus: 1,
        nets: 1,
        net_kib: [976, 0],
        interfaces: &[interface],
        vbds: 0,
        vbd: [0; 5],
    };
    let mut out = String::new();
    top(&mut out, [row], 1).unwrap();
    let expected = "Net1 RX:        0bytes        0pkts        0err        0drop  TX:  1000000bytes      700pkts        1err        2drop        30events";
    assert_eq!(out.lines().nth(2), Some(expected));
}

fn node<'a>(name: &'a str, depth: usize, value: &'a [u8]) -> StoreLine<'a> {
    StoreLine { name, depth, value: Some(value), perms: None, full: false }
}

#[test]
fn xenstore_ls_indents_by_one_and_escapes_values() {
    let mut out = String::new();
    store_ls_line(&mut out, &node("local", 0, b"")).unwrap();
    store_ls_line(&mut out, &node("domain", 1, b"a\n\\\x01\xff")).unwrap();
    store_ls_line(&mut out, &StoreLine { value: None, ..node("hidden", 2, b"") }).unwrap();
    assert_eq!(out, "local = \"\"\n domain = \"a\\n\\\\\\001\\xff\"\n  hidden:\n");
}

#[test]
fn xenstore_ls_cuts_long_values_but_not_with_f() {
    let long = [b'x'; 200];
    let mut out = String::new();
    store_ls_line(&mut out, &node("key", 0, &long)).unwrap();
    assert_eq!(out, format!("key = \"{}\\...\"\n", "x".repeat(69)));
    out.clear();
    store_ls_line(&mut out, &StoreLine { full: true, ..node("/key", 3, &long) }).unwrap();
    assert_eq!(out, format!("/key = \"{}\"\n", "x".repeat(200)));
}

#[test]
fn xenstore_ls_p_shows_permissions_behind_a_dotted_line() {
    let perms = ["n0".to_string(), "r5".to_string()];
    let mut out = String::new();
    store_ls_line(&mut out, &StoreLine { perms: Some(&perms), ..node("name", 0, b"web") }).unwrap();
    assert!(out.starts_with("name = \"web\" . . ."), "{out}");
    assert!(out.ends_with("  (n0,r5)\n"), "{out}");
    assert_eq!(out.find("  (n0"), Some(60), "{out}");
}
