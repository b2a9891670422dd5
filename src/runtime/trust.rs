//! Whose certificates are trusted: the authorities of this machine, as every other program on it trusts them, and those of a file.
//!
//! Owns: where authorities are read, and the one TLS config of WebSockets and HTTP. Redis and Google's libraries have TLS configs of their own, over the
//! same authorities. Does not own: connecting. Invariant: the machine's authorities are read when a connection over TLS first needs them, and
//! not before: what speaks to loopback alone runs where there are none.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// Whom TLS connections of one kind trust. Clones share it, sessions to resume included.
#[derive(Clone)]
pub struct Trust {
    shared: Arc<Shared>,
}

struct Shared {
    /// Authorities of a file.
    own: Vec<CertificateDer<'static>>,
    machine: bool,
    config: OnceLock<Arc<ClientConfig>>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("own", &self.shared.own.len()).field("machine", &self.shared.machine).finish_non_exhaustive()
    }
}

/// No TLS can be spoken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The file of authorities cannot be used.
    #[error("{}: {detail}; it has to be a PEM file of certificates", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        detail: String,
    },
    /// The machine has no authorities, or none that can be read.
    #[error(
        "this machine names no certificate authorities to trust{detail}; install them (the package is mostly called ca-certificates), or name a \
         PEM file in SSL_CERT_FILE"
    )]
    Nobody {
        /// Where they were looked for in vain, behind a colon; empty where the system said nothing.
        detail: String,
    },
    /// The TLS library refuses its own defaults: our own broken invariant.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

impl Trust {
    /// The authorities of the machine, and those of a PEM file besides. Reads the file alone.
    ///
    /// # Errors
    /// [`TrustError::File`] where the file cannot be read, or holds no certificate.
    pub fn new(ca_file: Option<&Path>) -> Result<Self, TrustError> {
        Ok(Self::of(ca_file.map(read).transpose()?.unwrap_or_default(), true))
    }

    /// Only the authorities of a PEM file.
    ///
    /// # Errors
    /// As of [`Trust::new`].
    pub fn only(ca_file: &Path) -> Result<Self, TrustError> {
        Ok(Self::of(read(ca_file)?, false))
    }

    /// Nobody: for what never speaks TLS.
    #[must_use]
    pub fn nobody() -> Self {
        Self::of(Vec::new(), false)
    }

    fn of(own: Vec<CertificateDer<'static>>, machine: bool) -> Self {
        Self { shared: Arc::new(Shared { own, machine, config: OnceLock::new() }) }
    }

    /// The TLS config, made when it is first asked for: that reads the machine's authorities, a few hundred KiB. It names its crypto provider, so it does
    /// not depend on what else is compiled in.
    ///
    /// # Errors
    /// [`TrustError::Nobody`] where the machine has no authorities and there is no file either. It is looked again with the next call.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, TrustError> {
        if let Some(config) = self.shared.config.get() {
            return Ok(config.clone());
        }
        let mut roots = RootCertStore::empty();
        if self.shared.machine {
            match machine() {
                Ok(certificates) => _ = roots.add_parsable_certificates(certificates),
                Err(error) if self.shared.own.is_empty() => return Err(error),
                // A file names whom to trust: then it need not be the machine's.
                Err(_) => {}
            }
        }
        roots.add_parsable_certificates(self.shared.own.iter().cloned());
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| TrustError::Setup(error.to_string()))?;
        let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
        Ok(self.shared.config.get_or_init(|| config).clone())
    }
}

/// The authorities of this machine: of `SSL_CERT_FILE` and `SSL_CERT_DIR` where those are set, else of the system. At least one.
///
/// # Errors
/// [`TrustError::Nobody`] where there is none that can be used.
pub fn machine() -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let found = rustls_native_certs::load_native_certs();
    // A file of authorities is read by many programs and often holds one that this one cannot use; only the last one counts.
    let usable = RootCertStore::empty().add_parsable_certificates(found.certs.iter().cloned()).0;
    if usable > 0 {
        return Ok(found.certs);
    }
    Err(TrustError::Nobody { detail: found.errors.first().map_or_else(String::new, |error| format!(": {error}")) })
}

/// The certificates of a file: at least one, and each of them can be an authority.
fn read(file: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let wrong = |detail: String| TrustError::File { file: file.to_owned(), detail };
    let (mut certificates, mut roots) = (Vec::new(), RootCertStore::empty());
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))? {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate.clone()).map_err(|error| wrong(error.to_string()))?;
        certificates.push(certificate);
    }
    if certificates.is_empty() { Err(wrong("holds no certificate".to_owned())) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_none_is_refused_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        let told = || {
            let told = Trust::new(Some(&file)).unwrap_err().to_string();
            assert_eq!(Trust::only(&file).unwrap_err().to_string(), told);
            told
        };
        assert!(told().contains("ca.pem"));
        std::fs::write(&file, "no PEM").unwrap();
        assert!(told().contains("holds no certificate"));
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&file, made.cert.pem()).unwrap();
        Trust::new(Some(&file)).unwrap();
        Trust::only(&file).unwrap().client_config().unwrap();
    }

    #[test]
    fn a_config_is_made_once_and_shared() {
        let trust = Trust::nobody();
        let config = trust.client_config().unwrap();
        assert!(Arc::ptr_eq(&config, &trust.clone().client_config().unwrap()));
    }
}
