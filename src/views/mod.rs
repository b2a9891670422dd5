//! Redis: the current state of every conversation, as people and programs read it.
//!
//! Owns keys, scripts, connections, writing and reading. Does not own what is written ([`crate::transform::materialize`]) nor its shape
//! ([`crate::schema::view`]). Invariants: [`Writer`] is the only way in and every write is guarded, bounded and repeatable; [`Reader`] and
//! [`Follower`] only read, as a user who may do nothing else; Redis is disposable, another [`Epoch`] says that it lost data.

pub mod acl;
mod connection;
mod epoch;
mod error;
mod follow;
mod keys;
mod memory;
mod password;
mod probe;
mod read;
mod resolve;
mod script;
mod stream;
mod value;
mod watch;
mod write;

pub use epoch::{Epoch, Mark};
pub use error::ViewsError;
pub use follow::{Follow, FollowItem, Followed, Follower, GapCause, Start};
pub use keys::Keys;
pub use memory::Memory;
pub use probe::ServerFacts;
pub use read::{ConversationView, Reader, StoredView};
pub use stream::{StreamEntry, StreamId, StreamRange};
pub use write::{Stored, Writer};
