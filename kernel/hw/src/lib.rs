//! To be filled.
#![cfg_attr(not(test), no_std)]
