//! To be filled.
#![no_std]
#![no_main]
