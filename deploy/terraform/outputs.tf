output "redis_url" {
  description = "`redis.url`"
  value       = "redis://${google_redis_instance.views.host}:${google_redis_instance.views.port}"
}

output "redis_password" {
  description = "For the file in `redis.password_file`, and in `redis.reader_password_file`; without `redis.user`"
  value       = google_redis_instance.views.auth_string
  sensitive   = true
}

output "service_accounts" {
  description = "Whom each daemon runs as: annotations of deploy/kubernetes/serviceaccounts.yaml, or --service-account of a machine"
  value       = { for daemon, account in google_service_account.daemon : daemon => account.email }
}
