//! The `convpipe` binary.

fn main() {}
