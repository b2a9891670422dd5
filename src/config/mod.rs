//! The config: typed sections, defaults, layering with provenance, validation.

mod sections;

pub use sections::*;
