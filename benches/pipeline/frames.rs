//! The load: chat frames of 500 bytes over 10,000 conversations of 5 accounts, in an order drawn with a fixed seed.

use std::fmt::Write as _;

use convpipe::schema::time::Millis;

/// Accounts that the conversations are spread over.
pub(crate) const ACCOUNTS: usize = 5;
/// Conversations, over all accounts.
pub(crate) const CONVERSATIONS: usize = 10_000;
/// Bytes of a frame.
pub(crate) const FRAME_BYTES: usize = 500;
/// Of ten messages, the fan wrote this many.
const INBOUND_OF_TEN: usize = 7;

/// Makes frames, each with a message of its own.
pub(crate) struct Frames {
    random: fastrand::Rng,
    next_message: u64,
}

/// A frame, the account it is for, and the conversation it belongs to.
pub(crate) struct Frame {
    pub(crate) account: String,
    pub(crate) fan: u64,
    pub(crate) message: u64,
    pub(crate) text: String,
}

/// The name of an account.
pub(crate) fn account(number: usize) -> String {
    (200_000_001 + number).to_string()
}

impl Frames {
    pub(crate) fn new() -> Self {
        Self { random: fastrand::Rng::with_seed(7), next_message: 6_400_000_000_001 }
    }

    /// A message of a random conversation, written now.
    pub(crate) fn next(&mut self, now: Millis) -> Frame {
        let conversation = self.random.usize(..CONVERSATIONS);
        self.of(conversation, now)
    }

    /// A message of this conversation, written now.
    pub(crate) fn of(&mut self, conversation: usize, now: Millis) -> Frame {
        let account = account(conversation % ACCOUNTS);
        let fan = 100_000_001 + conversation as u64;
        let message = self.next_message;
        self.next_message += 1;
        let at = &now.to_string()[..19];
        let mut text = String::with_capacity(FRAME_BYTES);
        text.push_str(r#"{"api2_chat_message":{"id":"#);
        let inbound = self.random.usize(..10) < INBOUND_OF_TEN;
        let (from, to) = if inbound { (fan.to_string(), String::new()) } else { (account.clone(), format!(r#","toUser":{{"id":{fan}}}"#)) };
        let _ = write!(
            text,
            r#"{message},"responseType":"message","giphyId":null,"lockedText":false,"isFree":true,"price":0,"isMediaReady":true,"mediaCount":0,"media":[],"previews":[],"isTip":false,"queueId":0,"fromUser":{{"id":{from}}}{to},"isFromQueue":false,"isOpened":false,"isNew":true,"createdAt":"{at}+00:00","changedAt":"{at}+00:00","cancelSeconds":0,"isLiked":false,"canPurchase":false,"text":"<p>"#
        );
        let end = "</p>\"}}";
        while text.len() + end.len() < FRAME_BYTES {
            let word = ["hello ", "there ", "how ", "are ", "you ", "today ", "friend "][self.random.usize(..7)];
            let left = FRAME_BYTES - end.len() - text.len();
            text.push_str(&word[..word.len().min(left)]);
        }
        text.push_str(end);
        Frame { account, fan, message, text }
    }
}
