//! Names of XenStore nodes, in one place.

use alloc::string::String;

use hypercall_abi::ids::DomId;

use crate::uuid::Uuid;

/// The kind of block devices.
pub const VBD: &str = "vbd";
/// The kind of network interfaces.
pub const VIF: &str = "vif";

/// `/local/domain/<domid>`.
pub fn domain(domid: DomId) -> String {
    alloc::format!("/local/domain/{domid}")
}

/// `/vm/<uuid>`.
pub fn vm(uuid: &Uuid) -> String {
    alloc::format!("/vm/{uuid}")
}

/// `/libxl/<domid>`: what the toolstack keeps for itself.
pub fn toolstack(domid: DomId) -> String {
    alloc::format!("/libxl/{domid}")
}

/// `/local/domain/0/backend/<kind>/<domid>`.
pub fn backends(kind: &str, domid: DomId) -> String {
    alloc::format!("/local/domain/0/backend/{kind}/{domid}")
}

/// `/local/domain/0/backend/<kind>/<domid>/<number>`.
pub fn backend(kind: &str, domid: DomId, number: u32) -> String {
    alloc::format!("/local/domain/0/backend/{kind}/{domid}/{number}")
}

/// `/local/domain/<domid>/device/<kind>/<number>`.
pub fn frontend(kind: &str, domid: DomId, number: u32) -> String {
    alloc::format!("/local/domain/{domid}/device/{kind}/{number}")
}

/// `/libxl/<domid>/device/<kind>/<number>`: the toolstack's own copy.
pub fn device(kind: &str, domid: DomId, number: u32) -> String {
    alloc::format!("/libxl/{domid}/device/{kind}/{number}")
}

/// Splits the path of a back end of this kind, or of a node below it, into domain, device number and the rest.
pub fn parse_backend<'a>(kind: &str, path: &'a str) -> Option<(DomId, u32, &'a str)> {
    let rest = path.strip_prefix("/local/domain/0/").unwrap_or(path).strip_prefix("backend/")?;
    let mut parts = rest.strip_prefix(kind)?.strip_prefix('/')?.splitn(3, '/');
    let domid = parts.next()?.parse().ok().map(DomId)?;
    let number = parts.next()?.parse().ok()?;
    Some((domid, number, parts.next().unwrap_or("")))
}
