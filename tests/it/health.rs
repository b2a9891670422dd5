//! `/metrics`, `/livez` and `/readyz`: what they answer, and that the numbers of a replay add up.

mod documented;
mod listener;
pub(crate) mod replayed;
pub(crate) mod scrape;
