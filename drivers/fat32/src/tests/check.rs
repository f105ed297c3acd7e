//! A small `fsck`: reads a volume in the dumbest way and finds what a repair tool would complain about.

use std::collections::BTreeMap;

/// Checks a volume with 512-byte sectors and clusters of any size; panics with what is wrong.
pub fn check(disk: &[u8]) {
    let u16_at = |at: usize| usize::from(u16::from_le_bytes([disk[at], disk[at + 1]]));
    let u32_at = |at: usize| usize::try_from(u32::from_le_bytes(disk[at..at + 4].try_into().unwrap())).unwrap();
    let (per_cluster, reserved, fats) = (usize::from(disk[13]), u16_at(14), usize::from(disk[16]));
    let (total, table, root) = (u32_at(32), u32_at(36), u32_at(44));
    let tables: Vec<&[u8]> = (0..fats).map(|copy| &disk[(reserved + copy * table) * 512..][..table * 512]).collect();
    assert!(tables.iter().all(|copy| *copy == tables[0]), "the tables differ");
    let data = reserved + fats * table;
    let clusters = (total - data) / per_cluster;
    let next = |cluster: usize| u32_at(reserved * 512 + cluster * 4) & 0x0fff_ffff;
    let bytes = |cluster: usize| &disk[(data + (cluster - 2) * per_cluster) * 512..][..per_cluster * 512];

    let mut owner: BTreeMap<usize, String> = BTreeMap::new();
    let mut claim = |first: usize, name: &str| -> Vec<usize> {
        let (mut chain, mut cluster) = (Vec::new(), first);
        while cluster < 0x0fff_fff8 {
            assert!((2..clusters + 2).contains(&cluster), "{name}: cluster {cluster} is not on the volume");
            let other = owner.insert(cluster, name.to_string());
            assert_eq!(other, None, "{name}: cluster {cluster} belongs to another file too");
            chain.push(cluster);
            cluster = next(cluster);
        }
        chain
    };
    let mut todo = vec![(root, root, "/".to_string())];
    while let Some((first, parent, path)) = todo.pop() {
        let content: Vec<u8> = claim(first, &path).into_iter().flat_map(bytes).copied().collect();
        let mut long: Vec<(u8, u8)> = Vec::new();
        let mut names = Vec::new();
        let mut ended = false;
        for raw in content.chunks(32) {
            ended |= raw[0] == 0;
            if ended || raw[0] == 0xe5 {
                assert!(long.is_empty(), "{path}: a long name without its entry");
                continue;
            }
            if raw[11] == 0x0f {
                long.push((raw[0] & 0x3f, raw[13]));
                continue;
            }
            let sum = raw[..11].iter().fold(0u8, |sum, b| sum.rotate_right(1).wrapping_add(*b));
            let count = u8::try_from(long.len()).unwrap();
            for (index, (order, checksum)) in (0..).zip(long.drain(..)) {
                assert_eq!((order, checksum), (count - index, sum), "{path}: a long name is out of order");
            }
            if raw[11] & 0x08 != 0 {
                continue;
            }
            let cluster = usize::from(u16::from_le_bytes([raw[20], raw[21]])) << 16
                | usize::from(u16::from_le_bytes([raw[26], raw[27]]));
            let size = usize::try_from(u32::from_le_bytes(raw[28..32].try_into().unwrap())).unwrap();
            let name = format!("{path}{}", String::from_utf8_lossy(&raw[..11]));
            if raw[0] == b'.' {
                let expected = if raw[1] == b'.' { parent } else { first };
                let expected = if raw[1] == b'.' && expected == root { 0 } else { expected };
                assert_eq!(cluster, expected, "{name}: leads elsewhere");
                continue;
            }
            assert!(!names.contains(&raw[..11].to_vec()), "{name} stands there twice");
            names.push(raw[..11].to_vec());
            if raw[11] & 0x10 != 0 {
                todo.push((cluster, first, format!("{name}/")));
            } else if cluster == 0 {
                assert_eq!(size, 0, "{name}: has a size but no clusters");
            } else {
                let chain = claim(cluster, &name).len();
                assert_eq!(chain, size.div_ceil(per_cluster * 512), "{name}: clusters do not match the size");
            }
        }
    }
    let used = (2..clusters + 2).filter(|&cluster| next(cluster) != 0).count();
    assert_eq!(used, owner.len(), "clusters are lost");
    let free = u32_at(u16_at(48) * 512 + 488);
    assert!(free == 0xffff_ffff || free == clusters - used, "the free count is {free}, not {}", clusters - used);
}
