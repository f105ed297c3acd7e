//! The back end against a fake guest whose grants, events and disk punish every careless use.

mod front;
mod hostile;
mod memory;
mod model;
mod order;
mod pages;
mod ram_disk;
mod rules;
mod world;
