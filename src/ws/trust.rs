//! Whose certificates a socket trusts: the public authorities, and those of a file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// The TLS side of all sockets of a process. Clones share it, sessions to resume included.
#[derive(Clone)]
pub struct Trust(pub(super) Arc<ClientConfig>);

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").finish_non_exhaustive()
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
    /// The TLS library refuses its own defaults: our own broken invariant.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

impl Trust {
    /// The public authorities, and those of a PEM file besides.
    ///
    /// # Errors
    /// Where the file cannot be read, or holds no certificate.
    pub fn new(ca_file: Option<&Path>) -> Result<Self, TrustError> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(file) = ca_file {
            add(&mut roots, file).map_err(|detail| TrustError::File { file: file.to_owned(), detail })?;
        }
        // Our own config: it names its crypto provider, so it does not depend on what else is compiled in.
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| TrustError::Setup(error.to_string()))?;
        Ok(Self(Arc::new(builder.with_root_certificates(roots).with_no_client_auth())))
    }
}

fn add(roots: &mut RootCertStore, file: &Path) -> Result<(), String> {
    let before = roots.len();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| error.to_string())? {
        roots.add(certificate.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
    }
    if roots.len() > before { Ok(()) } else { Err("holds no certificate".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_none_is_refused_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        let told = || Trust::new(Some(&file)).unwrap_err().to_string();
        assert!(told().contains("ca.pem"));
        std::fs::write(&file, "no PEM").unwrap();
        assert!(told().contains("holds no certificate"));
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&file, made.cert.pem()).unwrap();
        Trust::new(Some(&file)).unwrap();
    }
}
