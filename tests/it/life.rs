//! The life of a daemon as whoever runs it sees it: what its manager is told, reloads, drains under load, and what stands in its log.

mod drain;
mod logs;
mod manager;
mod notify;
mod reload;
