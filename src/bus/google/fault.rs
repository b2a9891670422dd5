//! What the client library reports, as a [`ServiceError`].

use std::error::Error as _;

use google_cloud_gax::error::rpc::Code;
use google_cloud_gax::error::{CredentialsError, Error};

use crate::bus::{ServiceError, ServiceFault};

/// The error of a call that was about `resource`.
pub(super) fn service_error(resource: &str, error: &Error) -> ServiceError {
    let reason = match error.status() {
        Some(status) => format!("{} ({})", status.message, status.code.name()),
        None => error.to_string(),
    };
    ServiceError { resource: resource.to_owned(), fault: fault(error), reason }
}

fn fault(error: &Error) -> ServiceFault {
    if let Some(credentials) = source::<CredentialsError>(error) {
        return if credentials.is_transient() { ServiceFault::Unavailable } else { ServiceFault::Credentials };
    }
    if error.is_timeout() {
        return ServiceFault::Timeout;
    }
    match (error.status().map(|status| status.code), error.http_status_code()) {
        (Some(Code::Unauthenticated), _) | (None, Some(401)) => ServiceFault::Credentials,
        (Some(Code::PermissionDenied), _) | (None, Some(403)) => ServiceFault::Denied,
        (Some(Code::NotFound), _) | (None, Some(404)) => ServiceFault::NotFound,
        (Some(Code::InvalidArgument | Code::OutOfRange), _) | (None, Some(400)) => ServiceFault::Refused,
        (Some(Code::Unimplemented), _) | (None, Some(501)) => ServiceFault::Unsupported,
        (Some(Code::DeadlineExceeded), _) | (None, Some(504)) => ServiceFault::Timeout,
        _ => ServiceFault::Unavailable,
    }
}

fn source<T: std::error::Error + 'static>(error: &Error) -> Option<&T> {
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use google_cloud_gax::error::rpc::Status;

    use super::*;

    #[test]
    fn every_status_has_its_fault() {
        for (code, expected) in [
            (Code::Unauthenticated, ServiceFault::Credentials),
            (Code::PermissionDenied, ServiceFault::Denied),
            (Code::NotFound, ServiceFault::NotFound),
            (Code::InvalidArgument, ServiceFault::Refused),
            (Code::Unimplemented, ServiceFault::Unsupported),
            (Code::DeadlineExceeded, ServiceFault::Timeout),
            (Code::Unavailable, ServiceFault::Unavailable),
            (Code::ResourceExhausted, ServiceFault::Unavailable),
            (Code::FailedPrecondition, ServiceFault::Unavailable),
            (Code::Unknown, ServiceFault::Unavailable),
        ] {
            let error = service_error("topic t", &Error::service(Status::default().set_code(code).set_message("why")));
            assert_eq!(error.fault, expected, "{code}");
            assert!(error.to_string().starts_with("topic t: why ("), "{error}");
        }
    }

    #[test]
    fn credentials_that_are_refused_are_not_an_outage() {
        for (transient, expected) in [(true, ServiceFault::Unavailable), (false, ServiceFault::Credentials)] {
            let error = Error::io(CredentialsError::from_msg(transient, "no token"));
            assert_eq!(service_error("x", &error).fault, expected);
        }
        assert_eq!(service_error("x", &Error::timeout("10 s")).fault, ServiceFault::Timeout);
    }
}
