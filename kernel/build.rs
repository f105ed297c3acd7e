//! Hands the linker our layout, and makes it link the image so that it runs at any address.

fn main() {
    let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:rerun-if-changed=image.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    for argument in [
        &format!("-T{folder}/image.ld"),
        // The image is loaded anywhere, and moves its own pointers before it uses them.
        "-pie",
        "--no-dynamic-linker",
        "-znotext",
        "-zmax-page-size=4096",
        "--gc-sections",
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
