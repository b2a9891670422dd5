//! Whom ingest trusts over TLS: the authorities of the machine, those of a file, and nobody where there are none.

use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::protocol::Message;

use super::place::{LIMIT, Place};

/// An authority, PEM, and a server's TLS that it vouches for, as `localhost`.
fn authority() -> (String, TlsAcceptor) {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    (certificate, TlsAcceptor::from(Arc::new(config)))
}

/// A platform that lets everybody in, over TLS or in the clear.
async fn platform(tls: Option<TlsAcceptor>) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("{}://localhost:{}/", if tls.is_some() { "wss" } else { "ws" }, listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            match tls.clone() {
                Some(tls) => _ = tokio::spawn(async move { greet(tls.accept(tcp).await.ok()).await }),
                None => _ = tokio::spawn(greet(Some(tcp))),
            }
        }
    });
    url
}

async fn greet<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(stream: Option<S>) {
    // Whoever does not trust the authority goes away in the handshake.
    let Some(stream) = stream else { return };
    let Ok(mut peer) = tokio_tungstenite::accept_async(stream).await else { return };
    let _ = peer.next().await;
    let _ = peer.send(Message::text(r#"{"connected":true}"#)).await;
    while peer.next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_machine_s_authorities_are_trusted_and_those_of_a_file_besides() {
    let ((certificate, tls), (other, _)) = (authority(), authority());
    let (secure, clear) = (platform(Some(tls)).await, platform(None).await);
    let account = ["1".to_owned()];
    for (what, url, machine, ca_file, says) in [
        ("the machine's", &secure, Some(&certificate), None, "live"),
        ("a file's", &secure, Some(&other), Some(&certificate), "live"),
        ("a file's, where the machine has none", &secure, None, Some(&certificate), "live"),
        ("somebody else's", &secure, Some(&other), None, "connection failed"),
        ("none is needed", &clear, None, None, "live"),
    ] {
        let mut place = Place::new();
        place.lead(&account, url);
        place.write("machine.pem", machine.map_or("", |pem| pem), 0o644);
        if let Some(pem) = ca_file {
            place.write("ca.pem", pem, 0o644);
            place.config["ingest"]["ca_file"] = "ca.pem".into();
        }
        let machine = place.path("machine.pem");
        let ingest = place.start_with(&["ingest"], &[("SSL_CERT_FILE", machine.to_str().unwrap()), ("SSL_CERT_DIR", "")]);
        let line = ingest.wait_stderr(says, LIMIT);
        assert!(says == "live" || line.contains("tls"), "{what}: {line}");
        assert!(ingest.terminate(LIMIT).status.success(), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_trusts_nobody_is_told_what_to_do_when_tls_is_needed() {
    let (_, tls) = authority();
    let url = platform(Some(tls)).await;
    let account = ["1".to_owned()];
    for (file, content) in [("empty.pem", Some("")), ("no.pem", Some("no certificate")), ("gone.pem", None)] {
        let place = Place::new();
        if let Some(content) = content {
            place.write(file, content, 0o644);
        }
        let file = place.path(file);
        let variables = [("SSL_CERT_FILE", file.to_str().unwrap()), ("SSL_CERT_DIR", "")];
        let is_told = |said: &str| {
            assert!(said.contains("this machine names no certificate authorities to trust"), "{said}");
            assert!(said.contains("ca-certificates") && said.contains("SSL_CERT_FILE"), "{said}");
        };
        // An account that comes later: the process goes on, for those that are without TLS, and says it.
        let ingest = place.start_with(&["ingest"], &variables);
        ingest.wait_stderr("waiting for the first", LIMIT);
        place.lead(&account, &url);
        is_told(&ingest.wait_stderr("no connection over TLS", LIMIT));
        assert!(ingest.terminate(LIMIT).status.success());
        // One that is there already: a mistake that waiting does not mend.
        let output = place.start_with(&["ingest"], &variables).wait(LIMIT);
        assert_eq!(output.status.code(), Some(78), "{output:?}");
        is_told(&output.stderr.join("\n"));
    }
}
