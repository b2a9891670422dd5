//! An HTTP endpoint that answers with the artifact.
//!
//! Credentials go to the one endpoint that the config names: over TLS, or to this machine's loopback; no redirect is followed, no proxy of the
//! environment is used. Headers are read from their files with every request, so that they can be replaced at any time.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, StatusCode};
use rustls::ClientConfig;
use secrecy::ExposeSecret as _;
use secrecy::zeroize::Zeroizing;

use super::{Answer, Ask, ProviderError, answer, ms};
use crate::config::{HttpConfig, HttpMethod};
use crate::runtime::causes::chain;
use crate::runtime::secret_file;
use crate::runtime::trust::Trust;

/// Longest wait for the connection, TLS included; the whole answer has the provider's own limit.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// No header is longer; a larger file is another file.
const HEADER_FILE_MAX_BYTES: u64 = 16 << 10;

pub(super) struct Http {
    client: Client,
    url: String,
    method: Method,
    header_files: BTreeMap<String, PathBuf>,
    body: Option<String>,
    fields: BTreeMap<String, String>,
    timeout_ms: u64,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("method", &self.method).finish_non_exhaustive()
    }
}

impl Http {
    pub(super) fn open(config: &HttpConfig) -> Result<Self, ProviderError> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls(config)?)
            .redirect(Policy::none())
            .referer(false)
            .no_proxy()
            .http1_only()
            .connect_timeout(CONNECT_MAX.min(ms(config.timeout_ms)))
            .timeout(ms(config.timeout_ms))
            // `localhost` is a name, and a resolver may lie.
            .resolve("localhost", SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            // One request in hours: a connection that waited so long is mostly dead.
            .pool_max_idle_per_host(0)
            .user_agent(concat!("convpipe/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ProviderError::Request { detail: story(error) })?;
        Ok(Self {
            client,
            url: config.url.clone(),
            method: if config.method == HttpMethod::Post { Method::POST } else { Method::GET },
            header_files: config.header_files.clone(),
            body: config.body.clone(),
            fields: config.fields.clone(),
            timeout_ms: config.timeout_ms,
        })
    }

    pub(super) async fn ask(&self, ask: &Ask<'_>, answer_max: usize) -> Result<Answer, ProviderError> {
        let mut request = self.client.request(self.method.clone(), ask.fill(&self.url)).headers(self.headers()?);
        if let Some(body) = &self.body {
            request = request.header(CONTENT_TYPE, "application/json").body(ask.fill(body));
        }
        let failed = |error: reqwest::Error| match error.is_timeout() && !error.is_connect() {
            true => ProviderError::Timeout { after_ms: self.timeout_ms },
            false => ProviderError::Request { detail: story(error) },
        };
        let mut response = request.send().await.map_err(failed)?;
        check_status(&response)?;
        // Room for all of it means that no copy of ours is left behind.
        let mut body = Zeroizing::new(Vec::with_capacity(answer_max));
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > answer_max {
                return Err(ProviderError::TooLarge { max: answer_max });
            }
            body.extend_from_slice(&chunk);
        }
        if self.fields.is_empty() { answer::decode(&body, ask) } else { answer::decode_at(&body, &self.fields, ask) }
    }

    fn headers(&self) -> Result<HeaderMap, ProviderError> {
        let mut headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
        for (name, file) in &self.header_files {
            let secret = secret_file::read(file, HEADER_FILE_MAX_BYTES)?;
            let wrong = || ProviderError::HeaderValue(file.clone());
            let mut value = HeaderValue::from_str(secret.expose_secret()).map_err(|_| wrong())?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?, value);
        }
        Ok(headers)
    }
}

fn check_status(response: &Response) -> Result<(), ProviderError> {
    let (status, code) = (response.status(), response.status().as_u16());
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(ProviderError::Unauthorized(code)),
        _ if status.is_redirection() => Err(ProviderError::Redirect(code)),
        _ if status.is_success() => Ok(()),
        _ => {
            let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
            Err(ProviderError::Status { code, retry_after_s: after })
        }
    }
}

/// Whoever may vouch for the endpoint. One on loopback without TLS needs nobody, and asks for none where the machine has none.
fn tls(config: &HttpConfig) -> Result<ClientConfig, ProviderError> {
    let trust = match &config.ca_file {
        Some(file) => Trust::only(file).map_err(ProviderError::CaFile)?,
        None if config.url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http:")) => Trust::nobody(),
        None => Trust::new(None)?,
    };
    Ok(Arc::unwrap_or_clone(trust.client_config()?))
}

/// An error with its causes in one line, without the URL, which may name more than people should see.
fn story(error: reqwest::Error) -> String {
    chain(&error.without_url())
}
