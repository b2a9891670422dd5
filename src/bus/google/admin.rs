//! What has to exist before the services start: topics and subscriptions as the config wants them. For `convpipe provision`.
//!
//! Owns: the plan, the difference between it and what is there, and making it so. Does not own what a person reads. Invariants: looking changes
//! nothing; making it so twice changes nothing the second time; nothing is ever deleted, and what cannot be changed in place is told.

use std::time::Duration;

use google_cloud_gax::error::rpc::Code;
use google_cloud_pubsub::Error;
use google_cloud_pubsub::client::{SubscriptionAdmin, TopicAdmin};
use google_cloud_pubsub::model::{DeadLetterPolicy, ExpirationPolicy, Subscription, Topic};
use google_cloud_wkt as wkt;

use super::connection::Connection;
use super::fault::service_error;
use crate::bus::{BusError, ServiceError, ServiceFault};
use crate::config::{BusConfig, GoogleBusConfig};
use crate::runtime::provision::{Action, Change};

/// The administrator of one project's topics and subscriptions.
#[derive(Debug)]
pub struct Admin {
    topics: TopicAdmin,
    subscriptions: SubscriptionAdmin,
    project: String,
    is_emulator: bool,
    plan: Plan,
}

/// What is wanted.
#[derive(Debug)]
struct Plan {
    topics: Vec<Topic>,
    subscriptions: Vec<Subscription>,
}

impl Admin {
    /// Plans what the config wants, and finds the credentials for it.
    ///
    /// # Errors
    /// As [`super::GoogleBus::open`].
    pub async fn open(config: &BusConfig) -> Result<Self, BusError> {
        let connection = Connection::open(&config.google).await?;
        // The config refuses to be without one.
        let project = config.google.project.clone().unwrap_or_default();
        let (topics, subscriptions) = (connection.topics().await?, connection.subscriptions().await?);
        Ok(Self { topics, subscriptions, plan: Plan::of(config, &project), is_emulator: config.google.emulator.is_some(), project })
    }

    /// What [`Admin::apply`] would do. Changes nothing.
    ///
    /// # Errors
    /// Where the service cannot be asked, or may not be by this identity.
    pub async fn plan(&self) -> Result<Vec<Change>, BusError> {
        self.go(false).await
    }

    /// Makes what is missing and changes what differs; what was done, in order.
    ///
    /// # Errors
    /// Where the service cannot be asked, or may not be by this identity. What was done before stays done: run it again.
    pub async fn apply(&self) -> Result<Vec<Change>, BusError> {
        self.go(true).await
    }

    /// Names of the subscriptions of a topic, whoever made them; a topic that is not there has none.
    ///
    /// # Errors
    /// Where the service cannot be asked, or may not be by this identity.
    pub async fn readers(&self, topic: &str) -> Result<Vec<String>, BusError> {
        let path = format!("projects/{}/topics/{topic}", self.project);
        match self.topics.list_topic_subscriptions().set_topic(path).send().await {
            Ok(list) => Ok(list.subscriptions.iter().map(|subscription| short(subscription).to_owned()).collect()),
            Err(error) if is(&error, Code::NotFound) => Ok(Vec::new()),
            Err(error) => Err(self.error(&format!("topic {topic}"), &error)),
        }
    }

    async fn go(&self, acts: bool) -> Result<Vec<Change>, BusError> {
        let mut changes = Vec::new();
        for wanted in &self.plan.topics {
            let resource = format!("topic {}", short(&wanted.name));
            let actions = self.topic(wanted, acts).await.map_err(|error| self.error(&resource, &error))?;
            changes.extend(actions.into_iter().map(|action| Change { resource: resource.clone(), action }));
        }
        for wanted in &self.plan.subscriptions {
            let resource = format!("subscription {}", short(&wanted.name));
            let actions = self.subscription(wanted, acts).await.map_err(|error| self.error(&resource, &error))?;
            changes.extend(actions.into_iter().map(|action| Change { resource: resource.clone(), action }));
        }
        Ok(changes)
    }

    async fn topic(&self, wanted: &Topic, acts: bool) -> Result<Vec<Action>, Error> {
        let found = match self.topics.get_topic().set_topic(&wanted.name).send().await {
            Ok(found) => found,
            Err(error) if is(&error, Code::NotFound) => {
                if acts {
                    self.topics.create_topic().with_request(wanted.clone()).send().await.map(drop).or_else(there_already)?;
                }
                return Ok(vec![Action::Create]);
            }
            Err(error) => return Err(error),
        };
        let field = Field::of("messageRetentionDuration", &found.message_retention_duration, &wanted.message_retention_duration, duration);
        let Some(field) = field else { return Ok(vec![Action::Same]) };
        let done =
            if acts { self.topics.update_topic().set_topic(wanted.clone()).set_update_mask(field.mask()).send().await } else { Ok(found) };
        Ok(vec![self.outcome(done.map(drop), field)?])
    }

    async fn subscription(&self, wanted: &Subscription, acts: bool) -> Result<Vec<Action>, Error> {
        let found = match self.subscriptions.get_subscription().set_subscription(&wanted.name).send().await {
            Ok(found) => found,
            Err(error) if is(&error, Code::NotFound) => {
                if acts {
                    self.subscriptions.create_subscription().with_request(wanted.clone()).send().await.map(drop).or_else(there_already)?;
                }
                return Ok(vec![Action::Create]);
            }
            Err(error) => return Err(error),
        };
        let mut actions: Vec<Action> = fixed(&found, wanted).map(Action::Unsupported).collect();
        // One at a time: an emulator refuses some fields, and with them the whole request.
        for field in changeable(&found, wanted) {
            let update = self.subscriptions.update_subscription().set_subscription(wanted.clone()).set_update_mask(field.mask());
            let done = if acts { update.send().await.map(drop) } else { Ok(()) };
            actions.push(self.outcome(done, field)?);
        }
        if actions.is_empty() {
            actions.push(Action::Same);
        }
        Ok(actions)
    }

    /// What came of changing a field.
    fn outcome(&self, done: Result<(), Error>, field: Field) -> Result<Action, Error> {
        let Field { name, from, to } = field;
        match done {
            Ok(()) => Ok(Action::Update { field: name, from, to }),
            Err(error) if is(&error, Code::Unimplemented) || self.is_emulator && is(&error, Code::InvalidArgument) => {
                let said = error.status().map_or("", |status| &status.message);
                Ok(Action::Unsupported(format!("{name} is {from}, wanted is {to}; this service cannot change it: {said}")))
            }
            Err(error) => Err(error),
        }
    }

    fn error(&self, resource: &str, error: &Error) -> BusError {
        let error = service_error(&format!("{resource} of project {}", self.project), error);
        // Nothing that is asked about can be missing here but the project.
        let fault = if error.fault == ServiceFault::NotFound { ServiceFault::Denied } else { error.fault };
        ServiceError { fault, ..error }.into()
    }
}

impl Plan {
    fn of(config: &BusConfig, project: &str) -> Self {
        let google = &config.google;
        let topic = |name: &str| format!("projects/{project}/topics/{name}");
        // The topic keeps what it has told to all, so that a subscription can be rewound, also to before its own beginning.
        let topics = [&config.topic, &config.quarantine_topic, &google.dead_letter_topic];
        let topics = topics.map(|name| Topic::new().set_name(topic(name)).set_message_retention_duration(seconds(google.retention_s)));
        let backstop = DeadLetterPolicy::new()
            .set_dead_letter_topic(topic(&google.dead_letter_topic))
            .set_max_delivery_attempts(i32::try_from(google.dead_letter_attempts_max).unwrap_or(i32::MAX));
        let consumed = [&config.views_subscription, &config.documents_subscription].map(|name| {
            subscription(google, project, name)
                .set_topic(topic(&config.topic))
                .set_enable_message_ordering(google.ordering)
                .set_dead_letter_policy(backstop.clone())
        });
        // A topic without a subscription keeps nothing that anybody could read: what is set aside is kept by one of the same name.
        let kept =
            [&config.quarantine_topic, &google.dead_letter_topic].map(|name| subscription(google, project, name).set_topic(topic(name)));
        Self { topics: topics.into(), subscriptions: consumed.into_iter().chain(kept).collect() }
    }
}

/// What all subscriptions have in common: they never expire, and keep what is not acked.
fn subscription(google: &GoogleBusConfig, project: &str, name: &str) -> Subscription {
    Subscription::new()
        .set_name(format!("projects/{project}/subscriptions/{name}"))
        .set_ack_deadline_seconds(i32::try_from(google.lease_s).unwrap_or(i32::MAX))
        .set_message_retention_duration(seconds(google.retention_s))
        .set_expiration_policy(ExpirationPolicy::new())
}

/// A field that differs from the plan.
#[derive(Debug, PartialEq, Eq)]
struct Field {
    name: &'static str,
    from: String,
    to: String,
}

impl Field {
    fn of<T: PartialEq>(name: &'static str, found: &T, wanted: &T, told: impl Fn(&T) -> String) -> Option<Self> {
        (found != wanted).then(|| Self { name, from: told(found), to: told(wanted) })
    }

    fn mask(&self) -> wkt::FieldMask {
        wkt::FieldMask::default().set_paths([self.name])
    }
}

/// What can be changed in place.
fn changeable(found: &Subscription, wanted: &Subscription) -> Vec<Field> {
    let attempts = |policy: &Option<DeadLetterPolicy>| match policy {
        Some(policy) => format!("{} after {}", short(&policy.dead_letter_topic), policy.max_delivery_attempts),
        None => "none".to_owned(),
    };
    // Absent is the service's own default, 31 days without a reader; present without a time is never.
    let expiry = |policy: &Option<ExpirationPolicy>| match policy {
        Some(policy) => policy.ttl.map_or("never".to_owned(), |ttl| duration(&Some(ttl))),
        None => "the default".to_owned(),
    };
    let yes_no = |flag: &bool| flag.to_string();
    [
        Field::of("ackDeadlineSeconds", &found.ack_deadline_seconds, &wanted.ack_deadline_seconds, |deadline| format!("{deadline} s")),
        Field::of("messageRetentionDuration", &found.message_retention_duration, &wanted.message_retention_duration, duration),
        Field::of("expirationPolicy", &found.expiration_policy, &wanted.expiration_policy, expiry),
        Field::of("deadLetterPolicy", &found.dead_letter_policy, &wanted.dead_letter_policy, attempts),
        Field::of("enableExactlyOnceDelivery", &found.enable_exactly_once_delivery, &wanted.enable_exactly_once_delivery, yes_no),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What never changes after the subscription was made: why each is not as planned.
fn fixed(found: &Subscription, wanted: &Subscription) -> impl Iterator<Item = String> {
    let told = |field: &str, from: &str, to: &str| {
        format!("{field} is {from}, wanted is {to}; it cannot be changed: delete the subscription once it is drained, and run this again")
    };
    let order = |flag: bool| if flag { "on" } else { "off" };
    let push = found.push_config.as_ref().map_or("", |push| &push.push_endpoint);
    [
        (found.topic != wanted.topic).then(|| told("topic", short(&found.topic), short(&wanted.topic))),
        (found.enable_message_ordering != wanted.enable_message_ordering)
            .then(|| told("enableMessageOrdering", order(found.enable_message_ordering), order(wanted.enable_message_ordering))),
        (found.filter != wanted.filter).then(|| told("filter", &format!("{:?}", found.filter), "none")),
        found.detached.then(|| told("detached", "true", "false")),
        (!push.is_empty()).then(|| told("pushConfig", push, "none, for it is pulled")),
    ]
    .into_iter()
    .flatten()
}

/// Somebody else made it in the meantime.
fn there_already(error: Error) -> Result<(), Error> {
    if is(&error, Code::AlreadyExists) { Ok(()) } else { Err(error) }
}

fn is(error: &Error, code: Code) -> bool {
    error.status().is_some_and(|status| status.code == code)
}

fn seconds(seconds: u64) -> wkt::Duration {
    wkt::Duration::clamp(i64::try_from(seconds).unwrap_or(i64::MAX), 0)
}

fn duration(duration: &Option<wkt::Duration>) -> String {
    match duration.map(Duration::try_from) {
        Some(Ok(duration)) => format!("{} s", duration.as_secs()),
        Some(Err(_)) => "negative".to_owned(),
        None => "none".to_owned(),
    }
}

fn short(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
