//! `#[pv_guest_lib::main]`: names the async function that a guest starts with.
//!
//! The attribute leaves the function as it is and adds the entry behind it, so that errors point at the author's own
//! lines and nothing of the function is parsed here.
#![forbid(unsafe_code)]

use proc_macro::{TokenStream, TokenTree};

/// Makes an `async fn` the guest's main. It takes a `pv_guest_lib::Guest` and returns nothing, a `ShutdownReason`, or
/// a `Result` of one of them whose error can be displayed; `pv_guest_lib::guest::Outcome` says what follows.
#[proc_macro_attribute]
pub fn main(arguments: TokenStream, function: TokenStream) -> TokenStream {
    if !arguments.is_empty() {
        return error("#[pv_guest_lib::main] takes no arguments");
    }
    let Some(name) = name(function.clone()) else {
        return error("#[pv_guest_lib::main] belongs on an `async fn main(guest: Guest)`");
    };
    let entry = format!("::pv_guest_lib::__start!({name});").parse::<TokenStream>().expect("a macro call");
    function.into_iter().chain(entry).collect()
}

/// The identifier behind `async fn`.
fn name(function: TokenStream) -> Option<String> {
    let mut words = function.into_iter().map(|token| match token {
        TokenTree::Ident(word) => word.to_string(),
        TokenTree::Group(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => String::new(),
    });
    words.by_ref().find(|word| word == "async")?;
    words.next().filter(|word| word == "fn")?;
    words.next()
}

fn error(text: &str) -> TokenStream {
    format!("::core::compile_error!({text:?});").parse().expect("a macro call")
}
