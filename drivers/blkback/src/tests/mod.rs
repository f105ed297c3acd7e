//! The back end against a fake guest whose grants, events and disk punish every careless use.

mod hostile;
mod model;
mod rules;
mod world;
