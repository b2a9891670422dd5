# What `convpipe provision` makes, as it makes it (docs/google.md). Use one of the two: `convpipe provision --dry-run` says whether they agree.

locals {
  retention = "${var.retention_s}s"
  # By the consumer that reads it.
  consumed = {
    views     = var.views_subscription
    documents = var.documents_subscription
  }
}

resource "google_project_service" "needed" {
  for_each = toset(["pubsub.googleapis.com", "firestore.googleapis.com", "iam.googleapis.com", "redis.googleapis.com", "monitoring.googleapis.com"])

  service            = each.key
  disable_on_destroy = false
}

# They keep everything for a while, so that a subscription can be rewound.
resource "google_pubsub_topic" "all" {
  for_each = toset([var.topic, var.quarantine_topic, var.dead_letter_topic])

  name                       = each.key
  message_retention_duration = local.retention
  depends_on                 = [google_project_service.needed]
}

resource "google_pubsub_subscription" "consumed" {
  for_each = local.consumed

  name                         = each.value
  topic                        = google_pubsub_topic.all[var.topic].id
  ack_deadline_seconds         = var.lease_s
  message_retention_duration   = local.retention
  enable_message_ordering      = var.ordering
  enable_exactly_once_delivery = false

  # Never.
  expiration_policy {
    ttl = ""
  }

  # A backstop: convpipe itself sets an event aside long before, and keeps its bytes.
  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.all[var.dead_letter_topic].id
    max_delivery_attempts = var.dead_letter_attempts_max
  }
}

# A topic without a subscription keeps nothing that anybody could read.
resource "google_pubsub_subscription" "kept" {
  for_each = toset([var.quarantine_topic, var.dead_letter_topic])

  name                       = each.key
  topic                      = google_pubsub_topic.all[each.key].id
  ack_deadline_seconds       = var.lease_s
  message_retention_duration = local.retention

  expiration_policy {
    ttl = ""
  }
}
