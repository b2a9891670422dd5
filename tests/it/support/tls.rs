//! A TLS server's side, with a certificate made for the test.

use std::sync::Arc;

use rustls::pki_types::PrivateKeyDer;

/// The config of a server of these names, and its certificate, PEM: the authority to trust.
pub(crate) fn server(names: &[&str]) -> (Arc<rustls::ServerConfig>, String) {
    let made = rcgen::generate_simple_self_signed(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (Arc::new(config), made.cert.pem())
}
