//! What publishers and subscribers count, as metrics. The labels say which topic or consumer it is, by its role.

use std::sync::atomic::Ordering::Relaxed;

use super::{Counters, PublishCounters};
use crate::runtime::exposition::{Labels, Page};

impl PublishCounters {
    /// Writes the numbers of several publishers.
    pub fn expose(page: &mut Page<'_>, publishers: &[(Labels<'_>, &Self)]) {
        let all = |value: fn(&Self) -> u64| publishers.iter().map(move |(labels, counters)| (*labels, value(counters)));
        page.counters("bus_published_messages", "Messages that the topic confirmed.", all(Self::confirmed));
        page.counters("bus_publish_retried_messages", "Messages that the publisher itself sent again.", all(Self::retried));
        page.counters(
            "bus_publish_failed_messages",
            "Messages whose publish was given up; whoever had it published tries again.",
            all(Self::failed),
        );
        page.counters("bus_publish_refused_messages", "Messages that the topic refused for good.", all(Self::refused));
        page.gauges("bus_publish_in_flight_messages", "Messages neither confirmed nor given up.", all(|counters| counters.in_flight().0));
        page.gauges("bus_publish_in_flight_bytes", "Their bytes.", all(|counters| counters.in_flight().1));
        let oldest = publishers.iter().map(|(labels, counters)| (*labels, counters.oldest_unconfirmed().unwrap_or_default().as_secs_f64()));
        page.gauges("bus_publish_oldest_seconds", "How long the oldest of them has been on its way; 0 where there is none.", oldest);
    }
}

impl Counters {
    /// Writes the numbers of several subscribers.
    pub fn expose(page: &mut Page<'_>, subscribers: &[(Labels<'_>, &Self)]) {
        let all = |value: fn(&Self) -> u64| subscribers.iter().map(move |(labels, counters)| (*labels, value(counters)));
        page.counters("bus_delivered_messages", "Deliveries made, repeated ones included.", all(Self::delivered));
        page.counters("bus_redelivered_messages", "Of these, those that were not the first of their message.", all(Self::redelivered));
        page.counters("bus_acked_messages", "Deliveries acked.", all(Self::acked));
        page.counters("bus_nacked_messages", "Deliveries given back.", all(Self::nacked));
        page.counters("bus_lost_messages", "Messages that retention deleted before they were acked.", all(Self::lost_to_retention));
        page.counters("bus_corrupt_messages", "Messages passed over because what is stored of them is damaged.", all(Self::corrupt));
        page.counters("bus_reopened_streams", "Streams of a managed service that ended and were opened anew.", all(Self::reopened));
        page.gauges("bus_in_flight_messages", "Deliveries held and not answered.", all(|counters| counters.in_flight.load(Relaxed)));
    }
}
