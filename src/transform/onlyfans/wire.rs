//! What the platform writes, in the forms in which it was seen to write it.
//!
//! Owns: the leniencies (ids and numbers as texts, users as bare ids, an empty object as `[]`), the bounds of lists, and where in an item a value has
//! the wrong type. Does not own: what any of it means. Invariant: a field that is not read may hold anything.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::value::RawValue;

use super::item::Failure;
use super::money;
use crate::schema::text::Untrusted;
use crate::schema::time::Millis;
use crate::transform::normalize::Reason;

/// Reads an item's JSON. The second reading, which finds the place of an error, happens only where there is one.
pub(super) fn read<'f, T: Deserialize<'f>>(json: &'f RawValue) -> Result<T, Failure> {
    serde_json::from_str(json.get()).map_err(|error| explain::<T>(json, &error))
}

#[cold]
fn explain<'f, T: Deserialize<'f>>(json: &'f RawValue, error: &serde_json::Error) -> Failure {
    let text = error.to_string();
    let reason = match error.classify() {
        serde_json::error::Category::Data if text.starts_with("duplicate field") => Reason::DuplicateKey,
        serde_json::error::Category::Data if text.starts_with(TOO_MANY) => Reason::TooManyItems,
        serde_json::error::Category::Data => Reason::WrongType,
        // The frame is known to be JSON: what is left is a string that is no text.
        _ => Reason::BadText,
    };
    let path = match serde_path_to_error::deserialize::<_, T>(&mut serde_json::Deserializer::from_str(json.get())) {
        Err(located) if located.path().iter().next().is_some() => located.path().to_string(),
        _ => String::new(),
    };
    Failure::new(reason, path, text)
}

/// A number or a text, as the source chose: ids, amounts, times, counts.
#[derive(Debug)]
pub(super) enum Scalar<'f> {
    /// The number as it was written.
    Number(Cow<'f, str>),
    /// The text.
    Text(Cow<'f, str>),
}

impl<'f> Scalar<'f> {
    /// An id; `None` for a blank one and for 0, which identify nothing.
    pub(super) fn id(self, path: &'static str) -> Result<Option<Untrusted<'f>>, Failure> {
        let text = match self {
            Self::Number(text) if !text.bytes().all(|b| b.is_ascii_digit()) => {
                return Err(Failure::new(Reason::WrongType, path, format!("{} is not an id", excerpt(&text))));
            }
            Self::Number(text) | Self::Text(text) => text,
        };
        let blank = text.trim().is_empty() || text.bytes().all(|b| b == b'0');
        Ok((!blank).then(|| Untrusted::from(text)))
    }

    /// An amount in cents; `None` for a blank text.
    pub(super) fn cents(&self, path: &'static str) -> Result<Option<i64>, Failure> {
        let (Self::Number(text) | Self::Text(text)) = self;
        money::minor_units(text).map_err(|what| Failure::new(Reason::BadMoney, path, format!("{} is no amount: {what}", excerpt(text))))
    }

    /// A time: RFC 3339, or seconds (from 10^11 on milliseconds) since the epoch; `None` for a blank text.
    pub(super) fn time(&self, path: &'static str) -> Result<Option<Millis>, Failure> {
        let (Self::Number(text) | Self::Text(text)) = self;
        if text.trim().is_empty() {
            return Ok(None);
        }
        let time = match text.parse::<i64>() {
            Ok(seconds) if (0..100_000_000_000).contains(&seconds) => Some(Millis(seconds * 1000)),
            Ok(millis) if (100_000_000_000..100_000_000_000_000).contains(&millis) => Some(Millis(millis)),
            Ok(_) => None,
            Err(_) => Millis::parse(text),
        };
        time.map(Some).ok_or_else(|| Failure::new(Reason::BadTime, path, format!("{} is not a time", excerpt(text))))
    }

    /// A count, or a measure whose fraction nobody needs; `None` for a blank text.
    pub(super) fn count(&self, path: &'static str) -> Result<Option<u64>, Failure> {
        let (Self::Number(text) | Self::Text(text)) = self;
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let is_number = whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
        let count = if is_number { whole.parse().ok() } else { None };
        count.map(Some).ok_or_else(|| Failure::new(Reason::WrongType, path, format!("{} is not a count", excerpt(text))))
    }
}

/// The beginning of a foreign text, escaped, for a message.
fn excerpt(text: &str) -> String {
    let end = text.char_indices().nth(40).map_or(text.len(), |(at, _)| at);
    format!("{:?}", &text[..end])
}

/// Reads [`Option<Scalar>`] fields by the path-aware methods above.
pub(super) trait Stated<'f> {
    /// See [`Scalar::id`].
    fn id(self, path: &'static str) -> Result<Option<Untrusted<'f>>, Failure>;
    /// See [`Scalar::cents`].
    fn cents(&self, path: &'static str) -> Result<Option<i64>, Failure>;
    /// See [`Scalar::time`].
    fn time(&self, path: &'static str) -> Result<Option<Millis>, Failure>;
    /// See [`Scalar::count`]; beyond 32 bits it is no measure.
    fn measure(&self, path: &'static str) -> Result<Option<u32>, Failure>;
}

impl<'f> Stated<'f> for Option<Scalar<'f>> {
    fn id(self, path: &'static str) -> Result<Option<Untrusted<'f>>, Failure> {
        self.map_or(Ok(None), |scalar| scalar.id(path))
    }

    fn cents(&self, path: &'static str) -> Result<Option<i64>, Failure> {
        self.as_ref().map_or(Ok(None), |scalar| scalar.cents(path))
    }

    fn time(&self, path: &'static str) -> Result<Option<Millis>, Failure> {
        self.as_ref().map_or(Ok(None), |scalar| scalar.time(path))
    }

    fn measure(&self, path: &'static str) -> Result<Option<u32>, Failure> {
        let count = self.as_ref().map_or(Ok(None), |scalar| scalar.count(path))?;
        count.map(u32::try_from).transpose().map_err(|_| Failure::new(Reason::WrongType, path, "too large".to_owned()))
    }
}

impl<'de: 'f, 'f> Deserialize<'de> for Scalar<'f> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The token itself, so that a number keeps its decimal text and its digits are borrowed.
        let token = <&'de RawValue>::deserialize(deserializer)?.get();
        let unexpected = match token.as_bytes().first() {
            Some(b'-' | b'0'..=b'9') => return Ok(Self::Number(Cow::Borrowed(token))),
            Some(b'"') => {
                return match serde_json::from_str::<Untrusted<'de>>(token) {
                    Ok(text) => Ok(Self::Text(text.into_cow())),
                    Err(error) => Err(de::Error::custom(error)),
                };
            }
            Some(b't') => Unexpected::Bool(true),
            Some(b'f') => Unexpected::Bool(false),
            Some(b'[') => Unexpected::Seq,
            Some(b'{') => Unexpected::Map,
            _ => Unexpected::Unit,
        };
        Err(de::Error::invalid_type(unexpected, &"a number or a text"))
    }
}

/// An object. Derived readers alone would take an array's elements for the fields in their order.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// An object; where it has no members, the platform's PHP writes `[]`.
#[derive(Debug, Default)]
pub(super) struct OrEmpty<T>(pub(super) T);

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for OrEmpty<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OrEmptyVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for OrEmptyVisitor<T> {
            type Value = OrEmpty<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(OrEmpty)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                empty(seq, &self).map(|()| OrEmpty(T::default()))
            }
        }

        deserializer.deserialize_any(OrEmptyVisitor(PhantomData))
    }
}

fn empty<'de, A: SeqAccess<'de>>(mut seq: A, expected: &dyn de::Expected) -> Result<(), A::Error> {
    match seq.next_element::<IgnoredAny>()? {
        None => Ok(()),
        Some(_) => Err(de::Error::invalid_type(Unexpected::Seq, expected)),
    }
}

/// How [`Bounded`]'s error begins, so that it is told from a wrong type.
const TOO_MANY: &str = "more than";

/// A list of at most `MAX` elements; `null` is an empty one.
#[derive(Debug)]
pub(super) struct Bounded<T, const MAX: usize>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T, const MAX: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for ListVisitor<T, MAX> {
            type Value = Bounded<T, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(element) = seq.next_element()? {
                    if list.len() == MAX {
                        return Err(de::Error::custom(format_args!("{TOO_MANY} {MAX} elements")));
                    }
                    list.push(element);
                }
                Ok(Bounded(list))
            }
        }

        deserializer.deserialize_seq(ListVisitor(PhantomData))
    }
}

/// Something that is named by its bare id or by an object: users, posts, the shapes nobody has seen.
///
/// `T` is the object; of a bare id it is made by `From`.
#[derive(Debug, Default)]
pub(super) struct BareOr<T>(pub(super) T);

impl<'de: 'f, 'f, T: Deserialize<'de> + Default + From<Scalar<'f>>> Deserialize<'de> for BareOr<T>
where
    T: 'f,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EitherVisitor<'f, T>(PhantomData<(&'f (), T)>);

        impl<'de: 'f, 'f, T: Deserialize<'de> + Default + From<Scalar<'f>>> Visitor<'de> for EitherVisitor<'f, T> {
            type Value = BareOr<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an id or an object")
            }

            fn visit_u64<E: de::Error>(self, id: u64) -> Result<Self::Value, E> {
                Ok(BareOr(T::from(Scalar::Number(Cow::Owned(itoa::Buffer::new().format(id).to_owned())))))
            }

            fn visit_borrowed_str<E: de::Error>(self, id: &'de str) -> Result<Self::Value, E> {
                Ok(BareOr(T::from(Scalar::Text(Cow::Borrowed(id)))))
            }

            fn visit_str<E: de::Error>(self, id: &str) -> Result<Self::Value, E> {
                Ok(BareOr(T::from(Scalar::Text(Cow::Owned(id.to_owned())))))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(BareOr)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                empty(seq, &self).map(|()| BareOr(T::default()))
            }
        }

        deserializer.deserialize_any(EitherVisitor(PhantomData))
    }
}

/// The members of an object in their order, unread. Repeated keys stand as often as they were written.
#[derive(Debug)]
pub(crate) struct Members<'f> {
    /// Keys and values, at most as many as a frame may hold items.
    pub(crate) list: Vec<(Untrusted<'f>, &'f RawValue)>,
    /// There were more.
    pub(crate) cut: bool,
}

impl<'de: 'f, 'f> Deserialize<'de> for Members<'f> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Members { list: Vec::with_capacity(4), cut: false };
                while members.list.len() < super::ITEMS_MAX {
                    match map.next_entry()? {
                        Some(member) => members.list.push(member),
                        None => return Ok(members),
                    }
                }
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    members.cut = true;
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
}
