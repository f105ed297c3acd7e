//! Names of XenStore nodes, in one place.

use alloc::string::String;

use hypercall_abi::ids::DomId;

use crate::uuid::Uuid;

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

/// `/local/domain/0/backend/vbd/<domid>/<number>`.
pub fn vbd_backend(domid: DomId, number: u32) -> String {
    alloc::format!("/local/domain/0/backend/vbd/{domid}/{number}")
}

/// `/local/domain/<domid>/device/vbd/<number>`.
pub fn vbd_frontend(domid: DomId, number: u32) -> String {
    alloc::format!("/local/domain/{domid}/device/vbd/{number}")
}

/// `/libxl/<domid>/device/vbd/<number>`.
pub fn vbd_toolstack(domid: DomId, number: u32) -> String {
    alloc::format!("/libxl/{domid}/device/vbd/{number}")
}

/// Splits the path of a block back end, or of a node below it, into domain, device number and the rest.
pub fn parse_vbd_backend(path: &str) -> Option<(DomId, u32, &str)> {
    let rest = path.strip_prefix("/local/domain/0/").unwrap_or(path).strip_prefix("backend/vbd/")?;
    let mut parts = rest.splitn(3, '/');
    let domid = parts.next()?.parse().ok().map(DomId)?;
    let number = parts.next()?.parse().ok()?;
    Some((domid, number, parts.next().unwrap_or("")))
}
