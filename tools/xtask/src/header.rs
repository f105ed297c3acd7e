//! Makes the header for guests in C from the crate that they link.
//!
//! Our own generator, since the one that everybody uses (cbindgen) is under the MPL, which the licences of the
//! dependencies exclude; what there is to be said in C is little: functions, flat structures, numbers, and their comments.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use syn::{
    Attribute, Expr, Fields, FnArg, ForeignItem, Item, Lit, Meta, Pat, PointerMutability, ReturnType, Signature, Type,
    Visibility,
};

use crate::paths::Paths;
use crate::ui;

/// The crate, and in it the modules with what C sees, in the order of the header.
const KIT: &str = "pv-guest-lib/c";
const MODULES: &[&str] = &["guest", "store", "disk", "event"];

/// Writes the header; the text of `cargo xtask header`.
pub fn command(paths: &Paths) -> Result<()> {
    let place = place(paths);
    std::fs::write(&place, made(paths)?).with_context(|| format!("cannot write {}", place.display()))?;
    ui::say("header", &format!("{}", place.display()));
    Ok(())
}

/// Checks that the header is what would be made now.
pub fn check(paths: &Paths) -> Result<()> {
    let place = place(paths);
    let found = std::fs::read_to_string(&place).with_context(|| format!("cannot read {}", place.display()))?;
    ensure!(found == made(paths)?, "{} is not what `cargo xtask header` makes", place.display());
    Ok(())
}

fn place(paths: &Paths) -> PathBuf {
    paths.root().join(KIT).join("include/pv_guest.h")
}

fn made(paths: &Paths) -> Result<String> {
    let sources = paths.root().join(KIT).join("src");
    let read = |file: &Path| std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()));
    let modules: Vec<_> =
        MODULES.iter().map(|name| read(&sources.join("sys").join(format!("{name}.rs")))).collect::<Result<_>>()?;
    header(&read(&sources.join("lib.rs"))?, &modules)
}

/// The header of a crate whose root and modules these are.
fn header(root: &str, modules: &[String]) -> Result<String> {
    let mut text = comment(&syn::parse_file(root)?.attrs);
    text.push_str("\n#ifndef PV_GUEST_H\n#define PV_GUEST_H\n\n#include <stddef.h>\n#include <stdint.h>\n\n");
    text.push_str("#ifdef __cplusplus\nextern \"C\" {\n#endif\n");
    for module in modules {
        let file = syn::parse_file(module)?;
        writeln!(
            text,
            "\n// ---- {}",
            comment(&file.attrs).lines().next().unwrap_or_default().trim_start_matches("// ")
        )?;
        for item in &file.items {
            declare(&mut text, item)?;
        }
    }
    text.push_str("\n#ifdef __cplusplus\n}\n#endif\n\n#endif\n");
    Ok(text)
}

/// Appends what an item is in C, if C sees it.
fn declare(text: &mut String, item: &Item) -> Result<()> {
    match item {
        Item::Fn(function) if is_public(&function.vis) && function.sig.abi.is_some() => {
            write!(text, "\n{}{};\n", comment(&function.attrs), prototype(&function.sig)?)?;
        }
        Item::ForeignMod(foreign) => {
            for item in &foreign.items {
                let ForeignItem::Fn(function) = item else { bail!("only functions can be left to C") };
                write!(text, "\n{}{};\n", comment(&function.attrs), prototype(&function.sig)?)?;
            }
        }
        Item::Const(constant) if is_public(&constant.vis) => {
            let Expr::Lit(value) = &*constant.expr else { bail!("{} is not a plain number", constant.ident) };
            let Lit::Int(number) = &value.lit else { bail!("{} is not a whole number", constant.ident) };
            let (name, kind) = (&constant.ident, in_c(&constant.ty)?);
            write!(text, "\n{}#define {name} (({kind}){number})\n", comment(&constant.attrs))?;
        }
        Item::Struct(structure) if is_repr_c(&structure.attrs) => {
            let Fields::Named(fields) = &structure.fields else { bail!("{} has no names", structure.ident) };
            write!(text, "\n{}struct {} {{\n", comment(&structure.attrs), structure.ident)?;
            for field in &fields.named {
                let name = field.ident.as_ref().context("a field without a name")?;
                for line in comment(&field.attrs).lines() {
                    writeln!(text, "    {line}")?;
                }
                writeln!(text, "    {};", declarator(&in_c(&field.ty)?, &name.to_string()))?;
            }
            text.push_str("};\n");
        }
        _ => {}
    }
    Ok(())
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

fn is_repr_c(attributes: &[Attribute]) -> bool {
    let is_c = |attribute: &Attribute| attribute.parse_args::<syn::Ident>().is_ok_and(|kind| kind == "C");
    attributes.iter().any(|attribute| attribute.path().is_ident("repr") && is_c(attribute))
}

fn prototype(signature: &Signature) -> Result<String> {
    let mut arguments = Vec::new();
    for argument in &signature.inputs {
        let FnArg::Typed(argument) = argument else { bail!("{} takes self", signature.ident) };
        let Pat::Ident(name) = &*argument.pat else { bail!("{} has a pattern", signature.ident) };
        arguments.push(declarator(&in_c(&argument.ty)?, &name.ident.to_string()));
    }
    let arguments = if arguments.is_empty() { "void".to_owned() } else { arguments.join(", ") };
    let result = match &signature.output {
        ReturnType::Default => "void".to_owned(),
        ReturnType::Type(_, kind) if matches!(**kind, Type::Never(_)) => "__attribute__((noreturn)) void".to_owned(),
        ReturnType::Type(_, kind) => in_c(kind)?,
    };
    Ok(declarator(&result, &format!("{}({arguments})", signature.ident)))
}

/// A name of a type, as C writes it: the star of a pointer stands at the name.
fn declarator(kind: &str, name: &str) -> String {
    if kind.ends_with('*') { format!("{kind}{name}") } else { format!("{kind} {name}") }
}

fn in_c(kind: &Type) -> Result<String> {
    let path = match kind {
        Type::Ptr(pointer) => {
            let constant = if matches!(pointer.mutability, PointerMutability::Mut(_)) { "" } else { "const " };
            return Ok(format!("{constant}{} *", in_c(&pointer.elem)?));
        }
        Type::Path(path) => path,
        _ => bail!("a type that C does not have"),
    };
    let name = path.path.segments.last().context("a type without a name")?.ident.to_string();
    Ok(match name.as_str() {
        "u8" | "u16" | "u32" | "u64" => format!("uint{}_t", &name[1..]),
        "i8" | "i16" | "i32" | "i64" => format!("int{}_t", &name[1..]),
        "usize" => "size_t".to_owned(),
        "c_char" => "char".to_owned(),
        _ if name.starts_with("pv_") => format!("struct {name}"),
        _ => bail!("{name} is nothing that C knows"),
    })
}

/// The documentation as a comment, without headings and the quotes around code.
fn comment(attributes: &[Attribute]) -> String {
    let mut text = String::new();
    for attribute in attributes {
        let Meta::NameValue(doc) = &attribute.meta else { continue };
        let (true, Expr::Lit(line)) = (doc.path.is_ident("doc"), &doc.value) else { continue };
        let Lit::Str(line) = &line.lit else { continue };
        let line = line.value().replace('`', "");
        match line.trim_end() {
            heading if heading.starts_with(" # ") => {}
            "" if text.is_empty() => {}
            "" => text.push_str("//\n"),
            line => {
                let _ = writeln!(text, "//{line}");
            }
        }
    }
    // What stood above a heading was a paragraph of its own; in a comment the next sentence follows.
    text.replace("//\n//\n", "//\n")
}

#[cfg(test)]
mod tests {
    use super::header;

    const ROOT: &str = "//! What it is.\n//!\n//! How it is used.\n";
    const MODULE: &str = concat!(
        "//! A part.\n",
        "/// A number.\npub const PV_ONE: u32 = 1;\n",
        "const INNER: u32 = 2;\n",
        "/// A thing.\n#[repr(C)]\npub struct pv_thing {\n    /// Its `size`.\n    pub size: u64,\n}\n",
        "unsafe extern \"C\" {\n    /// Yours.\n    safe fn pv_main();\n}\n",
        "/// Fills a thing.\n///\n/// # Safety\n/// It must be one.\n",
        "pub extern \"C\" fn pv_fill(name: *const c_char, thing: *mut pv_thing) -> i64 { 0 }\n",
        "/// Ends.\npub extern \"C\" fn pv_end() -> ! { loop {} }\n",
        "pub fn inner(text: &str) {}\n",
    );

    #[test]
    fn what_c_sees_is_declared_with_its_comments_and_nothing_else_is() {
        let made = header(ROOT, &[MODULE.to_owned()]).expect("a header");
        for part in [
            "// What it is.\n//\n// How it is used.\n\n#ifndef",
            "// ---- A part.\n",
            "// A number.\n#define PV_ONE ((uint32_t)1)\n",
            "// A thing.\nstruct pv_thing {\n    // Its size.\n    uint64_t size;\n};\n",
            "// Yours.\nvoid pv_main(void);\n",
            "// Fills a thing.\n//\n// It must be one.\nint64_t pv_fill(const char *name, struct pv_thing *thing);\n",
            "// Ends.\n__attribute__((noreturn)) void pv_end(void);\n",
        ] {
            assert!(made.contains(part), "{part}is not in\n{made}");
        }
        assert!(!made.contains("INNER") && !made.contains("inner"));
    }

    #[test]
    fn a_type_that_c_does_not_have_is_an_error() {
        let wrong = "pub extern \"C\" fn pv_wrong(text: &str) {}\n".to_owned();
        assert!(header(ROOT, &[wrong]).is_err());
    }
}
