//! How the service is reached, and as whom. The only place that knows about endpoints and credentials.

use std::time::Duration;

use google_cloud_auth::credentials::{AccessTokenCredentials, Builder as DefaultCredentials, Credentials, anonymous};
use google_cloud_gax::client_builder;
use google_cloud_gax::retry_policy::{Aip194Strict, NeverRetry, RetryPolicyExt};
use google_cloud_pubsub::client::{BasePublisher, Subscriber, SubscriptionAdmin, TopicAdmin};

use crate::bus::{BusError, ServiceError, ServiceFault};
use crate::config::GoogleBusConfig;
use crate::runtime::causes::chain;

/// Longest wait for the first access token.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest wait for the answer to one administrative call.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections of a publisher. With an ordering key each, up to 256 requests are on their way at once, and a connection takes 100.
const PUBLISH_CONNECTIONS: usize = 3;

/// An endpoint and the credentials for it. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    endpoint: Option<String>,
    credentials: Credentials,
}

impl Connection {
    /// Finds the credentials (Application Default Credentials; none for an emulator) and gets a first token with them.
    ///
    /// # Errors
    /// [`ServiceFault::Credentials`] where there are none or they are refused; [`ServiceFault::Unavailable`] where nobody answered.
    pub(super) async fn open(config: &GoogleBusConfig) -> Result<Self, BusError> {
        // TLS of both gRPC and REST runs on the provider of the process. Where there is one already, it stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        if let Some(emulator) = &config.emulator {
            return Ok(Self { endpoint: Some(format!("http://{emulator}")), credentials: anonymous::Builder::new().build() });
        }
        let credentials = DefaultCredentials::default()
            .build_access_token_credentials()
            .map_err(|error| unusable(ServiceFault::Credentials, chain(&error)))?;
        first_token(&credentials).await?;
        Ok(Self { endpoint: config.endpoint.clone(), credentials: credentials.into() })
    }

    /// A publishing client that tries every request once: all retrying is [`super::publisher`]'s.
    pub(super) async fn publisher(&self, timeout: Duration) -> Result<BasePublisher, ServiceError> {
        let builder = BasePublisher::builder()
            .with_credentials(self.credentials.clone())
            .with_grpc_subchannel_count(PUBLISH_CONNECTIONS)
            .with_retry_policy(NeverRetry.with_time_limit(timeout));
        match &self.endpoint {
            Some(endpoint) => builder.with_endpoint(endpoint).build().await,
            None => builder.build().await,
        }
        .map_err(|error| not_built(&error))
    }

    /// A subscribing client with a connection of its own.
    pub(super) async fn subscriber(&self) -> Result<Subscriber, ServiceError> {
        let builder = Subscriber::builder().with_credentials(self.credentials.clone());
        match &self.endpoint {
            Some(endpoint) => builder.with_endpoint(endpoint).build().await,
            None => builder.build().await,
        }
        .map_err(|error| not_built(&error))
    }

    /// A client that administers topics.
    pub(super) async fn topics(&self) -> Result<TopicAdmin, ServiceError> {
        let builder = TopicAdmin::builder()
            .with_credentials(self.credentials.clone())
            .with_attempt_timeout(ADMIN_TIMEOUT)
            .with_retry_policy(Aip194Strict.with_attempt_limit(3));
        match &self.endpoint {
            Some(endpoint) => builder.with_endpoint(endpoint).build().await,
            None => builder.build().await,
        }
        .map_err(|error| not_built(&error))
    }

    /// A client that administers subscriptions.
    pub(super) async fn subscriptions(&self) -> Result<SubscriptionAdmin, ServiceError> {
        let builder = SubscriptionAdmin::builder()
            .with_credentials(self.credentials.clone())
            .with_attempt_timeout(ADMIN_TIMEOUT)
            .with_retry_policy(Aip194Strict.with_attempt_limit(3));
        match &self.endpoint {
            Some(endpoint) => builder.with_endpoint(endpoint).build().await,
            None => builder.build().await,
        }
        .map_err(|error| not_built(&error))
    }
}

/// Gets a token, so that credentials that are none show here and not with the first message. The library itself waits for one without an end.
async fn first_token(credentials: &AccessTokenCredentials) -> Result<(), BusError> {
    match tokio::time::timeout(TOKEN_TIMEOUT, credentials.access_token()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => {
            let reason = chain(&error);
            // Without a key file the metadata server is asked. Where there is none it looks like an outage, but there are no credentials.
            let is_outage = error.is_transient() && !reason.contains("application-default");
            Err(unusable(if is_outage { ServiceFault::Unavailable } else { ServiceFault::Credentials }, reason))
        }
        Err(_) => Err(unusable(ServiceFault::Unavailable, format!("no access token within {} s", TOKEN_TIMEOUT.as_secs()))),
    }
}

fn unusable(fault: ServiceFault, reason: String) -> BusError {
    ServiceError { resource: "Google credentials".into(), fault, reason }.into()
}

fn not_built(error: &client_builder::Error) -> ServiceError {
    let fault = if error.is_default_credentials() { ServiceFault::Credentials } else { ServiceFault::Unavailable };
    ServiceError { resource: "Pub/Sub".into(), fault, reason: chain(error) }
}

#[cfg(test)]
mod tests {
    use google_cloud_auth::credentials::{AccessToken, AccessTokenCredentialsProvider, CacheableResource, CredentialsProvider};
    use google_cloud_auth::errors::CredentialsError;

    use super::*;

    /// Whoever gives out tokens: answers with this error, or never.
    #[derive(Debug)]
    struct Tokens(Option<CredentialsError>);

    impl CredentialsProvider for Tokens {
        async fn headers(&self, _: http::Extensions) -> Result<CacheableResource<http::HeaderMap>, CredentialsError> {
            std::future::pending().await
        }

        async fn universe_domain(&self) -> Option<String> {
            None
        }
    }

    impl AccessTokenCredentialsProvider for Tokens {
        async fn access_token(&self) -> Result<AccessToken, CredentialsError> {
            match &self.0 {
                Some(error) => Err(error.clone()),
                None => std::future::pending().await,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_does_not_come_is_told() {
        let error = |transient, text| Some(CredentialsError::from_msg(transient, text));
        for (tokens, fault, says) in [
            (None, ServiceFault::Unavailable, "no access token within 20 s"),
            (error(true, "the service is down"), ServiceFault::Unavailable, "the service is down"),
            (error(false, "the account is gone"), ServiceFault::Credentials, "the account is gone"),
            (error(true, "no metadata server; see application-default login"), ServiceFault::Credentials, "no metadata server"),
        ] {
            let told = first_token(&Tokens(tokens).into()).await.expect_err("there is no token");
            assert!(matches!(&told, BusError::Service(error) if error.fault == fault), "{told}");
            assert!(told.to_string().contains(says), "{told}");
        }
    }
}
